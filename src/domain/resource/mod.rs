//! What manifests describe: the `spec` of each kind, as it is stored. Lengths of time are written like `30d`, `1h 30m`, `250ms` (`length.rs`).
//!
//! Nothing here holds a secret: a manifest names secrets (`secretRef`), and `keyfall secret set` gives them their bytes.

mod identity;
mod policy;
mod system;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::actor::Approval;
use super::ids::ResourceId;
pub use identity::{ConsumerSpec, DeliverySpec, IdentityKind, IdentitySpec, SeenBy};
pub use policy::{Autonomy, Budget, DecommissionRule, PolicySpec, ProofRule, RotationRule, Selector, UptakeRule};
pub use system::{AdminReference, SystemLimits, SystemManifest};

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
    /// The owner answers for nothing any more: what names this owner is unowned until it names another.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retired: bool,
}

fn manual() -> String {
    "manual".to_owned()
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
