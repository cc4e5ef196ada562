//! What can be made to go wrong, as data. Deciding is pure: the same seed and the same number of the call give the same
//! fault, so that a failing test can be repeated. Nothing here knows an account.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Every fault of one provider. The default is an honest, immediate provider with two slots an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Faults {
    /// What `probability` draws from.
    pub seed: u64,
    /// Milliseconds that each call of an operation takes; `any` is for those not named.
    pub latency_ms: BTreeMap<Operation, u64>,
    /// The first rule that fits a call decides what happens to it.
    pub rules: Vec<FaultRule>,
    /// Revoking answers success and the list agrees, but logins with the old secret go on.
    pub revoke_lies: Option<Lie>,
    /// Issuing answers success, and the secret does not work.
    pub issue_lies: bool,
    /// By the name of the vantage.
    pub vantages: BTreeMap<String, VantageFaults>,
    /// Lists, reads and observations show the world as it was this many milliseconds ago.
    pub list_lag_ms: u64,
    pub lockout: Option<LockoutFault>,
    /// Accounts that behave as locked, whatever secret is shown.
    pub locked_principals: Vec<String>,
    /// A disabled or locked account refuses the right secret with the answer that a wrong secret gets.
    pub disabled_looks_refused: bool,
    /// Sessions are counted but cannot be ended.
    pub sticky_sessions: bool,
    /// Credentials that an account can hold at once.
    pub slots: usize,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            seed: 0,
            latency_ms: BTreeMap::new(),
            rules: Vec::new(),
            revoke_lies: None,
            issue_lies: false,
            vantages: BTreeMap::new(),
            list_lag_ms: 0,
            lockout: None,
            locked_principals: Vec::new(),
            disabled_looks_refused: false,
            sticky_sessions: false,
            slots: 2,
        }
    }
}

/// What a provider can be asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Operation {
    /// In rules and latencies: every operation.
    Any,
    List,
    Read,
    Preflight,
    Issue,
    Observe,
    Suspend,
    Resume,
    Strip,
    Revoke,
    Delete,
    CountSessions,
    EndSessions,
    Probe,
    Deliver,
    Confirm,
    Acknowledged,
    Withdraw,
}

impl Operation {
    /// One more than the last of them, for tables with a place for each.
    pub(super) const COUNT: usize = Self::Withdraw as usize + 1;

    pub(super) fn changes_downstream(self) -> bool {
        !matches!(
            self,
            Self::List | Self::Read | Self::Preflight | Self::Observe | Self::CountSessions | Self::Probe
        )
    }
}

/// One thing that goes wrong, and when. With none of `nth`, `every` and `probability` it goes wrong at each call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FaultRule {
    pub operation: Operation,
    /// Only at this vantage. Only probes have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vantage: Option<String>,
    /// Only for this account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Only the n-th call of the operation since the provider began, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
    /// Each n-th call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// From 0 to 1, drawn from the seed and the number of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    pub then: Fault,
}

impl FaultRule {
    /// A rule that fits every call of one operation.
    #[must_use]
    pub fn always(operation: Operation, then: Fault) -> Self {
        Self {
            operation,
            vantage: None,
            principal: None,
            nth: None,
            every: None,
            probability: None,
            then,
        }
    }

    /// A rule that fits one call of an operation, counted from 1.
    #[must_use]
    pub fn nth(operation: Operation, nth: u64, then: Fault) -> Self {
        Self {
            nth: Some(nth),
            ..Self::always(operation, then)
        }
    }
}

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    /// Fails before any effect, as a dead endpoint does.
    Transient,
    /// Refuses before any effect and asks for a pause of this many milliseconds.
    RateLimited(u64),
    /// Refuses our own access before any effect.
    Denied,
    /// Says before any effect that there is no such thing, whatever there is.
    NotFound,
    /// Has its effect, and the reply is lost.
    LostReply,
    /// Has its effect, and answers what nobody can read.
    Garbage,
    /// Has its effect, and answers that it was refused: the second answer to a call that arrived twice.
    FalseRefusal,
    /// Has its effect, and never answers.
    Hang,
    /// Has its effect, and answers this many milliseconds later: whoever asked may have died meanwhile.
    LateReply(u64),
}

/// For how long a revoked key is still honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Lie {
    Forever,
    ForMs(u64),
}

/// How one vantage differs from the control plane.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct VantageFaults {
    /// It sees every change this many milliseconds late.
    pub lag_ms: u64,
    /// It learns nothing any more, from the moment that this is set: it knows what it knew.
    pub stops_learning: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flapping: Option<Flapping>,
}

/// One of several nodes behind the vantage is behind the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Flapping {
    /// Each n-th probe reaches the late node.
    pub every: u64,
    /// How late that node is, in milliseconds.
    pub lag_ms: u64,
}

/// An account is locked after so many refused logins within the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LockoutFault {
    pub failures: u32,
    pub window_ms: u64,
}

impl Faults {
    /// What happens to the `number`-th call of an operation.
    #[must_use]
    pub fn decide(&self, operation: Operation, number: u64, principal: &str, vantage: Option<&str>) -> Option<Fault> {
        self.rules
            .iter()
            .find(|rule| self.fits(rule, operation, number, principal, vantage))
            .map(|rule| rule.then)
    }

    /// How long a call of this operation takes.
    #[must_use]
    pub fn latency(&self, operation: Operation) -> Option<Duration> {
        let millis = self
            .latency_ms
            .get(&operation)
            .or_else(|| self.latency_ms.get(&Operation::Any))?;
        Some(Duration::from_millis(*millis))
    }

    fn fits(
        &self,
        rule: &FaultRule,
        operation: Operation,
        number: u64,
        principal: &str,
        vantage: Option<&str>,
    ) -> bool {
        (rule.operation == Operation::Any || rule.operation == operation)
            && rule.principal.as_deref().is_none_or(|name| name == principal)
            && rule.vantage.as_deref().is_none_or(|name| Some(name) == vantage)
            && rule.nth.is_none_or(|nth| nth == number)
            && rule.every.is_none_or(|every| every > 0 && number.is_multiple_of(every))
            && rule
                .probability
                .is_none_or(|probability| draw(self.seed, operation, number) < probability)
    }
}

/// From 0 to 1, the same for the same seed, operation and call: the finaliser of splitmix64 over the three.
fn draw(seed: u64, operation: Operation, number: u64) -> f64 {
    let mut bits = seed
        .wrapping_add((operation as u64).wrapping_mul(0xd1b5_4a32_d192_ed03))
        .wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    // The upper 53 bits are what a double can hold without rounding.
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}
