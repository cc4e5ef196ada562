//! The leases that this node holds, as it sees them. The store is the judge of every write; this is what keeps a node from sending an effect
//! that it may not finish in time, and what lets it stop at once when a renewal was refused (P10).
//!
//! Lengths are measured on the monotonic clock from before the question was sent, so a wall clock that jumps prolongs nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::Instant;

use super::Shared;
use crate::domain::ids::RunId;

/// One run in our hands.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) run: RunId,
    pub(super) epoch: u64,
    until: Mutex<Instant>,
    lost: AtomicBool,
    /// Milliseconds that the effect under way may take; renewals do not go below it.
    wanted: AtomicU64,
}

impl Lease {
    pub(super) fn new(run: RunId, epoch: u64, until: Instant) -> Self {
        Self {
            run,
            epoch,
            until: Mutex::new(until),
            lost: AtomicBool::new(false),
            wanted: AtomicU64::new(0),
        }
    }

    /// What is left of it; zero when it is over or lost.
    pub(super) fn left(&self) -> Duration {
        if self.is_lost() {
            return Duration::ZERO;
        }
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.saturating_duration_since(Instant::now())
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// From here on this much is asked for at least.
    pub(super) fn want(&self, length: Duration) {
        self.wanted
            .store(u64::try_from(length.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn prolong(&self, until: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// The lease under which an attempt is made, as the guard around each connector call sees it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Hold(Option<Arc<Held>>);

#[derive(Debug)]
struct Held {
    lease: Arc<Lease>,
    refused: AtomicBool,
}

impl Hold {
    /// For what belongs to no run and changes nothing: inventories, preflights.
    #[must_use]
    pub fn of_no_run() -> Self {
        Self::default()
    }

    pub(super) fn of(lease: &Arc<Lease>) -> Self {
        Self(Some(Arc::new(Held {
            lease: Arc::clone(lease),
            refused: AtomicBool::new(false),
        })))
    }

    /// The run that is in hand, and the claim under which it is.
    pub(super) fn claim(&self) -> Option<(RunId, u64)> {
        let held = self.0.as_ref()?;
        Some((held.lease.run, held.lease.epoch))
    }

    /// A call that may take so long may be sent: it is answered, or given up, while the run is still ours. Asked right before it is sent.
    pub(super) fn outlives(&self, call: Duration) -> bool {
        let Some(held) = &self.0 else { return true };
        let outlives = held.lease.left() > call;
        if !outlives {
            held.refused.store(true, Ordering::Release);
        }
        outlives
    }

    /// The run is ours at this instant. What wakes up after it was not does nothing more.
    pub(super) fn stands(&self) -> bool {
        self.outlives(Duration::ZERO)
    }

    /// Something of this attempt was not sent, or not carried on, because the lease was too short for it.
    pub(super) fn has_refused(&self) -> bool {
        self.0.as_ref().is_some_and(|held| held.refused.load(Ordering::Acquire))
    }
}

/// All runs in our hands: driven, or claimed and waiting for a free slot.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: Mutex<HashMap<RunId, Arc<Lease>>>,
}

impl Leases {
    pub(super) fn take(&self, lease: &Arc<Lease>) {
        self.lock().insert(lease.run, Arc::clone(lease));
    }

    pub(super) fn give_up(&self, run: RunId) {
        self.lock().remove(&run);
    }

    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    fn has(&self, lease: &Arc<Lease>) -> bool {
        self.lock().get(&lease.run).is_some_and(|held| Arc::ptr_eq(held, lease))
    }

    /// For a node that is not who it was.
    pub(super) fn lose_all(&self) {
        for lease in self.all() {
            lease.lose();
        }
    }

    fn all(&self) -> Vec<Arc<Lease>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, Arc<Lease>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renews all leases in one call, three times per lease, until the engine stops and nothing is held any more.
pub(super) async fn keep_renewing(shared: Arc<Shared>) {
    let third = unsigned(shared.settings.lease) / 3;
    loop {
        tokio::time::sleep(third).await;
        let leases = shared.leases.all();
        if leases.is_empty() {
            continue;
        }
        renew(&shared, &leases).await;
    }
}

/// Renews these leases. One that could not be renewed stays as long as it was; one that is not ours any more is lost.
pub(super) async fn renew(shared: &Shared, leases: &[Arc<Lease>]) {
    let runs: Vec<_> = leases.iter().map(|lease| (lease.run, lease.epoch)).collect();
    let asked_at = Instant::now();
    let wanted = leases.iter().map(|lease| lease.wanted.load(Ordering::Acquire)).max();
    let length = unsigned(shared.settings.lease).max(Duration::from_millis(wanted.unwrap_or(0)).saturating_mul(2));
    let asked = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
    match shared.store.renew_leases(&shared.holder, &runs, asked).await {
        Ok(lost) => {
            for lease in leases {
                if lost.contains(&lease.run) {
                    // One that we gave up while we asked is nobody's loss.
                    if shared.leases.has(lease) {
                        tracing::warn!(run.id = %lease.run, run.epoch = lease.epoch, "another node took the run over");
                    }
                    lease.lose();
                } else {
                    lease.prolong(asked_at + length);
                }
            }
        }
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "leases could not be renewed and go on running out"
            );
        }
    }
}

/// A length that is never negative, for tokio.
pub(super) fn unsigned(length: SignedDuration) -> Duration {
    Duration::try_from(length).unwrap_or(Duration::ZERO)
}
