//! Who did something, and who allowed it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::ids::{PersonId, PlanId};

/// Who asked for something or did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "actor", rename_all = "snake_case")]
pub enum Actor {
    Person {
        id: PersonId,
        name: String,
    },
    /// The engine, on a schedule or while finishing what was begun.
    Engine,
}

impl Actor {
    /// For tables and audit records.
    #[must_use]
    pub fn label(&self) -> &str {
        match self {
            Self::Person { name, .. } => name,
            Self::Engine => "keyfall",
        }
    }

    #[must_use]
    pub fn person(&self) -> Option<PersonId> {
        match self {
            Self::Person { id, .. } => Some(*id),
            Self::Engine => None,
        }
    }
}

/// What allows a run. The digest is the one that a person signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct Approval {
    pub plan: PlanId,
    pub plan_digest: Digest,
    /// Who asked for the plan; none of those who signed, unless `solo`.
    pub requester: PersonId,
    pub approvers: Vec<Approver>,
    /// The approved plan is a policy (or an identity under one), and this run stays inside its bounds.
    pub standing: bool,
    /// `init --solo`: requester and approver may be one person. Named in every receipt.
    pub solo: bool,
}

impl Approval {
    /// When the first signature runs out.
    #[must_use]
    pub fn signed_until(&self) -> Option<Timestamp> {
        let first = self.approvers.iter().map(|one| one.expires_at_micros).min()?;
        // What no timestamp can hold lies behind every run.
        Timestamp::from_microsecond(first).ok()
    }
}

/// One person's signature over the plan's digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approver {
    pub person: PersonId,
    pub name: String,
    /// The public half, in the verifier-key form of the signed-note format.
    pub public_key: String,
    /// Microseconds since the Unix epoch, UTC.
    pub expires_at_micros: i64,
    /// Base64 of the Ed25519 signature over the approval statement.
    pub signature: String,
}
