//! Reading a run: what its log has come to. Nothing here changes it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{Issued, PrincipalReading, SessionsEnded};

use super::super::ids::{CredentialId, RunId, SecretId};
use super::super::proof::{Proof, ProofProgress, Standing, judge};
use super::event::Death;
use super::plan::RunPlan;
use super::run::Run;
use super::state::{Path, RunStatus, Skipped, StepState};
use super::steps::{Step, pivot};

impl Run {
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

    /// The instant of the next event, when it is this by the clock of who writes it. The log of a run only goes forward in time, whoever wrote
    /// before and whatever clocks do: what was seen before a revocation is told as seen before it.
    #[must_use]
    pub fn instant(&self, now: Timestamp) -> Timestamp {
        let next = self.last_event_at.checked_add(SignedDuration::from_micros(1));
        now.max(next.unwrap_or(self.last_event_at))
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

    /// The step under the cursor is the point of no return, and nothing of it can have happened: the last moment to stand back.
    #[must_use]
    pub fn is_before_pivot(&self) -> bool {
        self.path == Path::Forward && !self.is_past_pivot() && self.step().is_some() && self.step() == pivot(&self.plan)
    }

    /// A person's cancel would follow.
    #[must_use]
    pub fn may_be_cancelled(&self) -> bool {
        self.path == Path::Forward && !self.is_past_pivot()
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

    /// The new secret stood at every destination, read back.
    #[must_use]
    pub fn was_delivered(&self) -> bool {
        self.delivered
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

    /// When this run saw logins of this credential refused: when it was tried, and twice in each round of its proof, with the random one.
    pub fn refused_at(&self, credential: CredentialId) -> impl Iterator<Item = Timestamp> {
        let tried = self.refused.iter().filter(move |(of, _)| *of == credential);
        let rounds = self.progress(credential).map(|progress| progress.rounds.as_slice());
        let in_rounds = rounds
            .into_iter()
            .flatten()
            .flat_map(|round| [round.began_at, round.began_at]);
        tried.map(|(_, at)| *at).chain(in_rounds)
    }

    /// Where and when this run saw exactly these bytes accepted, also behind a revocation that did not take.
    #[must_use]
    pub fn life_of(&self, credential: CredentialId, secret: SecretId) -> BTreeMap<String, Timestamp> {
        let old = self.plan.old.iter().map(|old| (old.id, old.secret));
        let new = self.plan.new.iter().map(|new| (new.id, Some(new.secret)));
        let is_known = old.chain(new).any(|known| known == (credential, Some(secret)));
        let Some(progress) = self.progress.get(&credential).filter(|_| is_known) else {
            return BTreeMap::new();
        };
        let mut life = progress.baseline.clone();
        for round in progress.rounds.iter().filter(|round| round.old.is_accepted()) {
            life.entry(round.vantage.clone()).or_insert(round.ended_at);
        }
        life
    }

    /// Steps that a person declared done, in order.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// What this run revoked, each with the instant of it.
    pub fn revocations(&self) -> impl Iterator<Item = (CredentialId, Timestamp)> {
        self.progress
            .iter()
            .filter_map(|(credential, progress)| Some((*credential, progress.revoked_at?)))
    }

    /// The proof of a death that the log says is proven, judged from what the log shows.
    #[must_use]
    pub fn proof_of(&self, credential: CredentialId) -> Option<Box<Proof>> {
        let Death::Proven { proven_at } = self.deaths.get(&credential)? else {
            return None;
        };
        match judge(&self.plan.proof, self.progress(credential)?, *proven_at) {
            Standing::Proven(proof) => Some(proof),
            _ => None,
        }
    }

    #[must_use]
    pub fn deaths(&self) -> &BTreeMap<CredentialId, Death> {
        &self.deaths
    }
}
