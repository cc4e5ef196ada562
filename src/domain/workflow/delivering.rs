//! What is known of the calls that deliver. One that nobody waits for any more may still arrive, and would write the new secret over what the way
//! back has put there.

use jiff::Timestamp;

use super::event::EventBody;
use super::issuing::changed_nothing;
use super::run::Run;
use super::steps::Step;

/// Of the calls of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Delivering {
    /// Begun, with no answer so far: the last moment at which a call may have been sent.
    under_way: Option<Timestamp>,
    /// The last moment at which a call was left without an answer that says what it did.
    in_doubt: Option<Timestamp>,
}

impl Delivering {
    pub(super) fn take(&mut self, body: &EventBody, at: Timestamp) {
        match body {
            EventBody::Started {
                step: Step::Deliver,
                deadline,
                ..
            } => {
                self.in_doubt = self.in_doubt.max(self.under_way);
                self.under_way = Some(at.max(*deadline));
            }
            EventBody::Failed {
                step: Step::Deliver,
                error,
                ..
            } => {
                self.under_way = None;
                if !changed_nothing(error.kind) {
                    self.in_doubt = Some(at);
                }
            }
            EventBody::Succeeded {
                step: Step::Deliver, ..
            } => self.under_way = None,
            _ => {}
        }
    }
}

impl Run {
    /// Since when a delivery may be on its way of which nobody was told what it did.
    #[must_use]
    pub fn delivery_in_doubt_since(&self) -> Option<Timestamp> {
        self.delivering.in_doubt.max(self.delivering.under_way)
    }
}
