//! What carrying out one step came to. The driver turns it into events; a step writes nothing itself.

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{BoxFuture, PrincipalReading, PrincipalRef};

pub use super::lease::Hold;
use crate::domain::actor::Approval;
use crate::domain::digest::Digest;
use crate::domain::ids::RunId;
use crate::domain::planner::ConnectorFacts;
use crate::domain::resource::Resource;
use crate::domain::workflow::{Observation, Outcome, Run, RunPlan, Step, StepError, StepOutput, StuckBecause};
use crate::store::{Fact, SecretRow};

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
        because: StuckBecause,
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

/// What is stored together with a run's last event.
#[derive(Debug, Clone, Default)]
pub struct Closing {
    /// The receipt, when the run ended something.
    pub facts: Vec<Fact>,
    /// Of the receipt's body; it stands in the closing event.
    pub receipt_digest: Option<Digest>,
}

/// Carries out steps. One implementation talks to real connectors; the driver's own tests bring theirs.
pub trait PerformSteps: Send + Sync {
    /// What is about to be done, committed before it is done: targets by immutable id, the name to be used, the pre-image. No secret.
    fn intent(&self, run: &Run, step: Step) -> serde_json::Value;

    /// What stands in the way of the step that there is no way back from, looked for before its intent is committed: a run that rests here
    /// can still be cancelled. `None` lets it go on. Never a wait: an event of the step would count as its beginning.
    fn obstacle<'a>(&'a self, run: &'a Run, step: Step) -> BoxFuture<'a, Option<StepEnd>>;

    /// Does the step once. `observe_first`: an earlier attempt may have had its effect, so look downstream before repeating anything.
    /// Nothing is sent that `hold` does not outlive. Waiting, retrying and recording are the driver's. Never cancelled after it was begun.
    fn perform<'a>(
        &'a self,
        run: &'a Run,
        step: Step,
        attempt: u32,
        observe_first: bool,
        hold: Hold,
    ) -> BoxFuture<'a, StepReport>;

    /// How long the step may take. The lease outlives it when the effect is sent, and the deadline stands in the intent.
    fn time_limit(&self, run: &Run, step: Step) -> SignedDuration;

    /// The step's result cannot be had twice (the system mints the secret and shows it once), so it is made durable before anything else.
    fn must_record_at_once(&self, run: &Run, step: Step) -> bool;

    /// What is stored with the closing event, which will be number `run.next_seq()`.
    fn closing(&self, run: &Run, outcome: &Outcome, at: Timestamp) -> Closing;

    /// The run leaves our hands: what was kept for it in memory goes.
    fn let_go(&self, _run: RunId) {}
}

/// What opening a run needs from the connectors, the sealing and the keys of the approvers.
pub trait PrepareRuns: Send + Sync {
    /// What the planner must know of a system's connector. The text of a failure is for people.
    fn connector_facts<'a>(&'a self, system: &'a Resource) -> BoxFuture<'a, Result<ConnectorFacts, String>>;

    /// Draws the secret of the plan's new credential and seals it.
    fn seal_new(&self, plan: &RunPlan) -> Result<SecretRow, String>;

    /// What the system shows of an account. Changes nothing there. The text of a failure is for people.
    fn reading<'a>(
        &'a self,
        system: &'a str,
        principal: &'a PrincipalRef,
    ) -> BoxFuture<'a, Result<PrincipalReading, String>>;

    /// Checks the signatures of an approval against the keys of the people who are enrolled (P6).
    fn check_approval<'a>(&'a self, approval: &'a Approval) -> BoxFuture<'a, Result<(), String>>;
}
