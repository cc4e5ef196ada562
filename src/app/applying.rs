//! Carrying an approved plan out: one commit with every change, every run that it opens and the approval itself, or nothing.

use jiff::Timestamp;
use serde_json::json;

use super::acting::check_never_there;
use super::opening::Cause;
use super::people::enrolled_token;
use super::stopping::{lift, rearm};
use super::{App, AppError, Caller, Deed};
use crate::domain::actor::Approval;
use crate::domain::due::DueReason;
use crate::domain::identity::{Identity, IdentityState};
use crate::domain::landscape::Landscape;
use crate::domain::plan::{Action, Change, ChangeTarget, Plan};
use crate::domain::resource::{Kind, Resource, Spec};
use crate::domain::workflow::{RunKind, Trigger};
use crate::engine::REGISTER_VERSION;
use crate::store::{Commit, Committed, Fact, Guard, PersonRow, PlanRow, PlanStatus};

/// What a plan's application works on.
pub(super) struct Application<'a> {
    pub(super) plan: &'a Plan,
    pub(super) approval: &'a Approval,
    pub(super) landscape: Landscape,
    pub(super) now: Timestamp,
    pub(super) commit: Commit,
    pub(super) runs: Vec<String>,
}

impl App {
    /// Answers the runs that were opened.
    pub(super) async fn apply(
        &self,
        caller: &Caller,
        row: &PlanRow,
        plan: &Plan,
        approval: &Approval,
        mut commit: Commit,
    ) -> Result<Vec<String>, AppError> {
        let now = self.env.now();
        commit.guards.push(Guard::PlanIs {
            plan: row.id,
            status: PlanStatus::Proposed,
        });
        commit.facts.push(Fact::PlanStatus {
            plan: row.id,
            to: PlanStatus::Applied,
            at: now,
        });
        let mut deed = Deed::new("plan_applied", json!({ "plan": row.id, "digest": row.digest }));
        deed.approval = Some(approval);
        commit.log.push(self.entry(caller, now, deed));
        let landscape = self.landscape().await?.with(&plan.changes, Some(approval));
        let problems = self.occupied(&landscape, &plan.changes, &plan.actions).await?;
        if !problems.is_empty() {
            return Err(AppError::Invalid { problems });
        }
        let mut work = Application {
            plan,
            approval,
            landscape,
            now,
            commit,
            runs: Vec::new(),
        };
        for change in &plan.changes {
            self.apply_change(&mut work, change).await?;
        }
        self.follow_references(&mut work).await?;
        if !plan.changes.is_empty() {
            work.commit.facts.push(Fact::Setting {
                key: REGISTER_VERSION,
                value: Some(row.id.to_string()),
            });
        }
        self.reschedule(&mut work).await?;
        self.apply_actions(caller, row, &mut work).await?;
        let Application { commit, runs, .. } = work;
        let guards = commit.guards.clone();
        if let Committed::Refused { guard } = self.store.commit(commit).await? {
            return Err(self.overtaken(caller, row, guards.get(guard), now).await?);
        }
        self.bell.ring();
        Ok(runs)
    }

    async fn apply_actions(&self, caller: &Caller, row: &PlanRow, work: &mut Application<'_>) -> Result<(), AppError> {
        for action in &work.plan.actions {
            let applied = self.apply_action(caller, work, action).await;
            if matches!(
                (action, &applied),
                (
                    Action::EmergencyRotate { run: Some(_), .. },
                    Err(AppError::Conflict { .. })
                )
            ) {
                // The rotation that it was to hasten went on without it.
                self.make_stale(caller, row, work.now).await?;
            }
            applied?;
        }
        Ok(())
    }

    /// What somebody else did between the reading and the commit.
    async fn overtaken(
        &self,
        caller: &Caller,
        row: &PlanRow,
        guard: Option<&Guard>,
        now: Timestamp,
    ) -> Result<AppError, AppError> {
        if guard.is_some_and(is_for_good) {
            self.make_stale(caller, row, now).await?;
        }
        let why = match guard {
            Some(Guard::RunAt { run, .. }) => {
                format!(
                    "{run} wrote something in this very moment; approve plan {} again",
                    row.id
                )
            }
            _ => format!("what plan {} was made on has changed meanwhile; plan again", row.id),
        };
        Ok(AppError::Conflict { why })
    }

    /// Nobody is asked again to sign what cannot be applied.
    async fn make_stale(&self, caller: &Caller, row: &PlanRow, at: Timestamp) -> Result<(), AppError> {
        let details = json!({ "plan": row.id, "digest": row.digest });
        let commit = Commit {
            guards: vec![Guard::PlanIs {
                plan: row.id,
                status: PlanStatus::Proposed,
            }],
            facts: vec![Fact::PlanStatus {
                plan: row.id,
                to: PlanStatus::Stale,
                at,
            }],
            log: vec![self.entry(caller, at, Deed::new("plan_stale", details))],
        };
        self.store(commit, "the plan was decided meanwhile").await
    }

    async fn apply_change(&self, work: &mut Application<'_>, change: &Change) -> Result<(), AppError> {
        let version = change.from_version.saturating_add(1);
        let approved = Some(work.approval.clone());
        match (&change.target, &change.after) {
            (ChangeTarget::Identity(id), Spec::Identity(spec)) => {
                work.commit.guards.push(Guard::IdentityAt {
                    name: change.name.clone(),
                    version: change.from_version,
                });
                work.commit.facts.push(Fact::Identity(Identity {
                    id: *id,
                    name: change.name.clone(),
                    version,
                    labels: change.labels.clone(),
                    spec: spec.clone(),
                    state: IdentityState::Requested,
                    current: None,
                    due: None,
                    is_control: change.is_control,
                    approved,
                    created_at: work.now,
                }));
            }
            (ChangeTarget::Resource(id), spec) => {
                let kind = spec.kind().name();
                work.commit.guards.push(Guard::ResourceAt {
                    kind,
                    name: change.name.clone(),
                    version: change.from_version,
                });
                work.commit.facts.push(Fact::Resource(Resource {
                    id: *id,
                    name: change.name.clone(),
                    version,
                    labels: change.labels.clone(),
                    spec: spec.clone(),
                    approved,
                }));
                if spec.kind() == Kind::System {
                    self.follow_endpoints(work, change).await?;
                }
            }
            (ChangeTarget::Identity(_), _) => {
                return Err(AppError::Internal {
                    what: "a plan gives an identity the spec of something else".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// The approval of changed endpoints is what allows secrets to travel there: each is sealed anew for them, in the same commit (P11).
    async fn follow_endpoints(&self, work: &mut Application<'_>, change: &Change) -> Result<(), AppError> {
        let (Some(Spec::System(before)), Spec::System(after)) = (&change.before, &change.after) else {
            return Ok(());
        };
        let digest = |system: &crate::domain::resource::SystemManifest| {
            system
                .endpoint_digest()
                .map_err(|error| AppError::internal("endpoints could not be hashed", &error))
        };
        let (old, new) = (digest(before)?, digest(after)?);
        if old == new {
            return Ok(());
        }
        for identity in self.identities_of_system(&change.name).await? {
            if let Some(run) = self.store.open_run_of(identity.id).await? {
                let why = format!(
                    "{run} of {} is under way; let it end or cancel it before the endpoints change",
                    identity.name
                );
                return Err(AppError::Conflict { why });
            }
            work.commit.guards.push(Guard::NoOpenRun { identity: identity.id });
            for credential in self.store.credentials_of(identity.id).await? {
                let Some(id) = credential.secret else { continue };
                self.reseal(id, new, work).await?;
            }
        }
        Ok(())
    }

    async fn apply_action(&self, caller: &Caller, work: &mut Application<'_>, action: &Action) -> Result<(), AppError> {
        let cause = match action {
            Action::Provision { .. } => Cause {
                trigger: Trigger::Apply,
                ..Cause::requested(RunKind::Provision)
            },
            Action::Rotate { exception, .. } => Cause {
                exception: exception.clone(),
                ..Cause::requested(RunKind::Rotate)
            },
            Action::EmergencyRotate {
                reason, breaks, run, ..
            } => {
                let exception = format!("{reason}; may break: {}", breaks.join(", "));
                if let Some(run) = run {
                    return self.hasten(work, *run, exception).await;
                }
                Cause {
                    trigger: Trigger::BreakGlass,
                    reason: DueReason::Compromised,
                    exception: Some(exception),
                    ..Cause::requested(RunKind::EmergencyRotate)
                }
            }
            Action::Revoke { credential, .. } => Cause {
                credential: Some(*credential),
                ..Cause::requested(RunKind::Revoke)
            },
            Action::Decommission { .. } => Cause::requested(RunKind::Decommission),
            other => return self.apply_settlement(work, other).await,
        };
        let identity = self.subject(work, action).await?;
        if cause.kind == RunKind::Decommission && identity.state == IdentityState::Requested {
            return self.end_unprovisioned(caller, work, &identity).await;
        }
        self.open(work, identity, cause).await
    }

    /// Nothing of it is downstream, so that there is nothing to run.
    async fn end_unprovisioned(
        &self,
        caller: &Caller,
        work: &mut Application<'_>,
        identity: &Identity,
    ) -> Result<(), AppError> {
        check_never_there(identity, &self.store.credentials_in_play(identity.id).await?)?;
        work.commit.guards.push(Guard::NoOpenRun { identity: identity.id });
        work.commit.facts.push(Fact::IdentityState {
            id: identity.id,
            to: IdentityState::Decommissioned,
        });
        let details = json!({ "identity": identity.name, "why": "nothing of it was ever downstream" });
        let mut deed = Deed::new("decommissioned", details);
        deed.identity = Some(&identity.name);
        deed.approval = Some(work.approval);
        work.commit.log.push(self.entry(caller, work.now, deed));
        Ok(())
    }

    /// The identity that an action is about: as the plan itself registers it, or as it is registered.
    async fn subject(&self, work: &Application<'_>, action: &Action) -> Result<Identity, AppError> {
        let (Action::Provision { identity, .. }
        | Action::Rotate { identity, .. }
        | Action::EmergencyRotate { identity, .. }
        | Action::Revoke { identity, .. }
        | Action::Decommission { identity, .. }) = action
        else {
            return Err(AppError::Internal {
                what: format!("{} is about no identity", action.verb()),
            });
        };
        let in_plan = work.commit.facts.iter().find_map(|fact| match fact {
            Fact::Identity(one) if one.id == *identity => Some(one.clone()),
            _ => None,
        });
        match in_plan {
            Some(identity) => Ok(identity),
            None => self.registered(*identity).await,
        }
    }

    /// What is done by the commit itself, or begins by reading.
    async fn apply_settlement(&self, work: &mut Application<'_>, action: &Action) -> Result<(), AppError> {
        match action {
            Action::Adopt { identity, account, .. } => {
                self.take_in(work, *identity, account, None, RunKind::Adopt).await
            }
            Action::TakeOver {
                identity,
                account,
                secret,
                ..
            } => self.take_in(work, *identity, account, *secret, RunKind::TakeOver).await,
            Action::Enrol {
                person,
                name,
                roles,
                public_key,
                token_digest,
            } => {
                let by = work.approval.approvers.first();
                work.commit.facts.push(Fact::Person(PersonRow {
                    id: *person,
                    name: name.clone(),
                    roles: roles.clone(),
                    public_key: public_key.clone(),
                    enrolled_by: by.map(|one| one.person),
                    enrolment: Some(work.approval.clone()),
                    enrolled_at: work.now,
                    retired_at: None,
                }));
                let token = token_digest.map(|digest| enrolled_token(&self.env, *person, digest, work.now));
                work.commit.facts.extend(token.map(Fact::Token));
                Ok(())
            }
            Action::Retire { person, .. } => {
                work.commit.facts.push(Fact::PersonRetired {
                    id: *person,
                    at: work.now,
                });
                Ok(())
            }
            Action::Unfreeze { setting, .. } => {
                lift(&mut work.commit, setting);
                Ok(())
            }
            Action::RearmBreaker { due, setting, .. } => {
                rearm(&mut work.commit, *due, setting, work.now);
                Ok(())
            }
            other => Err(AppError::Internal {
                what: format!("{} opens a run", other.verb()),
            }),
        }
    }
}

/// What the plan was made on is gone and does not come back: another version was registered, another freeze was set. A run that is under way ends.
fn is_for_good(guard: &Guard) -> bool {
    matches!(
        guard,
        Guard::ResourceAt { .. } | Guard::IdentityAt { .. } | Guard::SettingIs { .. }
    )
}
