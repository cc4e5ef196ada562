//! An identity as its manifest describes it, with where its secret goes and who uses it.

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::Strategy;
use serde::{Deserialize, Serialize};

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
    /// It may go on using a credential that it holds in a cache for so long after another one was delivered: the old one lives at least as long.
    #[serde(
        default,
        with = "crate::domain::length::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub caches_for: Option<SignedDuration>,
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
