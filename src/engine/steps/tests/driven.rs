//! A run with its log, driven by the fold alone.

use jiff::Timestamp;

use super::Live;
use crate::domain::workflow::{Event, EventBody, Outcome, Run, RunStatus, Step, StuckBecause, Then, after_failure};
use crate::engine::report::{StepEnd, StepReport};
use crate::evidence::receipt::ReceiptBody;

/// A run with its log.
pub(in crate::engine::steps) struct Driven {
    pub(super) run: Run,
    pub(super) receipt: Option<ReceiptBody>,
    pub(super) events: Vec<Event>,
}

impl Driven {
    pub(super) fn open(at: Timestamp, body: EventBody) -> Self {
        let event = Event {
            seq: 0,
            at,
            epoch: 1,
            body,
        };
        Self {
            run: Run::open(&event).unwrap(),
            receipt: None,
            events: vec![event],
        }
    }

    pub(super) fn push(&mut self, at: Timestamp, body: EventBody) {
        let event = Event {
            seq: self.run.next_seq(),
            at,
            epoch: 1,
            body,
        };
        self.run.apply(&event).unwrap();
        self.events.push(event);
    }

    pub(super) fn take(&mut self, at: Timestamp, step: Step, report: StepReport) {
        let seen = report.observations;
        match report.end {
            StepEnd::Done(output) => self.push(at, EventBody::Succeeded { step, seen, output }),
            StepEnd::Wait { until, why } => self.push(at, EventBody::Waiting { step, seen, until, why }),
            StepEnd::AskOperator {
                reason,
                manual_step,
                because,
            } => self.push(
                at,
                EventBody::NeedsOperator {
                    step,
                    seen,
                    reason,
                    manual_step,
                    because,
                },
            ),
            StepEnd::Failed(error) => {
                let then = after_failure(&self.run, &error, 1.0, at);
                let (kind, message) = (error.kind, error.message.clone());
                self.push(
                    at,
                    EventBody::Failed {
                        step,
                        seen,
                        error,
                        then,
                    },
                );
                match then {
                    Then::RetryAt { .. } => {}
                    Then::Unwind => self.push(at, EventBody::Unwinding { cause: message }),
                    Then::AskOperator => self.push(
                        at,
                        EventBody::NeedsOperator {
                            step,
                            seen: Vec::new(),
                            reason: message,
                            manual_step: "look".to_owned(),
                            because: StuckBecause::System { kind },
                        },
                    ),
                }
            }
        }
    }

    pub(super) fn outcome(&self) -> Option<&Outcome> {
        match self.run.status() {
            RunStatus::Closed { outcome } => Some(outcome),
            _ => None,
        }
    }

    pub(super) fn stuck_reason(&self) -> Option<&str> {
        match self.run.status() {
            RunStatus::NeedsOperator { reason, .. } => Some(reason),
            _ => None,
        }
    }

    pub(super) fn new_live(&self) -> Live {
        let new = self.run.plan().new.as_ref().unwrap();
        let issued = self.run.issued().unwrap();
        Live {
            id: new.id,
            secret: new.secret,
            principal: issued.principal.clone(),
            key_id: issued.key_id.clone(),
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        let name = |event: &Event| serde_json::to_value(&event.body).unwrap()["event"].to_string();
        self.events.iter().map(name).collect()
    }

    /// The whole log as it would be stored.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(&self.events).unwrap()
    }
}
