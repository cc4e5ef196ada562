//! One run in our hands: decide, commit the intent, do the step, fold what came of it, store it. The driver knows how to be durable and
//! nothing of what a step does.
//!
//! | moment                         | what is durable before it                                                   |
//! |--------------------------------|------------------------------------------------------------------------------|
//! | an effect is sent              | all results so far and the intent, in one commit that holds only under our lease |
//! | a wait, a stop, the close      | all results so far                                                          |
//! | the step after a secret minted once | that result, alone and at once                                         |
//! | 100 ms after any other effect  | its result, even while the next step still reads                            |
//!
//! The task that drives is spawned and nothing aborts it: a future dropped half-way would be a crash without a restart. A refused commit means
//! that another node or a person wrote; the first is the end of it here, the second is read and put in front of what we still had to say.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::Instrument;

use super::facts::Schedule;
use super::gate::{Barrier, toll};
use super::lease::{Hold, Lease, unsigned};
use super::limits::Slot;
use super::outbox::{Extra, Flushed, Outbox, Then};
use super::record::{Stop, Subject, Written, to_micros};
use super::report::{StepEnd, StepReport};
use super::taking_over::in_flight;
use super::took::{Question, crashed};
use super::{Shared, aside, budget, findings, foreign, manual, measure, telling};
use crate::domain::resource::SystemLimits;
use crate::domain::workflow::{
    Decision, EventBody, Outcome, Path, Run, RunPlan, RunStatus, Step, StepState, StuckBecause, decide,
};
use crate::store::{Claimed, StoreError};

/// How a run left our hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Left {
    Closed,
    /// Given up until then, or until a person acts.
    Waiting {
        until: Option<Timestamp>,
    },
    /// Another node has it.
    Lost,
    /// Nothing more could be stored; the lease runs out, and whoever takes the run looks before repeating.
    Broken,
}

/// Whether an effect may be sent now.
enum Intended {
    Sent,
    /// The run is decided anew.
    Again,
    Left(Left),
}

pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) lease: Arc<Lease>,
    pub(super) run: Run,
    pub(super) outbox: Outbox,
    pub(super) subject: Option<Subject>,
    pub(super) schedule: Schedule,
    /// The instant for which it was claimed, by the store's clock.
    pub(super) woken_at: Option<Timestamp>,
}

/// Drives one claimed run until it closes, waits, or is not ours any more.
pub(super) async fn drive(shared: Arc<Shared>, claimed: Claimed, lease: Arc<Lease>) -> Left {
    let id = lease.run;
    let run = match aside::folded(&claimed) {
        Ok(run) => run,
        Err(why) => return aside::set_aside(&shared, &claimed.row, &lease, &why).await,
    };
    let outbox = Outbox::new(Arc::clone(&lease), &run);
    let in_flight = in_flight(&run, &claimed.events);
    let mut driver = Driver {
        shared,
        lease,
        run,
        outbox,
        subject: None,
        schedule: Schedule::default(),
        woken_at: claimed.row.wake_at,
    };
    let went = match driver.take_over(in_flight).await {
        Err(stop) if stop.is_contradiction() => {
            tracing::error!(run.id = %id, error = &stop as &dyn std::error::Error, "what came of a step cannot be stored; a person is asked");
            driver.contradicted(&stop).await
        }
        went => went,
    };
    match went {
        Ok(left) => left,
        Err(Stop::Lost) => {
            tracing::warn!(run.id = %id, "the lease was lost; nothing more is done about this run here");
            Left::Lost
        }
        Err(stop) => {
            tracing::error!(run.id = %id, error = &stop as &dyn std::error::Error, "a run stops here until its lease is over");
            Left::Broken
        }
    }
}

/// How long a step waits for its system's free slot before the run makes room for others.
const PATIENCE: Duration = Duration::from_secs(1);
/// Events that a step may leave unstored while it is repeated in the same instant.
const MOST_PENDING: usize = 8;
/// A wait no longer than this is waited for with the run in our hands, when nobody else wants the slot.
const SHORT_WAIT: Duration = Duration::from_secs(1);

impl Driver {
    pub(super) async fn go(&mut self) -> Result<Left, Stop> {
        loop {
            self.hold_on().await?;
            // By the clock as it is: one that went back must not look like one that stands still.
            let now = to_micros(self.shared.env.now());
            let is_open = *self.run.status() == RunStatus::Open;
            let left = match decide(&self.run, now) {
                Decision::Finished => Some(Left::Closed),
                Decision::Stuck => self.leave(None).await?,
                _ if is_open && self.shared.is_stopping() => self.leave(Some(now)).await?,
                Decision::Perform {
                    step,
                    attempt,
                    observe_first,
                } => self.perform(step, attempt, observe_first).await?,
                Decision::WaitUntil(at) => self.wait(now, at).await?,
                Decision::Unwind { cause } => {
                    self.push(EventBody::Unwinding { cause }, Vec::new())?;
                    None
                }
                Decision::Close(outcome) => self.close(outcome).await?,
            };
            if let Some(left) = left {
                return Ok(left);
            }
        }
    }

    async fn perform(&mut self, step: Step, attempt: u32, observe_first: bool) -> Result<Option<Left>, Stop> {
        let register = self.shared.register.recent(&*self.shared.store).await?;
        let system = self.run.plan().system_name.clone();
        let limits = register.limits_of(&system);
        let slot = match self.slot(&system, &limits).await? {
            Slot::Free(slot) => slot,
            Slot::Later(at) => return self.leave(Some(at)).await,
        };
        if matches!(step, Step::Promote | Step::Record | Step::ReadBack) {
            self.learn().await?;
        }
        if self.run.is_before_pivot()
            && let Some(end) = self.shared.steps.obstacle(&self.run, step).await
        {
            let observations = Vec::new();
            self.take(step, StepReport { observations, end }, Vec::new())?;
            return Ok(None);
        }
        if step.has_effect() {
            match self.intend(step, attempt).await? {
                Intended::Sent => {}
                Intended::Again => return Ok(None),
                Intended::Left(left) => return Ok(Some(left)),
            }
        }
        let began = Instant::now();
        let hold = Hold::of(&self.lease);
        let report = self.call(step, attempt, observe_first, hold.clone()).await;
        drop(slot);
        if hold.has_refused() && !matches!(report.end, StepEnd::Done(_)) {
            // As if this process had died there: whoever has the run now, perhaps ourselves, looks before anything is repeated.
            return Ok(None);
        }
        measure::step(self.run.plan().kind, step, &report.end, began.elapsed());
        // Asked behind the call: by then the system is connected, and says itself what its answers are worth.
        let must_record_at_once = step.has_effect() && self.shared.steps.must_record_at_once(&self.run, step);
        self.learn_of_system(&system, &report.end).await;
        let found = foreign::seen_in(&self.shared, &self.run, &report, self.now()).await?;
        self.take(step, report, found)?;
        // A proof repeats its few rounds so, and a commit for each would cost more than the rounds. What goes on repeating is stored: else it piles
        // up, and what a person writes in between is never met.
        let at_once = matches!(self.run.step_state(), StepState::Waiting { until } if *until <= self.now());
        if must_record_at_once || (at_once && self.outbox.len() >= MOST_PENDING) {
            self.flush(Then::GoOn).await?;
        }
        Ok(None)
    }

    /// What an answer says of the system itself, for this node and for the others.
    async fn learn_of_system(&self, system: &str, end: &StepEnd) {
        let error = match end {
            StepEnd::Failed(error) => Some(error.kind),
            _ => None,
        };
        let pause = self.shared.limits.answered(system, error, self.now());
        if let (Some(pause), Some(common)) = (pause, self.shared.common()) {
            // The others find out by themselves, were this not told.
            if let Err(error) = self.shared.limits.tell(system, common, pause, self.now()).await {
                tracing::warn!(
                    system.name = system,
                    error = &error as &dyn std::error::Error,
                    "a pause was not told"
                );
            }
        }
    }

    async fn slot(&self, system: &str, limits: &SystemLimits) -> Result<Slot, Stop> {
        let common = self.shared.common();
        Ok(self
            .shared
            .limits
            .slot(system, limits, common, self.now(), PATIENCE)
            .await?)
    }

    /// Commits the intent together with everything that is pending. Only then may the effect be sent.
    async fn intend(&mut self, step: Step, attempt: u32) -> Result<Intended, Stop> {
        let time_limit = self.shared.steps.time_limit(&self.run, step);
        self.hold_for(unsigned(time_limit)).await?;
        if budget::takes_away(&self.run, step) {
            self.learn().await?;
            if let Err(why) = self.still_allowed(step).await {
                let manual_step = match self.run.plan().approved_by_who_asked() {
                    Some(_) if self.run.hastened().is_none() => manual::ask_by_another(&self.run),
                    _ => manual::approve_again(&self.run),
                };
                let question = Question {
                    because: StuckBecause::Approval,
                    reason: format!("the approval does not hold: {why}"),
                    manual_step,
                };
                self.ask_operator(step, question)?;
                return Ok(Intended::Again);
            }
        }
        // Before something is taken away, and before time is said to have passed.
        if budget::takes_away(&self.run, step) || self.run.takes_back(step) || step == Step::ProveDead {
            self.shared.watch.look(&self.shared).await?;
        }
        let now = self.now();
        let toll = toll(&self.run, step, self.subject.as_ref().and_then(Subject::budget), now);
        let started = EventBody::Started {
            step,
            attempt,
            deadline: self.deadline(now, time_limit),
            intent: self.shared.steps.intent(&self.run, step),
        };
        self.push(started, Vec::new())?;
        let flushed = self.outbox.flush(&self.shared, &self.run, Then::GoOn, toll.extra).await;
        if matches!(flushed, Err(StoreError::Unwritable { .. })) && self.outbox.exposed_since().is_some() {
            return self.without_room().await;
        }
        match flushed? {
            Flushed::Stored => Ok(Intended::Sent),
            Flushed::Lost => Err(Stop::Lost),
            Flushed::Moved => {
                // Somebody changed the run under the intent: it is decided anew, and nothing was sent.
                self.rebase().await?;
                Ok(Intended::Again)
            }
            Flushed::Held(guard) => {
                self.rebase().await?;
                let barrier = toll.barriers.into_iter().nth(guard).unwrap_or(Barrier::Frozen);
                self.hold_back(step, &barrier).await
            }
        }
    }

    /// There is no room for the intent. The results that would have ridden with it are stored without it, and the run waits.
    async fn without_room(&mut self) -> Result<Intended, Stop> {
        self.rebase().await?;
        let now = self.now();
        let until = now
            .saturating_add(self.shared.settings.recheck)
            .unwrap_or(Timestamp::MAX);
        let left = self.leave(Some(self.shared.asking.at(until, now))).await?;
        Ok(left.map_or(Intended::Again, Intended::Left))
    }

    /// Checked again where something is taken away, against the people and the hour of this moment (P6). What was begun inside of its time is
    /// ended behind it too. Sessions and deliveries of what is revoked already go with it, and taking back needs nobody's approval.
    async fn still_allowed(&self, step: Step) -> Result<(), String> {
        let belongs_to_it = matches!(step, Step::EndSessions | Step::Withdraw) && self.run.is_past_pivot();
        if self.run.path() == Path::Unwinding || belongs_to_it {
            return Ok(());
        }
        // An emergency was asked for and signed by itself.
        let of_plan = Some(self.run.plan()).filter(|_| self.run.hastened().is_none());
        if let Some(name) = of_plan.and_then(RunPlan::approved_by_who_asked) {
            return Err(format!("{name} asked for this run and signed what allows it"));
        }
        if !budget::has_spent(&self.run)
            && let Some(ended_at) = self.run.approval_ends_at().filter(|ended_at| *ended_at <= self.now())
        {
            return Err(format!("it ran out at {ended_at:.0}, before anything was taken away"));
        }
        self.shared.prepare.check_approval(self.run.approval()).await
    }

    /// Calls the step. What an earlier effect left unstored is stored meanwhile when the call takes long; the call itself is never dropped.
    async fn call(&mut self, step: Step, attempt: u32, observe_first: bool, hold: Hold) -> StepReport {
        let (shared, run, outbox) = (&self.shared, &self.run, &mut self.outbox);
        let span = tracing::info_span!("step", run.id = %run.id(), run.step = step.name(), run.attempt = attempt);
        let work = AssertUnwindSafe(shared.steps.perform(run, step, attempt, observe_first, hold));
        let mut work = std::pin::pin!(work.catch_unwind().instrument(span));
        let mut done = None;
        if let Some(since) = outbox.exposed_since() {
            tokio::select! {
                biased;
                report = &mut work => done = Some(report),
                () = tokio::time::sleep_until(since + shared.settings.flush_after) => {
                    // A refusal is met again, and handled, at the next flush.
                    if let Err(error) = outbox.flush(shared, run, Then::GoOn, Extra::default()).await {
                        tracing::warn!(run.id = %run.id(), error = &error as &dyn std::error::Error, "a result waits to be stored");
                    }
                }
            }
        }
        let done = match done {
            Some(done) => done,
            None => work.await,
        };
        done.unwrap_or_else(|_| crashed(step))
    }

    async fn wait(&mut self, now: Timestamp, at: Timestamp) -> Result<Option<Left>, Stop> {
        let length = unsigned(at.duration_since(now));
        if length > SHORT_WAIT || self.shared.is_crowded() {
            return self.leave(Some(at)).await;
        }
        if self.flush(Then::Keep(at)).await? == Written::AsAsked {
            tokio::select! {
                biased;
                () = self.shared.stopping.cancelled() => {}
                () = tokio::time::sleep(length.max(Duration::from_millis(1))) => {}
            }
        }
        Ok(None)
    }

    /// The step may not go on now. No event says so: an event at this step would count as its beginning.
    async fn hold_back(&mut self, step: Step, barrier: &Barrier) -> Result<Intended, Stop> {
        let now = self.now();
        let until = barrier.ask_again(now, self.shared.settings.recheck);
        let until = self.shared.asking.at(until, now);
        tracing::info!(run.id = %self.run.id(), run.step = step.name(), barrier = barrier.name(), "a step is held back");
        measure::held(barrier.name());
        if let Barrier::Budget { scope, limit, .. } = barrier {
            self.budget_spent(scope, *limit, now).await?;
        }
        let left = self.leave(Some(until)).await?;
        Ok(left.map_or(Intended::Again, Intended::Left))
    }

    async fn budget_spent(&self, scope: &str, limit: u32, now: Timestamp) -> Result<(), Stop> {
        let wrong = findings::Wrong {
            kind: findings::BUDGET_SPENT,
            subject: scope.to_owned(),
            severity: findings::Severity::Medium,
            owner: &self.run.plan().owner,
            text: format!(
                "{scope} has seen its {limit} destructive actions in this window; what else is wanted waits for room"
            ),
        };
        Ok(telling::raise_once(&self.shared, wrong, now).await?)
    }

    async fn close(&mut self, outcome: Outcome) -> Result<Option<Left>, Stop> {
        let at = self.now();
        let closing = self.shared.steps.closing(&self.run, &outcome, at);
        let mut facts = closing.facts;
        facts.extend(findings::at_close(&self.shared.env, &self.run, &outcome, at));
        facts.extend(self.due_after_unwinding(at).await?);
        let kind = self.run.plan().kind;
        let name = outcome.name();
        let opened_at = self.run.plan().timing.opened_at;
        let closed = EventBody::Closed {
            outcome,
            receipt_digest: closing.receipt_digest,
        };
        self.push_at(at, closed, facts)?;
        if self.flush(Then::Release(None)).await? == Written::Anew {
            return Ok(None);
        }
        measure::closed(kind, name, at.duration_since(opened_at));
        Ok(Some(Left::Closed))
    }
}
