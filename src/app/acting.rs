//! Asking for something to be done to an identity: inside the standing approval of its policy it starts at once, everything else becomes a
//! plan that another person signs.

use super::planning::Draft;
use super::{App, AppError, Caller, PlanView, RunView, Verb, allow};
use crate::domain::actor::Approval;
use crate::domain::due::DueReason;
use crate::domain::identity::{Credential, Identity, IdentityState};
use crate::domain::ids::CredentialId;
use crate::domain::plan::Action;
use crate::domain::planner::RunRequest;
use crate::domain::resource::Autonomy;
use crate::domain::revoking::may_be_revoked;
use crate::domain::workflow::{RunKind, Trigger};
use crate::engine::freeze::{FREEZE, Freeze};

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

impl App {
    /// # Errors
    /// When the identity's state does not allow it, or a freeze; the text says which would.
    pub async fn rotate(&self, caller: &Caller, name: &str, ask: RotateAsk) -> Result<Asked, AppError> {
        allow(caller, Verb::AskRun)?;
        let identity = self.named(name).await?;
        if ask.emergency {
            return self.emergency(caller, identity, ask).await;
        }
        self.check_idle(&identity).await?;
        let landscape = self.landscape().await?;
        let standing = landscape
            .policy_of(&identity)
            .and_then(|holding| standing(holding.policy.autonomy, holding.approved))
            .filter(|approval| approval.solo || !is_signed_by(approval, caller));
        let in_bounds =
            ask.exception.is_none() && !identity.spec.privileged && landscape.conflict_of(&identity).is_none();
        // A policy that somebody signed who has retired since allows nothing; this rotation is then approved by name.
        let standing = match standing.filter(|_| in_bounds) {
            Some(approval) if self.prepare.check_approval(&approval).await.is_ok() => Some(approval),
            _ => None,
        };
        let Some(approval) = standing else {
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
        self.check_thawed().await?;
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
        let credentials = self.store.credentials_in_play(identity.id).await?;
        let opened = self.opened(&landscape, &identity, &credentials, request, now).await?;
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
        let run = self.to_hasten(&identity).await?;
        let consequences = vec![match run {
            None => format!(
                "{name}: a new credential is made and delivered; the old one is revoked at once and proven dead"
            ),
            Some(run) => format!(
                "{name}: {run}, which rotates it already, waits for nobody any more: the old credential is revoked as soon as the new one works, and proven dead. If strangers know the new one, decline this and run `keyfall cancel {run} --reason …`"
            ),
        }];
        let action = Action::EmergencyRotate {
            identity: identity.id,
            name: name.clone(),
            reason: ask.reason.clone(),
            breaks,
            run,
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
        if identity.state == IdentityState::Requested {
            check_never_there(&identity, &self.store.credentials_in_play(identity.id).await?)?;
            let consequences = vec![format!(
                "{name}: nothing of it is downstream, so it only ends here; the name is never given again"
            )];
            let action = Action::Decommission {
                identity: identity.id,
                name: identity.name.clone(),
            };
            return self
                .propose_only(caller, reason, action, consequences, Vec::new())
                .await;
        }
        if !matches!(
            identity.state,
            IdentityState::Active | IdentityState::Quarantined | IdentityState::Decommissioning
        ) {
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
        if identity.is_control {
            warnings.push(format!(
                "{name}: it is the positive control of {0}, and is not made again: from then on the end of a credential that is alone on {0} is at best unprovable",
                identity.spec.system
            ));
        }
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
        let all = self.store.credentials_in_play(identity.id).await?;
        let wanted = self.store.credential(credential).await?;
        let wanted = wanted.filter(|one| one.identity == identity.id);
        let wanted = wanted.ok_or_else(|| AppError::NotFound {
            what: "credential",
            name: credential.to_string(),
        })?;
        may_be_revoked(&wanted, identity.current, &all).map_err(|cannot| AppError::Conflict {
            why: cannot.to_string(),
        })?;
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

    pub(super) async fn named(&self, name: &str) -> Result<Identity, AppError> {
        let found = self.store.identity_named(name).await?;
        found.ok_or_else(|| AppError::NotFound {
            what: "identity",
            name: name.to_owned(),
        })
    }

    /// A run that starts at once would wait before its revocation with two live credentials. A plan is only held when its run comes to that.
    async fn check_thawed(&self) -> Result<(), AppError> {
        let Some(value) = self.store.setting(FREEZE).await? else {
            return Ok(());
        };
        let freeze = Freeze::of_setting(&value);
        let why = format!(
            "everything destructive is frozen by {} ({}), so nothing is rotated at once; `keyfall unfreeze --reason …` asks for its end",
            freeze.by, freeze.reason
        );
        Err(AppError::Frozen { why })
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

/// An identity that was never provisioned ends without a run, when nothing of it can be alive downstream.
pub(super) fn check_never_there(identity: &Identity, credentials: &[Credential]) -> Result<(), AppError> {
    let Some(left) = credentials.iter().find(|one| one.state.may_be_live()) else {
        return Ok(());
    };
    let why = format!(
        "{} of `{}` is {} and may be alive: apply its manifest again, which provisions it, and then decommission it",
        left.id,
        identity.name,
        left.state.name()
    );
    Err(AppError::Conflict { why })
}

/// Who approves is not who asks: the policy's approver asks for a plan that somebody else signs (P6).
fn is_signed_by(approval: &Approval, caller: &Caller) -> bool {
    approval
        .approvers
        .iter()
        .any(|approver| approver.person == caller.person)
}

/// An approved policy allows its in-bounds rotations where it lets them go by themselves; on a lower rung each becomes a plan.
fn standing(autonomy: Autonomy, approved: Option<&Approval>) -> Option<Approval> {
    let approved = approved.filter(|_| autonomy == Autonomy::Automatic)?;
    Some(Approval {
        standing: true,
        ..approved.clone()
    })
}
