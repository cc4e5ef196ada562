//! A run that comes from another node: what that one sent has its time first, and is looked at then. The deadline of an intent says how long that
//! is, by the clock of the store, which all nodes share.

use jiff::{SignedDuration, Timestamp};

use super::driver::{Driver, Left};
use super::record::Stop;
use crate::domain::workflow::{Event, EventBody, Run, StepState};

/// Until when an effect that was intended and has no result may still be on its way.
pub(super) fn in_flight_until(run: &Run, events: &[Event]) -> Option<Timestamp> {
    if !matches!(run.step_state(), StepState::Started { .. }) {
        return None;
    }
    events.iter().rev().find_map(|event| match &event.body {
        EventBody::Started { deadline, .. } => Some(*deadline),
        _ => None,
    })
}

impl Driver {
    /// What another node sent is waited out before anything is looked at: an effect that arrives behind a look would be met by nobody. Where no
    /// other node can be, whoever sent it is dead.
    pub(super) async fn take_over(&mut self, in_flight_until: Option<Timestamp>) -> Result<Left, Stop> {
        let now = self.shared.watch.by_the_store(self.now());
        let until = in_flight_until.filter(|until| !self.shared.settings.take_over_at_start && now < *until);
        if let Some(until) = until
            && let Some(left) = self.leave(Some(self.shared.watch.by_ours(until))).await?
        {
            return Ok(left);
        }
        self.go().await
    }

    /// By the store's clock, which whoever takes the run over shares.
    pub(super) fn deadline(&self, now: Timestamp, time_limit: SignedDuration) -> Timestamp {
        let now = self.shared.watch.by_the_store(now);
        now.saturating_add(time_limit).unwrap_or(Timestamp::MAX)
    }
}
