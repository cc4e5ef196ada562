//! The fold: a run's state is what its events make of it. An event that does not fit is a typed error that names both.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyfall_sdk::{Issued, PrincipalReading, SessionsEnded};

use super::super::ids::{CredentialId, RunId};
use super::super::proof::ProofProgress;
use super::decide::Then;
use super::event::{Death, Event, EventBody, Observation, Outcome, StepOutput};
use super::plan::RunPlan;
use super::steps::{Step, forward_steps, pivot, unwind_steps};

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

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("run {run}: event {seq} ({event}) does not follow from {state}")]
pub struct IllegalEvent {
    pub run: String,
    pub seq: u32,
    pub event: &'static str,
    pub state: String,
}

/// A run as its log tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    plan: RunPlan,
    next_seq: u32,
    path: Path,
    steps: Vec<Step>,
    cursor: usize,
    step_state: StepState,
    status: RunStatus,
    begun: Vec<Step>,
    cancel: Option<String>,
    unwind_cause: Option<String>,
    last_event_at: Timestamp,
    step_began_at: Option<Timestamp>,
    before: Option<PrincipalReading>,
    after: Option<PrincipalReading>,
    issued: Option<Issued>,
    never_issued: bool,
    delivered_version: Option<String>,
    promoted_at: Option<Timestamp>,
    sessions_ended: Option<SessionsEnded>,
    stripped: Vec<String>,
    progress: BTreeMap<CredentialId, ProofProgress>,
    deaths: BTreeMap<CredentialId, Death>,
}

impl Run {
    /// Starts the fold.
    ///
    /// # Errors
    /// When the first event is not `Opened` with number 0.
    pub fn open(event: &Event) -> Result<Self, IllegalEvent> {
        let EventBody::Opened { plan } = &event.body else {
            return Err(IllegalEvent {
                run: "?".to_owned(),
                seq: event.seq,
                event: event.body.name(),
                state: "a run that is not open yet".to_owned(),
            });
        };
        let plan = (**plan).clone();
        Ok(Self {
            steps: forward_steps(&plan),
            plan,
            next_seq: event.seq.saturating_add(1),
            path: Path::Forward,
            cursor: 0,
            step_state: StepState::NotStarted,
            status: RunStatus::Open,
            begun: Vec::new(),
            cancel: None,
            unwind_cause: None,
            last_event_at: event.at,
            step_began_at: None,
            before: None,
            after: None,
            issued: None,
            never_issued: false,
            delivered_version: None,
            promoted_at: None,
            sessions_ended: None,
            stripped: Vec::new(),
            progress: BTreeMap::new(),
            deaths: BTreeMap::new(),
        })
    }

    /// Folds a whole log.
    ///
    /// # Errors
    /// When the log is empty, begins wrongly, has a gap, or holds an event that does not follow.
    pub fn replay<'a>(events: impl IntoIterator<Item = &'a Event>) -> Result<Self, IllegalEvent> {
        let mut events = events.into_iter();
        let first = events.next().ok_or_else(|| IllegalEvent {
            run: "?".to_owned(),
            seq: 0,
            event: "nothing",
            state: "an empty log".to_owned(),
        })?;
        let mut run = Self::open(first)?;
        for event in events {
            run.apply(event)?;
        }
        Ok(run)
    }

    /// Takes one more event.
    ///
    /// # Errors
    /// When the event does not follow from the state; the run is then unchanged.
    pub fn apply(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        if event.seq != self.next_seq || !self.follows(&event.body) {
            return Err(IllegalEvent {
                run: self.plan.run.to_string(),
                seq: event.seq,
                event: event.body.name(),
                state: self.describe(),
            });
        }
        self.next_seq = self.next_seq.saturating_add(1);
        self.last_event_at = event.at;
        self.take(event);
        Ok(())
    }

    fn follows(&self, body: &EventBody) -> bool {
        let open = self.status == RunStatus::Open;
        let stuck = matches!(self.status, RunStatus::NeedsOperator { .. });
        let at_cursor = |step: &Step| open && self.step() == Some(*step);
        match body {
            EventBody::Opened { .. } => false,
            EventBody::Started { step, .. } => at_cursor(step) && step.has_effect(),
            EventBody::Succeeded { step, .. } => {
                at_cursor(step) && (!step.has_effect() || matches!(self.step_state, StepState::Started { .. }))
            }
            EventBody::Failed { step, .. } | EventBody::Waiting { step, .. } | EventBody::Observed { step, .. } => {
                at_cursor(step)
            }
            EventBody::NeedsOperator { step, .. } => at_cursor(step),
            EventBody::Unwinding { .. } => (open || stuck) && self.path == Path::Forward && !self.is_past_pivot(),
            EventBody::Retried { .. } | EventBody::Resumed { .. } => stuck,
            EventBody::CancelRequested { .. } => {
                (open || stuck) && self.path == Path::Forward && !self.is_past_pivot() && self.cancel.is_none()
            }
            EventBody::Closed { .. } => open && self.step().is_none(),
        }
    }

    fn take(&mut self, event: &Event) {
        match &event.body {
            EventBody::Opened { .. } => {}
            EventBody::Started { step, attempt, .. } => {
                self.begin(*step, event.at);
                self.step_state = StepState::Started { attempt: *attempt };
            }
            EventBody::Succeeded { step, output } => {
                self.begin(*step, event.at);
                self.keep(*step, output, event.at);
                self.advance();
            }
            EventBody::Failed { then, .. } => {
                let attempts = self.attempts().saturating_add(1);
                if let Then::RetryAt { at } = then {
                    self.step_state = StepState::Retrying { attempts, at: *at };
                }
            }
            EventBody::Observed { step, observation } => {
                self.begin(*step, event.at);
                self.observe(observation, event.at);
            }
            EventBody::Waiting { step, until, .. } => {
                self.begin(*step, event.at);
                self.step_state = StepState::Waiting { until: *until };
            }
            EventBody::Unwinding { cause } => {
                self.steps = unwind_steps(self);
                self.path = Path::Unwinding;
                self.cursor = 0;
                self.step_state = StepState::NotStarted;
                self.step_began_at = None;
                self.status = RunStatus::Open;
                self.unwind_cause = Some(cause.clone());
            }
            EventBody::NeedsOperator {
                reason, manual_step, ..
            } => {
                self.status = RunStatus::NeedsOperator {
                    reason: reason.clone(),
                    manual_step: manual_step.clone(),
                };
            }
            EventBody::Retried { .. } => {
                self.status = RunStatus::Open;
                self.step_began_at = None;
                if !matches!(self.step_state, StepState::Started { .. }) {
                    self.step_state = StepState::NotStarted;
                }
            }
            EventBody::Resumed { .. } => {
                self.status = RunStatus::Open;
                self.advance();
            }
            EventBody::CancelRequested { reason, .. } => {
                self.cancel = Some(reason.clone());
                self.status = RunStatus::Open;
            }
            EventBody::Closed { outcome, .. } => {
                self.status = RunStatus::Closed {
                    outcome: outcome.clone(),
                }
            }
        }
    }

    fn begin(&mut self, step: Step, at: Timestamp) {
        if !self.begun.contains(&step) {
            self.begun.push(step);
        }
        self.step_began_at.get_or_insert(at);
    }

    fn advance(&mut self) {
        self.cursor = self.cursor.saturating_add(1);
        self.step_state = StepState::NotStarted;
        self.step_began_at = None;
    }

    fn keep(&mut self, step: Step, output: &StepOutput, at: Timestamp) {
        match output {
            StepOutput::Issued { issued } => {
                self.issued = Some(issued.clone());
                if self.plan.strategy == keyfall_sdk::Strategy::InPlace {
                    self.mark_revoked(at);
                }
            }
            StepOutput::NeverIssued => self.never_issued = true,
            StepOutput::Delivered { version, .. } => self.delivered_version = Some(version.clone()),
            StepOutput::SessionsEnded { ended } => self.sessions_ended = Some(*ended),
            StepOutput::Stripped { grants } => self.stripped.clone_from(grants),
            StepOutput::Revoked { .. } if step == Step::RevokeOld => self.mark_revoked(at),
            StepOutput::Revoked { .. } => {
                if let Some(new) = &self.plan.new {
                    self.progress.entry(new.id).or_default().revoked_at.get_or_insert(at);
                }
            }
            StepOutput::Proofs { deaths } => self.deaths.extend(deaths.clone()),
            StepOutput::Read { reading } => self.after = Some(reading.clone()),
            StepOutput::Adopted { .. } | StepOutput::Nothing => {}
        }
        if step == Step::Promote {
            self.promoted_at = Some(at);
        }
    }

    fn mark_revoked(&mut self, at: Timestamp) {
        for old in &self.plan.old {
            self.progress.entry(old.id).or_default().revoked_at.get_or_insert(at);
        }
    }

    fn observe(&mut self, observation: &Observation, at: Timestamp) {
        match observation {
            Observation::Before { reading } => self.before = Some(reading.clone()),
            Observation::After { reading } => self.after = Some(reading.clone()),
            Observation::Tried {
                credential,
                vantage,
                reading,
            } => {
                if reading.verdict.is_accepted() {
                    let progress = self.progress.entry(*credential).or_default();
                    if progress.revoked_at.is_none() {
                        progress.baseline.insert(vantage.clone(), at);
                    }
                }
            }
            Observation::ProbeRound { credential, round } => {
                self.progress.entry(*credential).or_default().rounds.push(round.clone());
            }
            Observation::IssueFound { issued } => self.issued = Some(issued.clone()),
            Observation::ConsumerSeen { .. } | Observation::ConsumerAwaited { .. } | Observation::Note { .. } => {}
        }
    }

    fn describe(&self) -> String {
        match self.step() {
            Some(step) => format!("{} at step {} ({:?})", self.status.name(), step.name(), self.step_state),
            None => format!("{} behind its last step", self.status.name()),
        }
    }

    #[must_use]
    pub fn id(&self) -> RunId {
        self.plan.run
    }

    #[must_use]
    pub fn plan(&self) -> &RunPlan {
        &self.plan
    }

    #[must_use]
    pub fn next_seq(&self) -> u32 {
        self.next_seq
    }

    #[must_use]
    pub fn path(&self) -> Path {
        self.path
    }

    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The step under the cursor; `None` behind the last one.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        self.steps.get(self.cursor).copied()
    }

    #[must_use]
    pub fn step_state(&self) -> &StepState {
        &self.step_state
    }

    /// When the step under the cursor was first worked on.
    #[must_use]
    pub fn step_began_at(&self) -> Option<Timestamp> {
        self.step_began_at
    }

    #[must_use]
    pub fn status(&self) -> &RunStatus {
        &self.status
    }

    #[must_use]
    pub fn last_event_at(&self) -> Timestamp {
        self.last_event_at
    }

    /// Attempts of the step under the cursor that have failed.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        match self.step_state {
            StepState::Retrying { attempts, .. } => attempts,
            StepState::Started { attempt } => attempt.saturating_sub(1),
            StepState::NotStarted | StepState::Waiting { .. } => 0,
        }
    }

    #[must_use]
    pub fn was_begun(&self, step: Step) -> bool {
        self.begun.contains(&step)
    }

    /// The point of no return lies behind: only forward from here.
    #[must_use]
    pub fn is_past_pivot(&self) -> bool {
        pivot(&self.plan).is_some_and(|step| self.was_begun(step))
    }

    #[must_use]
    pub fn cancel_reason(&self) -> Option<&str> {
        self.cancel.as_deref()
    }

    #[must_use]
    pub fn unwind_cause(&self) -> Option<&str> {
        self.unwind_cause.as_deref()
    }

    /// The account before the first change.
    #[must_use]
    pub fn before(&self) -> Option<&PrincipalReading> {
        self.before.as_ref()
    }

    /// The account after the last change.
    #[must_use]
    pub fn after(&self) -> Option<&PrincipalReading> {
        self.after.as_ref()
    }

    #[must_use]
    pub fn issued(&self) -> Option<&Issued> {
        self.issued.as_ref()
    }

    #[must_use]
    pub fn was_never_issued(&self) -> bool {
        self.never_issued
    }

    #[must_use]
    pub fn delivered_version(&self) -> Option<&str> {
        self.delivered_version.as_deref()
    }

    #[must_use]
    pub fn promoted_at(&self) -> Option<Timestamp> {
        self.promoted_at
    }

    #[must_use]
    pub fn sessions_ended(&self) -> Option<SessionsEnded> {
        self.sessions_ended
    }

    #[must_use]
    pub fn stripped(&self) -> &[String] {
        &self.stripped
    }

    /// What was seen of each credential's life and death.
    #[must_use]
    pub fn progress(&self, credential: CredentialId) -> Option<&ProofProgress> {
        self.progress.get(&credential)
    }

    #[must_use]
    pub fn deaths(&self) -> &BTreeMap<CredentialId, Death> {
        &self.deaths
    }
}
