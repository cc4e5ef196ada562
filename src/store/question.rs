//! What can be asked of the store, and what it answers. Lists go by keyset: a page names the last key of the one before.

use jiff::Timestamp;

use super::row::RunRow;
use crate::domain::due::DueReason;
use crate::domain::ids::IdentityId;
use crate::domain::ids::RunId;
use crate::domain::resource::IdentityKind;
use crate::domain::workflow::{Event, RunKind};

/// At most `limit` rows behind `after`, the key of the last row seen: an identity's name, the id of a run, a plan or a receipt,
/// `FindingRow::page_key` of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub after: Option<String>,
    pub limit: u32,
}

impl Page {
    #[must_use]
    pub fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }
}

/// A run that this node may act on until its lease is over.
#[derive(Debug, Clone)]
pub struct Claimed {
    pub row: RunRow,
    pub epoch: u64,
    /// Empty where they cannot be read.
    pub events: Vec<Event>,
    /// Why they cannot be read. The other runs of the claim are none the worse for it.
    pub unreadable: Option<String>,
}

#[derive(Debug, Clone)]
pub struct StoredRun {
    pub row: RunRow,
    pub events: Vec<Event>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueIdentity {
    pub id: IdentityId,
    pub due_at: Timestamp,
    pub reason: DueReason,
}

/// Newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    pub identity: Option<IdentityId>,
    pub kind: Option<RunKind>,
    pub status: Option<String>,
    pub open_only: bool,
    pub opened_since: Option<Timestamp>,
}

/// Sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityFilter {
    pub system: Option<String>,
    pub environment: Option<String>,
    pub owner: Option<String>,
    pub kind: Option<IdentityKind>,
    /// `IdentityState::name()`.
    pub state: Option<String>,
    pub name_prefix: Option<String>,
    /// Also Keyfall's own control identities.
    pub with_control: bool,
}

/// Open ones first, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FindingFilter {
    pub kind: Option<String>,
    pub subject: Option<String>,
    pub open_only: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceiptFilter {
    pub identity: Option<IdentityId>,
    pub run: Option<RunId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    pub position: u64,
    pub run: Option<(RunId, u32)>,
    pub at: Timestamp,
    pub bytes: Vec<u8>,
    /// How the hash of the bytes began when they got their position. Not believed: it tells which record was changed, when the root says
    /// that one was.
    pub mark: Vec<u8>,
}

/// The Merkle tree over the whole log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogState {
    pub size: u64,
    pub root: [u8; 32],
}

/// Counted by the store, for the review.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overview {
    pub identities: Vec<(String, u64)>,
    pub credentials: Vec<(String, u64)>,
    pub open_runs: Vec<(String, u64)>,
    pub open_findings: Vec<(String, u64)>,
    pub overdue: u64,
    pub expiring_in_30_days: u64,
    pub last_backup_at: Option<Timestamp>,
}
