//! The use cases: what a person or a program may ask of Keyfall, one file each. This is the only place that authorises, and every use case
//! that changes something writes its audit record in the commit of the change.
//!
//! A use case knows the domain, the store's contract and the engine's openings. It knows no HTTP, no terminal and no SQL.

mod access;
mod acting;
mod adopting;
mod applying;
mod approving;
mod backups;
mod checking;
mod controls;
mod credentials;
mod doctor;
mod error;
#[cfg(test)]
mod examples_tests;
mod following;
mod hastening;
mod kek;
mod landscape;
mod lives;
mod log;
mod looking;
pub mod manifest;
mod nodes;
mod opening;
mod people;
pub mod planning;
mod plans;
mod positions;
mod receipts;
mod register;
mod rescheduling;
mod review;
mod runs;
mod secrets;
mod sharing;
mod stopping;
#[cfg(test)]
mod tests;
mod views;
mod wording;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{ConnectorKind, ServerGrants};

pub use access::{Caller, Refusal, Role, Verb, allow};
pub use acting::{Asked, RotateAsk};
pub use adopting::AdoptAsk;
pub use approving::{SOLO, Signed};
pub use error::AppError;
pub use kek::{KEK_CHECK, KEK_ID};
pub use people::{EnrolAsk, IssuedToken, first_people, make_token};
pub use receipts::ReceiptQuery;
pub use register::{FindingQuery, IdentityQuery, PageQuery};
pub use runs::RunQuery;
pub use views::{
    AccountView, ApprovalView, AuditView, BackupView, CredentialView, DoctorLine, EventView, FindingView, HeldRunView,
    IdentityView, KekView, NodeView, PersonView, PlanView, ReceiptView, ResourceView, ReviewView, RevocationsView,
    RunView, SecretView, StatusView,
};

use crate::clock::Environment;
use crate::domain::actor::Approval;
use crate::domain::ids::ActId;
use crate::engine::report::PrepareRuns;
use crate::engine::systems::Systems;
use crate::evidence::audit::Act;
use crate::evidence::keys::SigningKey;
use crate::sealing::Keyring;
use crate::store::{Commit, Committed, LogEntry, Store};

/// What the app asks of the running engine.
pub trait Bell: Send + Sync {
    /// A pass is wanted now. Losing a ring loses nothing: the next pass reads the same store.
    fn ring(&self);
    /// When the last pass ended.
    fn last_pass_at(&self) -> Option<Timestamp>;
}

/// What the server's own configuration says.
#[derive(Debug, Clone)]
pub struct AppSettings {
    pub node: String,
    /// The log's name in checkpoints, for ever.
    pub origin: String,
    pub backup_directory: PathBuf,
    pub grants: ServerGrants,
    /// How far a server's clock may be from the store's.
    pub clock_tolerance: SignedDuration,
    /// How long the engine believes that a server lives after its last word.
    pub believed_for: SignedDuration,
}

/// Everything that a use case works with.
pub struct App {
    store: Arc<dyn Store>,
    env: Environment,
    bell: Arc<dyn Bell>,
    keys: Arc<Keyring>,
    signing: Arc<SigningKey>,
    kinds: Vec<Arc<dyn ConnectorKind>>,
    systems: Arc<Systems>,
    prepare: Arc<dyn PrepareRuns>,
    settings: AppSettings,
    /// Held while somebody has the server examined.
    examining: tokio::sync::Mutex<()>,
}

/// The parts that the wiring brings together.
pub struct AppParts {
    pub store: Arc<dyn Store>,
    pub env: Environment,
    pub bell: Arc<dyn Bell>,
    pub keys: Arc<Keyring>,
    pub signing: Arc<SigningKey>,
    pub kinds: Vec<Arc<dyn ConnectorKind>>,
    pub systems: Arc<Systems>,
    pub prepare: Arc<dyn PrepareRuns>,
    pub settings: AppSettings,
}

/// What a use case did, for its audit record.
struct Deed<'a> {
    action: &'a str,
    identity: Option<&'a str>,
    system: Option<&'a str>,
    approval: Option<&'a Approval>,
    outcome: &'a str,
    details: serde_json::Value,
}

impl<'a> Deed<'a> {
    fn new(action: &'a str, details: serde_json::Value) -> Self {
        Self {
            action,
            identity: None,
            system: None,
            approval: None,
            outcome: "done",
            details,
        }
    }
}

impl App {
    #[must_use]
    pub fn new(parts: AppParts) -> Self {
        let AppParts {
            store,
            env,
            bell,
            keys,
            signing,
            kinds,
            systems,
            prepare,
            settings,
        } = parts;
        Self {
            store,
            env,
            bell,
            keys,
            signing,
            kinds,
            systems,
            prepare,
            settings,
            examining: tokio::sync::Mutex::default(),
        }
    }

    fn entry(&self, caller: &Caller, at: Timestamp, deed: Deed<'_>) -> LogEntry {
        let actor = caller.actor();
        let id = ActId::from_uuid(self.env.draw_uuid());
        LogEntry::of_act(Act {
            by: &actor,
            trigger: "request",
            identity: deed.identity,
            system: deed.system,
            approval: deed.approval,
            outcome: deed.outcome,
            ..Act::of_engine(id, at, deed.action, deed.details)
        })
    }

    /// Stores a commit, or says that what it was based on has changed meanwhile.
    async fn store(&self, commit: Commit, changed: &str) -> Result<(), AppError> {
        match self.store.commit(commit).await? {
            Committed::Stored => Ok(()),
            Committed::Refused { .. } => Err(AppError::Conflict {
                why: changed.to_owned(),
            }),
        }
    }
}
