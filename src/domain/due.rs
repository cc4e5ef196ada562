//! When a credential is due, and why: a chain of pure rules over facts, the first of which that holds gives the reason.

use serde::{Deserialize, Serialize};

/// Why an identity's credential is to be replaced or taken away, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DueReason {
    Compromised,
    Expiring,
    MaxAge,
    OwnerLeft,
    PolicyChanged,
    Requested,
}

impl DueReason {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Compromised => "compromised",
            Self::Expiring => "expiring",
            Self::MaxAge => "max_age",
            Self::OwnerLeft => "owner_left",
            Self::PolicyChanged => "policy_changed",
            Self::Requested => "requested",
        }
    }
}
