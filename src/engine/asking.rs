//! When held runs ask again. Each that is held back asks anew after a while, and many that were held at one instant would all ask at one instant,
//! again and again. So an instant is given out to so many and to no more: whoever comes behind them asks later. It knows no run and no reason.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// Runs of one node that ask again within one second, at most: 100,000 that are frozen take some minutes for one turn, and cost a node little.
const IN_A_SECOND: u32 = 250;
/// Nobody is put off for longer than this, however many there are.
const LONGEST: SignedDuration = SignedDuration::from_mins(30);

/// How many ask again in each second to come.
#[derive(Default)]
pub(super) struct Asking(Mutex<BTreeMap<i64, u32>>);

impl Asking {
    /// The instant for somebody who wants to ask at `wanted`: this one, or the first one behind it that has room.
    pub(super) fn at(&self, wanted: Timestamp, now: Timestamp) -> Timestamp {
        let mut seconds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What lies behind us is over, and what a clock that jumped back has left far ahead was never meant.
        let latest = wanted.saturating_add(LONGEST).unwrap_or(Timestamp::MAX);
        *seconds = seconds.split_off(&now.as_second());
        drop(seconds.split_off(&latest.as_second().saturating_add(1)));
        let mut second = wanted.as_second();
        while second < latest.as_second() && seconds.get(&second).is_some_and(|count| *count >= IN_A_SECOND) {
            second = second.saturating_add(1);
        }
        let count = seconds.entry(second).or_default();
        *count = count.saturating_add(1);
        if second == wanted.as_second() {
            return wanted;
        }
        let part = i64::from(count.saturating_sub(1) % IN_A_SECOND) * 1_000 / i64::from(IN_A_SECOND);
        let at = Timestamp::from_second(second).unwrap_or(latest);
        at.saturating_add(SignedDuration::from_millis(part)).unwrap_or(latest)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::{SignedDuration, Timestamp};

    use super::{Asking, IN_A_SECOND};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const SOON: SignedDuration = SignedDuration::from_secs(5);

    #[test]
    fn a_few_ask_when_they_want_to() {
        let asking = Asking::default();
        for _ in 0..IN_A_SECOND {
            assert_eq!(asking.at(NOW + SOON, NOW), NOW + SOON);
        }
        assert!(asking.at(NOW + SOON, NOW) > NOW + SOON);
        // A budget that has room later is asked later, and hears nothing of those.
        let later = NOW + SignedDuration::from_mins(6);
        assert_eq!(asking.at(later, NOW), later);
    }

    #[test]
    fn a_hundred_thousand_that_are_held_at_once_ask_again_one_behind_the_other() {
        let asking = Asking::default();
        let mut in_second: BTreeMap<i64, u32> = BTreeMap::new();
        let mut last = NOW;
        for _ in 0..100_000 {
            let at = asking.at(NOW + SOON, NOW);
            *in_second.entry(at.as_second()).or_default() += 1;
            last = last.max(at);
        }
        assert!(in_second.values().all(|count| *count <= IN_A_SECOND), "{in_second:?}");
        assert_eq!(last.as_second(), 5 + 100_000 / i64::from(IN_A_SECOND) - 1);
        // Their turn over and over is the same.
        let at = asking.at(last + SOON, last);
        assert_eq!(at, last + SOON);
    }

    #[test]
    fn a_clock_that_jumps_back_puts_nobody_off() {
        let asking = Asking::default();
        let far = NOW + SignedDuration::from_hours(24 * 365);
        for _ in 0..1_000 {
            asking.at(far, far);
        }
        assert_eq!(asking.at(NOW + SOON, NOW), NOW + SOON);
    }
}
