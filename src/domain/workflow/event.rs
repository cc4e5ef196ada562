//! The events of a run. They hold no secret: events name secrets by id.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyfall_sdk::{
    Confirmation, ErrorKind, Issued, KeyId, PrincipalReading, PrincipalRef, ProbeReading, Revoked, SessionsEnded,
};
use serde::{Deserialize, Serialize};

use super::super::actor::Actor;
use super::super::digest::Digest;
use super::super::ids::CredentialId;
use super::super::proof::{Grade, Round};
use super::decide::Then;
use super::hasten::Hastened;
use super::plan::RunPlan;
use super::steps::Step;

/// One line of a run's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts from 0 within the run, without gaps.
    pub seq: u32,
    pub at: Timestamp,
    /// The lease under which it was written.
    pub epoch: u64,
    pub body: EventBody,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventBody {
    Opened {
        plan: Box<RunPlan>,
    },
    /// Committed before the effect: what is about to be done, to what, by when an answer is expected.
    Started {
        step: Step,
        attempt: u32,
        deadline: Timestamp,
        intent: serde_json::Value,
    },
    /// The four events that end an attempt hold what the attempt saw, in the order in which it saw it: what was seen and how it ended are one
    /// fact, and none is stored without the other.
    Succeeded {
        step: Step,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        seen: Vec<Observation>,
        output: StepOutput,
    },
    Failed {
        step: Step,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        seen: Vec<Observation>,
        error: StepError,
        then: Then,
    },
    Waiting {
        step: Step,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        seen: Vec<Observation>,
        until: Timestamp,
        why: String,
    },
    /// From here the run takes back what it did.
    Unwinding {
        cause: String,
    },
    NeedsOperator {
        step: Step,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        seen: Vec<Observation>,
        reason: String,
        manual_step: String,
        #[serde(default)]
        because: StuckBecause,
    },
    /// A person sent the run on: tries the step again.
    Retried {
        by: Actor,
        reason: String,
    },
    /// A person states that the step's goal is reached by hand; the run goes on behind it.
    Resumed {
        by: Actor,
        reason: String,
    },
    CancelRequested {
        by: Actor,
        reason: String,
    },
    /// An approved emergency met this rotation under way: what it would still wait for before the revocation is not waited for.
    Hastened {
        hastened: Box<Hastened>,
    },
    Closed {
        outcome: Outcome,
        receipt_digest: Option<Digest>,
    },
}

impl EventBody {
    /// The step that the event is about; `None` for those about the run as a whole.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        match self {
            Self::Started { step, .. }
            | Self::Succeeded { step, .. }
            | Self::Failed { step, .. }
            | Self::Waiting { step, .. }
            | Self::NeedsOperator { step, .. } => Some(*step),
            _ => None,
        }
    }

    /// What the attempt that this event ends saw on its way.
    #[must_use]
    pub fn seen(&self) -> &[Observation] {
        match self {
            Self::Succeeded { seen, .. }
            | Self::Failed { seen, .. }
            | Self::Waiting { seen, .. }
            | Self::NeedsOperator { seen, .. } => seen,
            _ => &[],
        }
    }

    /// For tables and audit records.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "opened",
            Self::Started { .. } => "started",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Waiting { .. } => "waiting",
            Self::Unwinding { .. } => "unwinding",
            Self::NeedsOperator { .. } => "needs_operator",
            Self::Retried { .. } => "retried",
            Self::Resumed { .. } => "resumed",
            Self::CancelRequested { .. } => "cancel_requested",
            Self::Hastened { .. } => "hastened",
            Self::Closed { .. } => "closed",
        }
    }
}

/// Whose the reason is for which a person is asked; the audit log's closed list of causes has a word for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StuckBecause {
    /// The system failed in a way of this kind.
    System {
        kind: ErrorKind,
    },
    /// The world downstream is not as recorded, or this store is not the newest one.
    #[default]
    Drift,
    Consumer,
    /// The approval does not hold any more.
    Approval,
    /// Something that the step needs is not there: a secret, a connector, a setting.
    Data,
    /// A defect of Keyfall.
    Ourselves,
}

/// What a step leaves for the steps after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "output", rename_all = "snake_case")]
pub enum StepOutput {
    Nothing,
    Read {
        reading: PrincipalReading,
    },
    Issued {
        issued: Issued,
    },
    /// Reading downstream showed that the issue call never took effect.
    NeverIssued,
    Delivered {
        version: String,
        places: Vec<String>,
        confirmed: Confirmation,
    },
    Revoked {
        outcomes: BTreeMap<CredentialId, Revoked>,
    },
    SessionsEnded {
        ended: SessionsEnded,
    },
    Stripped {
        grants: Vec<String>,
    },
    Proofs {
        deaths: BTreeMap<CredentialId, Death>,
    },
    Adopted {
        reading: PrincipalReading,
        /// The key id that a credential is held under downstream, where that could be told.
        #[serde(default)]
        keys: BTreeMap<CredentialId, KeyId>,
    },
}

/// How the attempt to prove a death ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "death", rename_all = "snake_case")]
pub enum Death {
    /// The proof itself stands in the log already: the terms in the plan, the lives and the rounds in what attempts saw. It is judged anew from
    /// there, when the event is folded and whenever it is wanted ([`super::Run::proof_of`]), so that the log cannot claim a death that it does
    /// not show.
    Proven {
        proven_at: Timestamp,
    },
    Alive {
        since: Timestamp,
    },
    Unprovable {
        best: Option<Grade>,
        why: String,
    },
}

/// Something that an attempt saw on its way and that its end does not say. The event's time and step say when and what for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "observation", rename_all = "snake_case")]
pub enum Observation {
    /// The account as it was before the first change: the pre-image.
    Before {
        reading: PrincipalReading,
    },
    /// A credential was tried before its revocation.
    Tried {
        credential: CredentialId,
        vantage: String,
        reading: ProbeReading,
    },
    ProbeRound {
        credential: CredentialId,
        round: Round,
    },
    /// Looking downstream showed that an issue call without an answer had taken effect.
    IssueFound {
        issued: Issued,
    },
    /// Looking downstream, when no call could arrive any more, showed that those without an answer had no effect.
    IssueMissing,
    /// An issue call that got no answer shows no effect so far, and it is too early to believe that. The attempt that saw it did not call.
    IssueUnseen,
    /// The system refused an issue call where the new value takes the place of the only one: believed behind a look only.
    IssueRefused {
        error: StepError,
    },
    /// An issue call of this run left a credential beside the one that is recorded. It is taken away by this id.
    TwinFound {
        principal: PrincipalRef,
        key_id: KeyId,
    },
    /// The account does not show it any more.
    TwinGone {
        key_id: KeyId,
    },
    /// The bytes of a credential that was minted do not exist any more: it can only be destroyed downstream.
    SecretLost {
        credential: CredentialId,
    },
    ConsumerSeen {
        consumer: String,
    },
    ConsumerAwaited {
        consumer: String,
    },
    Note {
        text: String,
    },
}

impl Observation {
    /// The round, if it is one against this credential.
    #[must_use]
    pub fn round_of(&self, credential: CredentialId) -> Option<&Round> {
        match self {
            Self::ProbeRound { credential: of, round } if *of == credential => Some(round),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepError {
    pub kind: ErrorKind,
    pub message: String,
    pub code: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Everything planned holds downstream, and whatever was ended is proven dead.
    Completed,
    /// Taken back; what had been issued is proven dead or was never issued.
    Unwound { cause: String },
    /// All was done, but some death could not be proven: counts as not dead.
    Unprovable { best: Option<Grade>, why: String },
    /// The system went on accepting what was revoked.
    AliveAfterRevoke { since: Timestamp },
}

impl Outcome {
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Unwound { .. } => "unwound",
            Self::Unprovable { .. } => "unprovable",
            Self::AliveAfterRevoke { .. } => "alive_after_revoke",
        }
    }
}
