//! A run that comes from another node: what that one sent has its time first, and is looked at then. The deadline of an intent says how long that
//! is, by the clock of the store, which all nodes share.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::driver::{Driver, Left};
use super::record::Stop;
use crate::domain::ids::RunId;
use crate::domain::workflow::{Event, EventBody, Run, StepState};

/// Runs that a process had in its hands which has ended, with the epoch under which it had them.
#[derive(Debug, Default)]
pub(super) struct Inherited(Mutex<HashMap<RunId, u64>>);

impl Inherited {
    pub(super) fn take(&self, runs: impl Iterator<Item = (RunId, u64)>) {
        self.lock().extend(runs);
    }

    /// Under this epoch the run was in the hands of one that has ended.
    fn is_from(&self, run: RunId, epoch: u64) -> bool {
        self.lock().get(&run) == Some(&epoch)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An effect that was intended and has no result.
#[derive(Debug, Clone, Copy)]
pub(super) struct InFlight {
    /// As long it may still be on its way.
    until: Timestamp,
    /// Of who sent it.
    epoch: u64,
}

pub(super) fn in_flight(run: &Run, events: &[Event]) -> Option<InFlight> {
    if !matches!(run.step_state(), StepState::Started { .. }) {
        return None;
    }
    events.iter().rev().find_map(|event| match &event.body {
        EventBody::Started { deadline, .. } => Some(InFlight {
            until: *deadline,
            epoch: event.epoch,
        }),
        _ => None,
    })
}

impl Driver {
    /// What another node sent is waited out before anything is looked at: an effect that arrives behind a look would be met by nobody. Where no
    /// other node can be, or who sent it has ended, nobody is left to send it.
    pub(super) async fn take_over(&mut self, in_flight: Option<InFlight>) -> Result<Left, Stop> {
        let now = self.shared.watch.by_the_store(&self.shared, self.now());
        let (shared, run) = (&self.shared, self.lease.run);
        let has_sender =
            |sent: &InFlight| !shared.settings.take_over_at_start && !shared.inherited.is_from(run, sent.epoch);
        let waits = in_flight.filter(|sent| now < sent.until && has_sender(sent));
        if let Some(sent) = waits
            && let Some(left) = self
                .leave(Some(self.shared.watch.by_ours(&self.shared, sent.until)))
                .await?
        {
            return Ok(left);
        }
        self.go().await
    }

    /// By the store's clock, which whoever takes the run over shares.
    pub(super) fn deadline(&self, now: Timestamp, time_limit: SignedDuration) -> Timestamp {
        let now = self.shared.watch.by_the_store(&self.shared, now);
        now.saturating_add(time_limit).unwrap_or(Timestamp::MAX)
    }
}
