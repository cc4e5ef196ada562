//! What a run is to do, pinned when it opens: the approved bounds, the targets by immutable id, the windows. A step reads nothing else, so
//! a manifest that changes meanwhile changes nothing in a run that was approved.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{KeyId, Placement, PrincipalRef, Strategy};
use serde::{Deserialize, Serialize};

use super::super::actor::{Actor, Approval};
use super::super::digest::Digest;
use super::super::due::DueReason;
use super::super::identity::IdentityState;
use super::super::ids::{CredentialId, IdentityId, ResourceId, RunId, SecretId};
use super::super::proof::ProofTerms;
use super::super::resource::SeenBy;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    Provision,
    Rotate,
    EmergencyRotate,
    Revoke,
    Decommission,
    /// Read-only: an account that was found is registered as it is.
    Adopt,
    /// Under approval, a foreign credential becomes ours: its key id is recorded and its secret proven.
    TakeOver,
}

impl RunKind {
    pub const ALL: [Self; 7] = [
        Self::Provision,
        Self::Rotate,
        Self::EmergencyRotate,
        Self::Revoke,
        Self::Decommission,
        Self::Adopt,
        Self::TakeOver,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Rotate => "rotate",
            Self::EmergencyRotate => "emergency_rotate",
            Self::Revoke => "revoke",
            Self::Decommission => "decommission",
            Self::Adopt => "adopt",
            Self::TakeOver => "take_over",
        }
    }
}

/// What set a run off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    Schedule,
    Request,
    Apply,
    BreakGlass,
}

impl Trigger {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Request => "request",
            Self::Apply => "apply",
            Self::BreakGlass => "break_glass",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunPlan {
    pub run: RunId,
    /// Which list of steps; a run finishes on the one that it began with.
    pub workflow_version: u32,
    pub kind: RunKind,
    pub identity: IdentityId,
    pub identity_name: String,
    /// The identity's state when this was planned; a decommission that is taken back leaves it there. `None`: it was active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IdentityState>,
    pub owner: String,
    pub environment: String,
    pub system: ResourceId,
    pub system_name: String,
    pub connector: String,
    /// Over `SystemManifest::reach`. A secret sealed under another digest is not sent (P11).
    pub endpoint_digest: Digest,
    pub trigger: Trigger,
    pub reason: DueReason,
    /// When it was due, for a scheduled run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    pub initiator: Actor,
    pub approval: Approval,
    /// The policy whose rules this plan was made under, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    pub strategy: Strategy,
    pub access: serde_json::Value,
    pub new: Option<NewCredential>,
    /// The credentials that this run ends: the current one for a rotation, all that may be live for a decommission.
    pub old: Vec<OldCredential>,
    /// Every account that the identity is known to have had, for a decommission to delete: also those without a live credential.
    pub accounts: Vec<PrincipalRef>,
    pub deliveries: Vec<DeliveryPlan>,
    pub consumers: Vec<ConsumerPlan>,
    pub timing: Timing,
    pub proof: ProofTerms,
    /// A written human override: consumers that are not waited for, with the reason (break-glass names those that will break).
    pub exception: Option<String>,
}

impl RunPlan {
    /// Who asked for this run and signed what allows it, which nobody may do alone (P6); with `init --solo` it is allowed and told.
    #[must_use]
    pub fn approved_by_who_asked(&self) -> Option<&str> {
        let Actor::Person { id, .. } = &self.initiator else {
            return None;
        };
        let mut approvers = self.approval.approvers.iter().filter(|_| !self.approval.solo);
        approvers.find(|one| one.person == *id).map(|one| one.name.as_str())
    }

    /// Until when the first thing may be taken away; `None` for a standing approval, which holds until its policy changes. The signatures set
    /// the hour, and the overlap that the run waits by its own plan comes on top: it was approved with it.
    #[must_use]
    pub fn approval_ends_at(&self) -> Option<Timestamp> {
        if self.approval.standing {
            return None;
        }
        let signed_until = self.approval.signed_until()?;
        Some(
            signed_until
                .saturating_add(self.timing.overlap)
                .unwrap_or(Timestamp::MAX),
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewCredential {
    pub id: CredentialId,
    pub secret: SecretId,
    pub principal: PrincipalRef,
    pub placement: Placement,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldCredential {
    pub id: CredentialId,
    /// `None`: its death is at best `unprovable`.
    pub secret: Option<SecretId>,
    pub principal: PrincipalRef,
    pub key_id: Option<KeyId>,
    /// Intended by an earlier run and perhaps never live.
    pub issued: bool,
    /// An earlier run asked for its end and could not prove it: its secret has a deadline, which waits while this run needs it.
    #[serde(default)]
    pub ended_before: bool,
    /// Where and when an earlier run saw these very bytes accepted, at the endpoints of this plan. A life that lies before the revocation
    /// need not be lived again, and a credential that was cut off by hand could not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accepted: BTreeMap<String, Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliveryPlan {
    pub destination: ResourceId,
    pub destination_name: String,
    pub connector: String,
    /// The destination's defaults with the identity's target over them.
    pub target: serde_json::Value,
    /// What templates may use besides the secret and the user name.
    pub fields: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerPlan {
    pub name: String,
    pub seen_by: SeenBy,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    pub overlap: SignedDuration,
    pub uptake_interval: SignedDuration,
    pub uptake_timeout: SignedDuration,
    pub listen: SignedDuration,
    pub keep_dead_secret: SignedDuration,
    /// Proven dead by then, or the objective is missed.
    pub objective: SignedDuration,
    pub opened_at: Timestamp,
}
