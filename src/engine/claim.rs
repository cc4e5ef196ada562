//! Takes runs from the store as slots become free, and drives each in a task of its own.
//!
//! Claiming is one call for many runs. A few more than there are free slots are taken, so that a slot that becomes free is filled without
//! asking; their leases are renewed with the others, and a stop gives them back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::driver::{Left, drive};
use super::lease::{Lease, unsigned};
use super::{Shared, measure};
use crate::domain::ids::RunId;
use crate::store::{Claimed, StoreError};

/// Asked at least this often, whatever bell is silent: leases of dead nodes run out without a sound.
const SWEEP: Duration = Duration::from_secs(5);
/// By the store's clock it is not time yet when it is by ours. Whoever asked and got nothing asks again behind this.
const SHORTEST: Duration = Duration::from_millis(20);

struct Claimer {
    shared: Arc<Shared>,
    waiting: VecDeque<(Claimed, Arc<Lease>)>,
    running: JoinSet<(RunId, Left)>,
    /// When the next claim is worth its while.
    next: Option<Instant>,
    /// The last claim came back full: there is more.
    is_more: bool,
}

/// Claims and drives until the engine stops and everything in hand is stored.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut claimer = Claimer {
        shared,
        waiting: VecDeque::new(),
        running: JoinSet::new(),
        next: Some(Instant::now()),
        is_more: false,
    };
    claimer.turn().await;
}

impl Claimer {
    async fn turn(&mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            self.claim_if_wanted().await;
            self.start_waiting();
            if shared.is_stopping() && self.running.is_empty() && self.waiting.is_empty() {
                return;
            }
            let next = self.next.unwrap_or_else(|| Instant::now() + SWEEP);
            tokio::select! {
                biased;
                Some(ended) = self.running.join_next(), if !self.running.is_empty() => self.ended(ended),
                () = shared.claim_bell.notified() => self.next = Some(Instant::now()),
                () = tokio::time::sleep_until(next), if !shared.is_stopping() && self.has_room() => {}
                () = shared.stopping.cancelled(), if !shared.is_stopping() => {}
            }
        }
    }

    fn has_room(&self) -> bool {
        self.in_hands() < self.shared.settings.max_runs.saturating_mul(2)
    }

    fn in_hands(&self) -> usize {
        self.running.len().saturating_add(self.waiting.len())
    }

    async fn claim_if_wanted(&mut self) {
        let max = self.shared.settings.max_runs;
        let is_time = self.next.is_some_and(|at| at <= Instant::now());
        let is_low = self.is_more && self.waiting.len() <= max / 4;
        if self.shared.is_stopping() || !self.has_room() || !(is_time || is_low) {
            return;
        }
        match self.claim().await {
            Ok(()) => {}
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "runs could not be claimed; the next pass tries again"
                );
                self.is_more = false;
                self.next = Some(Instant::now() + SWEEP);
            }
        }
        measure::in_hands(self.in_hands());
    }

    async fn claim(&mut self) -> Result<(), StoreError> {
        let shared = &self.shared;
        let room = shared
            .settings
            .max_runs
            .saturating_mul(2)
            .saturating_sub(self.in_hands());
        let limit = u32::try_from(room).unwrap_or(u32::MAX);
        let until = Instant::now() + unsigned(shared.settings.lease);
        let claimed = shared
            .store
            .claim_runs(&shared.holder, shared.settings.lease, limit)
            .await?;
        self.is_more = claimed.len() == room;
        let got_nothing = claimed.is_empty();
        for one in claimed {
            let lease = Arc::new(Lease::new(one.row.id, one.epoch, until));
            shared.leases.take(&lease);
            self.waiting.push_back((one, lease));
        }
        let sweep = Instant::now() + SWEEP;
        self.next = Some(sweep);
        // A full claim says that there is more, and it is fetched as soon as there is room.
        if !self.is_more {
            let now = shared.watch.by_the_store(shared, shared.env.now());
            let wake = shared.store.next_wake().await?.map(|at| instant_of(at, now));
            let earliest = Instant::now() + if got_nothing { SHORTEST } else { Duration::ZERO };
            self.next = Some(wake.map_or(sweep, |wake| wake.min(sweep).max(earliest)));
        }
        Ok(())
    }

    fn start_waiting(&mut self) {
        while self.running.len() < self.shared.settings.max_runs {
            let Some((claimed, lease)) = self.waiting.pop_front() else {
                break;
            };
            let shared = Arc::clone(&self.shared);
            self.running.spawn(async move {
                let id = lease.run;
                let _in_hand = InHand(Arc::clone(&shared), id);
                let left = drive(Arc::clone(&shared), claimed, lease).await;
                (id, left)
            });
        }
        let is_crowded = self.is_more || !self.waiting.is_empty();
        self.shared.crowded.store(is_crowded, Ordering::Relaxed);
    }

    fn ended(&mut self, ended: Result<(RunId, Left), tokio::task::JoinError>) {
        match ended {
            Ok((_, Left::Waiting { until: Some(until) })) => {
                let at = instant_of(until, self.shared.env.now());
                self.next = Some(self.next.map_or(at, |next| next.min(at)));
            }
            Ok(_) => {}
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "a driver failed; its run is taken again when the lease is over"
            ),
        }
    }
}

/// A run while it is driven; given up however that ends.
struct InHand(Arc<Shared>, RunId);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.steps.let_go(self.1);
        self.0.leases.give_up(self.1);
    }
}

/// A stored instant on this machine's monotonic clock. Runs are woken by the store's clock.
fn instant_of(at: Timestamp, now: Timestamp) -> Instant {
    let left: SignedDuration = at.duration_since(now);
    Instant::now() + unsigned(left)
}
