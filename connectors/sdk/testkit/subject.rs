//! What an author hands to the kit.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::{BoxFuture, Connector};

/// How the caller's runtime waits: `|time| Box::pin(tokio::time::sleep(time))`.
pub type Sleep = fn(Duration) -> BoxFuture<'static, ()>;

/// A connector that issues and ends credentials, and where to try it.
pub struct Subject {
    pub connector: Arc<dyn Connector>,
    /// An `access` that the connector accepts. Nothing but what is named in it is to exist beforehand.
    pub access: Value,
    /// Every account that the kit makes begins with it, followed by small letters only. Unique to this run.
    pub principal_prefix: String,
    /// Where credentials are tried: every vantage of the system.
    pub vantages: Vec<String>,
    /// The same kind of connector, pointed at a port where nobody listens.
    pub broken: Option<Arc<dyn Connector>>,
    /// A connector to the same system that loses the reply of every `issue` after its effect (a proxy that cuts), at
    /// least for the account `principal_prefix` + `lossy`.
    pub lossy: Option<Arc<dyn Connector>>,
    /// False where the system gives a successor of the same name the same id, so that namesakes cannot be told apart.
    pub ids_are_real: bool,
    /// How long a change may take until every vantage shows it. Zero: at once.
    pub settle_within: Duration,
    pub sleep: Sleep,
    /// What secrets are drawn from. The same seed draws the same ones.
    pub seed: u64,
}

impl Subject {
    /// A subject with real ids and changes that hold at once.
    #[must_use]
    pub fn new(
        connector: Arc<dyn Connector>,
        access: Value,
        principal_prefix: impl Into<String>,
        vantages: &[&str],
        sleep: Sleep,
    ) -> Self {
        Self {
            connector,
            access,
            principal_prefix: principal_prefix.into(),
            vantages: vantages.iter().map(|&name| name.to_owned()).collect(),
            broken: None,
            lossy: None,
            ids_are_real: true,
            settle_within: Duration::ZERO,
            sleep,
            seed: 1,
        }
    }
}

/// A connector that delivers secrets, and where to deliver one.
pub struct DestinationSubject {
    pub connector: Arc<dyn Connector>,
    /// A target that the connector accepts and where nothing lies yet.
    pub target: Value,
    /// A target that the connector must refuse to plan on.
    pub wrong_target: Value,
    /// What templates may use, if the target has one.
    pub fields: std::collections::BTreeMap<String, String>,
    /// The same kind of connector whose place cannot be reached or written.
    pub broken: Option<Arc<dyn Connector>>,
    pub seed: u64,
}
