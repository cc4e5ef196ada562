//! One pass over what is stored: compare the clocks, ask the breaker, open what is due, keep house, report. It takes no input; whoever rings
//! only says that now is a good time.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::breaker::{Allowance, BREAKER, BREAKER_ALLOWANCE, Tripped};
use super::clocks::{AgainstLog, against_log, newest_record};
use super::findings::{self, Severity, Wrong};
use super::freeze::{FREEZE, Freeze};
use super::schedule::{self, Memory};
use super::sweep::Sweep;
use super::watch::freeze_for_clock;
use super::{Shared, catch_up, housekeeping, record};
use crate::store::{Commit, StoreError};

/// Looked at least this often, whatever bell is silent.
const SWEEP: Duration = Duration::from_secs(5);
const SECRETS_EVERY: Duration = Duration::from_secs(30);
const EXPIRY_EVERY: Duration = Duration::from_secs(900);
/// While nothing may be opened, due identities are only looked at for the findings about them.
const STANDSTILL_EVERY: Duration = Duration::from_secs(60);
pub(super) const KEYFALL: &str = "keyfall";

/// What one pass found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassReport {
    pub at: Timestamp,
    pub due: u32,
    pub opened: u32,
    /// Due, and not opened by the engine alone.
    pub held: u32,
    pub secrets_destroyed: u32,
    pub frozen: Option<Freeze>,
    pub breaker: Option<Tripped>,
    pub took: Duration,
    /// What the pass could not do. The next one tries again.
    pub error: Option<String>,
}

/// When what is done more rarely was done last.
#[derive(Default)]
struct Rounds {
    secrets: Option<Instant>,
    expiry: Option<Instant>,
    standstill: Option<Instant>,
    sweep: Option<Instant>,
}

fn is_time(last: &mut Option<Instant>, every: Duration) -> bool {
    let now = Instant::now();
    if last.is_some_and(|last| now.duration_since(last) < every) {
        return false;
    }
    *last = Some(now);
    true
}

/// Before anything else is done: the clock against the newest record of the log. A clock that is behind freezes everything destructive.
/// Answers for how long nothing was written, when that is longer than a server is usually off.
///
/// # Errors
/// When the store does not answer.
pub(super) async fn compare_with_log(shared: &Shared) -> Result<Option<SignedDuration>, StoreError> {
    let now = shared.env.now();
    match against_log(now, newest_record(&*shared.store).await?) {
        AgainstLog::Agrees => Ok(None),
        AgainstLog::Behind { by } => {
            let reason = format!("the clock stands {by:#} before the newest record of the log");
            freeze_for_clock(shared, reason, now).await?;
            Ok(None)
        }
        AgainstLog::Silent { since } => Ok(Some(since)),
    }
}

/// Makes passes until the engine stops. `silence`: see [`compare_with_log`].
pub(super) async fn run(shared: Arc<Shared>, silence: Option<SignedDuration>) {
    let mut passes = Passes {
        shared: Arc::clone(&shared),
        memory: Memory::default(),
        rounds: Rounds::default(),
        sweep: Sweep::default(),
        silence,
        stood_still: true,
    };
    while !shared.is_stopping() {
        passes.one().await;
        tokio::select! {
            biased;
            () = shared.stopping.cancelled() => {}
            () = shared.plan_bell.notified() => {}
            () = tokio::time::sleep(SWEEP) => {}
        }
    }
}

struct Passes {
    shared: Arc<Shared>,
    memory: Memory,
    rounds: Rounds,
    sweep: Sweep,
    /// For how long the log was silent before this start, until the first due set was looked at.
    silence: Option<SignedDuration>,
    /// Nothing could be opened until this pass.
    stood_still: bool,
}

impl Passes {
    async fn one(&mut self) {
        let began = Instant::now();
        let mut report = PassReport {
            at: self.shared.env.now(),
            ..PassReport::default()
        };
        if let Err(error) = self.gather_and_open(&mut report).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a pass could not do all of its work; the next one tries again"
            );
            report.error = Some(error.to_string());
        }
        report.took = began.elapsed();
        metrics::histogram!("keyfall_pass_seconds").record(report.took.as_secs_f64());
        *self.shared.last_pass.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }

    async fn gather_and_open(&mut self, report: &mut PassReport) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        shared.watch.measure(&shared).await?;
        shared.watch.look(&shared).await?;
        report.frozen = shared.store.setting(FREEZE).await?.as_deref().map(Freeze::of_setting);
        report.breaker = match shared.store.setting(BREAKER).await? {
            Some(value) => Some(Tripped::of_setting(&value)),
            None => ask_breaker(&shared, self.silence, report.at).await?,
        };
        self.silence = None;
        let standstill = standstill(report);
        if standstill.is_none() && std::mem::replace(&mut self.stood_still, false) {
            catch_up::spread(&shared).await?;
        }
        self.stood_still |= standstill.is_some();
        if standstill.is_none() || is_time(&mut self.rounds.standstill, STANDSTILL_EVERY) {
            schedule::open_due(&shared, &mut self.memory, standstill.is_some(), report).await?;
        }
        if is_time(&mut self.rounds.sweep, shared.settings.sweep_every) {
            self.sweep.over(&shared, standstill.as_deref()).await?;
        }
        if is_time(&mut self.rounds.secrets, SECRETS_EVERY) {
            report.secrets_destroyed = housekeeping::destroy_secrets(&shared).await?;
        }
        if is_time(&mut self.rounds.expiry, EXPIRY_EVERY) {
            housekeeping::look_at_expiry(&shared).await?;
        }
        Ok(())
    }
}

fn standstill(report: &PassReport) -> Option<String> {
    let frozen = report
        .frozen
        .as_ref()
        .map(|freeze| format!("everything destructive is frozen ({})", freeze.reason));
    frozen.or_else(|| {
        report
            .breaker
            .as_ref()
            .map(|tripped| format!("the breaker is open ({})", tripped.why))
    })
}

/// Opens the breaker when more is due than can be right. After a long silence the clock may be ahead, and a due set that would be small
/// otherwise is looked at by a person first.
async fn ask_breaker(
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
    let allowance = shared
        .store
        .setting(BREAKER_ALLOWANCE)
        .await?
        .as_deref()
        .and_then(Allowance::of_setting);
    let limit = settings.limit(active, allowance, at);
    let due = shared.store.count_due(at, limit.saturating_add(1)).await?;
    if due <= limit {
        return Ok(None);
    }
    let at = record::to_micros(at);
    let mut why = format!("more than {limit} of {active} active identities are due at once");
    if let Some(silence) = silence {
        why.push_str(&format!(
            ", and nothing was recorded here for {silence:#}: the server was off, or its clock is ahead"
        ));
    }
    let tripped = Tripped { why, due, at };
    tracing::error!(
        due,
        limit,
        active,
        "the due set is suspicious; nothing scheduled opens until a person arms the breaker again"
    );
    let wrong = Wrong {
        kind: findings::BREAKER_OPEN,
        subject: "schedule".to_owned(),
        severity: Severity::Critical,
        owner: KEYFALL,
        text: format!(
            "{}. Look at `keyfall review` and at the clock; then arm the breaker again for as many as are meant to be due",
            tripped.why
        ),
    };
    let details = serde_json::json!({ "why": tripped.why, "due": due });
    let commit = Commit {
        guards: vec![super::breaker::not_open()],
        facts: vec![tripped.fact(), findings::raised(&shared.env, at, wrong)],
        log: vec![housekeeping::act_entry(shared, at, "breaker_opened", details)],
    };
    shared.store.commit(commit).await?;
    Ok(Some(tripped))
}
