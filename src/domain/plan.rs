//! A plan: what somebody wants changed, written down exactly, so that another person can sign its digest. A plan that differs in one byte is
//! another plan, and unapproved (P6).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::ids::{CredentialId, IdentityId, PersonId, PlanId, ResourceId, RunId, SecretId};
use super::resource::{IdentitySpec, Kind, Spec};

/// What is stored, signed and carried out. The digest is taken over its JSON as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub id: PlanId,
    pub requester: PersonId,
    pub requester_name: String,
    pub reason: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub changes: Vec<Change>,
    pub actions: Vec<Action>,
    /// What will happen downstream, one sentence each, for the person who approves.
    pub consequences: Vec<String>,
    /// What the approver is to look at twice: privileged access, a gap, consumers that will break.
    pub warnings: Vec<String>,
    /// People other than the requester who must sign.
    pub approvals_needed: u32,
}

impl Plan {
    /// The bytes that are stored and hashed.
    ///
    /// # Errors
    /// When a target holds what JSON cannot (it cannot, once it was read from a manifest).
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    #[must_use]
    pub fn digest_of(bytes: &[u8]) -> Digest {
        let mut labelled = b"keyfall-plan/v1\n".to_vec();
        labelled.extend_from_slice(bytes);
        Digest::of(&labelled)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.actions.is_empty()
    }
}

/// One resource or identity that becomes another. What stays as it is is not in a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub kind: Kind,
    pub name: String,
    /// The version that was planned on; 0 when it did not exist. Another version at the time of applying makes the plan stale.
    pub from_version: u32,
    pub target: ChangeTarget,
    /// Labels choose the policy, so whoever approves sees those that go as well.
    #[serde(default)]
    pub labels_before: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub before: Option<Spec>,
    pub after: Spec,
    /// Keyfall's own control identity of a system, made together with the system.
    #[serde(default)]
    pub is_control: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeTarget {
    Resource(ResourceId),
    Identity(IdentityId),
}

/// Something to be done besides changing what is registered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    Provision {
        identity: IdentityId,
        name: String,
    },
    /// Outside of the standing approval: with an exception, or before the policy's time where it asks for approval.
    Rotate {
        identity: IdentityId,
        name: String,
        exception: Option<String>,
    },
    /// Break-glass: consumers are not waited for. They are named.
    EmergencyRotate {
        identity: IdentityId,
        name: String,
        reason: String,
        breaks: Vec<String>,
        /// The rotation that was under way already, and becomes the emergency. `None`: one is opened.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<RunId>,
    },
    Revoke {
        identity: IdentityId,
        name: String,
        credential: CredentialId,
    },
    Decommission {
        identity: IdentityId,
        name: String,
    },
    /// Registers an account that was found, read-only.
    Adopt {
        identity: IdentityId,
        name: String,
        account: String,
    },
    /// Makes a found account's credential ours. Its secret was sealed when the plan was made.
    TakeOver {
        identity: IdentityId,
        name: String,
        account: String,
        secret: Option<SecretId>,
    },
    Enrol {
        person: PersonId,
        name: String,
        roles: Vec<String>,
        public_key: Option<String>,
        /// SHA-256 of a bearer token that the person made on the person's own machine: nobody else ever holds it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token_digest: Option<Digest>,
    },
    Retire {
        person: PersonId,
        name: String,
    },
    /// Ends exactly the freeze that was looked at: `setting` is its stored form.
    Unfreeze {
        frozen_because: String,
        setting: String,
    },
    /// Arms exactly the breaker that was looked at, with room for the `due` identities that it opened on.
    RearmBreaker {
        opened_because: String,
        due: u32,
        setting: String,
    },
}

impl Action {
    /// Whom it is done to; `None` for what is done to people or to the whole installation.
    #[must_use]
    pub fn identity(&self) -> Option<IdentityId> {
        match self {
            Self::Provision { identity, .. }
            | Self::Rotate { identity, .. }
            | Self::EmergencyRotate { identity, .. }
            | Self::Revoke { identity, .. }
            | Self::Decommission { identity, .. }
            | Self::Adopt { identity, .. }
            | Self::TakeOver { identity, .. } => Some(*identity),
            Self::Enrol { .. } | Self::Retire { .. } | Self::Unfreeze { .. } | Self::RearmBreaker { .. } => None,
        }
    }

    /// In the words of the command that asks for it.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Provision { .. } => "provision",
            Self::Rotate { .. } => "rotate",
            Self::EmergencyRotate { .. } => "rotate --emergency",
            Self::Revoke { .. } => "revoke",
            Self::Decommission { .. } => "decommission",
            Self::Adopt { .. } => "adopt",
            Self::TakeOver { .. } => "adopt --take-over",
            Self::Enrol { .. } => "enrol",
            Self::Retire { .. } => "retire",
            Self::Unfreeze { .. } => "unfreeze",
            Self::RearmBreaker { .. } => "re-arm breaker",
        }
    }
}

/// One manifest as it was read: typed, and not yet compared with anything.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub spec: Spec,
    /// `file:line`, for errors.
    pub origin: String,
}

impl Manifest {
    #[must_use]
    pub fn identity(&self) -> Option<&IdentitySpec> {
        match &self.spec {
            Spec::Identity(spec) => Some(spec),
            _ => None,
        }
    }
}
