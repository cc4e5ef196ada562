//! What manifests describe: the `spec` of each kind, as it is stored. Lengths of time are written like `30d`, `1h 30m`, `250ms` (`length.rs`).
//!
//! Nothing here holds a secret: a manifest names secrets (`secretRef`), and `keyfall secret set` gives them their bytes.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{Strategy, SystemSpec, TlsMode, Vantage};
use serde::{Deserialize, Serialize};

use super::actor::Approval;
use super::digest::Digest;
use super::ids::ResourceId;

/// The kinds of a manifest, in the order in which they are applied: what others name comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    Owner,
    System,
    Destination,
    Policy,
    Identity,
}

impl Kind {
    pub const ALL: [Self; 5] = [
        Self::Owner,
        Self::System,
        Self::Destination,
        Self::Policy,
        Self::Identity,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "Owner",
            Self::System => "System",
            Self::Destination => "Destination",
            Self::Policy => "Policy",
            Self::Identity => "Identity",
        }
    }
}

/// One manifest's content, typed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "spec")]
pub enum Spec {
    Owner(OwnerSpec),
    System(SystemManifest),
    Destination(DestinationSpec),
    Policy(PolicySpec),
    Identity(IdentitySpec),
}

impl Spec {
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Owner(_) => Kind::Owner,
            Self::System(_) => Kind::System,
            Self::Destination(_) => Kind::Destination,
            Self::Policy(_) => Kind::Policy,
            Self::Identity(_) => Kind::Identity,
        }
    }
}

/// A stored resource that is not an identity. Its id never changes; its version counts applied changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    pub id: ResourceId,
    pub name: String,
    pub version: u32,
    pub labels: BTreeMap<String, String>,
    pub spec: Spec,
    /// What allowed this version. For a policy it is the standing approval of the rotations inside its bounds.
    pub approved: Option<Approval>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OwnerSpec {
    pub contact: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Where this owner is known from (`manual`, `backstage`, `scim`…) and how old the statement is, for people.
    #[serde(default = "manual")]
    pub source: String,
}

fn manual() -> String {
    "manual".to_owned()
}

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
    #[serde(with = "super::length::optional", default, skip_serializing_if = "Option::is_none")]
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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DestinationSpec {
    pub connector: String,
    pub environment: String,
    pub owner: String,
    /// Merged under each delivery's own `target`, so that a root is named once.
    #[serde(default)]
    pub defaults: serde_json::Value,
}

/// Which identities a policy holds for, and what must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PolicySpec {
    pub owner: String,
    #[serde(default)]
    pub selector: Selector,
    pub rotation: RotationRule,
    /// How long the old credential stays usable after the new one was promoted.
    #[serde(with = "super::length", default)]
    pub overlap: SignedDuration,
    #[serde(default)]
    pub proof: ProofRule,
    #[serde(default)]
    pub uptake: UptakeRule,
    #[serde(default)]
    pub decommission: DecommissionRule,
    #[serde(default)]
    pub autonomy: Autonomy,
    #[serde(default)]
    pub budget: Budget,
    /// From the request to the proof; the figure that revocation confidence is judged by.
    #[serde(with = "super::length", default = "quarter_hour")]
    pub objective: SignedDuration,
    /// The targeted risk analysis that the period rests on (PCI DSS 8.6.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk_analysis: Option<String>,
}

fn quarter_hour() -> SignedDuration {
    SignedDuration::from_mins(15)
}

/// All given conditions must hold; an empty selector holds for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Selector {
    pub environments: Vec<String>,
    pub systems: Vec<String>,
    pub kinds: Vec<IdentityKind>,
    pub identities: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

/// When a credential is due. Exactly one of `every` and `cron`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RotationRule {
    #[serde(with = "super::length::optional", default, skip_serializing_if = "Option::is_none")]
    pub every: Option<SignedDuration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// An IANA name; UTC when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The share of the period over which identities are spread, 0 to 50 percent. Drawn from the identity's id.
    #[serde(default)]
    pub spread_percent: u8,
    /// Issue to proven death, worst case. Due early enough to keep it.
    #[serde(with = "super::length::optional", default, skip_serializing_if = "Option::is_none")]
    pub max_effective_age: Option<SignedDuration>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ProofRule {
    /// Refusals in a row, at every vantage.
    pub refusals: u32,
    /// Between two rounds. `0s` is allowed: behind a round that was no refusal there is at least a second all the same.
    #[serde(with = "super::length")]
    pub interval: SignedDuration,
    /// Widens the system's settling window for these identities.
    #[serde(default, with = "super::length::optional", skip_serializing_if = "Option::is_none")]
    pub settling: Option<SignedDuration>,
    /// After the window's end without N refusals in a row: `alive_after_revoke` or `unprovable`, and a person is called. Never in front of a
    /// round that the budget of refused logins only delayed.
    #[serde(with = "super::length")]
    pub give_up_after: SignedDuration,
    /// How long a dead secret is kept sealed for late re-checks before it is destroyed.
    #[serde(with = "super::length")]
    pub keep_dead_secret: SignedDuration,
}

impl Default for ProofRule {
    fn default() -> Self {
        Self {
            refusals: 3,
            interval: SignedDuration::from_secs(5),
            settling: None,
            give_up_after: SignedDuration::from_mins(30),
            keep_dead_secret: SignedDuration::from_hours(24 * 8),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct UptakeRule {
    /// How often consumers are looked at while they are awaited.
    #[serde(with = "super::length")]
    pub interval: SignedDuration,
    /// After it, the run holds, names the laggards and asks for a person.
    #[serde(with = "super::length")]
    pub timeout: SignedDuration,
}

impl Default for UptakeRule {
    fn default() -> Self {
        Self {
            interval: SignedDuration::from_secs(10),
            timeout: SignedDuration::from_hours(4),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct DecommissionRule {
    /// How long the disabled account is listened to before it is deleted.
    #[serde(with = "super::length")]
    pub listen: SignedDuration,
}

impl Default for DecommissionRule {
    fn default() -> Self {
        Self {
            listen: SignedDuration::from_hours(24),
        }
    }
}

/// How much the engine may do by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Autonomy {
    /// Says what is due, does nothing.
    Observe,
    /// Makes the plan, waits for somebody to ask for it.
    Propose,
    /// Asks for approval of each run.
    #[default]
    Approve,
    /// The approved policy is the standing approval of its in-bounds rotations.
    Automatic,
}

/// How many destructive actions a scope may see in a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Budget {
    pub destructive: u32,
    #[serde(with = "super::length")]
    pub per: SignedDuration,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            destructive: 100,
            per: SignedDuration::from_hours(1),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityKind {
    ServiceAccount,
    ApiKey,
    OauthClient,
    DatabaseUser,
    CiToken,
    Agent,
    Workload,
    Bot,
}

/// A machine identity. Owner, expiry and environment are required: nothing is registered without them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IdentitySpec {
    pub kind: IdentityKind,
    pub system: String,
    pub environment: String,
    pub owner: String,
    /// UTC. There is no "never".
    pub expires: Timestamp,
    /// The account's name downstream. With alternating accounts the two names are this with `_a` and `_b`.
    pub account: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// What it may do, in the connector's words.
    #[serde(default)]
    pub access: serde_json::Value,
    #[serde(default)]
    pub privileged: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deliver_to: Vec<DeliverySpec>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consumers: Vec<ConsumerSpec>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub purpose: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DeliverySpec {
    pub destination: String,
    /// The destination's own part: a path, a layout.
    pub target: serde_json::Value,
    /// What lies there already, and is not ours, may be overwritten by the first delivery.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConsumerSpec {
    pub name: String,
    pub seen_by: SeenBy,
}

/// How a consumer is seen to have switched to the new credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeenBy {
    /// It repeats the delivery's version at the destination.
    Acknowledgement,
    /// The system shows a session of the new account (alternating accounts only).
    Sessions,
}
