//! Moving the pointer is the register's work alone: nothing happens downstream. What is left here is the wait behind it.

use super::super::report::StepEnd;
use super::attempt::{Attempt, Ended};
use crate::domain::workflow::StepOutput;

/// Both credentials stay usable until the overlap is over.
pub(super) fn await_overlap(at: &Attempt<'_>) -> Ended<StepOutput> {
    let promoted_at = at.run.promoted_at().unwrap_or_else(|| at.began_at());
    let until = promoted_at
        .saturating_add(at.plan().timing.overlap)
        .unwrap_or(jiff::Timestamp::MAX);
    if at.now() >= until {
        return Ok(StepOutput::Nothing);
    }
    Err(StepEnd::Wait {
        until,
        why: "both credentials stay usable until the overlap is over".to_owned(),
    })
}
