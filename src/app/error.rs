//! Why a use case did not do what was asked. The texts say what to do next; the codes are stable.

use super::access::Refusal;
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    NotAllowed(#[from] Refusal),
    #[error("there is no {what} `{name}`{}", where_listed(what))]
    NotFound { what: &'static str, name: String },
    /// Manifests or parameters that are wrong; each problem names its place.
    #[error("{}", problems.join("\n"))]
    Invalid { problems: Vec<String> },
    /// The state does not allow it; the text says which would.
    #[error("{why}")]
    Conflict { why: String },
    /// It would take something away at once, and everything destructive stands still.
    #[error("{why}")]
    Frozen { why: String },
    /// A system did not answer as it must.
    #[error("{system}: {why}")]
    Downstream { system: String, why: String },
    #[error("the store did not do it")]
    Store(#[from] StoreError),
    #[error("{what}")]
    Internal { what: String },
}

/// Where the right name is found.
fn where_listed(what: &str) -> &'static str {
    match what {
        "identity" => "; `keyfall get identities` lists them",
        "system" => "; `keyfall get systems` lists them",
        "policy" => "; `keyfall get policies` lists them",
        "destination" => "; `keyfall get destinations` lists them",
        "owner" => "; `keyfall get owners` lists them",
        "plan" => "; `keyfall get plans` lists them",
        "run" => "; `keyfall runs` lists them",
        "receipt" => "; `keyfall get receipts` lists them",
        "person" => "; `keyfall people` lists them",
        "credential" => "; `keyfall describe identity NAME` lists them",
        _ => "",
    }
}

impl AppError {
    /// For `problem+json` and exit codes.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAllowed(_) => "not_allowed",
            Self::NotFound { .. } => "not_found",
            Self::Invalid { .. } => "invalid",
            Self::Conflict { .. } => "conflict",
            Self::Frozen { .. } => "frozen",
            Self::Downstream { .. } => "downstream",
            Self::Store(_) => "store",
            Self::Internal { .. } => "internal",
        }
    }

    pub(super) fn invalid(problem: impl Into<String>) -> Self {
        Self::Invalid {
            problems: vec![problem.into()],
        }
    }

    pub(super) fn internal(doing: &str, error: &dyn std::fmt::Display) -> Self {
        Self::Internal {
            what: format!("{doing}: {error}"),
        }
    }
}
