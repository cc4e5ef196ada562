//! What Keyfall remembers, as a contract: facts that are committed together, and questions that are answered from an index.
//!
//! A commit is one transaction: its guards hold, its facts are stored, its log entries are appended, and it is answered when all of that
//! is durable; or nothing of it happened. Whoever holds a `dyn Store` knows no SQL and no database.
//!
//! The log is the audit log and the event log of the runs in one: append-only, encoded bytes that are hashed as they are. Its positions are
//! given by the store, without gaps, in the transaction that appends (SQLite) or within a second by a sequencer (PostgreSQL). Whoever asks
//! about the log, or for a receipt's place in it, is answered when everything that was committed before has its position.

mod check;
mod commit;
mod compound;
mod copy;
mod driver;
mod fact;
#[cfg(test)]
pub(crate) mod inline;
mod nodes;
mod overview;
mod postgres;
mod question;
mod reading;
mod row;
mod sharing;
mod sql;
mod sql_store;
mod sqlite;
#[cfg(test)]
pub(crate) mod tests;
mod verbs;

use std::collections::HashSet;

use keyfall_sdk::BoxFuture;

pub use copy::{
    ARRIVING, Begun, Closing, End, MOVED, Move, MoveError, Moved, Progress, Purpose, TableReport, abandon, unmoved,
};
pub use fact::{Commit, Committed, Fact, Guard};
pub use nodes::{Heard, NodeRow, NodeSays, Share, ShareAsk};
pub use question::{
    Claimed, DueIdentity, FindingFilter, IdentityFilter, LogPage, LogState, Overview, Page, ReceiptFilter, RunFilter,
    StoredRun,
};
pub use row::{
    ApprovalRow, BudgetSpend, FindingRow, LogEntry, PersonRow, PlanRow, PlanStatus, PlanTerms, ReceiptRow, RunRow,
    SecretRow, SettlingSample, TokenRow,
};

pub use postgres::{PostgresOptions, open_postgres, open_postgres_end};
pub use sqlite::{Creation, StoreOptions, open_sqlite, open_sqlite_end};

use crate::domain::identity::{Credential, Identity};
use crate::domain::ids::{CredentialId, IdentityId, PersonId, PlanId, ReceiptId, RunId, SecretId};
use crate::domain::resource::{Kind, Resource};
use crate::domain::workflow::Event;
use jiff::{SignedDuration, Timestamp};

/// Reads the event out of an encoded log entry. The store keeps and hashes entries as they are and knows no encoding, so whoever opens it
/// says how an event is found in one.
pub type DecodeEvent = fn(&[u8]) -> std::result::Result<Event, String>;

/// The setting that holds the store's own id: drawn when the store is made, the same in every copy and backup of it.
pub const STORE_ID: &str = "store_id";

/// The setting that names the database that the store was last run on, where that can be another one without anybody's doing here: server,
/// timeline and number of a database on PostgreSQL. It is a copy's own.
pub const DATABASE: &str = "database";
/// What [`DATABASE`] says where the server has no functions to tell.
pub const UNKNOWN_DATABASE: &str = "unknown";

/// The setting that stands while nothing is done with the store but looking: it may know less than it did, and two people lift it.
pub const STANDSTILL: &str = "standstill";

/// The setting that stands while the store's files may hold sealed bytes of a secret that was destroyed or sealed anew: the secret's id.
pub const SCRUB_OWED: &str = "scrub_owed";

/// The setting that holds the instant of the last backup that was written, in microseconds since the Unix epoch, UTC.
pub const LAST_BACKUP_AT: &str = "last_backup_at";

pub type Result<T> = std::result::Result<T, StoreError>;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the file, or the schema or library is one that must not be used. The text says what to do.
    #[error("the store cannot be opened: {why}")]
    Open { why: String },
    /// The database is not the one that the store was last run on, and may know less than that one did. Nothing is read or stored there until
    /// it is taken for what it is: an old copy, at a standstill.
    #[error("the store's database is another one: {why}")]
    AnotherDatabase {
        why: String,
        /// As the setting [`DATABASE`] says it.
        was: String,
        is: String,
    },
    /// The database does not hold what it must hold. Nothing is repaired silently.
    #[error("the store is damaged: {what}. {advice}")]
    Damaged { what: String, advice: &'static str },
    /// No room, or the disk failed. Nothing of this commit is stored.
    #[error("the store cannot write: {why}")]
    Unwritable { why: String },
    /// The disk failed while a commit was made durable: whether it is stored shows when the store is opened again. Nothing more is accepted.
    #[error(
        "the store cannot say whether its last commit is durable: {why}. Restart the server: what is stored then is the truth"
    )]
    Doubtful { why: String },
    /// The connection to the database was lost while it committed. Concerns this commit alone: the store goes on, and whoever asked reads again
    /// before anything is repeated.
    #[error(
        "whether the commit is stored is not known, because the database was lost while it committed: {why}. Read what is stored before repeating it"
    )]
    OutcomeUnknown { why: String },
    /// Something that the database's own tools do.
    #[error("{what} is not keyfall's to do on this database: {instead}")]
    NotOffered { what: &'static str, instead: &'static str },
    /// A change of state that the life of an identity or a credential does not have. Nothing of the commit is stored.
    #[error("{id} cannot change its state as the commit asks")]
    IllegalTransition {
        id: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A fact is about something that is not stored. Nothing of the commit is stored.
    #[error("the commit changes {what} {id}, which is not there")]
    Absent { what: &'static str, id: String },
    /// Something else holds the place: a name, an id, the one open run of an identity. Nothing of the commit is stored.
    #[error("the commit contradicts what is stored: {what}")]
    Conflict { what: String },
    /// A stored text could not be read back as what it was written as.
    #[error("a stored {what} could not be read back: {why}")]
    Unreadable { what: &'static str, why: String },
    #[error("the store is closed")]
    Closed,
    #[error("the store failed while {doing}")]
    Failed {
        doing: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The register, the runs, the log. Each method is one transaction.
pub trait Store: Send + Sync {
    /// Stores everything in it or nothing. Answered after it is durable; concurrent callers share one synchronisation of the disk.
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed>>;

    /// The same for what came of a call that was made: on a full disk it may take the room that is kept for that, and an intent may not.
    fn record(&self, commit: Commit) -> BoxFuture<'_, Result<Committed>> {
        self.commit(commit)
    }

    /// Takes open runs that this binary knows how to end, whose wake time has come and whose lease is free or over, each with a higher epoch than it ever had.
    /// At most `limit`, the longest overdue first. What time it is says the store's clock.
    fn claim_runs<'a>(
        &'a self,
        node: &'a str,
        lease: SignedDuration,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Claimed>>>;

    /// Prolongs leases that this node holds to this length from the store's instant on; answers the runs that it has lost.
    fn renew_leases<'a>(
        &'a self,
        node: &'a str,
        runs: &'a [(RunId, u64)],
        length: SignedDuration,
    ) -> BoxFuture<'a, Result<Vec<RunId>>>;

    /// Gives up every lease under this node's name and answers how many there were. Only for a node that has proof that its predecessor of
    /// the same name is dead: on SQLite the lock on the file is that proof, and a start need not wait for leases to run out.
    fn release_leases<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Result<u32>>;

    /// The clock by which leases are given and lost: the environment's on SQLite; the database's where several nodes share it, whose own
    /// clocks may differ.
    fn now(&self) -> BoxFuture<'_, Result<Timestamp>>;

    /// A node says that it lives, under a name that is its own alone.
    fn say<'a>(&'a self, says: &'a NodeSays) -> BoxFuture<'a, Result<Heard>>;
    /// All that ever were here, by name.
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRow>>>;
    /// Open runs that somebody holds, by the end of their lease.
    fn runs_in_hands(&self, limit: u32) -> BoxFuture<'_, Result<Vec<RunRow>>>;
    /// Open runs that ask for steps of which nobody here has heard, at most `limit`: see [`crate::domain::workflow::WORKFLOW_VERSION`].
    fn runs_of_later_workflows(&self, limit: u32) -> BoxFuture<'_, Result<Vec<RunRow>>>;
    /// Draws what a node may use of a system that all of them lean on.
    fn draw_share<'a>(&'a self, ask: &'a ShareAsk) -> BoxFuture<'a, Result<Share>>;

    /// When the next open run that nobody holds wants to be woken.
    fn next_wake(&self) -> BoxFuture<'_, Result<Option<Timestamp>>>;

    /// Active identities that are due and have no open run, the longest due first, behind `after` in the order of (due time, id).
    /// A pass goes on behind those that it may not open by itself, so that they hide nobody.
    fn due_identities(
        &self,
        now: Timestamp,
        after: Option<(Timestamp, IdentityId)>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<DueIdentity>>>;
    /// How many are due at `now`, counted no further than `up_to`: for the breaker.
    fn count_due(&self, now: Timestamp, up_to: u32) -> BoxFuture<'_, Result<u32>>;

    /// Identities that are not decommissioned and expire before then, the earliest first, behind `after`; with the instant of their expiry.
    fn expiring_identities(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, IdentityId)>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, IdentityId)>>>;

    /// Open runs that were opened before then, the oldest first, behind `after`; with the instant of their opening and whose they are.
    fn runs_under_way_since(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, RunId)>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, RunId, IdentityId)>>>;
    /// The first owner behind `after`, in the order of names, that any identity names.
    fn next_owner<'a>(&'a self, after: &'a str) -> BoxFuture<'a, Result<Option<String>>>;

    fn run(&self, id: RunId) -> BoxFuture<'_, Result<Option<StoredRun>>>;
    fn runs<'a>(&'a self, filter: &'a RunFilter, page: Page) -> BoxFuture<'a, Result<Vec<RunRow>>>;
    /// The latest run of an identity that was opened before then.
    fn last_run_before(&self, identity: IdentityId, before: Timestamp) -> BoxFuture<'_, Result<Option<RunRow>>>;
    fn open_run_of(&self, identity: IdentityId) -> BoxFuture<'_, Result<Option<RunId>>>;

    fn identity(&self, id: IdentityId) -> BoxFuture<'_, Result<Option<Identity>>>;
    fn identity_named<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Identity>>>;
    /// Many at once, for the passes: those that exist, in no particular order.
    fn identities_with<'a>(&'a self, ids: &'a [IdentityId]) -> BoxFuture<'a, Result<Vec<Identity>>>;
    /// Many at once, for planning: those that exist, in no particular order.
    fn identities_named<'a>(&'a self, names: &'a [String]) -> BoxFuture<'a, Result<Vec<Identity>>>;
    fn identities<'a>(&'a self, filter: &'a IdentityFilter, page: Page) -> BoxFuture<'a, Result<Vec<Identity>>>;
    /// Keyfall's own control identity of a system.
    fn control_identity<'a>(&'a self, system: &'a str) -> BoxFuture<'a, Result<Option<Identity>>>;

    fn credential(&self, id: CredentialId) -> BoxFuture<'_, Result<Option<Credential>>>;
    /// All credentials that an identity ever had, the oldest first.
    fn credentials_of(&self, identity: IdentityId) -> BoxFuture<'_, Result<Vec<Credential>>>;
    /// The newest of them, the newest first.
    fn latest_credentials(&self, identity: IdentityId, limit: u32) -> BoxFuture<'_, Result<Vec<Credential>>>;
    /// What a run is planned from, whatever the length of the history: the credentials of the identity that are not proven dead, the current
    /// one whatever became of it, and of each account the last one that knows the account's immutable id. The oldest first.
    fn credentials_in_play(&self, identity: IdentityId) -> BoxFuture<'_, Result<Vec<Credential>>>;
    /// The same for many identities at once, the oldest first.
    fn credentials_in_play_of_many<'a>(
        &'a self,
        identities: &'a [IdentityId],
    ) -> BoxFuture<'a, Result<Vec<Credential>>>;
    /// Those of these ids that there are, in no particular order.
    fn credentials_with<'a>(&'a self, ids: &'a [CredentialId]) -> BoxFuture<'a, Result<Vec<Credential>>>;
    /// All that many identities ever had, the oldest first.
    fn credentials_of_many<'a>(&'a self, identities: &'a [IdentityId]) -> BoxFuture<'a, Result<Vec<Credential>>>;

    fn resource<'a>(&'a self, kind: Kind, name: &'a str) -> BoxFuture<'a, Result<Option<Resource>>>;
    /// All of a kind, sorted by name; systems, policies, destinations and owners are few beside identities.
    fn resources(&self, kind: Kind) -> BoxFuture<'_, Result<Vec<Resource>>>;

    fn secret(&self, id: SecretId) -> BoxFuture<'_, Result<Option<SecretRow>>>;
    /// The secret that `keyfall secret set NAME` stored.
    fn secret_named<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<SecretRow>>>;
    /// Secrets whose deadline has passed and whose bytes are still there.
    fn secrets_to_destroy(&self, now: Timestamp, limit: u32) -> BoxFuture<'_, Result<Vec<SecretId>>>;
    /// Secrets that are sealed under another key than this one, in id order, for the rotation of the KEK.
    fn secrets_not_under<'a>(&'a self, kek_id: &'a str, limit: u32) -> BoxFuture<'a, Result<Vec<SecretRow>>>;

    fn plan(&self, id: PlanId) -> BoxFuture<'_, Result<Option<PlanRow>>>;
    fn plan_terms(&self, id: PlanId) -> BoxFuture<'_, Result<Option<PlanTerms>>>;
    fn plans(&self, status: Option<PlanStatus>, page: Page) -> BoxFuture<'_, Result<Vec<PlanRow>>>;
    fn approvals(&self, plan: PlanId) -> BoxFuture<'_, Result<Vec<ApprovalRow>>>;

    fn findings<'a>(&'a self, filter: &'a FindingFilter, page: Page) -> BoxFuture<'a, Result<Vec<FindingRow>>>;
    /// Those of the subjects about whom a finding of this kind is open.
    fn open_among<'a>(&'a self, kind: &'a str, subjects: &'a [&'a str]) -> BoxFuture<'a, Result<HashSet<String>>>;
    fn receipt(&self, id: ReceiptId) -> BoxFuture<'_, Result<Option<ReceiptRow>>>;
    fn receipts<'a>(&'a self, filter: &'a ReceiptFilter, page: Page) -> BoxFuture<'a, Result<Vec<ReceiptRow>>>;

    fn people(&self) -> BoxFuture<'_, Result<Vec<PersonRow>>>;
    fn person(&self, id: PersonId) -> BoxFuture<'_, Result<Option<PersonRow>>>;
    /// By the SHA-256 of the bearer token.
    fn token(&self, hash: [u8; 32]) -> BoxFuture<'_, Result<Option<TokenRow>>>;

    /// Small named values: freeze, breaker, anchors, the KEK's check value.
    fn setting<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>>>;

    /// What a scope has spent since `since`: destructive actions, or refused logins of a principal.
    fn spent<'a>(&'a self, scope: &'a str, since: Timestamp) -> BoxFuture<'a, Result<u32>>;
    /// The measured settling times of a system, the latest first.
    fn settling<'a>(&'a self, system: &'a str, limit: u32) -> BoxFuture<'a, Result<Vec<SettlingSample>>>;

    /// Log entries from a position on, in order.
    fn log(&self, from: u64, limit: u32) -> BoxFuture<'_, Result<Vec<LogPage>>>;
    /// Size of the log and the Merkle frontier over it.
    fn log_state(&self) -> BoxFuture<'_, Result<LogState>>;
    /// The hash of a complete subtree of the Merkle tree, by level (0: leaves) and index in that level.
    fn log_nodes<'a>(&'a self, nodes: &'a [(u8, u64)]) -> BoxFuture<'a, Result<Vec<[u8; 32]>>>;

    /// The figures of the review and of `/metrics`, from counters and indexes.
    fn overview(&self, now: Timestamp) -> BoxFuture<'_, Result<Overview>>;

    /// Writes a consistent copy to a path that does not exist yet.
    fn backup<'a>(&'a self, to: &'a std::path::Path) -> BoxFuture<'a, Result<()>>;
    /// Overwrites what deleted rows left behind: checkpoints and truncates the write-ahead log. What was owed when it began ([`SCRUB_OWED`]) is
    /// owed no more; when it fails, everything stays owed.
    fn scrub(&self) -> BoxFuture<'_, Result<()>>;
    /// Checks the file's structure, the schema and that every cached state equals the fold of its log.
    fn check(&self) -> BoxFuture<'_, Result<Vec<String>>>;
    /// Ends the writer after everything accepted is durable.
    fn close(&self) -> BoxFuture<'_, Result<()>>;
}
