//! How a configured system reaches its connector: checked once, without I/O, then connected.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ability::Connector;
use crate::descriptor::Descriptor;
use crate::error::{ConnectorError, Result};
use crate::secret::SecretValue;

/// A system as its approved manifest describes it. Everything that decides where a secret travels is here, so that one
/// digest over it binds approvals and sealed secrets to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SystemSpec {
    /// The kind of connector: `postgres`, `redis`, `demo`, `file`.
    pub connector: String,
    /// Every place where a credential of this system is tried. The first with role `control` takes the changes.
    #[serde(default)]
    pub vantages: Vec<Vantage>,
    #[serde(default)]
    pub tls: TlsMode,
    /// PEM of the authorities that the endpoints' certificates must chain to. `None`: the machine's own trust store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<String>,
    /// What only this kind of connector knows (a database, a group role). Unknown keys are refused by the connector.
    #[serde(default)]
    pub options: serde_json::Value,
}

/// One place where a credential is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Vantage {
    pub name: String,
    #[serde(default)]
    pub role: VantageRole,
    pub host: String,
    pub port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VantageRole {
    /// Changes are made here, and credentials are tried here.
    #[default]
    Control,
    /// Credentials are tried here only: a replica, a pooler, another region.
    Probe,
}

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    /// Encrypted, and the certificate must be valid for the host name.
    #[default]
    Verify,
    /// In clear. Accepted for loopback addresses only, unless the server's configuration allows it by name.
    Off,
}

/// The account with which Keyfall administers a system.
#[derive(Debug, Clone)]
pub struct AdminCredential {
    pub username: String,
    pub secret: SecretValue,
}

/// What the server's own configuration, not a manifest, allows: manifests choose among these by name.
#[derive(Debug, Clone, Default)]
pub struct ServerGrants {
    /// Directories under which file destinations may write.
    pub file_roots: BTreeMap<String, PathBuf>,
    /// Programs with their arguments that a file destination may run after an update. Never given to a shell.
    pub reload_commands: BTreeMap<String, Vec<String>>,
    /// Hosts other than loopback that may be spoken to without TLS.
    pub plaintext_hosts: Vec<String>,
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Where, as a path inside the manifest's spec: `options.database`.
    pub at: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl ConfigProblem {
    /// What `connect` answers to a configuration that `check` refuses. No call was made, and none can be before the manifest is corrected.
    #[must_use]
    pub fn refused(&self, descriptor: &Descriptor) -> ConnectorError {
        ConnectorError::conflict(format!(
            "the configuration for `{}` is wrong at `{}`: {}",
            descriptor.kind, self.at, self.message
        ))
    }
}

/// A kind of connector: checks a configuration, then builds a connector for it.
pub trait ConnectorKind: Send + Sync {
    fn descriptor(&self) -> &Descriptor;

    /// Pure. An empty answer means that `connect` can only fail for reasons outside the configuration.
    fn check(&self, spec: &SystemSpec, grants: &ServerGrants) -> Vec<ConfigProblem>;

    /// Builds the connector. No I/O: the first call connects. A configuration that [`Self::check`] complains of is refused, with the first
    /// problem ([`ConfigProblem::refused`]): a secret must not travel because a caller forgot to check.
    fn connect(
        &self,
        spec: &SystemSpec,
        admin: Option<AdminCredential>,
        grants: &ServerGrants,
    ) -> Result<Arc<dyn Connector>>;
}
