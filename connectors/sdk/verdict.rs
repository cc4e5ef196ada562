//! The answers that trying a credential can have. There are four, because a doubt is not a refusal.

use serde::{Deserialize, Serialize};

/// What a system answered when a credential was tried at one vantage, on a fresh connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// The system let us in, and says that we are `principal`. An accepted login as somebody else is not this verdict
    /// but `Inconclusive(Protocol)`: some systems answer a dead key as another principal.
    Accepted { principal: String },
    /// The system answered with a code that the connector's table lists as *credential refused*.
    Refused { code: String },
    /// The answer says nothing about the credential.
    Inconclusive { why: InconclusiveWhy, detail: String },
    /// This vantage cannot be asked at all (no harmless read call, no route from here by design).
    Untestable { why: String },
}

impl Verdict {
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted { .. })
    }

    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// Why an answer says nothing about the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InconclusiveWhy {
    /// No answer in time.
    Timeout,
    /// No connection: refused, reset, no route, name not found, TLS not established.
    Unreachable,
    /// The system asked us to slow down.
    RateLimited,
    /// The system failed or is not ready (starting, shutting down, too many connections, 5xx).
    ServerFault,
    /// The principal is locked, disabled or expired: it would refuse the right secret too.
    Principal,
    /// The system refused for a reason that is not the credential (host rules, network policy, missing right).
    Policy,
    /// An answer that the connector's table does not list, or that could not be understood.
    Protocol,
}

impl InconclusiveWhy {
    /// As tables and receipts write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::RateLimited => "rate_limited",
            Self::ServerFault => "server_fault",
            Self::Principal => "principal",
            Self::Policy => "policy",
            Self::Protocol => "protocol",
        }
    }
}
