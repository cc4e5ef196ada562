//! What a run has seen and not yet stored. Results ride with the next durable point: they are folded into the run at once and written
//! together, before the next effect, before a wait, at the close, or when they have waited long enough.

use std::sync::Arc;

use tokio::time::Instant;

use super::Shared;
use super::lease::Lease;
use crate::domain::workflow::{Event, EventBody, Run};
use crate::evidence::audit;
use crate::store::{Commit, Committed, Fact, Guard, LogEntry, StoreError};

/// One event that is folded and not stored.
pub(super) struct Pending {
    pub(super) event: Event,
    pub(super) facts: Vec<Fact>,
    entry: LogEntry,
}

pub(super) struct Outbox {
    lease: Arc<Lease>,
    /// The number of the first event that is not stored.
    stored_seq: u32,
    pending: Vec<Pending>,
    /// Since when the result of an effect has been known to this process alone.
    exposed_since: Option<Instant>,
}

/// How the cached row of the run is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The run stays in our hands and goes on at once.
    GoOn,
    /// It wants to be woken at this instant and stays in our hands.
    Keep(jiff::Timestamp),
    /// It is given up until this instant, or for good.
    Release(Option<jiff::Timestamp>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    Stored,
    /// The lease is another node's or over.
    Lost,
    /// Somebody else (a person) appended to the run.
    Moved,
    /// The guard with this number among the caller's own did not hold.
    Held(usize),
}

/// What the caller adds to one flush.
#[derive(Default)]
pub(super) struct Extra {
    pub(super) guards: Vec<Guard>,
    pub(super) facts: Vec<Fact>,
}

impl Outbox {
    pub(super) fn new(lease: Arc<Lease>, run: &Run) -> Self {
        Self {
            lease,
            stored_seq: run.next_seq(),
            pending: Vec::new(),
            exposed_since: None,
        }
    }

    /// Events that are not stored yet.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn push(&mut self, run: &Run, event: Event, facts: Vec<Fact>) {
        let is_effect_result = match &event.body {
            EventBody::Succeeded { step, .. } | EventBody::Failed { step, .. } => step.has_effect(),
            _ => false,
        };
        if is_effect_result {
            self.exposed_since.get_or_insert_with(Instant::now);
        }
        let entry = LogEntry {
            run: Some((run.id(), event.seq)),
            at: event.at,
            bytes: audit::encode_event(run.plan(), run, &event),
        };
        self.pending.push(Pending { event, facts, entry });
    }

    /// Since when an effect's result has waited to be stored.
    pub(super) fn exposed_since(&self) -> Option<Instant> {
        self.exposed_since
    }

    /// Takes out what is not stored, so that it can be put behind what somebody else appended.
    pub(super) fn take_pending(&mut self, stored_seq: u32) -> Vec<Pending> {
        self.stored_seq = stored_seq;
        self.exposed_since = None;
        std::mem::take(&mut self.pending)
    }

    /// Stores everything that is pending, in one transaction that holds only while the run is ours and nobody wrote in between.
    /// When a guard refuses, or the store fails, everything stays pending.
    pub(super) async fn flush(
        &mut self,
        shared: &Shared,
        run: &Run,
        then: Then,
        extra: Extra,
    ) -> Result<Flushed, StoreError> {
        if self.pending.is_empty() && then == Then::GoOn && extra.facts.is_empty() {
            return Ok(Flushed::Stored);
        }
        let commit = self.commit(shared, run, then, extra);
        let committed = match self.holds_results_only() {
            true => shared.store.record(commit).await?,
            false => shared.store.commit(commit).await?,
        };
        match committed {
            Committed::Stored => {
                self.stored_seq = run.next_seq();
                self.pending.clear();
                self.exposed_since = None;
                Ok(Flushed::Stored)
            }
            Committed::Refused { guard: 0 } => {
                self.lease.lose();
                Ok(Flushed::Lost)
            }
            Committed::Refused { guard: 1 } => Ok(Flushed::Moved),
            Committed::Refused { guard } => Ok(Flushed::Held(guard.saturating_sub(2))),
        }
    }

    /// What came of calls that were made, and no word of another one.
    fn holds_results_only(&self) -> bool {
        let is_intent = |pending: &Pending| matches!(pending.event.body, EventBody::Started { .. });
        self.exposed_since.is_some() && !self.pending.iter().any(is_intent)
    }

    fn commit(&self, shared: &Shared, run: &Run, then: Then, extra: Extra) -> Commit {
        let mut guards = Vec::with_capacity(2 + extra.guards.len());
        guards.push(Guard::RunHeld {
            run: self.lease.run,
            node: shared.holder.clone(),
            epoch: self.lease.epoch,
        });
        guards.push(Guard::RunAt {
            run: self.lease.run,
            next_seq: self.stored_seq,
        });
        guards.extend(extra.guards);
        let mut facts: Vec<Fact> = Vec::with_capacity(self.pending.len() + extra.facts.len() + 2);
        let mut log = Vec::with_capacity(self.pending.len());
        for pending in &self.pending {
            facts.extend(pending.facts.iter().cloned());
            log.push(pending.entry.clone());
        }
        facts.extend(extra.facts);
        let (wake_at, release) = match then {
            Then::GoOn => (Some(run.last_event_at()), false),
            Then::Keep(at) => (Some(at), false),
            Then::Release(at) => (at, true),
        };
        facts.push(Fact::RunProgress {
            run: self.lease.run,
            status: run.status().name().to_owned(),
            step: run.step().map(|step| step.name()),
            next_seq: run.next_seq(),
            wake_at,
            release,
        });
        Commit { guards, facts, log }
    }
}
