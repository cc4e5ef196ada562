//! What use cases answer, and what the API and the CLI show: versioned by the API's path, apart from how things are stored. No secret is in
//! any of them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IdentityView {
    pub id: String,
    pub name: String,
    pub kind: String,
    pub state: String,
    pub system: String,
    pub environment: String,
    pub owner: String,
    pub expires: Timestamp,
    pub version: u32,
    pub labels: BTreeMap<String, String>,
    pub policy: Option<String>,
    pub due_at: Option<Timestamp>,
    pub due_reason: Option<String>,
    pub current: Option<CredentialView>,
    /// Only in `describe`: the latest 100 first, then older ones that may be alive. The receipts of the earlier ones stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<CredentialView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_run: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<FindingView>,
    /// The manifest's `spec`, only in `describe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CredentialView {
    pub id: String,
    pub state: String,
    pub account: String,
    pub key_id: Option<String>,
    pub created_at: Timestamp,
    pub proven_at: Option<Timestamp>,
    /// When it was proven dead, settles, or what keeps it from being proven.
    pub note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceView {
    pub id: String,
    pub kind: String,
    pub name: String,
    pub version: u32,
    pub labels: BTreeMap<String, String>,
    pub spec: serde_json::Value,
    pub approved_by: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    pub id: String,
    pub kind: String,
    pub identity: String,
    pub system: String,
    pub status: String,
    pub step: Option<String>,
    pub opened_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    pub wake_at: Option<Timestamp>,
    // What follows is told of one run, not in lists: it stands in the run's log.
    /// `schedule`, `request`…
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiator: Option<String>,
    /// What it waits for, or what a person is to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The steps with where each stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventView>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receipts: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventView {
    pub run: String,
    pub seq: u32,
    pub at: Timestamp,
    pub event: String,
    pub step: Option<String>,
    /// What the attempt that the event ends saw on its way, one sentence each: verdicts, rounds of probes, consumers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<String>,
    /// One sentence for people: how it ended.
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanView {
    pub id: String,
    pub status: String,
    pub digest: String,
    pub requester: String,
    pub reason: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub approvals_needed: u32,
    pub approvals: Vec<ApprovalView>,
    /// One line for each change, with `+`, `~` or `-`; under it the fields that differ.
    pub diff: Vec<String>,
    pub actions: Vec<String>,
    pub consequences: Vec<String>,
    pub warnings: Vec<String>,
    /// Runs that it opened, once applied.
    pub runs: Vec<String>,
    /// True when everything asked for already holds.
    pub empty: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApprovalView {
    pub person: String,
    pub approve: bool,
    pub reason: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FindingView {
    pub id: String,
    pub kind: String,
    pub subject: String,
    pub severity: String,
    pub text: String,
    pub owner: String,
    pub raised_at: Timestamp,
    pub resolved_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReceiptView {
    pub id: String,
    pub run: String,
    pub identity: String,
    pub outcome: String,
    pub at: Timestamp,
    /// The place in the audit log.
    pub position: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditView {
    pub position: u64,
    pub at: Timestamp,
    /// The decoded record.
    pub record: serde_json::Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SecretView {
    pub name: String,
    pub version: u32,
    pub set_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PersonView {
    pub id: String,
    pub name: String,
    pub roles: Vec<String>,
    pub can_approve: bool,
    pub enrolled_by: Option<String>,
    pub enrolled_at: Timestamp,
    pub retired_at: Option<Timestamp>,
}

/// Revocation confidence in its plainest form: what is unknown counts as asked for and not dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationsView {
    pub asked: u64,
    pub proven_dead: u64,
}

/// The reviewer's Monday page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReviewView {
    pub at: Timestamp,
    pub identities: BTreeMap<String, u64>,
    pub credentials: BTreeMap<String, u64>,
    pub unowned: Vec<String>,
    pub overdue: Vec<String>,
    pub expiring: Vec<String>,
    pub still_alive: Vec<String>,
    pub unprovable: Vec<String>,
    /// Accounts downstream that nobody registered, by system.
    pub unregistered: BTreeMap<String, Vec<String>>,
    pub needs_operator: Vec<String>,
    pub revocations: RevocationsView,
    pub findings: Vec<FindingView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    pub version: String,
    pub node: String,
    pub frozen: Option<String>,
    pub breaker: Option<String>,
    pub open_runs: u64,
    pub log_size: u64,
    pub last_pass_at: Option<Timestamp>,
    pub solo: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DoctorLine {
    pub check: String,
    pub ok: bool,
    pub text: String,
}

/// An account as the system shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountView {
    pub name: String,
    pub immutable_id: String,
    pub status: String,
    pub privileged: bool,
    pub credentials: usize,
    pub sessions: Option<u32>,
    pub grants: Vec<String>,
    /// The identity that it belongs to; `None`: nobody registered it.
    pub identity: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupView {
    pub path: String,
    pub at: Timestamp,
    pub log_size: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KekView {
    pub kek: String,
    pub rewrapped: u64,
}

/// A server that shares the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    pub name: String,
    /// `alive`, `stopping`, `stopped` (it said so) or `silent` (it did not, and nobody hears it).
    pub state: String,
    pub version: String,
    /// The newest list of steps that it knows.
    pub workflow: u32,
    pub address: String,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
    /// How far its clock is ahead of the store's.
    pub clock_ahead_ms: i64,
    /// The same, for people.
    pub clock: String,
    pub holds: usize,
    pub runs: Vec<HeldRunView>,
}

/// A run in the hands of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldRunView {
    pub run: String,
    pub identity: String,
    pub step: Option<String>,
    pub epoch: u64,
    pub lease_until: Timestamp,
}
