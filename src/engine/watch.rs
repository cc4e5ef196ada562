//! The watch over the clocks: what [`super::clocks`] finds wrong freezes everything destructive, with the reason, before who asked goes on.
//! Passes look, and so does each driver right before it takes something away: between two passes a clock may have jumped too.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::clocks::{Clocks, Disagreement};
use super::findings::{self, Severity, Wrong};
use super::freeze::{FREEZE, Freeze, still};
use super::pass::KEYFALL;
use super::{Shared, housekeeping, record};
use crate::store::{Commit, Committed, StoreError};

/// A difference that says no more than how long answers take.
const STEADY: SignedDuration = SignedDuration::from_millis(100);

fn micros(length: SignedDuration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(0)
}

#[derive(Default)]
pub(super) struct Watch {
    watched: Mutex<Watched>,
    /// By how many microseconds this machine's clock is ahead of the store's, as last measured.
    ahead: AtomicI64,
}

#[derive(Default)]
struct Watched {
    clocks: Clocks,
    /// What they are frozen for: it is told once, and again when somebody lifts the freeze while it still holds.
    told: Option<&'static str>,
}

impl Watch {
    /// Asks the store for its time, which everything here goes by from then on.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(super) async fn measure(&self, shared: &Shared) -> Result<(), StoreError> {
        let asked = Instant::now();
        let theirs = shared.store.now().await?;
        let answered = Instant::now();
        let mut watched = self.watched.lock().await;
        watched.clocks.store_showed(theirs, asked, answered);
        self.put_right(shared, &watched.clocks);
        Ok(())
    }

    /// What one node wrote another one judges: both must go by one clock. A clock that is further off than is allowed is left as it is, since
    /// nobody knows which of the two is wrong, and [`Watch::look`] freezes for it. The store of one process has no clock of its own.
    fn put_right(&self, shared: &Shared, clocks: &Clocks) {
        let (before, shown, moment) = (Instant::now(), shared.env.clock.now(), Instant::now());
        let Some(ahead) = clocks.ahead_of_store(shown, moment) else {
            return;
        };
        self.ahead.store(micros(ahead), Ordering::Relaxed);
        // Between the two looks at its own clocks the process may have been put aside.
        let within = SignedDuration::try_from(moment - before).unwrap_or(SignedDuration::MAX);
        let by = ahead.saturating_sub(shared.env.ahead()).abs();
        let is_off = by > STEADY.saturating_add(within) && ahead.abs() <= shared.settings.clock_tolerance;
        if is_off && shared.common().is_some() {
            tracing::info!(
                ahead_ms = ahead.as_millis(),
                "this machine's clock is not the store's; the store's is gone by"
            );
            shared.env.put_right(ahead);
        }
    }

    /// Somebody has set this machine's clock since it was measured.
    fn was_set(&self, shared: &Shared, clocks: &Clocks) -> bool {
        let ahead = clocks.ahead_of_store(shared.env.clock.now(), Instant::now());
        ahead.is_some_and(|ahead| ahead.saturating_sub(self.ahead()).abs() > STEADY)
    }

    /// How far this machine's clock is ahead of the store's, as last measured.
    pub(super) fn ahead(&self) -> SignedDuration {
        SignedDuration::from_micros(self.ahead.load(Ordering::Relaxed))
    }

    /// What the store's clock shows when it is this by ours, to the last bit that is known: what other nodes go by too.
    pub(super) fn by_the_store(&self, shared: &Shared, ours: Timestamp) -> Timestamp {
        ours.saturating_sub(self.left_ahead(shared)).unwrap_or(ours)
    }

    /// What it is by ours when the store's clock shows this.
    pub(super) fn by_ours(&self, shared: &Shared, theirs: Timestamp) -> Timestamp {
        theirs.saturating_add(self.left_ahead(shared)).unwrap_or(theirs)
    }

    /// How far what everything here goes by is ahead of the store's clock all the same.
    fn left_ahead(&self, shared: &Shared) -> SignedDuration {
        self.ahead().saturating_sub(shared.env.ahead())
    }

    /// Answers when the clocks agree, or when everything destructive is frozen because they do not. Who asks at the same time waits for both.
    ///
    /// # Errors
    /// When the store does not answer; nobody may go on then.
    pub(super) async fn look(&self, shared: &Shared) -> Result<(), StoreError> {
        let was_set = self.was_set(shared, &self.watched.lock().await.clocks);
        if was_set {
            self.measure(shared).await?;
        }
        let mut watched = self.watched.lock().await;
        let (shown, moment) = (shared.env.clock.now(), Instant::now());
        let Some(wrong) = watched.clocks.look(shown, moment, shared.settings.clock_tolerance) else {
            watched.told = None;
            return Ok(());
        };
        let is_told = watched.told == Some(wrong.name());
        if !is_told || shared.store.setting(FREEZE).await?.is_none() {
            freeze_for_clock(shared, wrong.to_string(), shared.env.now()).await?;
        }
        watched.told = Some(wrong.name());
        if let Disagreement::Jumped { .. } = wrong {
            // It is where it is. The next jump counts from here.
            watched.clocks.believe(shown, moment);
            watched.told = None;
        }
        Ok(())
    }
}

/// A clock that is wrong has made things due, or not due, that were not.
pub(super) async fn freeze_for_clock(shared: &Shared, reason: String, at: Timestamp) -> Result<(), StoreError> {
    let at = record::to_micros(at);
    tracing::error!("{reason}; everything destructive is frozen");
    let text = format!("{reason}. Set the clock right, look at what is due, and run `keyfall unfreeze --reason …`");
    let wrong = Wrong {
        kind: findings::CLOCK_JUMP,
        subject: shared.settings.node.clone(),
        severity: Severity::Critical,
        owner: KEYFALL,
        text,
    };
    let raised = findings::raised(&shared.env, at, wrong);
    loop {
        let standing = shared.store.setting(FREEZE).await?;
        let freeze = Freeze {
            reason: reason.clone(),
            by: KEYFALL.to_owned(),
            at,
        };
        let details = serde_json::json!({ "reason": reason });
        let commit = Commit {
            facts: vec![freeze.upon(standing.as_deref()).fact(), raised.clone()],
            guards: vec![still(standing)],
            log: vec![housekeeping::act_entry(shared, at, "frozen", details)],
        };
        // Refused: a person froze, or lifted a freeze, at the same moment; the jump is seen once only.
        if let Committed::Stored = shared.store.commit(commit).await? {
            return Ok(());
        }
    }
}
