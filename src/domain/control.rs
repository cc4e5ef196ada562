//! The terms of Keyfall's own control identities. They are powerless and nobody's manifest, so nobody could renew them: the engine does,
//! under the approval of the system that they belong to.

use jiff::SignedDuration;

use super::resource::RotationRule;

/// How long a control identity is registered for, each time.
pub const CONTROL_LIFE: SignedDuration = SignedDuration::from_hours(24 * 365);

/// How a control identity is rotated where no policy selects it.
#[must_use]
pub fn control_rotation() -> RotationRule {
    RotationRule {
        every: Some(SignedDuration::from_hours(24 * 90)),
        cron: None,
        zone: None,
        spread_percent: 20,
        max_effective_age: None,
    }
}
