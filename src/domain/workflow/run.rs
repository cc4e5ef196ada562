//! The fold: a run's state is what its events make of it. An event that does not fit is a typed error that names both.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyfall_sdk::{Issued, PrincipalReading, SessionsEnded};

use super::super::actor::Actor;
use super::super::ids::CredentialId;
use super::super::proof::{ProofProgress, Standing, judge};
use super::decide::Then;
use super::delivering::Delivering;
use super::event::{Death, Event, EventBody, Observation, StepOutput};
use super::hasten::Hastened;
use super::issuing::Issuing;
use super::outcome::is_taken_on_trust;
use super::plan::RunPlan;
use super::state::{Path, RunStatus, Skipped, StepState};
use super::steps::{KNOWN_WORKFLOWS, Step, WORKFLOW_VERSION, forward_steps, unwind_steps};

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
    pub(super) plan: RunPlan,
    pub(super) next_seq: u32,
    pub(super) path: Path,
    pub(super) steps: Vec<Step>,
    pub(super) cursor: usize,
    pub(super) step_state: StepState,
    pub(super) status: RunStatus,
    pub(super) begun: Vec<Step>,
    pub(super) cancel: Option<String>,
    pub(super) hastened: Option<Hastened>,
    pub(super) unwind_cause: Option<String>,
    pub(super) last_event_at: Timestamp,
    pub(super) step_began_at: Option<Timestamp>,
    pub(super) before: Option<PrincipalReading>,
    pub(super) after: Option<PrincipalReading>,
    pub(super) issued: Option<Issued>,
    pub(super) never_issued: bool,
    pub(super) delivered: bool,
    pub(super) promoted_at: Option<Timestamp>,
    pub(super) sessions_ended: Option<SessionsEnded>,
    pub(super) stripped: Vec<String>,
    pub(super) progress: BTreeMap<CredentialId, ProofProgress>,
    /// Refused logins outside of the rounds of a proof.
    pub(super) refused: Vec<(CredentialId, Timestamp)>,
    pub(super) deaths: BTreeMap<CredentialId, Death>,
    pub(super) skipped: Vec<Skipped>,
    /// The first person who asked for the run, for its cancelling or for another try.
    pub(super) asked_by: Option<Actor>,
    pub(super) issuing: Issuing,
    pub(super) delivering: Delivering,
}

/// What earlier runs saw alive needs no other look before its death.
fn lives_seen_before(plan: &RunPlan) -> BTreeMap<CredentialId, ProofProgress> {
    let lived = plan.old.iter().filter(|old| !old.accepted.is_empty());
    let progress = lived.map(|old| {
        let baseline = old.accepted.clone();
        (
            old.id,
            ProofProgress {
                baseline,
                ..ProofProgress::default()
            },
        )
    });
    progress.collect()
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
        if !KNOWN_WORKFLOWS.contains(&plan.workflow_version) {
            return Err(IllegalEvent {
                run: plan.run.to_string(),
                seq: event.seq,
                event: event.body.name(),
                state: format!(
                    "the workflow of this server, which is number {WORKFLOW_VERSION} and not {}: let the server that opened it end it first",
                    plan.workflow_version
                ),
            });
        }
        let plan = (**plan).clone();
        Ok(Self {
            progress: lives_seen_before(&plan),
            steps: forward_steps(&plan),
            asked_by: Some(plan.initiator.clone()).filter(|actor| actor.person().is_some()),
            plan,
            next_seq: event.seq.saturating_add(1),
            path: Path::Forward,
            cursor: 0,
            step_state: StepState::NotStarted,
            status: RunStatus::Open,
            refused: Vec::new(),
            begun: Vec::new(),
            cancel: None,
            hastened: None,
            unwind_cause: None,
            last_event_at: event.at,
            step_began_at: None,
            before: None,
            after: None,
            issued: None,
            never_issued: false,
            delivered: false,
            promoted_at: None,
            sessions_ended: None,
            stripped: Vec::new(),
            deaths: BTreeMap::new(),
            skipped: Vec::new(),
            issuing: Issuing::default(),
            delivering: Delivering::default(),
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
        self.last_event_at = self.last_event_at.max(event.at);
        self.issuing.take(&event.body, event.at);
        self.delivering.take(&event.body, event.at);
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
            EventBody::Succeeded { step, seen, output } => {
                at_cursor(step)
                    && (!step.has_effect() || matches!(self.step_state, StepState::Started { .. }))
                    && self.shows_deaths(seen, output)
            }
            EventBody::Failed { step, .. }
            | EventBody::Waiting { step, .. }
            | EventBody::NeedsOperator { step, .. } => at_cursor(step),
            EventBody::Unwinding { .. } => (open || stuck) && self.path == Path::Forward && !self.is_past_pivot(),
            EventBody::Retried { .. } => stuck,
            EventBody::Resumed { by, .. } => stuck && self.refusal_to_resume(by).is_none(),
            EventBody::CancelRequested { .. } => {
                (open || stuck) && self.path == Path::Forward && !self.is_past_pivot() && self.cancel.is_none()
            }
            EventBody::Hastened { .. } => self.may_be_hastened(),
            EventBody::Closed { .. } => open && self.step().is_none(),
        }
    }

    /// No death is said to be proven that the rounds in the log, with those of this attempt, do not prove.
    fn shows_deaths(&self, seen: &[Observation], output: &StepOutput) -> bool {
        let StepOutput::Proofs { deaths } = output else {
            return true;
        };
        deaths.iter().all(|(id, death)| match death {
            Death::Proven { proven_at } => {
                let mut progress = self.progress.get(id).cloned().unwrap_or_default();
                progress
                    .rounds
                    .extend(seen.iter().filter_map(|one| one.round_of(*id)).cloned());
                matches!(judge(&self.plan.proof, &progress, *proven_at), Standing::Proven(_))
            }
            Death::Alive { .. } | Death::Unprovable { .. } => true,
        })
    }

    fn take(&mut self, event: &Event) {
        // What was seen stands, however the attempt ended, and its end is judged with it.
        if let (Some(step), seen @ [_, ..]) = (event.body.step(), event.body.seen()) {
            self.begin(step, event.at);
            for observation in seen {
                self.observe(observation, event.at);
            }
        }
        match &event.body {
            EventBody::Opened { .. } => {}
            EventBody::Started { step, attempt, .. } => {
                self.begin(*step, event.at);
                self.step_state = StepState::Started { attempt: *attempt };
            }
            EventBody::Succeeded { step, output, .. } => {
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
            EventBody::Waiting { step, until, .. } => {
                self.begin(*step, event.at);
                self.step_state = StepState::Waiting { until: *until };
            }
            EventBody::Unwinding { cause } => self.turn_back(cause),
            EventBody::NeedsOperator {
                reason, manual_step, ..
            } => {
                self.status = RunStatus::NeedsOperator {
                    reason: reason.clone(),
                    manual_step: manual_step.clone(),
                };
            }
            EventBody::Retried { by, .. } => self.begin_again(by),
            EventBody::Resumed { by, reason } => {
                self.status = RunStatus::Open;
                self.skip(by, reason, event.at);
            }
            EventBody::CancelRequested { by, reason } => {
                self.asked(by);
                self.cancel = Some(reason.clone());
                self.status = RunStatus::Open;
            }
            EventBody::Hastened { hastened } => self.hasten(hastened),
            EventBody::Closed { outcome, .. } => {
                self.status = RunStatus::Closed {
                    outcome: outcome.clone(),
                }
            }
        }
    }

    fn begin_again(&mut self, by: &Actor) {
        self.asked(by);
        self.status = RunStatus::Open;
        self.step_began_at = None;
        if !matches!(self.step_state, StepState::Started { .. }) {
            self.step_state = StepState::NotStarted;
        }
    }

    fn asked(&mut self, by: &Actor) {
        if self.asked_by.is_none() && by.person().is_some() {
            self.asked_by = Some(by.clone());
        }
    }

    fn skip(&mut self, by: &Actor, reason: &str, at: Timestamp) {
        let Some(step) = self.step() else { return };
        self.begin(step, at);
        match step {
            Step::RevokeOld => self.mark_revoked(at),
            Step::RevokeNew => self.mark_new_revoked(at),
            _ => {}
        }
        self.skipped.push(Skipped {
            step,
            by: by.clone(),
            reason: reason.to_owned(),
        });
        // Nothing is buried on trust either.
        if is_taken_on_trust(step) {
            self.steps.retain(|step| *step != Step::Tombstone);
        }
        self.advance();
    }

    fn turn_back(&mut self, cause: &str) {
        self.steps = unwind_steps(self);
        self.path = Path::Unwinding;
        self.cursor = 0;
        self.step_state = StepState::NotStarted;
        self.step_began_at = None;
        self.status = RunStatus::Open;
        self.unwind_cause = Some(cause.to_owned());
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

    fn describe(&self) -> String {
        match self.step() {
            Some(step) => format!(
                "{} at step {} ({})",
                self.status.name(),
                step.name(),
                self.step_state.name()
            ),
            None => format!("{} behind its last step", self.status.name()),
        }
    }
}
