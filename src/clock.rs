//! The only place that reads the clock and draws chance. Everything else takes an instant, an id or bytes as a parameter, so that a test can
//! decide them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use ring::rand::{SecureRandom, SystemRandom};
use uuid::{Builder, Uuid};

/// Wall-clock time, UTC.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The operating system gave no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no randomness")]
pub struct NoChance;

/// Where random bytes come from: secrets, nonces, ids, jitter.
pub trait Chance: Send + Sync {
    /// Fills all of it, evenly and unpredictably.
    ///
    /// # Errors
    /// [`NoChance`]; what was in it is not to be used.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoChance>;
}

impl Chance for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoChance> {
        SecureRandom::fill(self, bytes).map_err(|_| NoChance)
    }
}

/// What keeps the ids of one millisecond in order.
#[derive(Debug, Default)]
struct LastId {
    millis: u64,
    counter: u64,
}

/// Ids of one millisecond are told apart by so many bits that count (RFC 9562, 6.2, method 1).
const COUNTER_BITS: u32 = 42;

impl LastId {
    /// The next place: never before the last one, also when the clock is set back. `fresh` is where a new millisecond begins to count.
    fn next(&mut self, millis: u64, fresh: u64) -> (u64, u64) {
        if millis > self.millis {
            self.millis = millis;
            // The upper half stays free to count in.
            self.counter = fresh >> (64 - COUNTER_BITS + 1);
        } else {
            self.counter += 1;
            if self.counter >> COUNTER_BITS != 0 {
                self.millis += 1;
                self.counter = fresh >> (64 - COUNTER_BITS + 1);
            }
        }
        (self.millis, self.counter)
    }
}

/// Time and chance, handed to whatever needs them.
#[derive(Clone)]
pub struct Environment {
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Chance>,
    /// By how many microseconds the clock was found to be ahead of the one that decides.
    ahead: Arc<AtomicI64>,
    ids: Arc<std::sync::Mutex<LastId>>,
}

impl Environment {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Chance>) -> Self {
        Self {
            clock,
            random,
            ahead: Arc::default(),
            ids: Arc::default(),
        }
    }

    /// The machine's clock and the operating system's randomness.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self::new(Arc::new(SystemClock), Arc::new(SystemRandom::new()))
    }

    /// What everything is decided by: the clock, put right. Where servers share a store this is the store's time, so that what one of them wrote
    /// is not minutes older for the next one.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let shown = self.clock.now();
        shown.saturating_sub(self.ahead()).unwrap_or(shown)
    }

    /// By how much the clock is put right, for whoever has a part of this environment.
    #[must_use]
    pub fn ahead(&self) -> SignedDuration {
        SignedDuration::from_micros(self.ahead.load(Ordering::Relaxed))
    }

    /// The clock was found to be ahead by so much: from here on [`Environment::now`] is earlier by that.
    pub fn put_right(&self, ahead: SignedDuration) {
        let micros = i64::try_from(ahead.as_micros()).unwrap_or(0);
        self.ahead.store(micros, Ordering::Relaxed);
    }

    /// A fresh id: version 7, so ids of one process sort by the time at which they were drawn.
    #[must_use]
    pub fn draw_uuid(&self) -> Uuid {
        let mut drawn = [0; 12];
        if self.random.fill(&mut drawn).is_err() {
            // Without randomness nothing is sealed and no run is opened; an id that only counts is still an id of its own.
            drawn = [0; 12];
        }
        let [a, b, c, d, e, f, g, h, tail @ ..] = drawn;
        let fresh = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let millis = u64::try_from(self.now().as_millisecond()).unwrap_or(0);
        let mut last = self.ids.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (millis, counter) = last.next(millis, fresh);
        // 12 bits of the counter stand before the variant, 30 behind it, and 32 random ones at the end.
        let upper = u16::try_from(counter >> 30).unwrap_or(0).to_be_bytes();
        let lower = u32::try_from(counter & ((1 << 30) - 1)).unwrap_or(0).to_be_bytes();
        let [i, j, k, l] = tail;
        let bytes = [upper[0], upper[1], lower[0], lower[1], lower[2], lower[3], i, j, k, l];
        Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid()
    }

    /// Evenly drawn from 0 to 1, for jitter.
    #[must_use]
    pub fn draw_fraction(&self) -> f64 {
        let mut bytes = [0; 4];
        // Without randomness there is no jitter; the full delay is the safe end.
        match self.random.fill(&mut bytes) {
            Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
            Err(_) => 1.0,
        }
    }
}

/// The machine's clock, as far off as a test wants it.
#[cfg(test)]
#[derive(Debug, Default)]
pub struct ShiftedClock {
    micros: AtomicI64,
    held: std::sync::Mutex<Option<Timestamp>>,
}

#[cfg(test)]
impl ShiftedClock {
    /// From here on it shows this very instant.
    pub fn hold(&self) {
        let now = self.now();
        *self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(now);
    }

    /// A held clock goes again, as if it had not been held.
    pub fn go_on(&self) {
        *self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    }

    /// Moves the clock from where it stands, also one that is held.
    pub fn shift(&self, by: SignedDuration) {
        if let Some(held) = &mut *self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            *held = held.saturating_add(by).unwrap_or(Timestamp::MAX);
        }
        let micros = i64::try_from(by.as_micros()).unwrap_or(0);
        self.micros.fetch_add(micros, Ordering::SeqCst);
    }
}

#[cfg(test)]
impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        if let Some(held) = *self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            return held;
        }
        let by = self.micros.load(Ordering::SeqCst);
        SystemClock
            .now()
            .saturating_add(SignedDuration::from_micros(by))
            .unwrap_or(Timestamp::MAX)
    }
}

/// Chance that a seed decides: the same seed, the same bytes. Good for nothing that is secret.
#[cfg(test)]
#[derive(Debug)]
pub struct SeededChance(std::sync::Mutex<u64>);

#[cfg(test)]
impl SeededChance {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(std::sync::Mutex::new(seed))
    }

    /// The next 64 bits: splitmix64.
    pub fn draw(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = *state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

#[cfg(test)]
impl Chance for SeededChance {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoChance> {
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.draw().to_be_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_their_own_and_sort_by_when_they_were_drawn() {
        let clock = Arc::new(ShiftedClock::default());
        let env = Environment::new(Arc::clone(&clock) as _, Arc::new(SeededChance::new(7)));
        let mut last = env.draw_uuid();
        for number in 0..10_000 {
            if number == 5_000 {
                clock.shift(SignedDuration::from_hours(-1));
            }
            let next = env.draw_uuid();
            assert!(next > last, "{next} behind {last}");
            assert_eq!(
                (next.get_version_num(), next.get_variant()),
                (7, uuid::Variant::RFC4122)
            );
            last = next;
        }
    }

    #[test]
    fn a_full_counter_moves_on_in_time() {
        let mut last = LastId {
            millis: 5,
            counter: (1 << COUNTER_BITS) - 1,
        };
        let (millis, counter) = last.next(5, u64::MAX);
        assert_eq!(millis, 6);
        assert!(counter < 1 << (COUNTER_BITS - 1));
    }

    #[test]
    fn one_seed_draws_one_sequence() {
        let drawn = |seed| {
            let mut bytes = [0; 20];
            SeededChance::new(seed).fill(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }
}
