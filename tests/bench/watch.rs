//! The real steps, watched from outside: when each was begun and ended, and a gate at which runs can be made to wait for one another.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use keyfall::domain::ids::RunId;
use keyfall::domain::workflow::{Outcome, Run, Step};
use keyfall::engine::report::{Closing, Hold, PerformSteps, StepEnd, StepReport};
use keyfall_sdk::BoxFuture;

use super::meter::Meter;

/// One call of one step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) run: RunId,
    pub(crate) step: Step,
    pub(crate) began: Moment,
    pub(crate) ended: Moment,
}

/// An instant, and how long providers had been called by then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    pub(crate) provider: Duration,
}

pub(crate) struct Watched {
    inner: Arc<dyn PerformSteps>,
    meter: Meter,
    seen: Mutex<Vec<Seen>>,
    /// Runs whose baseline was taken wait until then before they go on.
    gate: Mutex<Option<Timestamp>>,
}

impl Watched {
    pub(crate) fn new(inner: Arc<dyn PerformSteps>, meter: Meter) -> Self {
        Self {
            inner,
            meter,
            seen: Mutex::default(),
            gate: Mutex::default(),
        }
    }

    /// Runs whose baseline is taken from now on wait until then.
    pub(crate) fn hold_until(&self, gate: Timestamp) {
        *self.gate.lock().unwrap_or_else(PoisonError::into_inner) = Some(gate);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn count(&self, step: Step) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|seen| seen.step == step).count()
    }

    fn moment(&self) -> Moment {
        Moment {
            at: Instant::now(),
            provider: self.meter.total(),
        }
    }

    fn held_at_gate(&self, run: &Run, step: Step, report: &mut StepReport) {
        let gate = *self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = gate.filter(|_| step == Step::Baseline && run.step_began_at().is_none())
            && matches!(report.end, StepEnd::Done(_))
        {
            report.end = StepEnd::Wait {
                until,
                why: "all runs begin together".to_owned(),
            };
        }
    }
}

impl PerformSteps for Watched {
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
        Box::pin(async move {
            let began = self.moment();
            let mut report = self.inner.perform(run, step, attempt, observe_first, hold).await;
            let ended = self.moment();
            self.held_at_gate(run, step, &mut report);
            let seen = Seen {
                run: run.id(),
                step,
                began,
                ended,
            };
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
            report
        })
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
