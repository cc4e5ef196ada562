//! What opens the breaker: more is due than can be right, or more runs fail than chance explains. Both are counted in what is stored, so that
//! a restart forgets neither. How large is too large is `breaker.rs`.

use jiff::{SignedDuration, Timestamp};

use super::breaker::{Allowance, BREAKER_ALLOWANCE, Tripped, not_open};
use super::findings::{self, Severity, Wrong};
use super::pass::KEYFALL;
use super::{Shared, housekeeping, record};
use crate::domain::workflow::{EventBody, StuckBecause};
use crate::store::{Commit, Page, RunFilter, RunRow, StoreError, StoredRun};

/// Failures are counted among the runs that were opened within this time.
const FAILED_WITHIN: SignedDuration = SignedDuration::from_hours(24);
/// Of each kind of failure so many are counted.
const MOST: u32 = 500;
/// Where a run stands that did not end as it was planned, or does not go on by itself.
const FAILED: [&str; 4] = ["unwound", "needs_operator", "unprovable", "alive_after_revoke"];

/// Opens the breaker when more is due than can be right. After a long silence the clock may be ahead, and a due set that would be small
/// otherwise is looked at by a person first.
///
/// # Errors
/// When the store does not answer.
pub(super) async fn ask_due(
    shared: &Shared,
    silence: Option<SignedDuration>,
    at: Timestamp,
) -> Result<Option<Tripped>, StoreError> {
    let settings = match silence {
        Some(_) => shared.settings.breaker.after_silence(),
        None => shared.settings.breaker,
    };
    let small = settings.at_least;
    if shared.store.count_due(at, small.saturating_add(1)).await? <= small {
        return Ok(None);
    }
    let overview = shared.store.overview(at).await?;
    let active = overview
        .identities
        .iter()
        .find(|(state, _)| state == "active")
        .map_or(0, |(_, count)| *count);
    let limit = settings.limit(active, allowance(shared).await?, at);
    let due = shared.store.count_due(at, limit.saturating_add(1)).await?;
    if due <= limit {
        return Ok(None);
    }
    let mut why = format!("more than {limit} of {active} active identities are due at once");
    if let Some(silence) = silence {
        why.push_str(&format!(
            ", and nothing was recorded here for {silence:#}: the server was off, or its clock is ahead"
        ));
    }
    let advice =
        "Look at `keyfall review` and at the clock; then arm the breaker again for as many as are meant to be due";
    trip(shared, why, due, at, advice).await.map(Some)
}

/// Opens the breaker when so many runs fail that the next ones would too. What failed before a person armed it again counts no more.
///
/// # Errors
/// When the store does not answer.
pub(super) async fn ask_failures(shared: &Shared, at: Timestamp) -> Result<Option<Tripped>, StoreError> {
    let settings = shared.settings.breaker;
    if settings.failed == 0 {
        return Ok(None);
    }
    let day = at.saturating_sub(FAILED_WITHIN).unwrap_or(Timestamp::MIN);
    let since = allowance(shared).await?.map_or(day, |allowed| allowed.since.max(day));
    let rows = failed_since(shared, since).await?;
    if count(&rows) < settings.failed || is_explained(shared, since, count(&rows)).await? {
        return Ok(None);
    }
    let failed = by_themselves(shared, &rows).await?;
    if failed < settings.failed || is_explained(shared, since, failed).await? {
        return Ok(None);
    }
    let why = format!(
        "{failed} runs of those since {since:.0}, more than {}%, failed or wait for a person",
        settings.failed_percent
    );
    let due = shared.store.count_due(at, u32::MAX).await?;
    let advice =
        "Look at `keyfall review` for the step at which they fail, remove the cause; then arm the breaker again";
    trip(shared, why, due, at, advice).await.map(Some)
}

async fn allowance(shared: &Shared) -> Result<Option<Allowance>, StoreError> {
    let setting = shared.store.setting(BREAKER_ALLOWANCE).await?;
    Ok(setting.as_deref().and_then(Allowance::of_setting))
}

async fn runs_since(
    shared: &Shared,
    since: Timestamp,
    status: Option<&str>,
    limit: u32,
) -> Result<Vec<RunRow>, StoreError> {
    let filter = RunFilter {
        status: status.map(str::to_owned),
        opened_since: Some(since),
        ..RunFilter::default()
    };
    shared.store.runs(&filter, Page::first(limit)).await
}

async fn failed_since(shared: &Shared, since: Timestamp) -> Result<Vec<RunRow>, StoreError> {
    let mut rows = Vec::new();
    for status in FAILED {
        rows.extend(runs_since(shared, since, Some(status), MOST).await?);
    }
    Ok(rows)
}

fn count(rows: &[RunRow]) -> u32 {
    u32::try_from(rows.len()).unwrap_or(u32::MAX)
}

/// So many failures are what is to be expected of the runs that were opened.
async fn is_explained(shared: &Shared, since: Timestamp, failed: u32) -> Result<bool, StoreError> {
    let enough = shared.settings.breaker.runs_that_explain(failed);
    Ok(count(&runs_since(shared, since, None, enough).await?) >= enough)
}

/// How many of them were not taken back by a person.
async fn by_themselves(shared: &Shared, rows: &[RunRow]) -> Result<u32, StoreError> {
    let mut failed = 0_u32;
    for row in rows {
        let run = shared.store.run(row.id).await?;
        failed = failed.saturating_add(u32::from(run.is_some_and(|run| failed_by_itself(&run))));
    }
    Ok(failed)
}

/// No person asked for it, and it does not wait for what only people do: a consumer, a signature, a look at a world that is not as recorded.
fn failed_by_itself(run: &StoredRun) -> bool {
    let events = || run.events.iter().map(|event| &event.body);
    if events().any(|body| matches!(body, EventBody::CancelRequested { .. })) {
        return false;
    }
    let asked = events().rev().find_map(|body| match body {
        EventBody::NeedsOperator { because, .. } => Some(*because),
        _ => None,
    });
    run.row.closed_at.is_some()
        || !matches!(
            asked,
            Some(StuckBecause::Consumer | StuckBecause::Approval | StuckBecause::Drift)
        )
}

async fn trip(shared: &Shared, why: String, due: u32, at: Timestamp, advice: &str) -> Result<Tripped, StoreError> {
    let at = record::to_micros(at);
    tracing::error!(
        due,
        "the breaker opens ({why}); nothing scheduled opens until a person arms it again"
    );
    let wrong = Wrong {
        kind: findings::BREAKER_OPEN,
        subject: "schedule".to_owned(),
        severity: Severity::Critical,
        owner: KEYFALL,
        text: format!("{why}. {advice}"),
    };
    let details = serde_json::json!({ "why": why, "due": due });
    let tripped = Tripped { why, due, at };
    let commit = Commit {
        guards: vec![not_open()],
        facts: vec![tripped.fact(), findings::raised(&shared.env, at, wrong)],
        log: vec![housekeeping::act_entry(shared, at, "breaker_opened", details)],
    };
    shared.store.commit(commit).await?;
    Ok(tripped)
}
