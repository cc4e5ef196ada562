//! Where a run stands: which way it goes, how far its step is, whether it waits for a person. The words only; `run.rs` says what follows from what.

use jiff::Timestamp;

use super::super::actor::Actor;
use super::event::Outcome;
use super::steps::Step;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    Forward,
    Unwinding,
}

/// Where the step under the cursor stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepState {
    NotStarted,
    /// Begun, and its end is not recorded: the effect may have happened.
    Started {
        attempt: u32,
    },
    Retrying {
        attempts: u32,
        at: Timestamp,
    },
    Waiting {
        until: Timestamp,
    },
}

impl StepState {
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotStarted => "not started",
            Self::Started { .. } => "started",
            Self::Retrying { .. } => "to be tried again",
            Self::Waiting { .. } => "waiting",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum RunStatus {
    Open,
    NeedsOperator { reason: String, manual_step: String },
    Closed { outcome: Outcome },
}

impl RunStatus {
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::NeedsOperator { .. } => "needs_operator",
            Self::Closed { outcome } => outcome.name(),
        }
    }
}

/// A step that a person declared done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    pub step: Step,
    pub by: Actor,
    pub reason: String,
}
