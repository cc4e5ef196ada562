//! What each step of a run does downstream. A step is told by the run's own plan what to do and reports what it saw; it decides nothing that
//! `domain` decides, writes nothing to the store, and may be begun again at any time.
//!
//! Connectors are reached through [`Systems`] only, secrets through [`OpenSecrets`] only. Not one step knows a connector by name.

mod accounts;
mod attempt;
mod baseline;
mod budget;
mod compare;
mod delete;
mod deliver;
mod disable_idle;
mod intent;
mod issue;
mod listen;
mod opened;
mod precheck;
mod probes;
mod promote;
mod prove_dead;
mod prove_new;
mod quarantine;
mod read_back;
mod ready;
mod record;
mod recorded;
mod revoke;
mod rounds;
mod sessions;
mod strip;
#[cfg(test)]
mod tests;
mod twins;
mod unwind;
mod uptake;
mod withdraw;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{BoxFuture, IssueClass};

use super::controls::LiveControls;
use super::lease::{Hold, unsigned};
use super::receipts;
use super::report::{Closing, PerformSteps, StepEnd, StepReport};
use super::secrets::OpenSecrets;
use super::systems::Systems;
use crate::clock::Environment;
use crate::domain::ids::RunId;
use crate::domain::workflow::{Outcome, Run, Step};
use attempt::Attempt;
use budget::RefusalBudget;
use opened::Opened;
pub use recorded::{Asked, RecordedRefusals, StoredRefusals};

/// Times that the engine gives to downstream systems.
#[derive(Debug, Clone, Copy)]
pub struct StepSettings {
    /// How long the answer to one call is waited for.
    pub call_time: Duration,
    /// How long after an issue call that was never answered its absence downstream is believed. Longer than `call_time`.
    pub issue_grace: SignedDuration,
    /// Others carry out steps on the same store: what an account was refused is not known by having carried out all of them.
    pub has_others: bool,
}

impl StepSettings {
    /// What follows from the time that one call gets.
    #[must_use]
    pub fn of_calls(call_time: SignedDuration) -> Self {
        Self {
            call_time: unsigned(call_time),
            issue_grace: call_time.saturating_add(call_time / 2),
            has_others: false,
        }
    }

    /// For a process that is not alone on its store.
    #[must_use]
    pub fn beside_others(self, has_others: bool) -> Self {
        Self { has_others, ..self }
    }
}

impl Default for StepSettings {
    fn default() -> Self {
        Self::of_calls(SignedDuration::from_secs(10))
    }
}

/// The steps, carried out on real connectors.
pub struct Steps {
    systems: Arc<Systems>,
    secrets: Arc<dyn OpenSecrets>,
    controls: Arc<dyn LiveControls>,
    recorded: Arc<dyn RecordedRefusals>,
    env: Environment,
    settings: StepSettings,
    refusals: RefusalBudget,
    opened: Opened,
}

impl Steps {
    #[must_use]
    pub fn new(
        systems: Arc<Systems>,
        secrets: Arc<dyn OpenSecrets>,
        controls: Arc<dyn LiveControls>,
        recorded: Arc<dyn RecordedRefusals>,
        env: Environment,
        settings: StepSettings,
    ) -> Self {
        Self {
            refusals: RefusalBudget::begun_at(env.now(), settings.has_others),
            systems,
            secrets,
            controls,
            recorded,
            env,
            settings,
            opened: Opened::default(),
        }
    }
}

impl PerformSteps for Steps {
    fn intent(&self, run: &Run, step: Step) -> serde_json::Value {
        intent::intent(run, step)
    }

    fn obstacle<'a>(&'a self, run: &'a Run, step: Step) -> BoxFuture<'a, Option<StepEnd>> {
        Box::pin(async move {
            let mut at = Attempt::new(self, run, step, 1, false, Hold::of_no_run());
            ready::ready(&mut at).await.err()
        })
    }

    fn perform<'a>(
        &'a self,
        run: &'a Run,
        step: Step,
        attempt: u32,
        observe_first: bool,
        hold: Hold,
    ) -> BoxFuture<'a, StepReport> {
        Box::pin(async move {
            let mut at = Attempt::new(self, run, step, attempt, observe_first, hold);
            let end = at.carry_out().await;
            at.report(end)
        })
    }

    fn time_limit(&self, run: &Run, step: Step) -> SignedDuration {
        let plan = run.plan();
        let accounts = plan.accounts.len().saturating_add(plan.old.len()).saturating_add(1);
        // Calls that wait for one another; those side by side count once.
        let calls = match step {
            Step::Promote | Step::AwaitOverlap | Step::Tombstone => 1,
            // A repetition looks first, and takes away what the look finds.
            Step::IssueNew if run.was_begun(Step::IssueNew) => 5,
            Step::IssueNew => 2,
            Step::Deliver | Step::RestoreDelivery | Step::Withdraw => plan.deliveries.len().saturating_mul(2),
            Step::AwaitUptake | Step::AwaitReturn => plan
                .consumers
                .len()
                .saturating_mul(plan.deliveries.len().saturating_add(1)),
            _ => accounts.saturating_mul(2),
        };
        let call_time = SignedDuration::try_from(self.settings.call_time).unwrap_or(SignedDuration::MAX);
        call_time.saturating_mul(i32::try_from(calls.max(1)).unwrap_or(i32::MAX))
    }

    fn must_record_at_once(&self, run: &Run, step: Step) -> bool {
        let class = self.systems.issue_class(&run.plan().system_name, &run.plan().connector);
        // Whether an issue took effect can be read downstream, unless the answer was all that ever showed it.
        let can_be_read = matches!(class, Some(IssueClass::Repeatable | IssueClass::CheckFirst));
        step == Step::IssueNew && !can_be_read
    }

    fn closing(&self, run: &Run, outcome: &Outcome, at: Timestamp) -> Closing {
        receipts::closing(run, outcome, at, &self.env)
    }

    fn let_go(&self, run: RunId) {
        self.opened.forget(run);
    }
}
