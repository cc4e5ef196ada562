//! What the planner must know of a connector before the first call.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Facts of a kind of system. They are constants of the connector, each with its source in the connector's README.
#[derive(Debug, Clone)]
pub struct Descriptor {
    /// The name that manifests use, for example `postgres`.
    pub kind: &'static str,
    /// One sentence for people.
    pub about: &'static str,
    /// How a credential can be replaced here, the default first. Empty for a destination.
    pub strategies: &'static [Strategy],
    pub issue_class: IssueClass,
    pub secret_shape: SecretShape,
    pub settling: SettlingWindow,
    /// After how many refused logins the system locks an account, where it does so by default.
    pub lockout: Option<Lockout>,
    /// Sessions opened with a credential go on after it was revoked, unless they are ended.
    pub sessions_survive: bool,
    /// The answers that this connector classifies, for people and for receipts. A code that is not listed is inconclusive.
    pub answers: &'static [RefusalCode],
}

/// How an old credential gives way to a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Two accounts under one owner; each rotation moves to the other one. There is always an overlap.
    AlternatingAccounts,
    /// One account that holds two secrets at once.
    DualSlot,
    /// One account, one secret: replacing it leaves a gap, which the plan must say.
    InPlace,
}

impl Strategy {
    /// As manifests write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AlternatingAccounts => "alternating_accounts",
            Self::DualSlot => "dual_slot",
            Self::InPlace => "in_place",
        }
    }
}

/// What a lost reply to an issue call means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssueClass {
    /// Repeating the call with the same key has the same effect once.
    Repeatable,
    /// The call must not be repeated blindly, but whether it took effect can be read downstream.
    CheckFirst,
    /// Neither: what a lost reply minted must be found by comparing lists, and destroyed.
    Once,
}

/// What a secret of this kind looks like, so that the engine can generate one and a wrong one of the same shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretShape {
    /// Characters of the generated secret.
    pub length: usize,
    /// The characters it is drawn from; every one of them must survive a DSN, a shell quote and a JSON string.
    pub alphabet: &'static str,
}

impl SecretShape {
    /// 43 characters of the URL-safe alphabet without padding: 256 bits.
    pub const STRONG: Self = Self {
        length: 43,
        alphabet: "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
    };
}

/// How long a system may go on honouring a revoked credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettlingWindow {
    pub documented: Duration,
    /// Where the figure comes from.
    pub source: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lockout {
    pub failures: u32,
    pub window: Duration,
}

/// One row of a connector's table of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusalCode {
    pub code: &'static str,
    /// Whether this answer says that the credential is refused. Everything else is inconclusive.
    pub refuses_credential: bool,
    pub meaning: &'static str,
}
