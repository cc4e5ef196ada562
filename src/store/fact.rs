//! What can be stored, as facts; what must hold for it, as guards.

use jiff::Timestamp;
use keyfall_sdk::{KeyId, PrincipalRef};

use super::row::{
    ApprovalRow, BudgetSpend, FindingRow, LogEntry, PersonRow, PlanRow, PlanStatus, ReceiptRow, RunRow, SecretRow,
    SettlingSample, TokenRow,
};
use crate::domain::due::DueReason;
use crate::domain::identity::{Credential, CredentialState, Identity, IdentityState};
use crate::domain::ids::{CredentialId, IdentityId, PersonId, PlanId, RunId, SecretId, TokenId};
use crate::domain::resource::Resource;

/// One transaction.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    pub guards: Vec<Guard>,
    pub facts: Vec<Fact>,
    /// Never empty for a change that a person or the engine decided: no audit, no action (P7).
    pub log: Vec<LogEntry>,
}

/// How a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// Durable. Positions in the log are given with it or within a second ([`super::Store::log`] waits for them).
    Stored,
    /// A guard did not hold: nothing was stored. The index is that of the guard.
    Refused { guard: usize },
}

/// What must be true inside the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// The run is held under this epoch by this node, and its lease is not over. Any write of a run carries it (P10).
    RunHeld {
        run: RunId,
        node: String,
        epoch: u64,
    },
    /// The log of the run ends right before this number: no other writer came between.
    RunAt {
        run: RunId,
        next_seq: u32,
    },
    NoOpenRun {
        identity: IdentityId,
    },
    PlanIs {
        plan: PlanId,
        status: PlanStatus,
    },
    /// The resource (or its absence, version 0) is the one that was planned on.
    ResourceAt {
        kind: &'static str,
        name: String,
        version: u32,
    },
    IdentityAt {
        name: String,
        version: u32,
    },
    /// It is in this state with this credential: no run has come to its end since it was read.
    IdentityStands {
        identity: IdentityId,
        state: IdentityState,
        current: Option<CredentialId>,
    },
    SettingIs {
        key: &'static str,
        value: Option<String>,
    },
    /// The secret is sealed as it was when it was read: nobody sealed it anew or destroyed it meanwhile.
    SecretWrapped {
        id: SecretId,
        wrapped_key: Vec<u8>,
    },
    /// The secret's deadline has passed, and nobody put it off meanwhile.
    SecretDue {
        id: SecretId,
        now: Timestamp,
    },
    /// No finding of this kind about the subject is open; with `saying`, none that says just this.
    FindingIsNews {
        kind: String,
        subject: String,
        saying: Option<String>,
    },
    /// Such a finding is open.
    FindingIsOpen {
        kind: String,
        subject: String,
    },
    /// The scope has spent less than `limit` since `since`.
    SpentBelow {
        scope: String,
        since: Timestamp,
        limit: u32,
    },
}

#[derive(Debug, Clone)]
pub enum Fact {
    /// Inserted, or replaced by id.
    Resource(Resource),
    /// Inserted, or replaced by id. Keeps `state`, `current` and `due` of an existing row: those change by the facts below only.
    Identity(Identity),
    /// A state that holds already is kept. One that the life does not allow refuses the whole commit.
    IdentityState {
        id: IdentityId,
        to: IdentityState,
    },
    IdentityCurrent {
        id: IdentityId,
        credential: Option<CredentialId>,
    },
    IdentityDue {
        id: IdentityId,
        due: Option<(Timestamp, DueReason)>,
    },
    /// Put off, where it is due as it was read and no run of it is open. Elsewhere nothing changes: what came between knew more.
    IdentityPutOff {
        id: IdentityId,
        was: (Timestamp, DueReason),
        to: Timestamp,
    },
    /// Inserted, or replaced by id. Keeps the state of an existing row: that changes by the facts below only.
    Credential(Credential),
    /// A state that holds already is kept. One that the life does not allow refuses the whole commit.
    CredentialState {
        id: CredentialId,
        to: CredentialState,
    },
    /// What the system answered. An intended credential is issued by it; any other keeps its state.
    CredentialIssued {
        id: CredentialId,
        principal: PrincipalRef,
        key_id: KeyId,
    },
    CredentialProven {
        id: CredentialId,
        at: Timestamp,
    },
    /// The end of its own validity downstream, as it was read.
    CredentialExpires {
        id: CredentialId,
        at: Timestamp,
    },
    /// Gives a credential its secret (a takeover).
    CredentialSecret {
        id: CredentialId,
        secret: SecretId,
    },
    Secret(SecretRow),
    SecretDestroyAt {
        id: SecretId,
        at: Timestamp,
    },
    /// A secret that was to be destroyed with its plan is a credential's: nothing destroys it by itself any more. Refused when it is gone.
    SecretKept {
        id: SecretId,
    },
    /// Data key and ciphertext are overwritten with zeros; the row stays, with the instant.
    SecretDestroyed {
        id: SecretId,
        at: Timestamp,
    },
    /// The same secret under another KEK: only the wrapped data key and the key's id change.
    SecretRewrapped {
        id: SecretId,
        kek_id: String,
        wrapped_key: Vec<u8>,
        wrap_nonce: Vec<u8>,
    },
    /// The same secret sealed for other endpoints, under the same id. Refused for one that was destroyed.
    SecretResealed(SecretRow),
    /// A run appears, with its first log entry in the same commit.
    RunOpened(RunRow),
    /// The cached state of a run; the log entries of the same commit are the truth. A status that is neither `open` nor `needs_operator`
    /// closes the run at the instant of its last entry in this commit, and gives its lease back.
    RunProgress {
        run: RunId,
        status: String,
        step: Option<&'static str>,
        next_seq: u32,
        wake_at: Option<Timestamp>,
        release: bool,
    },
    /// Nobody here can read it: given up, and asked for by nobody before then. Its state stays what it is.
    RunSetAside {
        run: RunId,
        until: Timestamp,
    },
    Plan(PlanRow),
    PlanStatus {
        plan: PlanId,
        to: PlanStatus,
        at: Timestamp,
    },
    Approval(ApprovalRow),
    /// Raised once per (kind, subject) while it is open.
    Finding(FindingRow),
    FindingResolved {
        kind: &'static str,
        subject: String,
        at: Timestamp,
    },
    Receipt(ReceiptRow),
    Person(PersonRow),
    PersonRetired {
        id: PersonId,
        at: Timestamp,
    },
    Token(TokenRow),
    TokenRevoked {
        id: TokenId,
        at: Timestamp,
    },
    Setting {
        key: &'static str,
        value: Option<String>,
    },
    Spent(BudgetSpend),
    Settling(SettlingSample),
}
