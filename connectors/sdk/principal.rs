//! Accounts downstream, and the credentials that live on them, as the system itself shows them.

use serde::{Deserialize, Serialize};

/// The immutable id of one credential downstream, as the system or its stored form gives it: never the secret, never
/// anything from which it could be guessed. Revocation goes by this id and by nothing else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub String);

/// An account downstream: by the name that logs in and, once known, by an id that is never reused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrincipalRef {
    pub name: String,
    /// The id that survives a rename and is not given to a successor of the same name (a role's OID). `None` before creation.
    pub immutable_id: Option<String>,
}

/// Whether an account may log in at all, whatever secret is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalStatus {
    Enabled,
    Disabled,
    Locked,
    Expired,
}

impl PrincipalStatus {
    /// As tables and JSON write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Locked => "locked",
            Self::Expired => "expired",
        }
    }
}

/// One account as one place shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrincipalState {
    pub name: String,
    pub immutable_id: String,
    pub status: PrincipalStatus,
    /// Credentials that the account holds, sorted. Empty when it holds none.
    pub key_ids: Vec<KeyId>,
    /// What the account may do, one line each, sorted, in the system's own words.
    pub grants: Vec<String>,
    /// Microseconds since the Unix epoch, UTC; `None` when the account does not expire by itself.
    pub expires_at: Option<i64>,
    /// Open sessions, where the system can tell.
    pub sessions: Option<u32>,
    /// The account has more power than an application account should (superuser, all commands).
    pub privileged: bool,
}

/// One account as every control point shows it: one entry for a system whose control plane is replicated, one entry a node
/// where nodes keep accounts of their own. `state` is `None` where the account does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrincipalReading {
    pub places: Vec<PlaceReading>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceReading {
    /// The name of the vantage whose control plane was read.
    pub vantage: String,
    pub state: Option<PrincipalState>,
}

impl PrincipalReading {
    /// The account is absent at every place that was read.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        !self.places.is_empty() && self.places.iter().all(|place| place.state.is_none())
    }

    /// Some place still shows this credential on the account.
    #[must_use]
    pub fn shows_key(&self, key_id: &KeyId) -> bool {
        self.states().any(|state| state.key_ids.contains(key_id))
    }

    /// The states of the places where the account exists.
    pub fn states(&self) -> impl Iterator<Item = &PrincipalState> {
        self.places.iter().filter_map(|place| place.state.as_ref())
    }
}
