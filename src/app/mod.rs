//! The use cases: what a person or a program may ask of Keyfall, one file each. This is the only place that authorises, and every use case
//! that changes something writes its audit record in the commit of the change.
//!
//! A use case knows the domain, the store's contract and a handle of the engine. It knows no HTTP, no terminal and no SQL.

mod access;
pub mod manifest;
mod views;

pub use access::{Caller, Refusal, Role, Verb, allow};
pub use views::{
    ApprovalView, AuditView, CredentialView, DoctorLine, EventView, FindingView, IdentityView, PersonView, PlanView,
    ReceiptView, ResourceView, ReviewView, RunView, SecretView, StatusView,
};

/// Why a use case did not do what was asked. The text says what to do next; the code is stable.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("{0}")]
    NotAllowed(#[from] Refusal),
    #[error("there is no {what} `{name}`")]
    NotFound { what: &'static str, name: String },
    /// Manifests or parameters that are wrong; each problem names its place.
    #[error("{}", problems.join("\n"))]
    Invalid { problems: Vec<String> },
    /// The state does not allow it; the text says which would.
    #[error("{why}")]
    Conflict { why: String },
    #[error("everything destructive is frozen: {why}. `keyfall unfreeze` asks for its end")]
    Frozen { why: String },
    #[error("the store did not answer")]
    Store(#[from] crate::store::StoreError),
    #[error("{what}")]
    Internal { what: String },
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
            Self::Store(_) => "store",
            Self::Internal { .. } => "internal",
        }
    }
}
