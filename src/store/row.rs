//! What is stored, row by row, as the rest of Keyfall sees it: neither the texts of SQL nor the types of a database.

use jiff::{SignedDuration, Timestamp};

use crate::domain::actor::Approval;
use crate::domain::digest::Digest;
use crate::domain::ids::{ApprovalId, FindingId, IdentityId, PersonId, PlanId, ReceiptId, RunId, SecretId, TokenId};
use crate::domain::workflow::RunKind;
use crate::evidence::audit::{Act, encode_act};

/// One entry of the log: an encoded audit record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// The run and the event's number in it, when it is an event of a run.
    pub run: Option<(RunId, u32)>,
    pub at: Timestamp,
    /// Hashed and kept as they are.
    pub bytes: Vec<u8>,
}

impl LogEntry {
    /// The entry of something that was done outside of a run.
    #[must_use]
    pub fn of_act(act: Act<'_>) -> Self {
        Self {
            run: None,
            at: act.at,
            bytes: encode_act(act),
        }
    }
}

/// A sealed secret. The only table with secret bytes in it.
#[derive(Clone)]
pub struct SecretRow {
    pub id: SecretId,
    /// The name under which an operator stored it; `None` for secrets of credentials.
    pub name: Option<String>,
    pub kind: String,
    pub version: u32,
    /// The endpoints to which the secret may travel; bound into the seal.
    pub endpoint_digest: Digest,
    pub algorithm: String,
    pub kek_id: String,
    pub wrapped_key: Vec<u8>,
    pub wrap_nonce: Vec<u8>,
    pub nonce: Vec<u8>,
    pub ciphertext: Vec<u8>,
    pub created_at: Timestamp,
    pub destroy_at: Option<Timestamp>,
    pub destroyed_at: Option<Timestamp>,
}

impl std::fmt::Debug for SecretRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretRow")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// A run as its row shows it, for lists and claims.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    pub id: RunId,
    pub kind: RunKind,
    pub identity: IdentityId,
    pub identity_name: String,
    pub system_name: String,
    /// `RunStatus::name()`.
    pub status: String,
    pub step: Option<String>,
    pub next_seq: u32,
    pub epoch: u64,
    pub node: Option<String>,
    pub lease_until: Option<Timestamp>,
    pub wake_at: Option<Timestamp>,
    pub opened_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    /// The list of steps that it began with; a binary that does not know it leaves the run alone.
    pub workflow: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlanStatus {
    Proposed,
    Rejected,
    Applied,
    Expired,
    /// Something that it was planned on has changed: no signature can apply it any more.
    Stale,
}

impl PlanStatus {
    pub const ALL: [Self; 5] = [
        Self::Proposed,
        Self::Rejected,
        Self::Applied,
        Self::Expired,
        Self::Stale,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Rejected => "rejected",
            Self::Applied => "applied",
            Self::Expired => "expired",
            Self::Stale => "stale",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct PlanRow {
    pub id: PlanId,
    pub status: PlanStatus,
    pub digest: Digest,
    pub requester: PersonId,
    /// How many approvals by different people it needs.
    pub approvals_needed: u32,
    /// The plan itself as JSON; the digest is taken over exactly these bytes.
    pub content: Vec<u8>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub decided_at: Option<Timestamp>,
}

/// What an approval must fit, without the plan's content, which may be large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanTerms {
    pub digest: Digest,
    pub requester: PersonId,
    pub approvals_needed: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ApprovalRow {
    pub id: ApprovalId,
    pub plan: PlanId,
    pub person: PersonId,
    pub approve: bool,
    pub reason: String,
    pub expires_at: Timestamp,
    pub signature: Vec<u8>,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FindingRow {
    pub id: FindingId,
    /// `unowned`, `overdue`, `expired`, `alive_after_revoke`, `unprovable`, `consumer_not_seen`, `needs_operator`, `settling_outside_window`, `objective_missed`, `foreign`…
    pub kind: String,
    /// What it is about: an identity's or system's name, or a run id.
    pub subject: String,
    pub severity: String,
    pub text: String,
    pub owner: String,
    pub raised_at: Timestamp,
    pub resolved_at: Option<Timestamp>,
}

impl FindingRow {
    /// The first part of [`Self::page_key`] while the finding is open.
    pub const OPEN: &'static str = "open";

    /// The key by which a page goes on behind this row.
    #[must_use]
    pub fn page_key(&self) -> String {
        let state = if self.resolved_at.is_none() {
            Self::OPEN
        } else {
            "resolved"
        };
        format!("{state}:{}", self.id)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ReceiptRow {
    pub id: ReceiptId,
    pub run: RunId,
    pub identity: IdentityId,
    /// The receipt's body, exactly the bytes whose digest the closing log entry holds.
    pub body: Vec<u8>,
    pub body_digest: Digest,
    /// The closing entry's number in its run, by which its log position is found.
    pub closing_seq: u32,
    /// Filled when it is read.
    pub log_position: Option<u64>,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PersonRow {
    pub id: PersonId,
    pub name: String,
    /// `admin`, `operator`, `approver`, `auditor`.
    pub roles: Vec<String>,
    /// Verifier-key form; `None` for people who cannot approve.
    pub public_key: Option<String>,
    /// Who signed the enrolment; `None` for those whom `init` enrolled.
    pub enrolled_by: Option<PersonId>,
    /// What was signed, and by whom; `None` for those whom `init` enrolled.
    pub enrolment: Option<Approval>,
    pub enrolled_at: Timestamp,
    pub retired_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TokenRow {
    pub id: TokenId,
    pub person: PersonId,
    /// SHA-256 of the token, which is 256 random bits.
    pub hash: [u8; 32],
    pub label: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetSpend {
    /// `destructive:<policy>` or `refused:<system>/<principal>`.
    pub scope: String,
    pub at: Timestamp,
    pub amount: u32,
    /// Rows older than this are of no use to any window.
    pub keep: SignedDuration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettlingSample {
    pub system: String,
    pub vantage: String,
    pub micros: i64,
    pub at: Timestamp,
}
