//! What came of a step, as one event of its run: what was seen on the way and how it ended. Behind a failure stands what follows from it.

use keyfall_sdk::ErrorKind;

use super::driver::Driver;
use super::record::Stop;
use super::report::{StepEnd, StepReport};
use super::{findings, manual};
use crate::domain::workflow::{EventBody, Observation, Step, StepError, StuckBecause, Then, after_failure};
use crate::store::Fact;

/// What a person is asked, and why.
pub(super) struct Question {
    pub(super) because: StuckBecause,
    pub(super) reason: String,
    pub(super) manual_step: String,
}

impl Driver {
    /// Turns what a step reported into the event that ends its attempt, with what was found on the way: both stand, however it ended.
    pub(super) fn take(&mut self, step: Step, report: StepReport, found: Vec<Fact>) -> Result<(), Stop> {
        let seen = report.observations;
        match report.end {
            StepEnd::Done(output) => self.push(EventBody::Succeeded { step, seen, output }, found),
            StepEnd::Wait { until, why } => {
                let waiting = EventBody::Waiting { step, seen, until, why };
                self.push(waiting, found)
            }
            StepEnd::Failed(error) => self.failed(step, seen, error, found),
            StepEnd::AskOperator {
                reason,
                manual_step,
                because,
            } => {
                let question = Question {
                    because,
                    reason,
                    manual_step,
                };
                self.ask(step, seen, question, found)
            }
        }
    }

    fn failed(&mut self, step: Step, seen: Vec<Observation>, error: StepError, found: Vec<Fact>) -> Result<(), Stop> {
        let then = after_failure(&self.run, &error, self.shared.env.draw_fraction(), self.now());
        tracing::warn!(
            run.id = %self.run.id(), run.step = step.name(), error.kind = ?error.kind, error.code = error.code, then = ?then,
            "a step failed: {}", error.message
        );
        let failed = EventBody::Failed {
            step,
            seen,
            error: error.clone(),
            then,
        };
        self.push(failed, found)?;
        match then {
            Then::RetryAt { .. } => Ok(()),
            Then::Unwind => {
                let cause = format!("{}: {}", step.name(), error.message);
                self.push(EventBody::Unwinding { cause }, Vec::new())
            }
            Then::AskOperator => {
                let question = Question {
                    because: StuckBecause::System { kind: error.kind },
                    manual_step: manual::manual_step(&self.run, step, &error),
                    reason: error.message,
                };
                self.ask_operator(step, question)
            }
        }
    }

    /// Asks a person about something that no attempt came upon.
    pub(super) fn ask_operator(&mut self, step: Step, question: Question) -> Result<(), Stop> {
        self.ask(step, Vec::new(), question, Vec::new())
    }

    fn ask(
        &mut self,
        step: Step,
        seen: Vec<Observation>,
        question: Question,
        mut found: Vec<Fact>,
    ) -> Result<(), Stop> {
        let Question {
            because,
            reason,
            manual_step,
        } = question;
        let (env, run, now) = (&self.shared.env, &self.run, self.now());
        found.push(findings::needs_operator(env, run, step, &reason, &manual_step, now));
        found.extend(findings::consumer_not_seen(env, run, step, &reason, now));
        let asked = EventBody::NeedsOperator {
            step,
            seen,
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
