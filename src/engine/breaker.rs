//! The breaker. A clock that jumped, a zero date or a restored database makes everything due at once, and a system that changed lets one run
//! after the other fail; nothing that is scheduled opens then until a person has looked and armed it again. It is a stored setting: a restart
//! does not close it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::{Fact, Guard};

/// The setting of an open breaker. Its value is a [`Tripped`] as JSON.
pub const BREAKER: &str = "breaker";
/// The setting by which a person allows a large due set for a while. Its value is an [`Allowance`] as JSON.
pub const BREAKER_ALLOWANCE: &str = "breaker_allowance";

/// Why nothing scheduled opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tripped {
    pub why: String,
    pub due: u32,
    pub at: Timestamp,
}

/// How many may be due until when without the breaker opening again, and since when failures count anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    pub due: u32,
    pub since: Timestamp,
    pub until: Timestamp,
}

/// From how many on a due set, or what failed within a day, is suspicious.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// A due set of this size or less is never suspicious.
    pub at_least: u32,
    /// Above that: more than this share of the active identities.
    pub percent: u8,
    /// Fewer failed runs than this are never suspicious; 0: however many.
    pub failed: u32,
    /// From there on: more than this share of the runs.
    pub failed_percent: u8,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            at_least: 500,
            percent: 20,
            failed: 10,
            failed_percent: 20,
        }
    }
}

impl BreakerSettings {
    /// After a long silence even a small due set is suspicious: a clock that is ahead makes everything due, however little there is.
    #[must_use]
    pub fn after_silence(self) -> Self {
        Self {
            at_least: self.at_least.min(1),
            ..self
        }
    }

    /// The largest due set that is not suspicious. Pure.
    #[must_use]
    pub fn limit(&self, active: u64, allowance: Option<Allowance>, now: Timestamp) -> u32 {
        let share = active.saturating_mul(u64::from(self.percent)) / 100;
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        let allowed = allowance.filter(|one| now < one.until).map_or(0, |one| one.due);
        self.at_least.max(share).max(allowed)
    }

    /// Among how many runs so many failures are no more than the share that is not suspicious. Pure.
    #[must_use]
    pub fn runs_that_explain(&self, failed: u32) -> u32 {
        let share = u32::from(self.failed_percent).max(1);
        failed.saturating_mul(100).div_ceil(share)
    }
}

impl Tripped {
    #[must_use]
    pub fn fact(&self) -> Fact {
        Fact::Setting {
            key: BREAKER,
            // Plain texts and numbers are always JSON; were they not, the empty value still holds everything back.
            value: Some(serde_json::to_string(self).unwrap_or_default()),
        }
    }

    /// Reads the setting. A value that cannot be read is an open breaker as well.
    #[must_use]
    pub fn of_setting(value: &str) -> Self {
        serde_json::from_str(value).unwrap_or_else(|_| Self {
            why: "the stored breaker cannot be read; arm it again".to_owned(),
            due: 0,
            at: Timestamp::UNIX_EPOCH,
        })
    }
}

impl Allowance {
    /// Reads the setting. One that cannot be read allows nothing.
    #[must_use]
    pub fn of_setting(value: &str) -> Option<Self> {
        serde_json::from_str(value).ok()
    }
}

/// What arms the breaker again, with room for the due set that a person has looked at.
#[must_use]
pub fn rearmed(allowance: Allowance) -> Vec<Fact> {
    vec![
        Fact::Setting {
            key: BREAKER,
            value: None,
        },
        Fact::Setting {
            key: BREAKER_ALLOWANCE,
            value: serde_json::to_string(&allowance).ok(),
        },
    ]
}

/// Holds while the breaker is not open.
#[must_use]
pub fn not_open() -> Guard {
    Guard::SettingIs {
        key: BREAKER,
        value: None,
    }
}
