//! The end of a credential's own validity, as readings of its account show it (PostgreSQL: `VALID UNTIL`). Keyfall does not set it, and replaces
//! the credential in time.

use jiff::Timestamp;
use keyfall_sdk::PrincipalReading;

use super::changes::RegisterChange;
use super::event::{Event, EventBody, StepOutput};
use super::run::Run;

/// The earliest end that any place shows for the account.
#[must_use]
pub fn account_ends(reading: &PrincipalReading, account: &str) -> Option<Timestamp> {
    let states = reading.states().filter(|state| state.name == account);
    let ends = states.filter_map(|state| Timestamp::from_microsecond(state.expires_at?).ok());
    ends.min()
}

/// What the event says of the end of the credential that is current after it.
#[must_use]
pub fn current_ends(run: &Run, event: &Event) -> Option<Timestamp> {
    let EventBody::Succeeded { output, .. } = &event.body else {
        return None;
    };
    let (StepOutput::Read { reading } | StepOutput::Adopted { reading, .. }) = output else {
        return None;
    };
    let plan = run.plan();
    let new = plan.new.as_ref().map(|new| &new.principal);
    let principal = new.or_else(|| plan.old.first().map(|old| &old.principal))?;
    account_ends(reading, &principal.name)
}

/// What was read before the run changed anything: of the credentials that it ends, which it may have to leave in use.
pub(super) fn read_before(run: &Run, reading: &PrincipalReading) -> Vec<RegisterChange> {
    let ends = |account: &str| account_ends(reading, account);
    let old = run.plan().old.iter();
    old.filter_map(|old| ends(&old.principal.name).map(|at| RegisterChange::CredentialExpires { id: old.id, at }))
        .collect()
}

/// What was read behind the last change: a new credential that ends by itself is due in time for that.
pub(super) fn read_after(run: &Run, event: &Event) -> Vec<RegisterChange> {
    let plan = run.plan();
    let (Some(new), Some(promoted_at), Some(at)) = (&plan.new, run.promoted_at(), current_ends(run, event)) else {
        return Vec::new();
    };
    vec![
        RegisterChange::CredentialExpires { id: new.id, at },
        RegisterChange::IdentityRotated {
            id: plan.identity,
            at: promoted_at,
        },
    ]
}
