//! The driver's pen: folds an event into the run, keeps what is to be stored with it, and stores it, under the lease and behind whatever
//! somebody else wrote.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::driver::{Driver, Left};
use super::facts::facts_of;
use super::lease::renew;
use super::manual;
use super::outbox::{Extra, Flushed, Then};
use super::took::Question;
use crate::domain::control::control_rotation;
use crate::domain::due::own_end;
use crate::domain::identity::Identity;
use crate::domain::landscape::Landscape;
use crate::domain::resource::Budget;
use crate::domain::workflow::{Event, EventBody, IllegalEvent, Run, RunStatus, StuckBecause};
use crate::store::{Fact, StoreError};

/// Why a driver stops in the middle.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error("the lease is another node's")]
    Lost,
    #[error("the store did not take what had to be stored")]
    Store(#[from] StoreError),
    #[error("the log of the run does not fold")]
    Illegal(#[from] IllegalEvent),
}

impl Stop {
    /// Trying again would come to the same.
    pub(super) fn is_contradiction(&self) -> bool {
        match self {
            Self::Illegal(_) => true,
            Self::Store(error) => matches!(
                error,
                StoreError::IllegalTransition { .. } | StoreError::Absent { .. } | StoreError::Conflict { .. }
            ),
            Self::Lost => false,
        }
    }
}

/// What came of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    AsAsked,
    /// Somebody else had written: the run is to be decided anew.
    Anew,
}

/// What is known of the run's identity, read once when it is needed.
pub(super) struct Subject {
    identity: Option<Identity>,
    register: Arc<Landscape>,
}

impl Subject {
    /// The budget that holds for the identity, under the name of its policy.
    pub(super) fn budget(&self) -> Option<(&str, &Budget)> {
        let holding = self.register.policy_of(self.identity.as_ref()?)?;
        Some((holding.name, &holding.policy.budget))
    }
}

/// More lease than this is left when an effect may take its whole time.
const MARGIN: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often a result is offered to a store that fails, about a minute. Whoever takes the run afterwards looks before repeating.
const OFFERS: u32 = 16;
impl Driver {
    /// Kept to the microsecond, as it is stored.
    pub(super) fn now(&self) -> Timestamp {
        self.run.instant(to_micros(self.shared.env.now()))
    }

    pub(super) fn push(&mut self, body: EventBody, facts: Vec<Fact>) -> Result<(), Stop> {
        self.push_at(self.now(), body, facts)
    }

    pub(super) fn push_at(&mut self, at: Timestamp, body: EventBody, extra: Vec<Fact>) -> Result<(), Stop> {
        let event = Event {
            seq: self.run.next_seq(),
            at,
            epoch: self.lease.epoch,
            body,
        };
        self.fold(event, extra)
    }

    fn fold(&mut self, event: Event, extra: Vec<Fact>) -> Result<(), Stop> {
        let is_repeated = matches!(&event.body, EventBody::Started { step, .. } if self.run.was_begun(*step));
        self.run.apply(&event)?;
        let mut facts = if is_repeated {
            Vec::new()
        } else {
            facts_of(&self.run, &event, &self.schedule)
        };
        facts.extend(extra);
        self.outbox.push(&self.run, event, facts);
        Ok(())
    }

    /// Stores what is pending. The results of effects are not given up as long as the run is ours: a store that fails is asked again.
    pub(super) async fn flush(&mut self, then: Then) -> Result<Written, Stop> {
        let mut pause = FIRST_PAUSE;
        let mut offers: u32 = 0;
        loop {
            offers = offers.saturating_add(1);
            match self.outbox.flush(&self.shared, &self.run, then, Extra::default()).await {
                Ok(Flushed::Stored) => return Ok(Written::AsAsked),
                Ok(Flushed::Lost) => return Err(Stop::Lost),
                Ok(Flushed::Moved | Flushed::Held(_)) => {
                    self.rebase().await?;
                    return Ok(Written::Anew);
                }
                Err(StoreError::Failed { .. } | StoreError::Unwritable { .. })
                    if self.is_worth_offering() && offers < OFFERS =>
                {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn is_worth_offering(&self) -> bool {
        self.outbox.exposed_since().is_some() && !self.lease.left().is_zero() && !self.shared.is_stopping()
    }

    /// What came of a step cannot be stored, because it contradicts what is: a person is asked, so that it is not repeated for ever.
    pub(super) async fn contradicted(&mut self, error: &Stop) -> Result<Left, Stop> {
        self.outbox.take_pending(self.run.next_seq());
        self.rebase().await?;
        let Some(step) = self.run.step().filter(|_| *self.run.status() == RunStatus::Open) else {
            return Ok(Left::Broken);
        };
        let reason = format!(
            "what came of {} contradicts what is stored: {}",
            step.name(),
            chain(error)
        );
        let question = Question {
            because: StuckBecause::Ourselves,
            reason,
            manual_step: manual::defect_step(&self.run, step),
        };
        self.ask_operator(step, question)?;
        Ok(self.leave(None).await?.unwrap_or(Left::Broken))
    }

    /// The store wakes by its own clock. Where that is ahead of ours, a run would be given back at once, again and again, until ours has caught
    /// up: so its wake is not before as much time has passed, since the last one, as is left by our clock.
    fn by_the_store(&self, until: Timestamp) -> Timestamp {
        let wake_at = self.shared.watch.by_the_store(&self.shared, until);
        let left = until.duration_since(self.now());
        let woken_at = self.woken_at.filter(|_| left.is_positive());
        match woken_at.and_then(|woken_at| woken_at.checked_add(left).ok()) {
            Some(earliest) => wake_at.max(earliest),
            None => wake_at,
        }
    }

    /// Stores what is pending and gives the run up until then.
    pub(super) async fn leave(&mut self, until: Option<Timestamp>) -> Result<Option<Left>, Stop> {
        let wake_at = until.map(|until| self.by_the_store(until));
        match self.flush(Then::Release(wake_at)).await? {
            Written::AsAsked => Ok(Some(Left::Waiting { until })),
            Written::Anew => Ok(None),
        }
    }

    /// Reads the run again and puts what we still had to say behind what somebody else appended. An intent that was not stored is dropped, and
    /// so is a close: both are to be decided anew, and nothing was done about them.
    pub(super) async fn rebase(&mut self) -> Result<(), Stop> {
        let stored = self.shared.store.run(self.lease.run).await?;
        let Some(stored) = stored else { return Err(Stop::Lost) };
        let mut run = Run::replay(&stored.events)?;
        std::mem::swap(&mut self.run, &mut run);
        for pending in self.outbox.take_pending(self.run.next_seq()) {
            let mut event = pending.event;
            if stored.events.get(event.seq as usize) == Some(&event) {
                continue;
            }
            if matches!(event.body, EventBody::Started { .. } | EventBody::Closed { .. }) {
                break;
            }
            event.seq = self.run.next_seq();
            let findings = pending
                .facts
                .into_iter()
                .filter(|fact| matches!(fact, Fact::Finding(_)))
                .collect();
            if let Err(error) = self.fold(event, findings) {
                tracing::warn!(run.id = %self.lease.run, error = &error as &dyn std::error::Error, "a result does not follow any more; the step is looked at again");
                break;
            }
        }
        Ok(())
    }

    /// Reads the identity and its policy, once.
    pub(super) async fn learn(&mut self) -> Result<(), Stop> {
        if self.subject.is_some() {
            return Ok(());
        }
        let register = self.shared.register.current(&*self.shared.store).await?;
        let identity = self.shared.store.identity(self.run.plan().identity).await?;
        let holding = identity.as_ref().and_then(|identity| register.policy_of(identity));
        let is_control = identity.as_ref().is_some_and(|identity| identity.is_control);
        let rule = holding.map(|holding| holding.policy.rotation.clone());
        self.schedule.rule = rule.or_else(|| is_control.then(control_rotation));
        self.schedule.ends = identity.as_ref().and_then(own_end);
        self.subject = Some(Subject { identity, register });
        Ok(())
    }

    /// A run whose lease ran out unseen (the process was stopped, renewals failed) is asked for once more, and let go when it is not ours.
    pub(super) async fn hold_on(&mut self) -> Result<(), Stop> {
        if self.lease.left().is_zero() && !self.lease.is_lost() {
            renew(&self.shared, &[Arc::clone(&self.lease)]).await;
        }
        if self.lease.left().is_zero() {
            return Err(Stop::Lost);
        }
        Ok(())
    }

    /// Sees to it that the lease outlives an effect that takes its whole time (P10).
    pub(super) async fn hold_for(&mut self, time: Duration) -> Result<(), Stop> {
        let wanted = time + MARGIN;
        self.lease.want(wanted);
        if self.lease.left() <= wanted {
            renew(&self.shared, &[Arc::clone(&self.lease)]).await;
        }
        if self.lease.left() <= time {
            return Err(Stop::Lost);
        }
        Ok(())
    }
}

/// The log keeps microseconds.
pub(super) fn to_micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// An error and what it comes from, as one text.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
