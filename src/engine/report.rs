//! What carrying out one step came to. The driver turns it into events; a step writes nothing itself.

use jiff::Timestamp;
use keyfall_sdk::BoxFuture;

use crate::domain::workflow::{Observation, Run, Step, StepError, StepOutput};

/// What a step saw, in order, and how it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    pub observations: Vec<Observation>,
    pub end: StepEnd,
}

#[derive(Debug, Clone, PartialEq)]
pub enum StepEnd {
    Done(StepOutput),
    /// Come back at this instant; the wait is stored, nothing sleeps.
    Wait {
        until: Timestamp,
        why: String,
    },
    Failed(StepError),
    /// The downstream state is not one that the engine may decide about by itself.
    AskOperator {
        reason: String,
        manual_step: String,
    },
}

impl StepReport {
    #[must_use]
    pub fn done(output: StepOutput) -> Self {
        Self {
            observations: Vec::new(),
            end: StepEnd::Done(output),
        }
    }

    #[must_use]
    pub fn seeing(mut self, observation: Observation) -> Self {
        self.observations.push(observation);
        self
    }
}

/// Carries out steps. One implementation talks to real connectors; the driver's own tests bring theirs.
pub trait PerformSteps: Send + Sync {
    /// What is about to be done, committed before it is done: targets by immutable id, the name to be used, the pre-image. No secret.
    fn intent(&self, run: &Run, step: Step) -> serde_json::Value;

    /// Does the step once. `observe_first`: an earlier attempt may have had its effect, so look downstream before repeating anything.
    /// Waiting, retrying and recording are the driver's. Never cancelled after it was begun.
    fn perform<'a>(&'a self, run: &'a Run, step: Step, attempt: u32, observe_first: bool) -> BoxFuture<'a, StepReport>;
}
