//! Opening runs for a person: the facts are gathered, the plan of the run is made, a fresh secret is sealed, and all of it goes into the commit of
//! whatever asked for it.

use jiff::Timestamp;
use keyfall_sdk::PrincipalRef;

use super::applying::Application;
use super::landscape::system_in;
use super::{App, AppError};
use crate::domain::actor::Actor;
use crate::domain::due::DueReason;
use crate::domain::identity::{Credential, CredentialState, Identity, IdentityState};
use crate::domain::ids::{CredentialId, IdentityId, RunId, SecretId};
use crate::domain::landscape::Landscape;
use crate::domain::planner::{Drawn, Lives, RunRequest};
use crate::domain::workflow::{RunKind, Trigger};
use crate::engine::{opening, stands};
use crate::store::{Commit, Fact};

/// Why a run is opened: the part of its request that differs from action to action.
pub(super) struct Cause {
    pub(super) kind: RunKind,
    pub(super) trigger: Trigger,
    pub(super) reason: DueReason,
    pub(super) credential: Option<CredentialId>,
    pub(super) exception: Option<String>,
}

impl Cause {
    /// A person asked for it.
    pub(super) fn requested(kind: RunKind) -> Self {
        Self {
            kind,
            trigger: Trigger::Request,
            reason: DueReason::Requested,
            credential: None,
            exception: None,
        }
    }
}

impl App {
    pub(super) async fn registered(&self, id: IdentityId) -> Result<Identity, AppError> {
        let missing = || AppError::NotFound {
            what: "identity",
            name: id.to_string(),
        };
        self.store.identity(id).await?.ok_or_else(missing)
    }

    /// An account that was found becomes an identity: registered in the plan's own changes, discovered, and read by its run.
    pub(super) async fn take_in(
        &self,
        work: &mut Application<'_>,
        id: IdentityId,
        account: &str,
        secret: Option<SecretId>,
        kind: RunKind,
    ) -> Result<(), AppError> {
        let in_plan = work.commit.facts.iter_mut().find_map(|fact| match fact {
            Fact::Identity(one) if one.id == id => {
                one.state = IdentityState::Discovered;
                Some(one.clone())
            }
            _ => None,
        });
        let identity = match in_plan {
            Some(identity) => identity,
            None => self.registered(id).await?,
        };
        work.commit.facts.extend(secret.map(|id| Fact::SecretKept { id }));
        let known = self.store.credentials_in_play(id).await?;
        let credentials = match known
            .into_iter()
            .find(|one| matches!(one.state, CredentialState::Foreign))
        {
            Some(mut credential) => {
                let replaced = credential.secret.filter(|_| secret.is_some());
                work.commit
                    .facts
                    .extend(replaced.map(|id| Fact::SecretDestroyAt { id, at: work.now }));
                credential.secret = secret.or(credential.secret);
                work.commit.facts.extend(secret.map(|secret| Fact::CredentialSecret {
                    id: credential.id,
                    secret,
                }));
                vec![credential]
            }
            None => {
                let credential = Credential {
                    id: CredentialId::from_uuid(self.env.draw_uuid()),
                    identity: id,
                    principal: PrincipalRef {
                        name: account.to_owned(),
                        immutable_id: None,
                    },
                    key_id: None,
                    secret,
                    state: CredentialState::Foreign,
                    created_at: work.now,
                    proven_at: None,
                    expires_at: None,
                };
                work.commit.facts.push(Fact::Credential(credential.clone()));
                vec![credential]
            }
        };
        self.open_with(work, identity, &credentials, Cause::requested(kind))
            .await
    }

    pub(super) async fn open(
        &self,
        work: &mut Application<'_>,
        identity: Identity,
        cause: Cause,
    ) -> Result<(), AppError> {
        let credentials = self.store.credentials_in_play(identity.id).await?;
        self.open_with(work, identity, &credentials, cause).await
    }

    async fn open_with(
        &self,
        work: &mut Application<'_>,
        identity: Identity,
        credentials: &[Credential],
        cause: Cause,
    ) -> Result<(), AppError> {
        let request = RunRequest {
            kind: cause.kind,
            trigger: cause.trigger,
            reason: cause.reason,
            initiator: Actor::Person {
                id: work.plan.requester,
                name: work.plan.requester_name.clone(),
            },
            approval: work.approval.clone(),
            credential: cause.credential,
            exception: cause.exception,
        };
        let opened = self
            .opened(&work.landscape, &identity, credentials, request, work.now)
            .await?;
        work.runs.push(opened.run.to_string());
        work.commit.guards.extend(opened.commit.guards);
        work.commit.facts.extend(opened.commit.facts);
        work.commit.log.extend(opened.commit.log);
        Ok(())
    }

    /// The commit that opens a run, with a fresh secret sealed where the run issues one.
    pub(super) async fn opened(
        &self,
        landscape: &Landscape,
        identity: &Identity,
        credentials: &[Credential],
        request: RunRequest,
        now: Timestamp,
    ) -> Result<Opened, AppError> {
        let system = &identity.spec.system;
        let failed = |why: String| AppError::Downstream {
            system: system.clone(),
            why,
        };
        let (resource, _) = system_in(landscape, system)?;
        let facts = self.prepare.connector_facts(resource).await.map_err(failed)?;
        let drawn = Drawn {
            run: RunId::from_uuid(self.env.draw_uuid()),
            credential: CredentialId::from_uuid(self.env.draw_uuid()),
            secret: SecretId::from_uuid(self.env.draw_uuid()),
            now,
        };
        let lives = match request.kind {
            RunKind::Revoke | RunKind::Decommission => self.lives_of(identity, credentials, landscape).await?,
            _ => Lives::new(),
        };
        let known = (credentials, &lives);
        let run_plan = landscape
            .plan_run(identity, known, &facts, request, drawn)
            .map_err(|cannot| AppError::Conflict {
                why: cannot.to_string(),
            })?;
        let secret = run_plan
            .new
            .is_some()
            .then(|| self.prepare.seal_new(&run_plan))
            .transpose();
        let secret = secret.map_err(|why| AppError::Internal { what: why })?;
        // An account that is to be made, or was found, belongs to an identity that this very commit may register or change.
        let is_new = matches!(run_plan.kind, RunKind::Provision | RunKind::Adopt | RunKind::TakeOver);
        let guard = (!is_new).then(|| stands(identity));
        let mut commit =
            opening(run_plan, secret).map_err(|error| AppError::internal("the run could not be opened", &error))?;
        commit.guards.extend(guard);
        Ok(Opened { run: drawn.run, commit })
    }
}

/// A run that is about to be opened.
pub(super) struct Opened {
    pub(super) run: RunId,
    pub(super) commit: Commit,
}
