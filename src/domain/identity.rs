//! Identities and their credentials: the states of their lives (`README.md`), and which may follow which. A transition that is not listed is a typed error.

use std::collections::BTreeMap;

use jiff::Timestamp;
use keyfall_sdk::{KeyId, PrincipalRef};
use serde::{Deserialize, Serialize};

use super::actor::Approval;
use super::due::DueReason;
use super::ids::{CredentialId, IdentityId, SecretId};
use super::proof::{Grade, Proof};
use super::resource::IdentitySpec;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityState {
    Discovered,
    Requested,
    Active,
    Quarantined,
    Decommissioning,
    Decommissioned,
}

/// What a change of state asked for, when the life does not allow it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an identity cannot go from {} to {}", from.name(), to.name())]
pub struct IllegalIdentityState {
    pub from: IdentityState,
    pub to: IdentityState,
}

impl IdentityState {
    /// # Errors
    /// When the life has no such edge.
    pub fn to(self, to: Self) -> Result<Self, IllegalIdentityState> {
        use IdentityState::{Active, Decommissioned, Decommissioning, Discovered, Quarantined, Requested};
        match (self, to) {
            (from, to) if from == to => Ok(to),
            (Discovered, Requested | Active | Decommissioning)
            | (Requested, Active | Decommissioned)
            // Its provisioning was taken back.
            | (Active, Requested | Quarantined | Decommissioning)
            | (Quarantined, Active | Decommissioning)
            | (Decommissioning, Decommissioned | Quarantined | Active) => Ok(to),
            (from, to) => Err(IllegalIdentityState { from, to }),
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Discovered => "discovered",
            Self::Requested => "requested",
            Self::Active => "active",
            Self::Quarantined => "quarantined",
            Self::Decommissioning => "decommissioning",
            Self::Decommissioned => "decommissioned",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    pub id: IdentityId,
    pub name: String,
    pub version: u32,
    pub labels: BTreeMap<String, String>,
    pub spec: IdentitySpec,
    pub state: IdentityState,
    /// The one pointer to the credential that consumers are to use.
    pub current: Option<CredentialId>,
    pub due: Option<(Timestamp, DueReason)>,
    /// Keyfall's own control identity of a system: powerless, needed as the positive control.
    pub is_control: bool,
    /// What allowed this version of the spec.
    pub approved: Option<Approval>,
    pub created_at: Timestamp,
}

/// One version of a secret of an identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Credential {
    pub id: CredentialId,
    pub identity: IdentityId,
    pub principal: PrincipalRef,
    /// `None` until the system has answered.
    pub key_id: Option<KeyId>,
    /// `None` for a foreign credential whose secret was never read, and after its destruction.
    pub secret: Option<SecretId>,
    pub state: CredentialState,
    pub created_at: Timestamp,
    /// When it was first accepted downstream.
    pub proven_at: Option<Timestamp>,
    /// The end of its own validity downstream (PostgreSQL: `VALID UNTIL`), as last read; `None` when none was seen.
    pub expires_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum CredentialState {
    Intended,
    Issued,
    Active,
    Superseded {
        successor: CredentialId,
        overlap_ends: Timestamp,
    },
    Revoking,
    Revoked {
        settling_until: Timestamp,
    },
    Dead {
        proof: Box<Proof>,
    },
    AliveAfterRevoke {
        since: Timestamp,
    },
    Unprovable {
        best: Option<Grade>,
        why: String,
    },
    /// Intended, and shown by reading downstream never to have taken effect: nothing to kill.
    NeverIssued,
    /// Minted but unreadable: must be destroyed downstream.
    Lost,
    /// Found downstream, not ours.
    Foreign,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a credential cannot go from {from} to {to}")]
pub struct IllegalCredentialState {
    pub from: &'static str,
    pub to: &'static str,
}

impl CredentialState {
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Issued => "issued",
            Self::Active => "active",
            Self::Superseded { .. } => "superseded",
            Self::Revoking => "revoking",
            Self::Revoked { .. } => "revoked",
            Self::Dead { .. } => "dead",
            Self::AliveAfterRevoke { .. } => "alive_after_revoke",
            Self::Unprovable { .. } => "unprovable",
            Self::NeverIssued => "never_issued",
            Self::Lost => "lost",
            Self::Foreign => "foreign",
        }
    }

    /// # Errors
    /// When the life has no such edge.
    pub fn to(&self, to: Self) -> Result<Self, IllegalCredentialState> {
        let allowed = matches!(
            (self, &to),
            (Self::Intended, Self::Issued | Self::NeverIssued | Self::Revoking)
                | (Self::Issued, Self::Active | Self::Lost | Self::Revoking)
                | (Self::Active, Self::Superseded { .. } | Self::Revoking)
                | (Self::Superseded { .. }, Self::Revoking | Self::Active)
                | (Self::Foreign, Self::Active | Self::Superseded { .. } | Self::Revoking)
                | (
                    Self::Lost | Self::AliveAfterRevoke { .. } | Self::Unprovable { .. },
                    Self::Revoking
                )
                | (Self::Revoking, Self::Revoked { .. } | Self::NeverIssued)
                | (
                    Self::Revoked { .. },
                    Self::Dead { .. } | Self::AliveAfterRevoke { .. } | Self::Unprovable { .. } | Self::Revoking
                )
                | (Self::Dead { .. }, Self::AliveAfterRevoke { .. })
        );
        if allowed {
            Ok(to)
        } else {
            Err(IllegalCredentialState {
                from: self.name(),
                to: to.name(),
            })
        }
    }

    /// The system may still accept it. Unknown counts as live.
    #[must_use]
    pub fn may_be_live(&self) -> bool {
        !matches!(self, Self::Dead { .. } | Self::NeverIssued)
    }
}
