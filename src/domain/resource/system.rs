//! A system: how it is reached, and how it is treated.

use jiff::SignedDuration;
use keyfall_sdk::{SystemSpec, TlsMode, Vantage};
use serde::{Deserialize, Serialize};

use super::super::digest::Digest;

/// A System manifest: how to reach it (the connector's part) and how to treat it (ours).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SystemManifest {
    pub environment: String,
    pub owner: String,
    /// Who answers for the workflows that change this system. Falls back to `owner`, never to whoever touched it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<AdminReference>,
    /// Widens the documented settling window; a shorter one is refused.
    #[serde(
        with = "crate::domain::length::optional",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub settling: Option<SignedDuration>,
    #[serde(default)]
    pub limits: SystemLimits,
    /// The `access` of the powerless control identity, where the connector needs one to be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_access: Option<serde_json::Value>,
    /// The account of the control identity, where `keyfall_control` belongs to somebody else: another Keyfall on the same servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_account: Option<String>,
    pub connector: String,
    #[serde(default)]
    pub vantages: Vec<Vantage>,
    #[serde(default)]
    pub tls: TlsMode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<String>,
    /// Checked by the connector.
    #[serde(default)]
    pub options: serde_json::Value,
}

impl SystemManifest {
    /// Binds approvals and sealed secrets to where this system is reached (P11).
    ///
    /// # Errors
    /// When the manifest cannot be written as JSON.
    pub fn endpoint_digest(&self) -> Result<Digest, serde_json::Error> {
        Digest::of_value("keyfall-endpoints/v1", &self.reach())
    }

    /// What the connector is given, and what the endpoint digest is taken over.
    #[must_use]
    pub fn reach(&self) -> SystemSpec {
        SystemSpec {
            connector: self.connector.clone(),
            vantages: self.vantages.clone(),
            tls: self.tls,
            tls_ca: self.tls_ca.clone(),
            options: self.options.clone(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AdminReference {
    pub username: String,
    /// The name given to `keyfall secret set`.
    pub secret_ref: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct SystemLimits {
    /// Runs that may act on the system at once.
    pub concurrency: u32,
    /// Calls of every kind: reads, changes, and logins to try a credential.
    pub calls_per_second: u32,
    /// Refused logins of one principal across all vantages per minute: old and random attempts together.
    pub refused_logins_per_minute: u32,
}

impl Default for SystemLimits {
    fn default() -> Self {
        Self {
            concurrency: 8,
            calls_per_second: 200,
            refused_logins_per_minute: 60,
        }
    }
}
