//! Clocks that must agree: the wall's, by which things are due, the monotonic one beside it, and the newest record of the log, which says when
//! somebody last wrote here. Where they part, nobody knows what is due, and everything destructive is frozen until a person has looked (P9).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::store::{Store, StoreError};

/// How far the wall clock may be behind the newest record, and may move against the monotonic one, before it is called wrong.
pub const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);
/// A log in which nothing was written for longer than this may also be a clock that is ahead.
pub const LONGEST_SILENCE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A wall clock that shows the very same instant for longer than this stands still.
const LONGEST_STANDING: Duration = Duration::from_secs(10);
/// Steps within the tolerance that a clock may make without adding up to a jump.
const FORGIVEN_AFTER: Duration = Duration::from_secs(3600);

/// In what the clocks disagree. Its text is the reason of the freeze.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Disagreement {
    #[error("the wall clock jumped by {by:#} against the time that passed")]
    Jumped { by: SignedDuration },
    #[error("the wall clock has stood still for {seconds} seconds", seconds = since.as_secs())]
    Stands { since: Duration },
    /// Nobody knows which of them is wrong.
    #[error("the clock of this machine and the store's are {by:#} apart")]
    OffStore { by: SignedDuration },
}

impl Disagreement {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Jumped { .. } => "jumped",
            Self::Stands { .. } => "stands",
            Self::OffStore { .. } => "off_store",
        }
    }
}

/// What this process knows of its clocks.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    /// Where both stood when they were last believed. A clock that stands or drifts is further off with each look.
    believed: Option<(Timestamp, Instant)>,
    /// When the wall clock was last seen to move.
    moved: Option<(Timestamp, Instant)>,
    /// Where the store's clock is known best.
    store: Option<Showed>,
}

/// What the store's clock showed.
#[derive(Debug, Clone, Copy)]
struct Showed {
    at: (Timestamp, Instant),
    /// By how much that may be wrong: it was shown somewhere between question and answer.
    within: Duration,
}

/// Two clocks part by less than this share of the time that passes.
const DRIFT: u32 = 1_000;

impl Showed {
    /// By how much it may be wrong at this moment.
    fn within_at(&self, moment: Instant) -> Duration {
        self.within + moment.saturating_duration_since(self.at.1) / DRIFT
    }
}

impl Clocks {
    /// Compares what the clocks say has passed.
    pub(super) fn look(
        &mut self,
        wall: Timestamp,
        monotonic: Instant,
        tolerance: SignedDuration,
    ) -> Option<Disagreement> {
        let believed = *self.believed.get_or_insert((wall, monotonic));
        let by = ahead(wall, monotonic, believed);
        if by.abs() > tolerance {
            return Some(Disagreement::Jumped { by });
        }
        if monotonic.saturating_duration_since(believed.1) > FORGIVEN_AFTER {
            self.believed = Some((wall, monotonic));
        }
        let moved = self
            .moved
            .filter(|(seen, _)| *seen == wall)
            .unwrap_or((wall, monotonic));
        self.moved = Some(moved);
        let since = monotonic.saturating_duration_since(moved.1);
        if since > LONGEST_STANDING {
            return Some(Disagreement::Stands { since });
        }
        let by = self.ahead_of_store(wall, monotonic)?;
        (by.abs() > tolerance).then_some(Disagreement::OffStore { by })
    }

    /// From here on both are compared with what they show at this moment, and with the store's when that is asked for the next time.
    pub(super) fn believe(&mut self, wall: Timestamp, monotonic: Instant) {
        self.believed = Some((wall, monotonic));
        self.store = None;
    }

    /// The store's clock showed this between these two moments. An answer that took long says less than an older one that did not, unless both
    /// cannot be true: then the store's clock was set.
    pub(super) fn store_showed(&mut self, theirs: Timestamp, asked: Instant, answered: Instant) {
        let way = answered.saturating_duration_since(asked) / 2;
        let shown = Showed {
            at: (theirs, asked + way),
            within: way,
        };
        let says_less = |before: Showed| {
            let (within, apart) = (before.within_at(answered), ahead(theirs, asked + way, before.at));
            way > within && apart.unsigned_abs() <= way + within
        };
        if !self.store.is_some_and(says_less) {
            self.store = Some(shown);
        }
    }

    /// How far the wall clock is ahead of the store's.
    pub(super) fn ahead_of_store(&self, wall: Timestamp, monotonic: Instant) -> Option<SignedDuration> {
        Some(ahead(wall, monotonic, self.store?.at))
    }
}

/// By how much the wall clock is ahead of where it would be, had it gone on from there with the monotonic one.
fn ahead(wall: Timestamp, monotonic: Instant, from: (Timestamp, Instant)) -> SignedDuration {
    let passed = monotonic.saturating_duration_since(from.1);
    let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
    wall.duration_since(from.0).saturating_sub(passed)
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
    use super::{
        AgainstLog, Clocks, Disagreement, LONGEST_SILENCE, SYSTEM_TOLERANCE, TOLERANCE, against_log, against_system,
    };
    use jiff::{SignedDuration, Timestamp};
    use std::time::Duration;
    use tokio::time::Instant;

    const MINUTE: SignedDuration = SignedDuration::from_mins(1);
    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// Row 1.
    #[test]
    fn a_jump_in_either_direction_is_seen_and_the_passing_of_time_is_not() {
        let (wall, began) = (Timestamp::UNIX_EPOCH, Instant::now());
        let mut clocks = Clocks::default();
        assert_eq!(clocks.look(wall, began, TOLERANCE), None);
        let later = began + seconds(3600);
        assert_eq!(clocks.look(wall + HOUR, later, TOLERANCE), None);
        let ahead = wall + HOUR + HOUR;
        let jumped = |by| Some(Disagreement::Jumped { by });
        assert_eq!(clocks.look(ahead, later, TOLERANCE), jumped(HOUR));
        assert_eq!(
            clocks.look(ahead, later, TOLERANCE),
            jumped(HOUR),
            "until it is believed"
        );
        clocks.believe(ahead, later);
        assert_eq!(clocks.look(ahead, later, TOLERANCE), None);
        assert_eq!(clocks.look(wall, later, TOLERANCE), jumped(-(HOUR + HOUR)));
    }

    #[test]
    fn the_stores_clock_is_known_by_the_answer_that_says_most() {
        let (theirs, began) = (Timestamp::UNIX_EPOCH, Instant::now());
        let millis = SignedDuration::from_millis;
        let mut clocks = Clocks::default();
        let mut ask = |at: u64, took: u64, showed: SignedDuration| {
            let asked = began + Duration::from_millis(at);
            clocks.store_showed(theirs + showed, asked, asked + Duration::from_millis(took));
            let answered = asked + Duration::from_millis(took);
            let passed = SignedDuration::try_from(answered - began).unwrap();
            clocks.ahead_of_store(theirs + passed, answered)
        };
        assert_eq!(
            ask(0, 400, millis(400)),
            Some(millis(-200)),
            "shown at the end of the way"
        );
        assert_eq!(ask(1_000, 2, millis(1_001)), Some(millis(0)));
        assert_eq!(ask(2_000, 8_000, millis(9_999)), Some(millis(0)), "the way says less");
        assert_eq!(
            ask(60_000, 40, millis(60_030)),
            Some(millis(-10)),
            "what was known is old"
        );
        assert_eq!(ask(61_000, 400, millis(63_200)), Some(millis(-2_000)), "it was set");
    }

    /// Row 1.
    #[test]
    fn a_clock_that_stands_still_or_goes_wrong_slowly_is_seen() {
        let (wall, began) = (Timestamp::UNIX_EPOCH, Instant::now());
        let mut clocks = Clocks::default();
        for passed in [0, 5, 10] {
            assert_eq!(clocks.look(wall, began + seconds(passed), TOLERANCE), None);
        }
        let since = seconds(11);
        assert_eq!(
            clocks.look(wall, began + since, TOLERANCE),
            Some(Disagreement::Stands { since })
        );
        let mut clocks = Clocks::default();
        // Half the time is missing, a little with each look.
        let look = (0..100).find_map(|turn| {
            let half = SignedDuration::from_secs(turn * 5);
            clocks.look(wall + half, began + seconds(turn.unsigned_abs() * 10), TOLERANCE)
        });
        assert!(
            matches!(look, Some(Disagreement::Jumped { by }) if by < -TOLERANCE),
            "{look:?}"
        );
    }

    /// Row 1.
    #[test]
    fn a_clock_that_is_not_the_stores_is_seen_and_the_way_of_the_answer_is_not() {
        let (wall, began) = (Timestamp::UNIX_EPOCH, Instant::now());
        let mut clocks = Clocks::default();
        clocks.store_showed(wall + MINUTE, began, began + seconds(4));
        assert_eq!(clocks.look(wall, began, TOLERANCE), None);
        let by = clocks.ahead_of_store(wall, began + seconds(2));
        assert_eq!(by, Some(-MINUTE));
        clocks.store_showed(wall + HOUR, began, began);
        let by = -HOUR;
        assert_eq!(clocks.look(wall, began, TOLERANCE), Some(Disagreement::OffStore { by }));
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
