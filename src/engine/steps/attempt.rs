//! One attempt at one step: what it was given, what it has seen so far, and the ways in which it can end.

use std::error::Error;

use jiff::Timestamp;
use keyfall_sdk::{CallContext, ConnectorError, ErrorKind, SecretValue};

use super::super::controls::ControlCredential;
use super::super::guard::GuardedConnector;
use super::super::lease::Hold;
use super::super::report::{StepEnd, StepReport};
use super::super::secrets::SecretError;
use super::super::systems::SystemError;
use super::Steps;
use super::{
    baseline, delete, deliver, disable_idle, issue, listen, precheck, promote, prove_dead, prove_new, quarantine,
    read_back, record, revoke, sessions, strip, unwind, uptake, withdraw,
};
use crate::domain::ids::{CredentialId, SecretId};
use crate::domain::proof::Round;
use crate::domain::workflow::{
    DeliveryPlan, NewCredential, Observation, Run, RunPlan, Step, StepError, StepOutput, StuckBecause,
};

/// Steps end early with `?`: every end but *done* is on the error side.
pub(super) type Ended<T> = Result<T, StepEnd>;

pub(super) struct Attempt<'a> {
    pub(super) steps: &'a Steps,
    pub(super) run: &'a Run,
    pub(super) step: Step,
    /// Counts from 1.
    pub(super) number: u32,
    pub(super) observe_first: bool,
    pub(super) hold: Hold,
    seen: Vec<Observation>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        steps: &'a Steps,
        run: &'a Run,
        step: Step,
        number: u32,
        observe_first: bool,
        hold: Hold,
    ) -> Self {
        Self {
            steps,
            run,
            step,
            number,
            observe_first,
            hold,
            seen: Vec::new(),
        }
    }

    pub(super) async fn carry_out(&mut self) -> Ended<StepOutput> {
        match self.step {
            Step::Precheck => precheck::precheck(self).await,
            Step::Baseline => baseline::baseline(self).await,
            Step::IssueNew => issue::issue_new(self).await,
            Step::ProveNew => prove_new::prove_new(self).await,
            Step::Deliver => deliver::deliver_new(self).await,
            Step::AwaitUptake => uptake::await_uptake(self).await,
            Step::Promote | Step::Tombstone => Ok(StepOutput::Nothing),
            Step::AwaitOverlap => promote::await_overlap(self),
            Step::Quarantine => quarantine::quarantine(self).await,
            Step::Listen => listen::listen(self).await,
            Step::StripGrants => strip::strip_grants(self).await,
            Step::RevokeOld => revoke::revoke_old(self).await,
            Step::EndSessions => sessions::end_sessions(self).await,
            Step::DeleteAccount => delete::delete_accounts(self).await,
            Step::ProveDead => prove_dead::prove_dead(self).await,
            Step::DisableIdle => disable_idle::disable_idle(self).await,
            Step::Withdraw => withdraw::withdraw(self).await,
            Step::ReadBack => read_back::read_back(self).await,
            Step::Record => record::record(self).await,
            Step::RestoreDelivery => deliver::restore_delivery(self).await,
            Step::AwaitReturn => uptake::await_return(self).await,
            Step::RevokeNew => unwind::revoke_new(self).await,
            Step::EndNewSessions => sessions::end_new_sessions(self).await,
            Step::ProveNewDead => prove_dead::prove_new_dead(self).await,
            Step::DeleteNewAccount => unwind::delete_new_account(self).await,
            Step::LiftQuarantine => quarantine::lift(self).await,
        }
    }

    pub(super) fn report(self, end: Ended<StepOutput>) -> StepReport {
        StepReport {
            observations: self.seen,
            end: match end {
                Ok(output) => StepEnd::Done(output),
                Err(end) => end,
            },
        }
    }

    pub(super) fn plan(&self) -> &'a RunPlan {
        self.run.plan()
    }

    /// Never before what the log tells already, whichever node told it.
    pub(super) fn now(&self) -> Timestamp {
        self.steps.env.now().max(self.run.last_event_at())
    }

    /// When this step was first worked on; now, when this is the first time.
    pub(super) fn began_at(&self) -> Timestamp {
        self.run.step_began_at().unwrap_or_else(|| self.now())
    }

    pub(super) fn see(&mut self, observation: Observation) {
        self.seen.push(observation);
    }

    /// Rounds of this attempt, which no record holds yet.
    pub(super) fn rounds_seen(&self, credential: CredentialId) -> impl Iterator<Item = &Round> {
        self.seen.iter().filter_map(move |seen| seen.round_of(credential))
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.seen.push(Observation::Note { text: text.into() });
    }

    /// `about` names what the call acts on, so that two effects of one step have two keys, and the same effect always the same.
    pub(super) fn ctx(&self, about: &str) -> CallContext {
        let run = self.run.id().to_string();
        CallContext {
            idempotency_key: format!("{run}/{}/{about}", self.step.name()),
            run,
            step: self.step.name().to_owned(),
            attempt: self.number,
            time_left: self.steps.settings.call_time,
        }
    }

    pub(super) async fn system(&self) -> Ended<GuardedConnector> {
        let plan = self.plan();
        let found = self
            .steps
            .systems
            .approved(&plan.system_name, plan.endpoint_digest)
            .await;
        let found = found.map_err(|error| self.no_system(&error))?;
        Ok(found.under(self.hold.clone()))
    }

    pub(super) fn destination(&self, delivery: &DeliveryPlan) -> Ended<GuardedConnector> {
        let found = self
            .steps
            .systems
            .destination(&delivery.destination_name, &delivery.connector);
        let found = found.map_err(|error| self.no_system(&error))?;
        Ok(found.under(self.hold.clone()))
    }

    /// A secret without bytes is never handed on: it would blank its consumers, and an empty password is no refusal.
    pub(super) async fn secret(&self, id: SecretId) -> Ended<SecretValue> {
        let opened = self.open(id).await;
        let secret = opened.map_err(|error| self.no_secret(&error))?;
        if secret.is_empty() {
            return Err(self.ask_because(
                StuckBecause::Data,
                format!("the stored secret {id} is empty"),
                &self.or_cancel("restore the store from a backup", "and rotate the identity"),
            ));
        }
        Ok(secret)
    }

    /// The secret of what this run minted. Where its bytes are gone nobody could ever use it, so it is taken back and destroyed downstream.
    pub(super) async fn minted_secret(&mut self, new: &NewCredential) -> Ended<SecretValue> {
        if let Some(secret) = self.secret_if_kept(new.secret).await? {
            return Ok(secret);
        }
        self.see(Observation::SecretLost { credential: new.id });
        Err(fail(
            ErrorKind::Conflict,
            format!("the secret of {} does not exist any more", new.id),
        ))
    }

    /// `None` when its bytes do not exist any more.
    pub(super) async fn secret_if_kept(&self, id: SecretId) -> Ended<Option<SecretValue>> {
        match self.open(id).await {
            Ok(secret) => Ok(Some(secret).filter(|secret| !secret.is_empty())),
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(self.no_secret(&error)),
        }
    }

    /// The credential of Keyfall's own that is alive on the run's system at this moment.
    pub(super) async fn live_control(&self) -> Ended<Option<ControlCredential>> {
        let found = self.steps.controls.live(&self.plan().system_name).await;
        found.map_err(|error| fail(ErrorKind::Transient, chain(&error)))
    }

    async fn open(&self, id: SecretId) -> Result<SecretValue, SecretError> {
        let run = self.run.id();
        if let Some(secret) = self.steps.opened.get(run, id) {
            return Ok(secret);
        }
        let secret = self.steps.secrets.open(id, self.plan().endpoint_digest).await?;
        self.steps.opened.keep(run, id, secret.clone());
        Ok(secret)
    }

    fn no_secret(&self, error: &SecretError) -> StepEnd {
        match error {
            SecretError::Read(_) => fail(ErrorKind::Transient, chain(error)),
            _ => self.ask_because(
                StuckBecause::Data,
                chain(error),
                &self.or_cancel("bring the secret back", "and plan anew"),
            ),
        }
    }

    fn no_system(&self, error: &SystemError) -> StepEnd {
        match error {
            SystemError::Read { .. }
            | SystemError::Admin {
                source: SecretError::Read(_),
                ..
            } => fail(ErrorKind::Transient, chain(error)),
            SystemError::Connect { source, .. } if source.kind().is_retryable() => fail(source.kind(), chain(error)),
            SystemError::Unknown(_) => self.ask_because(
                StuckBecause::Data,
                chain(error),
                &self.or_cancel("apply its manifest", "and plan anew"),
            ),
            SystemError::OtherEndpoints { .. } => self.ask_because(
                StuckBecause::Approval,
                chain(error),
                &self.or_cancel("put the approved manifest back", "and plan anew"),
            ),
            _ => self.ask_because(StuckBecause::Data, chain(error), "put right what it names"),
        }
    }

    /// Hands over to a person, who reads what to do and how the run goes on afterwards.
    pub(super) fn ask(&self, reason: impl Into<String>, manual_step: &str) -> StepEnd {
        let because = match self.step {
            Step::AwaitUptake | Step::AwaitReturn => StuckBecause::Consumer,
            _ => StuckBecause::Drift,
        };
        self.ask_because(because, reason, manual_step)
    }

    fn ask_because(&self, because: StuckBecause, reason: impl Into<String>, manual_step: &str) -> StepEnd {
        let run = self.run.id();
        StepEnd::AskOperator {
            reason: reason.into(),
            manual_step: format!("{manual_step}; then `keyfall retry {run} --reason …`"),
            because,
        }
    }

    /// What a person does, with cancelling as the other way where there still is one.
    pub(super) fn or_cancel(&self, remedy: &str, afterwards: &str) -> String {
        if self.run.may_be_cancelled() {
            let run = self.run.id();
            format!("either take this run back with `keyfall cancel {run} --reason …`, {afterwards}, or {remedy}")
        } else {
            remedy.to_owned()
        }
    }

    /// Hands over what only a person can do, and what asking again would not show.
    pub(super) fn ask_to_resume(&self, reason: impl Into<String>, manual_step: &str) -> StepEnd {
        let run = self.run.id();
        StepEnd::AskOperator {
            reason: reason.into(),
            manual_step: format!("{manual_step}; then `keyfall resume {run} --reason …`"),
            because: StuckBecause::Drift,
        }
    }

    /// Hands over what this run was given wrong: it must be taken back before the right thing can be asked for.
    pub(super) fn ask_to_cancel(&self, reason: impl Into<String>, manual_step: &str) -> StepEnd {
        let run = self.run.id();
        StepEnd::AskOperator {
            reason: reason.into(),
            manual_step: format!("take this run back with `keyfall cancel {run} --reason …`; then {manual_step}"),
            because: StuckBecause::Drift,
        }
    }

    /// A downstream state that somebody else made is handed to a person; everything else goes the way of its kind.
    pub(super) fn conflict_asks(&self, error: &ConnectorError, manual_step: &str) -> StepEnd {
        match error.kind() {
            ErrorKind::Conflict => self.ask(error.to_string(), manual_step),
            _ => failed(error),
        }
    }
}

impl From<ConnectorError> for StepEnd {
    fn from(error: ConnectorError) -> Self {
        failed(&error)
    }
}

pub(super) fn failed(error: &ConnectorError) -> StepEnd {
    StepEnd::Failed(error_of(error))
}

pub(super) fn error_of(error: &ConnectorError) -> StepError {
    StepError {
        kind: error.kind(),
        message: error.message().to_owned(),
        code: error.code().map(str::to_owned),
    }
}

pub(super) fn fail(kind: ErrorKind, message: impl Into<String>) -> StepEnd {
    StepEnd::Failed(StepError {
        kind,
        message: message.into(),
        code: None,
    })
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
