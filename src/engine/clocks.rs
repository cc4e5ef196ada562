//! Two clocks that must agree: the wall's, by which things are due, and the monotonic one. Where they part between two looks, by a jump in
//! either direction, nobody knows what is due, and everything destructive is frozen until a person has looked (P9).

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The wall clock moved by `by` more (or less) than time passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Jump {
    pub(super) by: SignedDuration,
}

#[derive(Debug, Default)]
pub(super) struct Clocks {
    last: Option<(Timestamp, Instant)>,
}

impl Clocks {
    /// Compares what both clocks say has passed since the last look.
    pub(super) fn look(&mut self, wall: Timestamp, monotonic: Instant, tolerance: SignedDuration) -> Option<Jump> {
        let last = self.last.replace((wall, monotonic));
        let (last_wall, last_monotonic) = last?;
        let passed = SignedDuration::try_from(monotonic.saturating_duration_since(last_monotonic)).ok()?;
        let by = wall.duration_since(last_wall).saturating_sub(passed);
        (by.abs() > tolerance).then_some(Jump { by })
    }
}

#[cfg(test)]
mod tests {
    use super::Clocks;
    use jiff::{SignedDuration, Timestamp};
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn a_jump_in_either_direction_is_seen_and_the_passing_of_time_is_not() {
        let tolerance = SignedDuration::from_mins(5);
        let (wall, began) = (Timestamp::UNIX_EPOCH, Instant::now());
        let mut clocks = Clocks::default();
        assert_eq!(clocks.look(wall, began, tolerance), None);
        let hour = SignedDuration::from_hours(1);
        let later = began + Duration::from_secs(3600);
        assert_eq!(clocks.look(wall + hour, later, tolerance), None);
        let jump = clocks.look(wall + hour + hour, later, tolerance);
        assert_eq!(jump.map(|jump| jump.by), Some(hour));
        let back = clocks.look(wall, later, tolerance);
        assert_eq!(back.map(|jump| jump.by), Some(-(hour + hour)));
    }
}
