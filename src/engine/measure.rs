//! Counters and lengths of what the engine does. Labels come from closed lists: kinds, steps, outcomes, never a name.

use std::time::Duration;

use jiff::SignedDuration;

use super::lease::unsigned;
use super::report::StepEnd;
use crate::domain::workflow::{RunKind, Step};

pub(super) fn step(kind: RunKind, step: Step, end: &StepEnd, took: Duration) {
    let outcome = match end {
        StepEnd::Done(_) => "done",
        StepEnd::Wait { .. } => "waiting",
        StepEnd::Failed(_) => "failed",
        StepEnd::AskOperator { .. } => "needs_operator",
    };
    metrics::counter!("keyfall_steps_total", "kind" => kind.name(), "step" => step.name(), "outcome" => outcome)
        .increment(1);
    metrics::histogram!("keyfall_step_seconds", "step" => step.name()).record(took.as_secs_f64());
}

pub(super) fn opened(kind: RunKind, runs: u64) {
    metrics::counter!("keyfall_runs_opened_total", "kind" => kind.name()).increment(runs);
}

pub(super) fn closed(kind: RunKind, outcome: &'static str, took: SignedDuration) {
    metrics::counter!("keyfall_runs_closed_total", "kind" => kind.name(), "outcome" => outcome).increment(1);
    metrics::histogram!("keyfall_run_seconds", "kind" => kind.name()).record(unsigned(took).as_secs_f64());
}

pub(super) fn held(barrier: &'static str) {
    metrics::counter!("keyfall_steps_held_total", "barrier" => barrier).increment(1);
}

pub(super) fn in_hands(runs: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a number of tasks is far below 2^52")]
    metrics::gauge!("keyfall_runs_in_hands").set(runs as f64);
}

pub(super) fn secrets_destroyed(secrets: u64) {
    metrics::counter!("keyfall_secrets_destroyed_total").increment(secrets);
}
