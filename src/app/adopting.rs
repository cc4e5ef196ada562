//! Taking an account that was found into the register: read-only, or with its secret under approval, so that it can be rotated.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyfall_sdk::{SecretValue, Strategy};

use super::landscape::system_in;
use super::planning::{Draft, PLAN_LIFE};
use super::{App, AppError, Caller, PlanView, Verb, allow};
use crate::domain::identity::Identity;
use crate::domain::ids::{IdentityId, SecretId};
use crate::domain::plan::{Action, Change, ChangeTarget};
use crate::domain::planner::check_take_over;
use crate::domain::resource::{IdentityKind, IdentitySpec, Kind, Spec, SystemManifest};
use crate::domain::workflow::RunKind;
use crate::engine::secrets::{SealAs, seal};
use crate::store::{Fact, SecretRow};

/// An account that was found, and what it is to be registered as.
#[derive(Debug, Clone)]
pub struct AdoptAsk {
    pub name: String,
    pub system: String,
    /// The account's name downstream, as it is.
    pub account: String,
    pub kind: IdentityKind,
    pub environment: String,
    pub owner: String,
    pub expires: Timestamp,
    pub take_over: bool,
    pub secret: Option<SecretValue>,
    pub reason: String,
}

impl App {
    /// Registers an account that was found: read-only, or, with `take_over`, with its secret, so that it can be rotated.
    ///
    /// # Errors
    /// When the name is taken or the system, the owner or the environment does not fit.
    pub async fn adopt(&self, caller: &Caller, ask: AdoptAsk) -> Result<PlanView, AppError> {
        allow(caller, Verb::AskRun)?;
        let now = self.env.now();
        let landscape = self.landscape().await?;
        let (_, system) = system_in(&landscape, &ask.system)?;
        let known = self.store.identity_named(&ask.name).await?;
        let problems = self.adoption_problems(&ask, system, known.as_ref(), now).await?;
        if !problems.is_empty() {
            return Err(AppError::Invalid { problems });
        }
        let endpoints = system
            .endpoint_digest()
            .map_err(|error| AppError::internal("endpoints could not be hashed", &error))?;
        let id = known
            .as_ref()
            .map_or_else(|| IdentityId::from_uuid(self.env.draw_uuid()), |one| one.id);
        let mut facts = Vec::new();
        let secret = ask.secret.as_ref().map(|secret| {
            let id = SecretId::from_uuid(self.env.draw_uuid());
            let seal_as = SealAs {
                id,
                name: None,
                kind: "credential".to_owned(),
                version: 1,
                endpoints,
                at: now,
            };
            let row = seal(&self.keys, seal_as, secret, &*self.env.random)
                .map_err(|error| AppError::internal("the secret could not be sealed", &error))?;
            // It lives as long as its plan, until the plan is carried out.
            let row = SecretRow {
                destroy_at: now.checked_add(PLAN_LIFE).ok(),
                ..row
            };
            facts.push(Fact::Secret(row));
            Ok::<_, AppError>(id)
        });
        let secret = secret.transpose()?;
        let draft = adoption(
            &ask,
            id,
            secret,
            known.is_some(),
            self.default_strategy(&system.connector),
        );
        self.propose(caller, ask.reason, draft, now, facts).await
    }

    fn default_strategy(&self, connector: &str) -> Option<Strategy> {
        let kind = self.kinds.iter().find(|kind| kind.descriptor().kind == connector)?;
        kind.descriptor().strategies.first().copied()
    }

    async fn adoption_problems(
        &self,
        ask: &AdoptAsk,
        system: &SystemManifest,
        known: Option<&Identity>,
        now: Timestamp,
    ) -> Result<Vec<String>, AppError> {
        let mut problems = Vec::new();
        if system.environment != ask.environment {
            problems.push(format!(
                "environment: system `{}` belongs to `{}`",
                ask.system, system.environment
            ));
        }
        let owner = self.store.resource(Kind::Owner, &ask.owner).await?;
        match owner.map(|owner| owner.spec) {
            None => problems.push(format!("owner: `{}` is not registered", ask.owner)),
            Some(Spec::Owner(owner)) if owner.retired => {
                problems.push(format!("owner: `{}` has retired; name another", ask.owner));
            }
            Some(_) => {}
        }
        let holder = self.accounts_registered(&ask.system).await?.remove(&ask.account);
        if let Some(holder) = holder.filter(|holder| *holder != ask.name) {
            problems.push(format!(
                "account: `{}` of `{}` belongs to `{holder}`",
                ask.account, ask.system
            ));
        }
        if let Some(known) = known.filter(|_| ask.take_over) {
            let credentials = self.store.credentials_in_play(known.id).await?;
            if let Err(cannot) = check_take_over(known, &credentials, RunKind::TakeOver) {
                problems.push(format!("name: {cannot}"));
            }
        }
        if ask.expires <= now {
            problems.push("expires: lies in the past".to_owned());
        }
        let adoptable =
            |one: &Identity| ask.take_over && one.spec.account == ask.account && one.spec.system == ask.system;
        if known.is_some_and(|one| !adoptable(one)) {
            problems.push(format!(
                "name: `{}` is registered already, for another account",
                ask.name
            ));
        }
        Ok(problems)
    }
}

/// The identity that is registered of an account.
fn found(ask: &AdoptAsk, id: IdentityId, strategy: Option<Strategy>) -> Change {
    let spec = IdentitySpec {
        kind: ask.kind,
        system: ask.system.clone(),
        environment: ask.environment.clone(),
        owner: ask.owner.clone(),
        expires: ask.expires,
        account: ask.account.clone(),
        strategy,
        access: serde_json::Value::Null,
        privileged: false,
        deliver_to: Vec::new(),
        consumers: Vec::new(),
        purpose: format!("Found as account {} and adopted.", ask.account),
    };
    Change {
        kind: Kind::Identity,
        name: ask.name.clone(),
        from_version: 0,
        target: ChangeTarget::Identity(id),
        labels_before: BTreeMap::new(),
        labels: BTreeMap::new(),
        before: None,
        after: Spec::Identity(spec),
        is_control: false,
    }
}

fn adoption(
    ask: &AdoptAsk,
    id: IdentityId,
    secret: Option<SecretId>,
    known: bool,
    strategy: Option<Strategy>,
) -> Draft {
    let mut draft = Draft::default();
    let (name, account) = (ask.name.clone(), ask.account.clone());
    if !known {
        draft.changes.push(found(ask, id, strategy));
    }
    if ask.take_over {
        draft.consequences.push(format!(
            "{name}: the key of account {account} is recorded and its secret tried at every vantage; nothing changes downstream"
        ));
        if strategy == Some(Strategy::AlternatingAccounts) {
            draft.warnings.push(format!(
                "{name}: from its first rotation on the user names alternate ({account}_a, {account}_b): what {account} owns or was granted, and pg_hba.conf lines that name it, must hold for these too"
            ));
        }
        if secret.is_none() {
            draft.warnings.push(format!(
                "{name}: without its secret, the death of this credential can never be proven"
            ));
        }
        draft.actions.push(Action::TakeOver {
            identity: id,
            name,
            account,
            secret,
        });
    } else {
        draft.consequences.push(format!(
            "{name}: account {account} is registered as it is; nothing changes downstream"
        ));
        draft.actions.push(Action::Adopt {
            identity: id,
            name,
            account,
        });
    }
    draft
}
