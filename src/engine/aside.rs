//! A run that nobody here can go on with: an entry of its log cannot be read, or its log says what cannot be. It is set aside under its own lease,
//! so that it takes no slot from others, and a finding names it: nothing that it left downstream is looked after before a person has helped.
//! It knows nothing of what the run was for.

use jiff::SignedDuration;

use super::driver::Left;
use super::findings::{self, Severity, Wrong};
use super::lease::Lease;
use super::pass::KEYFALL;
use super::telling::{commit_findings, raise_once};
use super::{Shared, record};
use crate::domain::workflow::Run;
use crate::store::{Claimed, Commit, Committed, Fact, FindingFilter, Guard, Page, RunRow, StoreError};

/// Another Keyfall may be started meanwhile, which can read it.
const FOR: SignedDuration = SignedDuration::from_hours(1);
const BATCH: u32 = 100;

/// The run as its log says it stands, or why nobody can tell.
pub(super) fn folded(claimed: &Claimed) -> Result<Run, String> {
    match &claimed.unreadable {
        Some(why) => Err(why.clone()),
        None => Run::replay(&claimed.events).map_err(|error| error.to_string()),
    }
}

/// Nothing is called and nothing of its log is touched.
pub(super) async fn set_aside(shared: &Shared, row: &RunRow, lease: &Lease, why: &str) -> Left {
    let now = record::to_micros(shared.env.now());
    tracing::error!(run.id = %row.id, identity = row.identity_name, why, "a run cannot be gone on with; it is set aside");
    let until = now.saturating_add(FOR).unwrap_or(now);
    let commit = Commit {
        guards: vec![Guard::RunHeld {
            run: row.id,
            node: shared.holder.clone(),
            epoch: lease.epoch,
        }],
        facts: vec![Fact::RunSetAside { run: row.id, until }],
        log: Vec::new(),
    };
    let wrong = Wrong {
        kind: findings::UNREADABLE_RUN,
        subject: row.id.to_string(),
        severity: Severity::High,
        owner: KEYFALL,
        text: format!(
            "nobody goes on with {} of `{}` ({}): {why}. Start the Keyfall that wrote it, or put the store back from a backup; until then its credentials may be alive",
            row.id,
            row.identity_name,
            row.kind.name(),
        ),
    };
    // Said first: who is set aside without a word is forgotten.
    let set = async {
        raise_once(shared, wrong, now).await?;
        shared.store.commit(commit).await
    };
    match set.await {
        Ok(Committed::Stored) => Left::Waiting { until: Some(until) },
        Ok(Committed::Refused { .. }) => Left::Lost,
        Err(error) => {
            tracing::error!(run.id = %row.id, error = &error as &dyn std::error::Error, "it could not be set aside; its lease runs out");
            Left::Broken
        }
    }
}

/// Whoever can be read again, or is over, is spoken of no more.
pub(super) async fn right_again(shared: &Shared) -> Result<(), StoreError> {
    let now = record::to_micros(shared.env.now());
    let filter = FindingFilter {
        kind: Some(findings::UNREADABLE_RUN.to_owned()),
        open_only: true,
        ..FindingFilter::default()
    };
    let mut facts = Vec::new();
    for row in shared.store.findings(&filter, Page::first(BATCH)).await? {
        let Ok(run) = row.subject.parse() else { continue };
        let is_sound = match shared.store.run(run).await {
            Ok(run) => run.is_none_or(|run| Run::replay(&run.events).is_ok()),
            Err(StoreError::Unreadable { .. }) => false,
            Err(error) => return Err(error),
        };
        if is_sound {
            facts.push(findings::resolved(findings::UNREADABLE_RUN, row.subject, now));
        }
    }
    commit_findings(shared, facts, now).await.map(drop)
}
