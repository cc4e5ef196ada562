//! How hard this node leans on each system: how many steps at once, how many calls a second, and a pause while the system does not answer.
//!
//! Kept in memory: it protects the system from this process, and every run's own waits are stored. A system that fails for everybody is left
//! alone for a while, so that its return is not met by a storm.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::ErrorKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::domain::resource::SystemLimits;

/// Failures in a row after which a system is left alone.
const FAILURES: u32 = 5;
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(2);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(5);

struct Gauge {
    limits: SystemLimits,
    slots: Arc<Semaphore>,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    failures: u32,
    left_alone_until: Option<Timestamp>,
}

impl Gauge {
    fn new(limits: SystemLimits) -> Self {
        let slots = usize::try_from(limits.concurrency.max(1)).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            slots: Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS))),
            health: Mutex::default(),
            limits,
        }
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of asking for a slot.
pub(super) enum Slot {
    Free(OwnedSemaphorePermit),
    /// The system is busy or left alone; ask again then.
    Later(Timestamp),
}

#[derive(Default)]
pub(super) struct Limits {
    systems: Mutex<HashMap<String, Arc<Gauge>>>,
}

impl Limits {
    /// Waits no longer than `patience` for a slot, so that one slow system does not hold every run of this node.
    pub(super) async fn slot(&self, system: &str, limits: &SystemLimits, now: Timestamp, patience: Duration) -> Slot {
        let gauge = self.gauge(system, limits);
        if let Some(until) = gauge.health().left_alone_until.filter(|until| now < *until) {
            return Slot::Later(until);
        }
        let wait = tokio::time::timeout(patience, Arc::clone(&gauge.slots).acquire_owned());
        match wait.await {
            Ok(Ok(permit)) => Slot::Free(permit),
            _ => Slot::Later(now.saturating_add(SignedDuration::from_millis(500)).unwrap_or(now)),
        }
    }

    /// Keeps in mind how the system answered.
    pub(super) fn answered(&self, system: &str, error: Option<ErrorKind>, now: Timestamp) {
        let gauge = self.lock().get(system).cloned();
        let Some(gauge) = gauge else { return };
        let mut health = gauge.health();
        match error {
            Some(ErrorKind::Transient | ErrorKind::Ambiguous | ErrorKind::RateLimited { .. }) => {
                health.failures = health.failures.saturating_add(1);
                if health.failures >= FAILURES {
                    let doubled = 1_i32
                        .checked_shl((health.failures - FAILURES).min(16))
                        .unwrap_or(i32::MAX);
                    let pause = FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE);
                    health.left_alone_until = now.checked_add(pause).ok();
                }
            }
            _ => *health = Health::default(),
        }
    }

    fn gauge(&self, system: &str, limits: &SystemLimits) -> Arc<Gauge> {
        let mut systems = self.lock();
        if let Some(gauge) = systems.get(system).filter(|gauge| gauge.limits == *limits) {
            return Arc::clone(gauge);
        }
        let gauge = Arc::new(Gauge::new(limits.clone()));
        systems.insert(system.to_owned(), Arc::clone(&gauge));
        gauge
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Gauge>>> {
        self.systems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tokio's clock, so that a limit waits and is tested by the same one.
#[derive(Clone)]
struct Beat(Instant);

impl Clock for Beat {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// How many calls a second one system gets. A second's worth may come at once.
pub(super) struct Pace {
    limiter: RateLimiter<NotKeyed, InMemoryState, Beat, NoOpMiddleware<Duration>>,
    beat: Beat,
}

impl Pace {
    /// `None`: as many as there are.
    pub(super) fn new(calls_per_second: u32) -> Option<Self> {
        let rate = NonZeroU32::new(calls_per_second)?;
        let beat = Beat(Instant::now());
        Some(Self {
            limiter: RateLimiter::direct_with_clock(Quota::per_second(rate), beat.clone()),
            beat,
        })
    }

    /// Waits until one more call may be made.
    ///
    /// # Errors
    /// How long there would still be to wait, when `patience` does not suffice for it. The call is not counted then.
    pub(super) async fn take(&self, patience: Duration) -> Result<(), Duration> {
        let began = self.beat.now();
        loop {
            let Err(not_yet) = self.limiter.check() else {
                return Ok(());
            };
            let now = self.beat.now();
            // The clock below counts whole milliseconds; a wait of none would go round without letting time pass.
            let wait = not_yet.wait_time_from(now).max(Duration::from_millis(1));
            if now.saturating_sub(began) + wait > patience {
                return Err(wait);
            }
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::{SignedDuration, Timestamp};
    use keyfall_sdk::ErrorKind;
    use tokio::time::Instant;

    use super::{FAILURES, Limits, Pace, Slot};
    use crate::domain::resource::SystemLimits;

    const IMPATIENT: Duration = Duration::from_millis(20);

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn limits(concurrency: u32, calls_per_second: u32) -> SystemLimits {
        SystemLimits {
            concurrency,
            calls_per_second,
            ..SystemLimits::default()
        }
    }

    #[track_caller]
    fn free(slot: Slot) -> tokio::sync::OwnedSemaphorePermit {
        match slot {
            Slot::Free(permit) => permit,
            Slot::Later(at) => panic!("to be asked again at {at}"),
        }
    }

    #[tokio::test]
    async fn no_more_steps_than_the_system_allows_are_under_way_at_once() {
        let (all, two) = (Limits::default(), limits(2, 1000));
        let first = free(all.slot("db", &two, now(), IMPATIENT).await);
        let _second = free(all.slot("db", &two, now(), IMPATIENT).await);
        let third = all.slot("db", &two, now(), IMPATIENT).await;
        assert!(matches!(third, Slot::Later(at) if at > now()));
        // Another system has room of its own.
        drop(free(all.slot("cache", &two, now(), IMPATIENT).await));
        drop(first);
        drop(free(all.slot("db", &two, now(), IMPATIENT).await));
    }

    #[tokio::test]
    async fn changed_limits_hold_from_then_on() {
        let all = Limits::default();
        let _first = free(all.slot("db", &limits(1, 1000), now(), IMPATIENT).await);
        assert!(matches!(
            all.slot("db", &limits(1, 1000), now(), IMPATIENT).await,
            Slot::Later(_)
        ));
        drop(free(all.slot("db", &limits(2, 1000), now(), IMPATIENT).await));
    }

    #[tokio::test]
    async fn a_system_that_fails_for_everybody_is_left_alone_for_longer_each_time() {
        let (all, some) = (Limits::default(), limits(9, 1000));
        drop(free(all.slot("db", &some, now(), IMPATIENT).await));
        let fails = || all.answered("db", Some(ErrorKind::Transient), now());
        for _ in 1..FAILURES {
            fails();
        }
        drop(free(all.slot("db", &some, now(), IMPATIENT).await));
        let mut pauses = Vec::new();
        for _ in 0..12 {
            fails();
            match all.slot("db", &some, now(), IMPATIENT).await {
                Slot::Later(at) => pauses.push(at.duration_since(now())),
                Slot::Free(_) => panic!("it was not left alone"),
            }
        }
        assert_eq!(pauses[..3], [2, 4, 8].map(SignedDuration::from_secs));
        assert_eq!(pauses.last(), Some(&SignedDuration::from_mins(5)));

        let later = now() + SignedDuration::from_mins(6);
        drop(free(all.slot("db", &some, later, IMPATIENT).await));
        all.answered("db", Some(ErrorKind::Denied), later);
        fails();
        drop(free(all.slot("db", &some, now(), IMPATIENT).await));
    }

    #[tokio::test]
    async fn a_second_holds_so_many_calls_and_no_more() {
        let pace = Pace::new(100).unwrap();
        let began = Instant::now();
        for _ in 0..150 {
            pace.take(Duration::from_secs(60)).await.unwrap();
        }
        assert!(began.elapsed() >= Duration::from_millis(490), "{:?}", began.elapsed());
        assert!(Pace::new(0).is_none());
    }

    #[tokio::test]
    async fn a_wait_that_is_too_long_is_not_begun() {
        let pace = Pace::new(1).unwrap();
        pace.take(Duration::ZERO).await.unwrap();
        let wait = pace.take(Duration::from_millis(10)).await.unwrap_err();
        assert!(wait > Duration::from_millis(10), "{wait:?}");
    }
}
