//! Asking for something to be done to an identity: inside the standing approval of its policy it starts at once, everything else becomes a
//! plan that another person signs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyfall_sdk::{SecretValue, Strategy};

use super::planning::Draft;
use super::world::World;
use super::{App, AppError, Caller, PlanView, RunView, Verb, allow};
use crate::domain::actor::Approval;
use crate::domain::due::DueReason;
use crate::domain::identity::{Identity, IdentityState};
use crate::domain::ids::{CredentialId, IdentityId, SecretId};
use crate::domain::plan::{Action, Change, ChangeTarget};
use crate::domain::planner::RunRequest;
use crate::domain::resource::{Autonomy, IdentityKind, IdentitySpec, Kind, Spec};
use crate::domain::workflow::{RunKind, Trigger};
use crate::engine::secrets::{SealAs, seal};
use crate::store::Fact;

/// How a rotation is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RotateAsk {
    pub reason: String,
    /// The credential is known to strangers: consumers are not waited for, and those that may break are named in the plan.
    pub emergency: bool,
    /// Consumers are not waited for, for this written reason.
    pub exception: Option<String>,
}

/// What a request came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    Run(Box<RunView>),
    Plan(Box<PlanView>),
}

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
    /// # Errors
    /// When the identity's state does not allow it; the text says which would.
    pub async fn rotate(&self, caller: &Caller, name: &str, ask: RotateAsk) -> Result<Asked, AppError> {
        allow(caller, Verb::AskRun)?;
        let identity = self.named(name).await?;
        self.check_idle(&identity).await?;
        if ask.emergency {
            return self.emergency(caller, identity, ask).await;
        }
        let world = World::read(&*self.store).await?;
        let standing = world
            .policy_of(&identity)
            .and_then(|(_, policy, approved)| standing(policy.autonomy, approved));
        let in_bounds = ask.exception.is_none() && !identity.spec.privileged;
        let Some(approval) = standing.filter(|_| in_bounds) else {
            let action = Action::Rotate {
                identity: identity.id,
                name: identity.name.clone(),
                exception: ask.exception,
            };
            let consequences = vec![format!(
                "{name}: a new credential is made, proven and delivered; the old one is revoked and proven dead"
            )];
            return self
                .propose_action(caller, ask.reason, action, consequences, Vec::new())
                .await;
        };
        let now = self.env.now();
        let request = RunRequest {
            kind: RunKind::Rotate,
            trigger: Trigger::Request,
            reason: DueReason::Requested,
            initiator: caller.actor(),
            approval,
            credential: None,
            exception: None,
        };
        let credentials = self.store.credentials_of(identity.id).await?;
        let opened = self.opened(&world, &identity, &credentials, request, now).await?;
        self.store(opened.commit, "another run of this identity began meanwhile")
            .await?;
        self.bell.ring();
        Ok(Asked::Run(Box::new(self.run(caller, &opened.run.to_string()).await?)))
    }

    async fn emergency(&self, caller: &Caller, identity: Identity, ask: RotateAsk) -> Result<Asked, AppError> {
        let name = &identity.name;
        if ask.reason.trim().is_empty() {
            return Err(AppError::invalid(
                "an emergency rotation needs a reason: --reason \"what happened\"",
            ));
        }
        let breaks: Vec<_> = identity.spec.consumers.iter().map(|one| one.name.clone()).collect();
        let mut warnings = vec![format!(
            "{name}: break-glass: the old credential is revoked without waiting for consumers"
        )];
        warnings.extend(
            breaks
                .iter()
                .map(|one| format!("{name}: consumer {one} may break until it reads the new credential")),
        );
        let consequences = vec![format!(
            "{name}: a new credential is made and delivered; the old one is revoked at once and proven dead"
        )];
        let action = Action::EmergencyRotate {
            identity: identity.id,
            name: name.clone(),
            reason: ask.reason.clone(),
            breaks,
        };
        self.propose_action(caller, ask.reason, action, consequences, warnings)
            .await
    }

    /// # Errors
    /// When the identity's state does not allow it.
    pub async fn decommission(&self, caller: &Caller, name: &str, reason: String) -> Result<PlanView, AppError> {
        allow(caller, Verb::AskRun)?;
        let identity = self.named(name).await?;
        self.check_idle(&identity).await?;
        if !matches!(identity.state, IdentityState::Active | IdentityState::Quarantined) {
            return Err(AppError::Conflict {
                why: format!("`{name}` is {}", identity.state.name()),
            });
        }
        let mut warnings: Vec<_> = identity
            .spec
            .consumers
            .iter()
            .map(|one| format!("{name}: consumer {} loses its access", one.name))
            .collect();
        warnings.push(format!(
            "{name}: its accounts are deleted for good; the name is never given again"
        ));
        let consequences = vec![format!(
            "{name}: disabled, listened to, stripped of its rights, revoked, deleted, proven dead at every vantage; its deliveries are withdrawn"
        )];
        let action = Action::Decommission {
            identity: identity.id,
            name: identity.name.clone(),
        };
        self.propose_only(caller, reason, action, consequences, warnings).await
    }

    /// Ends one credential that is not the current one.
    ///
    /// # Errors
    /// When it is the last proven-good one, or none of this identity's.
    pub async fn revoke(
        &self,
        caller: &Caller,
        name: &str,
        credential: &str,
        reason: String,
    ) -> Result<PlanView, AppError> {
        allow(caller, Verb::AskRun)?;
        let identity = self.named(name).await?;
        self.check_idle(&identity).await?;
        let credential: CredentialId = credential.parse().map_err(|bad| AppError::invalid(format!("{bad}")))?;
        if identity.current == Some(credential) {
            let why = format!(
                "{credential} is the last proven-good credential of `{name}`: rotate it, or decommission the identity"
            );
            return Err(AppError::Conflict { why });
        }
        let consequences = vec![format!(
            "{name}: {credential} is revoked, its sessions ended, and it is proven dead"
        )];
        let action = Action::Revoke {
            identity: identity.id,
            name: identity.name.clone(),
            credential,
        };
        self.propose_only(caller, reason, action, consequences, Vec::new())
            .await
    }

    /// Registers an account that was found: read-only, or, with `take_over`, with its secret, so that it can be rotated.
    ///
    /// # Errors
    /// When the name is taken or the system, the owner or the environment does not fit.
    pub async fn adopt(&self, caller: &Caller, ask: AdoptAsk) -> Result<PlanView, AppError> {
        allow(caller, Verb::AskRun)?;
        let now = self.env.now();
        let world = World::read(&*self.store).await?;
        let (_, system) = world.system(&ask.system)?;
        let known = self.store.identity_named(&ask.name).await?;
        let mut problems = Vec::new();
        if system.environment != ask.environment {
            problems.push(format!(
                "environment: system `{}` belongs to `{}`",
                ask.system, system.environment
            ));
        }
        if self.store.resource(Kind::Owner, &ask.owner).await?.is_none() {
            problems.push(format!("owner: `{}` is not registered", ask.owner));
        }
        if ask.expires <= now {
            problems.push("expires: lies in the past".to_owned());
        }
        let adoptable =
            |one: &Identity| ask.take_over && one.spec.account == ask.account && one.spec.system == ask.system;
        if known.as_ref().is_some_and(|one| !adoptable(one)) {
            problems.push(format!(
                "name: `{}` is registered already, for another account",
                ask.name
            ));
        }
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

    pub(super) async fn named(&self, name: &str) -> Result<Identity, AppError> {
        let found = self.store.identity_named(name).await?;
        found.ok_or_else(|| AppError::NotFound {
            what: "identity",
            name: name.to_owned(),
        })
    }

    async fn check_idle(&self, identity: &Identity) -> Result<(), AppError> {
        match self.store.open_run_of(identity.id).await? {
            None => Ok(()),
            Some(run) => Err(AppError::Conflict {
                why: format!(
                    "{run} of `{}` is under way; `keyfall watch {run}` follows it, `keyfall cancel {run}` takes it back",
                    identity.name
                ),
            }),
        }
    }

    async fn propose_action(
        &self,
        caller: &Caller,
        reason: String,
        action: Action,
        consequences: Vec<String>,
        warnings: Vec<String>,
    ) -> Result<Asked, AppError> {
        Ok(Asked::Plan(Box::new(
            self.propose_only(caller, reason, action, consequences, warnings)
                .await?,
        )))
    }

    pub(super) async fn propose_only(
        &self,
        caller: &Caller,
        reason: String,
        action: Action,
        consequences: Vec<String>,
        warnings: Vec<String>,
    ) -> Result<PlanView, AppError> {
        let draft = Draft {
            changes: Vec::new(),
            actions: vec![action],
            consequences,
            warnings,
        };
        self.propose(caller, reason, draft, self.env.now(), Vec::new()).await
    }
}

/// An approved policy allows its in-bounds rotations, unless it only observes.
fn standing(autonomy: Autonomy, approved: Option<&Approval>) -> Option<Approval> {
    let approved = approved.filter(|_| matches!(autonomy, Autonomy::Automatic | Autonomy::Propose))?;
    Some(Approval {
        standing: true,
        ..approved.clone()
    })
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
            purpose: format!("Found as account {account} and adopted."),
        };
        draft.changes.push(Change {
            kind: Kind::Identity,
            name: name.clone(),
            from_version: 0,
            target: ChangeTarget::Identity(id),
            labels: BTreeMap::new(),
            before: None,
            after: Spec::Identity(spec),
            is_control: false,
        });
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
