//! What a receipt says. Its JSON is signed and hashed as the bytes that were written, so nobody ever has to write it again in the same way.

use jiff::Timestamp;
use keyfall_sdk::{PrincipalRef, SessionsEnded};
use serde::{Deserialize, Serialize};

use super::rule::refusals_hold;
use crate::domain::actor::{Actor, Approval};
use crate::domain::digest::Digest;
use crate::domain::ids::{CredentialId, IdentityId, ReceiptId, ResourceId, RunId};
use crate::domain::proof::{ControlPlane, Grade, ProofProgress, ProofTerms, Round};
use crate::domain::workflow::{End, Outcome, RunKind, Step, Trigger};
use crate::evidence::record::ExceptionCause;

/// The one version there is. A change of meaning is another version beside it.
pub const FORMAT: &str = "keyfall-receipt/v1";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptBody {
    /// [`FORMAT`].
    pub format: String,
    pub id: ReceiptId,
    pub run: RunFacts,
    pub identity: IdentityFacts,
    pub system: SystemFacts,
    /// With the signatures themselves, so that they can be verified here.
    pub approval: Approval,
    pub exceptions: Vec<ExceptionFacts>,
    /// The steps that a person declared done, in order: what they were to do was done by hand, or not at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_hand: Vec<DeclaredDone>,
    /// Every credential that the run ended or tried to end.
    pub credentials: Vec<CredentialEvidence>,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFacts {
    pub id: RunId,
    pub kind: RunKind,
    pub trigger: Trigger,
    pub initiator: Actor,
    pub opened_at: Timestamp,
    pub closed_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityFacts {
    pub id: IdentityId,
    pub name: String,
    pub owner: String,
    pub environment: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemFacts {
    pub id: ResourceId,
    pub name: String,
    pub connector: String,
    pub endpoint_digest: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExceptionFacts {
    pub cause: ExceptionCause,
    pub note: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredDone {
    pub step: Step,
    pub by: Actor,
    pub reason: String,
}

/// The end of one credential.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialEvidence {
    pub id: CredentialId,
    /// Its immutable id downstream.
    pub key_id: Option<String>,
    pub principal: PrincipalRef,
    pub end: CredentialEnd,
    pub revoked_at: Option<Timestamp>,
    /// What had to hold, with the settling window and where it comes from.
    pub terms: ProofTerms,
    /// One for each vantage of the terms.
    pub vantages: Vec<VantageEvidence>,
    pub sessions: Option<SessionsEnded>,
    /// When the sealed secret is destroyed; `None` when none was ever kept.
    pub secret_destroyed_by: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case", deny_unknown_fields)]
pub enum CredentialEnd {
    Dead {
        proven_at: Timestamp,
    },
    /// Counts as not dead.
    Unprovable {
        best: Option<Grade>,
        why: String,
    },
    AliveAfterRevoke {
        since: Timestamp,
    },
    /// Intended and never issued downstream. Not a death, and not reported as one.
    NeverLive {
        why: String,
    },
}

impl CredentialEnd {
    pub(super) fn end(&self) -> End {
        match self {
            Self::Dead { .. } | Self::NeverLive { .. } => End::Over,
            Self::Unprovable { .. } => End::Unprovable,
            Self::AliveAfterRevoke { .. } => End::Alive,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VantageEvidence {
    pub vantage: String,
    pub grade: Option<Grade>,
    /// When these very bytes were last accepted here before the revocation.
    pub baseline_accepted_at: Option<Timestamp>,
    /// In the order in which they were made.
    pub rounds: Vec<Round>,
}

impl ReceiptBody {
    /// The bytes that are signed, hashed into the closing record and kept. Made once; never made again from the parsed value.
    ///
    /// # Errors
    /// When a value cannot be written as JSON, which none of these can be.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// What the closing record holds as `receipt_digest`: the SHA-256 of the body's bytes.
    #[must_use]
    pub fn digest_of(bytes: &[u8]) -> Digest {
        Digest::of(bytes)
    }
}

/// Sorts what was seen by vantage and grades it: E1 where the refusals hold, E3 where only the control plane shows the credential gone.
#[must_use]
pub fn vantage_evidence(terms: &ProofTerms, progress: &ProofProgress) -> Vec<VantageEvidence> {
    let gone = |round: &&Round| {
        !matches!(
            round.control_plane,
            ControlPlane::CredentialStillThere | ControlPlane::Unread { .. }
        )
    };
    let of_vantage = |name: &String| {
        let rounds: Vec<_> = progress
            .rounds
            .iter()
            .filter(|round| round.vantage == *name)
            .cloned()
            .collect();
        let mut evidence = VantageEvidence {
            vantage: name.clone(),
            grade: rounds.last().filter(gone).map(|_| Grade::E3),
            baseline_accepted_at: progress.baseline.get(name).copied(),
            rounds,
        };
        if progress
            .revoked_at
            .is_some_and(|at| refusals_hold(terms, at, &evidence).is_ok())
        {
            evidence.grade = Some(Grade::E1);
        }
        evidence
    };
    terms.vantages.iter().map(of_vantage).collect()
}
