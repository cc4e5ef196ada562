//! The standstill of a store that was put back or rewound. What this ledger knows of the systems may be old, so nothing at all is changed: not
//! a revocation, which a freeze holds back, and not an issue or a delivery either, which would go over a newer credential (P9).
//!
//! It is a stored setting beside the freeze, lifted with it. Each run that was under way asks for a person as well: its precheck was made
//! against systems that have moved on since.

use serde_json::json;

use super::freeze::{FREEZE, Freeze, still};
use super::record::to_micros;
use super::{findings, manual};
use crate::clock::Environment;
use crate::domain::ids::ActId;
use crate::domain::workflow::{Event, EventBody, Run, RunStatus, StuckBecause};
use crate::evidence::audit::{Act, encode_event};
use crate::store::{Commit, Committed, Fact, Guard, LogEntry, Page, RunFilter, Store, StoreError, StoredRun};

pub use crate::store::STANDSTILL;
const PAGE: u32 = 500;

/// Why a store could not be brought to a standstill.
#[derive(Debug, thiserror::Error)]
pub enum StandstillError {
    #[error("the store did not take the standstill")]
    Store(#[from] StoreError),
    #[error("the log of a run that is under way does not fold")]
    Fold(#[from] crate::domain::workflow::IllegalEvent),
    #[error(
        "the store was changed by somebody else while it was brought to a standstill; stop every server and try again"
    )]
    Moved,
}

/// What brought the store to a standstill, for the log.
#[derive(Debug, Clone)]
pub struct Cause {
    pub reason: String,
    /// In the words of the audit log: `restored`, `frozen`.
    pub action: &'static str,
    pub trigger: &'static str,
    pub details: serde_json::Value,
}

/// Freezes the store, and more than that: see the head of this file. Nothing else may write meanwhile; doing it twice changes nothing more.
///
/// # Errors
/// When the store does not answer, or does not fold.
pub async fn stand_still(store: &dyn Store, env: &Environment, cause: Cause) -> Result<(), StandstillError> {
    stand_still_while(store, env, cause, Vec::new()).await
}

/// The same as long as these hold. Several servers may find the same cause, and the slowest of them must not bring back what two people have
/// lifted meanwhile.
///
/// # Errors
/// As [`stand_still`]; `Moved` also when one of them did not hold, or somebody froze or lifted a freeze meanwhile.
pub async fn stand_still_while(
    store: &dyn Store,
    env: &Environment,
    cause: Cause,
    mut guards: Vec<Guard>,
) -> Result<(), StandstillError> {
    let at = to_micros(env.now());
    let Cause {
        reason,
        action,
        trigger,
        details,
    } = cause;
    let standing = store.setting(FREEZE).await?;
    let freeze = Freeze {
        reason,
        by: "keyfall".to_owned(),
        at,
    };
    let freeze = freeze.upon(standing.as_deref());
    guards.push(still(standing));
    let reason = freeze.reason.clone();
    let details = json!({ "reason": reason, "about": details });
    let act = Act {
        trigger,
        outcome: "frozen",
        ..Act::of_engine(ActId::from_uuid(env.draw_uuid()), at, action, details)
    };
    let mut commit = Commit {
        guards,
        facts: vec![freeze.fact(), setting(Some(reason.clone()))],
        log: vec![LogEntry::of_act(act)],
    };
    for stored in open_runs(store).await? {
        ask_about(env, &stored, &reason, at, &mut commit)?;
    }
    match store.commit(commit).await? {
        Committed::Stored => Ok(()),
        Committed::Refused { .. } => Err(StandstillError::Moved),
    }
}

/// Ends a standstill; ending none is no error.
#[must_use]
pub fn ended() -> Fact {
    setting(None)
}

/// Holds while nothing stands still.
#[must_use]
pub fn not_standing() -> Guard {
    Guard::SettingIs {
        key: STANDSTILL,
        value: None,
    }
}

fn setting(value: Option<String>) -> Fact {
    Fact::Setting { key: STANDSTILL, value }
}

async fn open_runs(store: &dyn Store) -> Result<Vec<StoredRun>, StoreError> {
    let filter = RunFilter {
        open_only: true,
        ..RunFilter::default()
    };
    let mut runs = Vec::new();
    let mut page = Page::first(PAGE);
    loop {
        let rows = store.runs(&filter, page).await?;
        let Some(last) = rows.last().map(|row| row.id.to_string()) else {
            return Ok(runs);
        };
        for row in rows {
            runs.extend(store.run(row.id).await?);
        }
        page = Page {
            after: Some(last),
            limit: PAGE,
        };
    }
}

/// The run asks for a person, unless it does so already or has only its end before it.
fn ask_about(
    env: &Environment,
    stored: &StoredRun,
    reason: &str,
    at: jiff::Timestamp,
    commit: &mut Commit,
) -> Result<(), StandstillError> {
    let mut run = Run::replay(&stored.events)?;
    let Some(step) = run.step().filter(|_| *run.status() == RunStatus::Open) else {
        return Ok(());
    };
    let (id, at) = (run.id(), run.instant(at));
    let manual_step = manual::standstill_step(&run, step);
    let event = Event {
        seq: run.next_seq(),
        at,
        epoch: stored.row.epoch,
        body: EventBody::NeedsOperator {
            step,
            seen: Vec::new(),
            reason: reason.to_owned(),
            manual_step: manual_step.clone(),
            because: StuckBecause::Drift,
        },
    };
    run.apply(&event)?;
    commit.guards.push(Guard::RunAt {
        run: id,
        next_seq: event.seq,
    });
    commit
        .facts
        .push(findings::needs_operator(env, &run, step, reason, &manual_step, at));
    commit.facts.push(Fact::RunProgress {
        run: id,
        status: run.status().name().to_owned(),
        step: Some(step.name()),
        next_seq: run.next_seq(),
        wake_at: None,
        release: true,
    });
    commit.log.push(LogEntry {
        run: Some((id, event.seq)),
        at,
        bytes: encode_event(run.plan(), &run, &event),
    });
    Ok(())
}
