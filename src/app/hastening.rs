//! The run that is in the way of what somebody asks for, and what can be done about it at the step where it stands. An emergency does not wait
//! for a rotation that is under way: it makes an emergency of that.

use super::applying::Application;
use super::{App, AppError};
use crate::domain::actor::Actor;
use crate::domain::identity::Identity;
use crate::domain::ids::RunId;
use crate::domain::workflow::{EventBody, Hastened, Path, Run, RunKind, RunStatus, Step};

impl App {
    /// The run of an identity that is under way.
    pub(super) async fn under_way(&self, identity: &Identity) -> Result<Option<Run>, AppError> {
        let Some(id) = self.store.open_run_of(identity.id).await? else {
            return Ok(None);
        };
        let Some(stored) = self.store.run(id).await? else {
            return Ok(None);
        };
        let run =
            Run::replay(&stored.events).map_err(|error| AppError::internal("a stored run does not fold", &error))?;
        Ok(Some(run).filter(|run| !matches!(run.status(), RunStatus::Closed { .. })))
    }

    pub(super) async fn check_idle(&self, identity: &Identity) -> Result<(), AppError> {
        match self.under_way(identity).await? {
            None => Ok(()),
            Some(run) => Err(in_the_way(&run)),
        }
    }

    /// The rotation that an emergency of this identity makes an emergency of; `None` where nothing is under way.
    pub(super) async fn to_hasten(&self, identity: &Identity) -> Result<Option<RunId>, AppError> {
        match self.under_way(identity).await? {
            None => Ok(None),
            Some(run) if run.may_be_hastened() => Ok(Some(run.id())),
            Some(run) => Err(in_the_way(&run)),
        }
    }

    pub(super) async fn hasten(&self, work: &mut Application<'_>, run: RunId, reason: String) -> Result<(), AppError> {
        let hastened = Box::new(Hastened {
            by: Actor::Person {
                id: work.plan.requester,
                name: work.plan.requester_name.clone(),
            },
            approval: work.approval.clone(),
            reason,
        });
        let body = EventBody::Hastened { hastened };
        let refused = "an emergency is made of a rotation before it revokes anything; ask for it again";
        let commit = self.by_hand(&run.to_string(), body, refused).await?;
        work.runs.push(run.to_string());
        work.commit.guards.extend(commit.guards);
        work.commit.facts.extend(commit.facts);
        work.commit.log.extend(commit.log);
        Ok(())
    }
}

fn in_the_way(run: &Run) -> AppError {
    let (id, plan) = (run.id(), run.plan());
    let name = &plan.identity_name;
    let cancel = format!("`keyfall cancel {id} --reason …` takes it back");
    let can = if run.path() == Path::Unwinding || run.cancel_reason().is_some() {
        "it is being taken back; ask again when it is".to_owned()
    } else if !run.may_be_cancelled() {
        match plan.kind {
            RunKind::Rotate | RunKind::EmergencyRotate => {
                "the old credential is being ended already, and nothing takes the run back any more; if strangers know the new one, ask again as soon as it has ended".to_owned()
            }
            _ => "nothing takes it back any more; ask again when it has ended".to_owned(),
        }
    } else if run.is_emergency() {
        format!("it is an emergency and waits for nobody; {cancel}")
    } else if run.may_be_hastened() {
        format!(
            "{cancel}, `keyfall rotate {name} --emergency --reason …` ends its waits and revokes the old credential at once"
        )
    } else {
        cancel
    };
    let rests = match run.status() {
        RunStatus::NeedsOperator { .. } => format!("; it needs a person: `keyfall describe run {id}` says for what"),
        _ => String::new(),
    };
    AppError::Conflict {
        why: format!(
            "{id} ({}) of `{name}` is under way at {}: {can}; `keyfall watch {id}` follows it{rests}",
            plan.kind.name(),
            run.step().map_or("its end", Step::name),
        ),
    }
}
