//! Making an emergency of a rotation that is under way: the credential that it replaces is known to strangers, and the wait for consumers and the
//! overlap would keep it alive. Two people allow it, as they allow any emergency; what the run made already is kept.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::actor::{Actor, Approval};
use super::plan::RunKind;
use super::run::Run;
use super::state::{Path, RunStatus, StepState};
use super::steps::{Step, pivot};

/// Who made an emergency of a run, and what allows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hastened {
    pub by: Actor,
    pub approval: Approval,
    /// With the consumers that may break.
    pub reason: String,
}

impl Run {
    /// The run would wait before it revokes the old credential, and need not. A run that rests at another step than the wait for consumers needs
    /// its own remedy first.
    #[must_use]
    pub fn may_be_hastened(&self) -> bool {
        let rests_elsewhere = match self.status {
            RunStatus::Open => false,
            RunStatus::NeedsOperator { .. } => !self.step().is_some_and(waits),
            RunStatus::Closed { .. } => true,
        };
        self.plan.kind == RunKind::Rotate
            && pivot(&self.plan) == Some(Step::RevokeOld)
            && self.path == Path::Forward
            && !self.is_past_pivot()
            && self.cancel.is_none()
            && self.hastened.is_none()
            && !rests_elsewhere
    }

    /// That it was made an emergency while it was under way.
    #[must_use]
    pub fn hastened(&self) -> Option<&Hastened> {
        self.hastened.as_ref()
    }

    /// The old credential is known to strangers: from the beginning, or since the run was hastened.
    #[must_use]
    pub fn is_emergency(&self) -> bool {
        self.plan.kind == RunKind::EmergencyRotate || self.hastened.is_some()
    }

    /// Takes the waits out of what lies ahead.
    pub(super) fn hasten(&mut self, hastened: &Hastened) {
        if self.step().is_some_and(waits) {
            self.step_state = StepState::NotStarted;
            self.step_began_at = None;
        }
        let ahead = self.steps.split_off(self.cursor.min(self.steps.len()));
        self.steps.extend(ahead.into_iter().filter(|step| !waits(*step)));
        self.status = RunStatus::Open;
        self.hastened = Some(hastened.clone());
    }

    /// What allows this run to take something away.
    #[must_use]
    pub fn approval(&self) -> &Approval {
        self.hastened
            .as_ref()
            .map_or(&self.plan.approval, |hastened| &hastened.approval)
    }

    /// Until when the first thing may be taken away; see [`super::RunPlan::approval_ends_at`].
    #[must_use]
    pub fn approval_ends_at(&self) -> Option<Timestamp> {
        match &self.hastened {
            Some(hastened) => hastened.approval.signed_until(),
            None => self.plan.approval_ends_at(),
        }
    }
}

fn waits(step: Step) -> bool {
    matches!(step, Step::AwaitUptake | Step::AwaitOverlap)
}
