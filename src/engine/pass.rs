//! One pass over what is stored: compare the clocks, ask the breaker, open what is due, keep house, report. It takes no input; whoever rings
//! only says that now is a good time.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::breaker::{BREAKER, Tripped};
use super::clocks::{AgainstLog, against_log, newest_record};
use super::freeze::{FREEZE, Freeze};
use super::schedule::{self, Memory};
use super::sweep::Sweep;
use super::watch::freeze_for_clock;
use super::{Shared, catch_up, housekeeping, tripping};
use crate::store::StoreError;

/// Looked at least this often, whatever bell is silent.
pub(super) const SWEEP: Duration = Duration::from_secs(5);
const FAILURES_EVERY: Duration = Duration::from_secs(10);
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
    failures: Option<Instant>,
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
            None => self.ask_breaker(report.at).await?,
        };
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

    async fn ask_breaker(&mut self, at: Timestamp) -> Result<Option<Tripped>, StoreError> {
        let tripped = tripping::ask_due(&self.shared, self.silence, at).await?;
        self.silence = None;
        if tripped.is_none() && is_time(&mut self.rounds.failures, FAILURES_EVERY) {
            return tripping::ask_failures(&self.shared, at).await;
        }
        Ok(tripped)
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
