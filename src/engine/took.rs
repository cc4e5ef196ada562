//! What came of a step, as events of its run: what was seen on the way, then how it ended, and what follows from a failure.

use keyfall_sdk::ErrorKind;

use super::driver::Driver;
use super::record::Stop;
use super::report::{StepEnd, StepReport};
use super::{findings, manual};
use crate::domain::workflow::{EventBody, Step, StepError, StuckBecause, Then, after_failure};
use crate::store::Fact;

impl Driver {
    /// Turns what a step reported into events, with what was found on the way.
    pub(super) fn take(&mut self, step: Step, report: StepReport, mut found: Vec<Fact>) -> Result<(), Stop> {
        // What was seen stands, however the step ended: it goes with the first event.
        for observation in report.observations {
            self.push(EventBody::Observed { step, observation }, std::mem::take(&mut found))?;
        }
        match report.end {
            StepEnd::Done(output) => self.push(EventBody::Succeeded { step, output }, found),
            StepEnd::Wait { until, why } => self.push(EventBody::Waiting { step, until, why }, Vec::new()),
            StepEnd::Failed(error) => self.failed(step, error),
            StepEnd::AskOperator {
                reason,
                manual_step,
                because,
            } => self.ask_operator(step, because, reason, manual_step),
        }
    }

    fn failed(&mut self, step: Step, error: StepError) -> Result<(), Stop> {
        let then = after_failure(&self.run, &error, self.shared.env.draw_fraction(), self.now());
        tracing::warn!(
            run.id = %self.run.id(), run.step = step.name(), error.kind = ?error.kind, error.code = error.code, then = ?then,
            "a step failed: {}", error.message
        );
        let failed = EventBody::Failed {
            step,
            error: error.clone(),
            then,
        };
        self.push(failed, Vec::new())?;
        match then {
            Then::RetryAt { .. } => Ok(()),
            Then::Unwind => {
                let cause = format!("{}: {}", step.name(), error.message);
                self.push(EventBody::Unwinding { cause }, Vec::new())
            }
            Then::AskOperator => {
                let manual_step = manual::manual_step(&self.run, step, &error);
                self.ask_operator(
                    step,
                    StuckBecause::System { kind: error.kind },
                    error.message,
                    manual_step,
                )
            }
        }
    }

    pub(super) fn ask_operator(
        &mut self,
        step: Step,
        because: StuckBecause,
        reason: String,
        manual_step: String,
    ) -> Result<(), Stop> {
        let (env, now) = (&self.shared.env, self.now());
        let mut found = vec![findings::needs_operator(
            env,
            &self.run,
            step,
            &reason,
            &manual_step,
            now,
        )];
        found.extend(findings::consumer_not_seen(env, &self.run, step, &reason, now));
        let asked = EventBody::NeedsOperator {
            step,
            reason,
            manual_step,
            because,
        };
        self.push(asked, found)
    }
}

/// A step that panicked. Its effect may have happened.
pub(super) fn crashed(step: Step) -> StepReport {
    let kind = if step.has_effect() {
        ErrorKind::Ambiguous
    } else {
        ErrorKind::Transient
    };
    StepReport {
        observations: Vec::new(),
        end: StepEnd::Failed(StepError {
            kind,
            message: format!(
                "{} failed inside of Keyfall; the log of the server says where. This is a defect",
                step.name()
            ),
            code: None,
        }),
    }
}
