//! How hard the nodes lean on each system: how many steps at once, and a pause while the system does not answer. How many calls a second they
//! make is `pace.rs`.
//!
//! Where this node is the only one it is kept in memory. Where there are others, slots are drawn from the store in batches that expire, so that
//! all nodes together use no more than a system allows, and one that dies gives back by the time. Every run's own waits are stored. A system
//! that fails for everybody is left alone for a while, by all nodes, so that its return is not met by a storm.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::ErrorKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::domain::resource::SystemLimits;
use crate::store::{ShareAsk, Store, StoreError};

/// Failures in a row after which a system is left alone.
const FAILURES: u32 = 5;
const ASK_AGAIN: SignedDuration = SignedDuration::from_millis(500);
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(2);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(5);

/// For how long slots are drawn. Those in use are drawn again with each beat of this node.
const DRAWN_FOR: Duration = Duration::from_secs(30);

struct Gauge {
    limits: SystemLimits,
    slots: Arc<Semaphore>,
    /// What was drawn of them, where other nodes lean on the system too.
    drawn: tokio::sync::Mutex<Drawn>,
    health: Mutex<Health>,
}

#[derive(Debug)]
struct Drawn {
    slots: u32,
    until: Instant,
}

/// The store from which the nodes of this store draw.
pub(super) struct Common<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) node: &'a str,
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
            drawn: tokio::sync::Mutex::new(Drawn {
                slots: 0,
                until: Instant::now(),
            }),
            health: Mutex::default(),
            limits,
        }
    }

    /// Steps of this node that are under way, the one that asks with them.
    fn in_use(&self) -> u32 {
        let free = u32::try_from(self.slots.available_permits()).unwrap_or(u32::MAX);
        self.limits.concurrency.max(1).saturating_sub(free)
    }

    /// Sees to it that all nodes know of the slots that this one uses. Whether there was one for the step that asks.
    async fn is_granted(&self, system: &str, common: &Common<'_>, now: Timestamp) -> Result<bool, StoreError> {
        let mut drawn = self.drawn.lock().await;
        if self.in_use() <= drawn.slots && Instant::now() < drawn.until {
            return Ok(true);
        }
        // A few more than are used: the next ones ask nobody.
        let wanted = self.in_use().saturating_add(self.limits.concurrency / 8);
        self.draw(system, common, &mut drawn, wanted, None, now).await?;
        Ok(self.in_use() <= drawn.slots)
    }

    async fn draw(
        &self,
        system: &str,
        common: &Common<'_>,
        drawn: &mut Drawn,
        wanted: u32,
        leave_alone_for: Option<SignedDuration>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let asked_at = Instant::now();
        let ask = ShareAsk {
            system: system.to_owned(),
            node: common.node.to_owned(),
            slots: Some(wanted.min(self.limits.concurrency.max(1))),
            concurrency: self.limits.concurrency.max(1),
            slots_for: SignedDuration::try_from(DRAWN_FOR).unwrap_or(SignedDuration::MAX),
            calls: 0,
            calls_per_second: 0,
            leave_alone_for,
        };
        let share = common.store.draw_share(&ask).await?;
        *drawn = Drawn {
            slots: share.slots,
            until: asked_at + DRAWN_FOR,
        };
        let until = share.left_alone_for.and_then(|length| now.checked_add(length).ok());
        let mut health = self.health();
        health.left_alone_until = health.left_alone_until.max(until);
        Ok(())
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
    ///
    /// # Errors
    /// When the store, of which the slots are drawn, does not answer.
    pub(super) async fn slot(
        &self,
        system: &str,
        limits: &SystemLimits,
        common: Option<Common<'_>>,
        now: Timestamp,
        patience: Duration,
    ) -> Result<Slot, StoreError> {
        let gauge = self.gauge(system, limits);
        let later = || Slot::Later(now.saturating_add(ASK_AGAIN).unwrap_or(now));
        if let Some(until) = gauge.health().left_alone_until.filter(|until| now < *until) {
            return Ok(Slot::Later(until));
        }
        let wait = tokio::time::timeout(patience, Arc::clone(&gauge.slots).acquire_owned());
        let Ok(Ok(permit)) = wait.await else { return Ok(later()) };
        let Some(common) = common else {
            return Ok(Slot::Free(permit));
        };
        if !gauge.is_granted(system, &common, now).await? {
            return Ok(later());
        }
        // Another node may just have told that the system does not answer.
        match gauge.health().left_alone_until.filter(|until| now < *until) {
            Some(until) => Ok(Slot::Later(until)),
            None => Ok(Slot::Free(permit)),
        }
    }

    /// Tells all nodes that the system is left alone, as this one has found.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(super) async fn tell(
        &self,
        system: &str,
        common: Common<'_>,
        pause: SignedDuration,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let gauge = self.lock().get(system).cloned();
        let Some(gauge) = gauge else { return Ok(()) };
        let mut drawn = gauge.drawn.lock().await;
        let in_use = gauge.in_use();
        gauge.draw(system, &common, &mut drawn, in_use, Some(pause), now).await
    }

    /// Draws the slots in use again, and gives back those that are not.
    pub(super) async fn keep(&self, common: Common<'_>, now: Timestamp) -> Result<(), StoreError> {
        let gauges: Vec<_> = {
            let systems = self.lock();
            systems
                .iter()
                .map(|(name, gauge)| (name.clone(), Arc::clone(gauge)))
                .collect()
        };
        for (system, gauge) in gauges {
            let mut drawn = gauge.drawn.lock().await;
            let in_use = gauge.in_use();
            if drawn.slots > 0 || in_use > 0 {
                gauge.draw(&system, &common, &mut drawn, in_use, None, now).await?;
            }
        }
        Ok(())
    }

    /// Keeps in mind how the system answered. The pause that begins with it, when one does.
    pub(super) fn answered(&self, system: &str, error: Option<ErrorKind>, now: Timestamp) -> Option<SignedDuration> {
        let gauge = self.lock().get(system).cloned()?;
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
                    return Some(pause);
                }
            }
            _ => *health = Health::default(),
        }
        None
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::{SignedDuration, Timestamp};
    use keyfall_sdk::ErrorKind;

    use super::{FAILURES, Limits, Slot};
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
        let first = free(all.slot("db", &two, None, now(), IMPATIENT).await.unwrap());
        let _second = free(all.slot("db", &two, None, now(), IMPATIENT).await.unwrap());
        let third = all.slot("db", &two, None, now(), IMPATIENT).await.unwrap();
        assert!(matches!(third, Slot::Later(at) if at > now()));
        // Another system has room of its own.
        drop(free(all.slot("cache", &two, None, now(), IMPATIENT).await.unwrap()));
        drop(first);
        drop(free(all.slot("db", &two, None, now(), IMPATIENT).await.unwrap()));
    }

    #[tokio::test]
    async fn changed_limits_hold_from_then_on() {
        let all = Limits::default();
        let _first = free(all.slot("db", &limits(1, 1000), None, now(), IMPATIENT).await.unwrap());
        assert!(matches!(
            all.slot("db", &limits(1, 1000), None, now(), IMPATIENT).await.unwrap(),
            Slot::Later(_)
        ));
        drop(free(
            all.slot("db", &limits(2, 1000), None, now(), IMPATIENT).await.unwrap(),
        ));
    }

    /// Row 29.
    #[tokio::test]
    async fn a_system_that_fails_for_everybody_is_left_alone_for_longer_each_time() {
        let (all, some) = (Limits::default(), limits(9, 1000));
        drop(free(all.slot("db", &some, None, now(), IMPATIENT).await.unwrap()));
        let fails = || all.answered("db", Some(ErrorKind::Transient), now());
        for _ in 1..FAILURES {
            fails();
        }
        drop(free(all.slot("db", &some, None, now(), IMPATIENT).await.unwrap()));
        let mut pauses = Vec::new();
        for _ in 0..12 {
            fails();
            match all.slot("db", &some, None, now(), IMPATIENT).await.unwrap() {
                Slot::Later(at) => pauses.push(at.duration_since(now())),
                Slot::Free(_) => panic!("it was not left alone"),
            }
        }
        assert_eq!(pauses[..3], [2, 4, 8].map(SignedDuration::from_secs));
        assert_eq!(pauses.last(), Some(&SignedDuration::from_mins(5)));

        let later = now() + SignedDuration::from_mins(6);
        drop(free(all.slot("db", &some, None, later, IMPATIENT).await.unwrap()));
        all.answered("db", Some(ErrorKind::Denied), later);
        fails();
        drop(free(all.slot("db", &some, None, now(), IMPATIENT).await.unwrap()));
    }
}
