//! What is known of the calls that issue. Where an account holds one value, issuing takes the old one away, so that the way back is open exactly as long
//! as no such call can have had its effect.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyfall_sdk::{ErrorKind, KeyId, PrincipalRef, Strategy};

use super::event::{EventBody, Observation, StepError};
use super::run::Run;
use super::state::Path;
use super::steps::{Step, pivot};

/// Of the calls of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Issuing {
    /// Begun, with no answer so far: the last moment at which the call may have been sent.
    under_way: Option<Timestamp>,
    /// The last moment at which a call was left without an answer that says what it did.
    in_doubt: Option<Timestamp>,
    took_effect: bool,
    /// What the system said of a call that it refused, until that is believed.
    refused: Option<StepError>,
    /// What calls of this run left on the account beside the credential that is recorded, and that is not seen gone.
    twins: BTreeMap<KeyId, PrincipalRef>,
    twins_found: usize,
}

impl Issuing {
    pub(super) fn take(&mut self, body: &EventBody, at: Timestamp) {
        // An attempt looks before it calls, so that what it saw says nothing of its own call.
        for observation in body.seen() {
            self.observe(observation, at);
        }
        match body {
            EventBody::Started {
                step: Step::IssueNew,
                deadline,
                ..
            } => {
                self.in_doubt = self.in_doubt.max(self.under_way);
                self.under_way = Some(at.max(*deadline));
            }
            EventBody::Failed {
                step: Step::IssueNew,
                error,
                ..
            } => {
                self.under_way = None;
                self.refused = None;
                if !changed_nothing(error.kind) {
                    self.in_doubt = Some(at);
                }
            }
            EventBody::Succeeded {
                step: Step::IssueNew, ..
            } => self.took_effect = true,
            // It is asked again.
            EventBody::Retried { .. } => self.refused = None,
            _ => {}
        }
    }

    fn observe(&mut self, observation: &Observation, at: Timestamp) {
        match observation {
            Observation::IssueFound { .. } => self.took_effect = true,
            Observation::IssueMissing => self.in_doubt = None,
            Observation::IssueUnseen => self.under_way = None,
            Observation::IssueRefused { error } => {
                self.under_way = None;
                self.in_doubt = Some(at);
                self.refused = Some(error.clone());
            }
            Observation::TwinFound { principal, key_id } => {
                self.twins.insert(key_id.clone(), principal.clone());
                self.twins_found = self.twins_found.saturating_add(1);
            }
            Observation::TwinGone { key_id } => {
                self.twins.remove(key_id);
            }
            _ => {}
        }
    }

    fn may_have_happened(&self) -> bool {
        self.took_effect || self.under_way.is_some() || self.in_doubt.is_some()
    }

    /// A call that is under way and fails in this way leaves everything as it was.
    fn would_have_changed_nothing(&self, kind: ErrorKind) -> bool {
        !self.took_effect && self.in_doubt.is_none() && changed_nothing(kind)
    }
}

/// The system understood the call and refused it. Failures on the way there are not believed here: what they cost when they are wrong is the only
/// value of an account.
#[must_use]
pub fn changed_nothing(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::Unsupported
    )
}

impl Run {
    /// The point of no return lies behind: only forward from here.
    #[must_use]
    pub fn is_past_pivot(&self) -> bool {
        pivot(&self.plan)
            .is_some_and(|step| self.was_begun(step) && (step != Step::IssueNew || self.issuing.may_have_happened()))
    }

    /// Whether the run may be taken back behind this failure of the step under the cursor.
    pub(super) fn may_unwind_behind(&self, kind: ErrorKind) -> bool {
        let at_pivot = self.step() == Some(Step::IssueNew) && self.issuing.would_have_changed_nothing(kind);
        self.path() == Path::Forward && (!self.is_past_pivot() || at_pivot)
    }

    /// The last moment at which an issue call may have been sent, also one whose process died under it.
    #[must_use]
    pub fn issue_may_have_been_sent_at(&self) -> Option<Timestamp> {
        self.issuing.in_doubt.max(self.issuing.under_way)
    }

    /// What the system said of the last call, which it refused, where the new value takes the place of the only one.
    #[must_use]
    pub fn issue_refused(&self) -> Option<&StepError> {
        self.issuing.refused.as_ref()
    }

    /// What issue calls of this run left on the account beside the credential that is recorded, by key id: recorded, and not seen gone.
    #[must_use]
    pub fn twins(&self) -> &BTreeMap<KeyId, PrincipalRef> {
        &self.issuing.twins
    }

    /// How many there were in all.
    #[must_use]
    pub fn twins_found(&self) -> usize {
        self.issuing.twins_found
    }

    /// The step ends what the run itself had issued: a freeze holds it.
    #[must_use]
    pub fn takes_back(&self, step: Step) -> bool {
        step.takes_back() || (step == Step::IssueNew && !self.issuing.twins.is_empty())
    }

    /// The new value takes the place of the only one that there is.
    #[must_use]
    pub fn replaces_the_only_one(&self) -> bool {
        self.plan.strategy == Strategy::InPlace && !self.plan.old.is_empty()
    }

    /// Since when an issue call may have had an effect that nobody was told of; looking downstream later than its last moment settles it.
    #[must_use]
    pub fn issue_in_doubt_since(&self) -> Option<Timestamp> {
        self.issuing.in_doubt
    }
}
