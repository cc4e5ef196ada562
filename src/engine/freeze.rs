//! The switch that stops everything destructive at once, on every node. It is a stored setting, and the commit of each destructive intent
//! holds only while the setting is absent: no node can miss it, and no cache can be stale.
//!
//! A frozen run goes on with what takes nothing away (issuing, proving, delivering) and waits before its first destructive step.
//! Emergency runs obey it too: whoever can call two people for a break-glass run can call them to lift a freeze, and a freeze that some
//! runs may pass is none.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::{Fact, Guard};

/// The setting. Its value is a [`Freeze`] as JSON.
pub const FREEZE: &str = "freeze";

const BEFORE_THAT: &str = "; before that: ";
/// Earlier reasons that are kept; the log has all. A server that starts again and again with a wrong clock freezes each time.
const MOST_EARLIER: usize = 8;

/// Why everything destructive stands still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    pub reason: String,
    /// A person's name, or `keyfall` when it froze itself.
    pub by: String,
    pub at: Timestamp,
}

impl Freeze {
    /// On top of a freeze that stands: its reason stays to be read, and whoever agreed to lift it has agreed to something else.
    #[must_use]
    pub fn upon(self, standing: Option<&str>) -> Self {
        let Some(standing) = standing else { return self };
        let earlier = Self::of_setting(standing).reason;
        let earlier = earlier.split(BEFORE_THAT).take(MOST_EARLIER);
        let reasons: Vec<&str> = std::iter::once(self.reason.as_str()).chain(earlier).collect();
        Self {
            reason: reasons.join(BEFORE_THAT),
            ..self
        }
    }

    #[must_use]
    pub fn fact(&self) -> Fact {
        Fact::Setting {
            key: FREEZE,
            // Three plain texts are always JSON; were they not, the empty value still freezes.
            value: Some(serde_json::to_string(self).unwrap_or_default()),
        }
    }

    /// Reads the setting. A value that cannot be read freezes as well: nobody can say that it does not mean it.
    #[must_use]
    pub fn of_setting(value: &str) -> Self {
        serde_json::from_str(value).unwrap_or_else(|_| Self {
            reason: "the stored freeze cannot be read; lift it with `keyfall unfreeze --reason …` and set it again"
                .to_owned(),
            by: "unknown".to_owned(),
            at: Timestamp::UNIX_EPOCH,
        })
    }
}

/// Ends a freeze.
#[must_use]
pub fn lifted() -> Fact {
    Fact::Setting {
        key: FREEZE,
        value: None,
    }
}

/// Holds while nothing is frozen.
#[must_use]
pub fn not_frozen() -> Guard {
    still(None)
}

/// Holds while the freeze that was read, or its absence, stands.
#[must_use]
pub fn still(standing: Option<String>) -> Guard {
    Guard::SettingIs {
        key: FREEZE,
        value: standing,
    }
}
