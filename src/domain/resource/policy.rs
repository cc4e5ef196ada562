//! A policy: which identities it holds for, and what must hold for them.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::identity::IdentityKind;

/// Which identities a policy holds for, and what must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PolicySpec {
    pub owner: String,
    #[serde(default)]
    pub selector: Selector,
    pub rotation: RotationRule,
    /// How long the old credential stays usable after the new one was promoted.
    #[serde(with = "crate::domain::length", default)]
    pub overlap: SignedDuration,
    #[serde(default)]
    pub proof: ProofRule,
    #[serde(default)]
    pub uptake: UptakeRule,
    #[serde(default)]
    pub decommission: DecommissionRule,
    #[serde(default)]
    pub autonomy: Autonomy,
    #[serde(default)]
    pub budget: Budget,
    /// From the request to the proof; the figure that revocation confidence is judged by.
    #[serde(with = "crate::domain::length", default = "quarter_hour")]
    pub objective: SignedDuration,
    /// The targeted risk analysis that the period rests on (PCI DSS 8.6.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk_analysis: Option<String>,
}

impl PolicySpec {
    /// Over how long is spread what becomes due for many identities at once, an owner having left or the policy having changed: the window
    /// that the budget counts in, and never more than a day.
    #[must_use]
    pub fn spread_window(&self) -> SignedDuration {
        self.budget.per.min(SignedDuration::from_hours(24))
    }
}

fn quarter_hour() -> SignedDuration {
    SignedDuration::from_mins(15)
}

/// All given conditions must hold; an empty selector holds for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Selector {
    pub environments: Vec<String>,
    pub systems: Vec<String>,
    pub kinds: Vec<IdentityKind>,
    pub identities: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

/// When a credential is due. Exactly one of `every` and `cron`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RotationRule {
    #[serde(
        with = "crate::domain::length::optional",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub every: Option<SignedDuration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// An IANA name; UTC when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The share of the period over which identities are spread, 0 to 50 percent. Drawn from the identity's id.
    #[serde(default)]
    pub spread_percent: u8,
    /// Issue to proven death, worst case. Due early enough to keep it.
    #[serde(
        with = "crate::domain::length::optional",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub max_effective_age: Option<SignedDuration>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ProofRule {
    /// Refusals in a row, at every vantage.
    pub refusals: u32,
    /// Between two rounds. `0s` is allowed: behind a round that was no refusal there is at least a second all the same.
    #[serde(with = "crate::domain::length")]
    pub interval: SignedDuration,
    /// Widens the system's settling window for these identities.
    #[serde(
        default,
        with = "crate::domain::length::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub settling: Option<SignedDuration>,
    /// After the window's end without N refusals in a row: `alive_after_revoke` or `unprovable`, and a person is called. Never in front of a
    /// round that the budget of refused logins only delayed.
    #[serde(with = "crate::domain::length")]
    pub give_up_after: SignedDuration,
    /// How long a dead secret is kept sealed for late re-checks before it is destroyed.
    #[serde(with = "crate::domain::length")]
    pub keep_dead_secret: SignedDuration,
}

impl Default for ProofRule {
    fn default() -> Self {
        Self {
            refusals: 3,
            interval: SignedDuration::from_secs(5),
            settling: None,
            give_up_after: SignedDuration::from_mins(30),
            keep_dead_secret: SignedDuration::from_hours(24 * 8),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct UptakeRule {
    /// How often consumers are looked at while they are awaited; ten times a second at most.
    #[serde(with = "crate::domain::length")]
    pub interval: SignedDuration,
    /// After it, the run holds, names the laggards and asks for a person.
    #[serde(with = "crate::domain::length")]
    pub timeout: SignedDuration,
}

impl Default for UptakeRule {
    fn default() -> Self {
        Self {
            interval: SignedDuration::from_secs(10),
            timeout: SignedDuration::from_hours(4),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct DecommissionRule {
    /// How long the disabled account is listened to before it is deleted.
    #[serde(with = "crate::domain::length")]
    pub listen: SignedDuration,
}

impl Default for DecommissionRule {
    fn default() -> Self {
        Self {
            listen: SignedDuration::from_hours(24),
        }
    }
}

/// How much the engine may do by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Autonomy {
    /// Says what is due, does nothing.
    Observe,
    /// Makes the plan, waits for somebody to ask for it.
    Propose,
    /// Asks for approval of each run.
    #[default]
    Approve,
    /// The approved policy is the standing approval of its in-bounds rotations.
    Automatic,
}

impl Autonomy {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Propose => "propose",
            Self::Approve => "approve",
            Self::Automatic => "automatic",
        }
    }
}

/// How many destructive actions a scope may see in a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Budget {
    pub destructive: u32,
    #[serde(with = "crate::domain::length")]
    pub per: SignedDuration,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            destructive: 100,
            per: SignedDuration::from_hours(1),
        }
    }
}
