//! The only place that reads the clock and draws chance. Everything else takes an instant, an id or bytes as a parameter, so that a test can
//! decide them.

use std::sync::Arc;

use jiff::Timestamp;
use ring::rand::SecureRandom;
use uuid::{ContextV7, Uuid};

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

/// Time and chance, handed to whatever needs them.
#[derive(Clone)]
pub struct Environment {
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn SecureRandom + Send + Sync>,
    ids: Arc<std::sync::Mutex<ContextV7>>,
}

impl Environment {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn SecureRandom + Send + Sync>) -> Self {
        Self {
            clock,
            random,
            ids: Arc::new(std::sync::Mutex::new(ContextV7::new())),
        }
    }

    /// The machine's clock and the operating system's randomness.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self::new(Arc::new(SystemClock), Arc::new(ring::rand::SystemRandom::new()))
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A fresh id: version 7, so ids of one process sort by the time at which they were drawn.
    #[must_use]
    pub fn draw_uuid(&self) -> Uuid {
        let now = self.now();
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
        let context = self.ids.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Uuid::new_v7(uuid::Timestamp::from_unix(&*context, seconds, nanos))
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
    micros: std::sync::atomic::AtomicI64,
    held: std::sync::Mutex<Option<Timestamp>>,
}

#[cfg(test)]
impl ShiftedClock {
    /// From here on it shows this very instant.
    pub fn hold(&self) {
        let now = self.now();
        *self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(now);
    }

    /// Moves the clock from where it stands.
    pub fn shift(&self, by: jiff::SignedDuration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(0);
        self.micros.fetch_add(micros, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(test)]
impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        if let Some(held) = *self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            return held;
        }
        let by = self.micros.load(std::sync::atomic::Ordering::SeqCst);
        SystemClock
            .now()
            .saturating_add(jiff::SignedDuration::from_micros(by))
            .unwrap_or(Timestamp::MAX)
    }
}
