//! The hand between driver and steps: steps that are done twice, steps that fail before or after they are done, and the death of a process around
//! a step that calls nobody.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{BoxFuture, ErrorKind};

use super::fault::{Cut, Mode, Site};
use super::hand::{Hand, Life};
use crate::domain::ids::RunId;
use crate::domain::workflow::{Outcome, Path, Run, Step, StepError};
use crate::engine::report::{Closing, Hold, PerformSteps, StepEnd, StepReport};

/// What is done to all steps, besides the one fault of a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Habits {
    /// This step fails for good, before or after it is done.
    pub(crate) fails: Option<Failing>,
    pub(crate) repeats: Repeats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failing {
    pub(crate) step: Step,
    /// What it does is done all the same.
    pub(crate) is_done: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Repeats {
    #[default]
    Nothing,
    Everything,
    /// Only what takes back.
    Undos,
}

pub(crate) struct MeddledSteps {
    pub(crate) inner: Arc<dyn PerformSteps>,
    pub(crate) hand: Arc<Hand>,
    pub(crate) life: Arc<Life>,
    pub(crate) habits: Habits,
}

impl MeddledSteps {
    async fn perform_once(&self, run: &Run, step: Step, attempt: u32, observe_first: bool, hold: Hold) -> StepReport {
        let site = Site { step, call: None };
        self.hand.count(site);
        let strikes = |cut: Cut| self.hand.strikes(|fault| fault.site == site && fault.cut == cut);
        if strikes(Cut::BeforeSend).is_some() {
            self.hand.kill(&self.life);
            return failed(ErrorKind::Transient, "this process is dead");
        }
        let failing = self.habits.fails.filter(|failing| failing.step == step);
        if failing.is_some_and(|failing| !failing.is_done) {
            return failed(ErrorKind::Denied, "the matrix fails this step, which was not done");
        }
        let mut report = self
            .inner
            .perform(run, step, attempt, observe_first, hold.clone())
            .await;
        if self.is_repeated(run) || self.is_struck_twice(step) {
            report = self.inner.perform(run, step, attempt, step.has_effect(), hold).await;
        }
        if strikes(Cut::AfterSend).is_some() {
            self.hand.kill(&self.life);
        }
        match (&report.end, failing) {
            (StepEnd::Done(_), Some(_)) => StepReport {
                end: failed(ErrorKind::Denied, "the matrix fails this step, which was done").end,
                ..report
            },
            _ => report,
        }
    }

    fn is_repeated(&self, run: &Run) -> bool {
        match self.habits.repeats {
            Repeats::Nothing => false,
            Repeats::Everything => true,
            Repeats::Undos => run.path() == Path::Unwinding,
        }
    }

    fn is_struck_twice(&self, step: Step) -> bool {
        let fault = self
            .hand
            .strikes(|fault| fault.site.step == step && fault.cut == Cut::AfterReply && fault.mode == Mode::Duplicate);
        fault.is_some()
    }
}

fn failed(kind: ErrorKind, message: &str) -> StepReport {
    StepReport {
        observations: Vec::new(),
        end: StepEnd::Failed(StepError {
            kind,
            message: message.to_owned(),
            code: None,
        }),
    }
}

impl PerformSteps for MeddledSteps {
    fn intent(&self, run: &Run, step: Step) -> serde_json::Value {
        self.inner.intent(run, step)
    }

    fn obstacle<'a>(&'a self, run: &'a Run, step: Step) -> BoxFuture<'a, Option<StepEnd>> {
        self.inner.obstacle(run, step)
    }

    fn perform<'a>(
        &'a self,
        run: &'a Run,
        step: Step,
        attempt: u32,
        observe_first: bool,
        hold: Hold,
    ) -> BoxFuture<'a, StepReport> {
        Box::pin(self.perform_once(run, step, attempt, observe_first, hold))
    }

    fn time_limit(&self, run: &Run, step: Step) -> SignedDuration {
        self.inner.time_limit(run, step)
    }

    fn must_record_at_once(&self, run: &Run, step: Step) -> bool {
        self.inner.must_record_at_once(run, step)
    }

    fn closing(&self, run: &Run, outcome: &Outcome, at: Timestamp) -> Closing {
        self.inner.closing(run, outcome, at)
    }

    fn let_go(&self, run: RunId) {
        self.inner.let_go(run);
    }
}
