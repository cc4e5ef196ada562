//! What a run does next. Pure: the same run at the same instant always decides the same; chance comes in as a parameter.

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::ErrorKind;
use serde::{Deserialize, Serialize};

use super::event::{Outcome, StepError};
use super::run::Run;
use super::state::{Path, RunStatus, StepState};
use super::steps::Step;

/// What the engine is to do with a run at this instant.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Do the step. `observe_first`: an earlier attempt may have had its effect, so look before repeating.
    Perform {
        step: Step,
        attempt: u32,
        observe_first: bool,
    },
    WaitUntil(Timestamp),
    Unwind {
        cause: String,
    },
    Close(Outcome),
    /// Nothing until a person acts.
    Stuck,
    Finished,
}

/// What follows a failed attempt; recorded with the failure, so that a restart cannot roll the dice again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "then", rename_all = "snake_case")]
pub enum Then {
    RetryAt { at: Timestamp },
    Unwind,
    AskOperator,
}

#[must_use]
pub fn decide(run: &Run, now: Timestamp) -> Decision {
    match run.status() {
        RunStatus::Closed { .. } => return Decision::Finished,
        RunStatus::NeedsOperator { .. } => return Decision::Stuck,
        RunStatus::Open => {}
    }
    if let Some(reason) = run
        .cancel_reason()
        .filter(|_| run.path() == Path::Forward && !run.is_past_pivot())
    {
        return Decision::Unwind {
            cause: format!("cancelled: {reason}"),
        };
    }
    let Some(step) = run.step() else {
        return Decision::Close(run.outcome());
    };
    // Whatever was said about the step since: what was begun once may have had its effect.
    let observe_first = step.has_effect() && run.was_begun(step);
    match *run.step_state() {
        StepState::NotStarted => Decision::Perform {
            step,
            attempt: 1,
            observe_first,
        },
        StepState::Started { attempt } => Decision::Perform {
            step,
            attempt: attempt.saturating_add(1),
            observe_first: true,
        },
        StepState::Retrying { at, .. } | StepState::Waiting { until: at } if now < at => Decision::WaitUntil(at),
        StepState::Retrying { attempts, .. } => Decision::Perform {
            step,
            attempt: attempts.saturating_add(1),
            observe_first: step.has_effect(),
        },
        StepState::Waiting { .. } => Decision::Perform {
            step,
            attempt: 1,
            observe_first,
        },
    }
}

/// Attempts before the point of no return until the run is taken back, a few seconds.
const ATTEMPTS_BEFORE_UNWINDING: u32 = 6;
/// Attempts until a person is called, some minutes: where there is no way back, or where taking back would disturb others for an outage that
/// passes. The run stays open and can be retried.
const ATTEMPTS_BEFORE_OPERATOR: u32 = 12;
const FIRST_DELAY_MS: i64 = 200;
const LONGEST_DELAY_MS: i64 = 300_000;

/// What follows a failed attempt at the step under the cursor. `jitter` is drawn from 0..1 (full jitter).
#[must_use]
pub fn after_failure(run: &Run, error: &StepError, jitter: f64, now: Timestamp) -> Then {
    let passes = error.kind.is_retryable();
    let may_unwind =
        run.may_unwind_behind(error.kind) && !(passes && others_follow(run)) && run.promoted_at().is_none();
    let attempts = run.attempts().saturating_add(1);
    let limit = if may_unwind {
        ATTEMPTS_BEFORE_UNWINDING
    } else {
        ATTEMPTS_BEFORE_OPERATOR
    };
    if passes && attempts < limit {
        return Then::RetryAt {
            at: now
                .saturating_add(delay(error.kind, attempts, jitter))
                .unwrap_or(Timestamp::MAX),
        };
    }
    if may_unwind { Then::Unwind } else { Then::AskOperator }
}

/// Others have acted on what the run did: consumers were given the new secret, or an account was disabled under them. A system that restarts at
/// that moment, or at the last look before the point of no return, is waited for.
fn others_follow(run: &Run) -> bool {
    run.was_delivered() || run.was_begun(Step::Quarantine) || run.is_before_pivot()
}

fn delay(kind: ErrorKind, attempts: u32, jitter: f64) -> SignedDuration {
    let ceiling = FIRST_DELAY_MS
        .saturating_mul(1_i64.checked_shl(attempts.min(20)).unwrap_or(i64::MAX))
        .min(LONGEST_DELAY_MS);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "both are far below 2^52"
    )]
    let drawn = (ceiling as f64 * jitter.clamp(0.0, 1.0)) as i64;
    let at_least = match kind {
        ErrorKind::RateLimited { after_ms } => i64::try_from(after_ms).unwrap_or(LONGEST_DELAY_MS),
        _ => 0,
    };
    SignedDuration::from_millis(drawn.saturating_add(at_least))
}
