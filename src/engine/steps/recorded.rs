//! Refused logins that the log tells of: what a process that has just begun cannot remember. It reads the runs of one identity by an index,
//! and only those that were open inside of the window that is asked for.

use std::sync::Arc;

use jiff::Timestamp;
use keyfall_sdk::BoxFuture;

use super::accounts::new_principal;
use super::budget::REFUSED_PER_VANTAGE;
use crate::domain::ids::{IdentityId, RunId};
use crate::domain::workflow::{EventBody, Run};
use crate::store::{Page, RunFilter, RunRow, Store, StoreError, StoredRun};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub identity: IdentityId,
    /// The account's name downstream.
    pub principal: &'a str,
    pub since: Timestamp,
    /// Behind it, the process itself knows: when it began, or this instant where others carry out steps too.
    pub until: Timestamp,
    /// The run that this process has in hand and the claim under which it has: what it did under it, it knows.
    pub claim: Option<(RunId, u64)>,
}

/// Where steps learn of refused logins from before their process began.
pub trait RecordedRefusals: Send + Sync {
    /// The instants of the refused logins of an account, and of those that nobody can rule out.
    fn refused<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Result<Vec<Timestamp>, StoreError>>;
}

/// The runs of the store.
pub struct StoredRefusals(pub Arc<dyn Store>);

const AT_ONCE: u32 = 8;

impl RecordedRefusals for StoredRefusals {
    fn refused<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Result<Vec<Timestamp>, StoreError>> {
        Box::pin(self.all(asked))
    }
}

impl StoredRefusals {
    async fn all(&self, asked: Asked<'_>) -> Result<Vec<Timestamp>, StoreError> {
        // Mostly there is none, and one row by its key says so.
        let last = self.0.last_run_before(asked.identity, asked.until).await?;
        if last.is_none_or(|row| is_over(&row, asked.since)) {
            return Ok(Vec::new());
        }
        let filter = RunFilter {
            identity: Some(asked.identity),
            ..RunFilter::default()
        };
        let mut refused = Vec::new();
        let mut page = Page::first(AT_ONCE);
        loop {
            let rows = self.0.runs(&filter, page.clone()).await?;
            for row in &rows {
                // The newest come first, and an identity has one open run at a time: those behind were closed earlier still.
                if is_over(row, asked.since) {
                    return Ok(refused);
                }
                if let Some(stored) = self.0.run(row.id).await? {
                    refused.extend(refused_in(&stored, asked)?);
                }
            }
            match rows.last() {
                Some(last) if rows.len() == AT_ONCE as usize => page.after = Some(last.id.to_string()),
                _ => return Ok(refused),
            }
        }
    }
}

fn is_over(run: &RunRow, since: Timestamp) -> bool {
    run.closed_at.is_some_and(|closed| closed <= since)
}

fn refused_in(stored: &StoredRun, asked: Asked<'_>) -> Result<Vec<Timestamp>, StoreError> {
    let run = Run::replay(&stored.events).map_err(|error| StoreError::Unreadable {
        what: "the log of a run",
        why: error.to_string(),
    })?;
    let mut refused = refused_by(&run, asked.principal);
    refused.retain(|at| *at > asked.since);
    let unrecorded = unrecorded(stored, &run, asked);
    refused.extend(std::iter::repeat_n(asked.until, unrecorded));
    Ok(refused)
}

/// Every refused login of one account that the run's log tells of, whichever credential it was tried with.
pub(super) fn refused_by(run: &Run, principal: &str) -> Vec<Timestamp> {
    let new = new_principal(run).filter(|new| new.name == principal);
    let new = new.and_then(|_| run.plan().new.as_ref().map(|new| new.id));
    let old = run.plan().old.iter().filter(|old| old.principal.name == principal);
    old.map(|old| old.id)
        .chain(new)
        .flat_map(|credential| run.refused_at(credential))
        .collect()
}

/// How many refused logins of an open run may have been made and not recorded, because the process died in between. Each claim of the run is
/// an epoch, which is stored before anything is done: those that left no event, and the one that left the last, may each have been cut off
/// in one attempt. Rounds without a pause between them follow on one another and are stored together, so there it may have been all of them.
fn unrecorded(stored: &StoredRun, run: &Run, asked: Asked<'_>) -> usize {
    if stored.row.closed_at.is_some() {
        return 0;
    }
    let claims = match asked.claim {
        Some((held, epoch)) if held == stored.row.id => before_ours(stored, epoch),
        _ => {
            let before = stored.events.iter().filter(|event| event.at < asked.until);
            let Some(told) = before.map(|event| event.epoch).max() else {
                return 0;
            };
            stored.row.epoch.saturating_sub(told)
        }
    };
    let claims = usize::try_from(claims).unwrap_or(usize::MAX);
    let terms = &run.plan().proof;
    let per_attempt = terms.vantages.len().saturating_mul(REFUSED_PER_VANTAGE as usize);
    let attempts = if terms.interval.is_positive() {
        1
    } else {
        terms.refusals.max(1)
    };
    let attempts = claims.saturating_mul(usize::try_from(attempts).unwrap_or(usize::MAX));
    // More than this fills every window there is.
    attempts.saturating_mul(per_attempt).min(super::budget::REMEMBERED)
}

/// Claims before ours that may have been cut off. Nobody held the run before the first one, and a wait is the last word of who gave it up.
fn before_ours(stored: &StoredRun, ours: u64) -> u64 {
    let last = stored.events.iter().rev().find(|event| event.epoch < ours);
    let told = last.map_or(0, |event| event.epoch);
    let has_waited = last.is_some_and(|event| matches!(event.body, EventBody::Waiting { .. }));
    let silent = ours.saturating_sub(told.saturating_add(1));
    let is_cut_off = told > 0 && !has_waited;
    silent.saturating_add(u64::from(is_cut_off))
}
