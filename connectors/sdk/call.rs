//! What a call is given and what it answers. One struct each, so that fields can be added without touching every connector.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::principal::{KeyId, PrincipalRef};
use crate::secret::SecretValue;
use crate::verdict::Verdict;

/// Who calls and how long the answer is waited for. Nothing in it is secret.
#[derive(Debug, Clone)]
pub struct CallContext {
    pub run: String,
    pub step: String,
    pub attempt: u32,
    /// The same for every repetition of one intended effect.
    pub idempotency_key: String,
    /// When it is spent the engine stops waiting; a connector sets its own I/O time limits below it.
    pub time_left: Duration,
}

/// Whether other credentials of the same account stay alive beside the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// The account keeps what it holds.
    Alongside,
    /// The account holds one secret, and the new one takes its place.
    Replace,
}

/// Put a secret of our choosing on an account, creating the account when it is absent.
///
/// An existing account must be the one recorded (`principal.immutable_id`); another one of the same name is a `Conflict`.
/// An account that exists although `immutable_id` is `None` is a `Conflict` too, unless it carries this call's marker.
/// A disabled account without a credential (the idle one of two alternating accounts) is enabled by the same call.
/// With [`Placement::Replace`] an account that holds anything but what is in `replaces`, or this very secret, is a `Conflict`
/// as well, and nothing is touched: somebody else put it there. The look and the change are one, where the system has a way
/// for that. What cannot be read (an admin without the right to) is not compared.
#[derive(Debug, Clone)]
pub struct IssueCall {
    pub principal: PrincipalRef,
    pub secret: SecretValue,
    pub placement: Placement,
    /// The recorded credentials whose place the new one takes. Not looked at with [`Placement::Alongside`].
    pub replaces: Vec<KeyId>,
    /// Written downstream where the system has room for it (a role comment), so that an orphan can be traced to its run.
    pub marker: String,
    /// What the account is to be able to do: the identity's `access`, in the connector's own words, already validated by it.
    pub access: serde_json::Value,
}

/// What is downstream after an issue call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// With `immutable_id` set.
    pub principal: PrincipalRef,
    pub key_id: KeyId,
    /// This call made the account (so that unwinding may delete it).
    pub created_principal: bool,
}

/// What reading downstream says of an issue call whose outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssueObservation {
    Applied(Issued),
    NotApplied,
    Unknown { why: String },
}

/// Take one credential away, by its recorded id. A connector re-reads the account first: another account of the same name,
/// or another credential in the slot, is a `Conflict` and nothing is touched.
#[derive(Debug, Clone)]
pub struct RevokeCall {
    pub principal: PrincipalRef,
    pub key_id: KeyId,
}

/// Both are success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revoked {
    Revoked,
    AlreadyGone,
}

/// End the sessions of an account.
#[derive(Debug, Clone)]
pub struct EndSessionsCall {
    pub principal: PrincipalRef,
    /// Sessions that began no longer than this ago are spared: they were opened with the new credential of the same account.
    /// `None` spares none.
    pub spare_younger_than: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsEnded {
    pub ended: u32,
    /// Sessions that were seen but could not be ended.
    pub left: u32,
}

/// Why a credential is tried. It goes into the marked user agent or application name, for those who watch the system's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbePurpose {
    ProveNew,
    Baseline,
    OldCredential,
    PositiveControl,
    NegativeControl,
}

/// Try a credential at one vantage, on a fresh connection, with a read-only call and no retry.
#[derive(Debug, Clone)]
pub struct ProbeCall {
    pub principal: PrincipalRef,
    pub secret: SecretValue,
    pub vantage: String,
    pub purpose: ProbePurpose,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReading {
    pub verdict: Verdict,
    /// The address that was connected to, for the receipt.
    pub endpoint: String,
}

/// Put a secret where its workload reads it.
#[derive(Debug, Clone)]
pub struct DeliverCall {
    /// The destination's own part of the identity's manifest (a path and a layout), validated by the connector.
    pub target: serde_json::Value,
    pub secret: SecretValue,
    /// What templates may use besides the secret: `username`, `host`, `port`, `database`, `version`…
    pub fields: BTreeMap<String, String>,
    /// Names this delivery. A consumer that acknowledges repeats it.
    pub version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// False when the destination already held exactly this.
    pub changed: bool,
    /// The place as a person would name it. Never the content.
    pub place: String,
}

/// What a read of the destination says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirmation {
    Matches,
    Differs,
    Absent,
}

/// The version that a consumer last acknowledged, if it ever did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    pub consumer: String,
    pub version: Option<String>,
}

/// What the clock of one server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockReading {
    /// The vantage at which the server was asked.
    pub vantage: String,
    /// Microseconds since the Unix epoch, UTC.
    pub at: i64,
}
