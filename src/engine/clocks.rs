//! Clocks that must agree: the wall's, by which things are due, the monotonic one beside it, and the newest record of the log, which says when
//! somebody last wrote here. Where they part, nobody knows what is due, and everything destructive is frozen until a person has looked (P9).

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::store::{Store, StoreError};

/// How far the wall clock may be behind the newest record, and may move against the monotonic one, before it is called wrong.
pub const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);
/// A log in which nothing was written for longer than this may also be a clock that is ahead.
pub const LONGEST_SILENCE: SignedDuration = SignedDuration::from_hours(7 * 24);

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

/// What the newest record says of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgainstLog {
    Agrees,
    /// The clock stands before what was written already: it is wrong, or was when that was written.
    Behind {
        by: SignedDuration,
    },
    /// Nothing was written for so long that the clock may be ahead as well as the server may have been off.
    Silent {
        since: SignedDuration,
    },
}

/// Compares the wall clock with the newest record. Pure.
#[must_use]
pub fn against_log(now: Timestamp, newest: Option<Timestamp>) -> AgainstLog {
    let Some(newest) = newest else {
        return AgainstLog::Agrees;
    };
    let since = now.duration_since(newest);
    if since < -TOLERANCE {
        AgainstLog::Behind { by: -since }
    } else if since > LONGEST_SILENCE {
        AgainstLog::Silent { since }
    } else {
        AgainstLog::Agrees
    }
}

/// How far the clock of a connected system may be from ours. Validity ends go by its clock (PostgreSQL: `VALID UNTIL`), what is written in
/// receipts by ours, and settling windows are often no longer than this.
pub const SYSTEM_TOLERANCE: SignedDuration = SignedDuration::from_secs(30);

/// How far ahead of ours (or, negative, behind it) the clock is that was read between these two looks at ours, where it is further than is
/// tolerated. The answer's own way counts for neither. Pure.
#[must_use]
pub fn against_system(asked: Timestamp, theirs: Timestamp, answered: Timestamp) -> Option<SignedDuration> {
    let by = if theirs > answered {
        theirs.duration_since(answered)
    } else if theirs < asked {
        theirs.duration_since(asked)
    } else {
        SignedDuration::ZERO
    };
    (by.abs() > SYSTEM_TOLERANCE).then_some(by)
}

/// When the newest record was written; `None` in an empty log.
///
/// # Errors
/// When the store does not answer.
pub async fn newest_record(store: &dyn Store) -> Result<Option<Timestamp>, StoreError> {
    let size = store.log_state().await?.size;
    let Some(last) = size.checked_sub(1) else {
        return Ok(None);
    };
    Ok(store.log(last, 1).await?.first().map(|entry| entry.at))
}

#[cfg(test)]
mod tests {
    use super::{AgainstLog, Clocks, LONGEST_SILENCE, SYSTEM_TOLERANCE, TOLERANCE, against_log, against_system};
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

    #[test]
    fn a_systems_clock_is_off_by_what_its_answers_way_does_not_explain() {
        let asked = Timestamp::from_second(1_800_000_000).unwrap();
        let answered = asked + SignedDuration::from_secs(5);
        let second = SignedDuration::from_secs(1);
        let off = |theirs| against_system(asked, theirs, answered);
        for theirs in [asked, answered, answered + SYSTEM_TOLERANCE, asked - SYSTEM_TOLERANCE] {
            assert_eq!(off(theirs), None, "{theirs}");
        }
        let by = SYSTEM_TOLERANCE + second;
        assert_eq!(off(answered + by), Some(by));
        assert_eq!(off(asked - by), Some(-by));
    }

    #[test]
    fn a_clock_behind_the_log_is_wrong_and_a_long_silence_is_told() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let second = SignedDuration::from_secs(1);
        assert_eq!(against_log(now, None), AgainstLog::Agrees);
        assert_eq!(against_log(now, Some(now + TOLERANCE)), AgainstLog::Agrees);
        let by = TOLERANCE + second;
        assert_eq!(against_log(now, Some(now + by)), AgainstLog::Behind { by });
        assert_eq!(against_log(now, Some(now - LONGEST_SILENCE)), AgainstLog::Agrees);
        let since = LONGEST_SILENCE + second;
        assert_eq!(against_log(now, Some(now - since)), AgainstLog::Silent { since });
    }
}
