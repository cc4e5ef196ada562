//! The engine turns what is due into runs and takes each run, step by step, to a proven end.
//!
//! A pass takes no input: timers and people only ring the bell, and what is to be done is read from the store. So the path after a restart
//! is the same path as on any other day.
//!
//! | who                         | does                                                                                  |
//! |-----------------------------|---------------------------------------------------------------------------------------|
//! | `domain::workflow::decide`  | says what a run does next                                                             |
//! | the driver                  | commits the intent, calls the step, commits what came of it                           |
//! | `steps`                     | carry one step out downstream and report; they write nothing to the store             |
//! | the store                   | refuses every write of a node that has lost its lease                                 |
//!
//! The engine knows no connector by name, no SQL, no HTTP and no CLI.

mod aside;
mod asking;
pub mod breaker;
mod budget;
mod calls;
mod catch_up;
mod claim;
pub mod clocks;
pub mod controls;
mod driver;
mod ends;
mod enrolment;
mod facts;
pub mod findings;
mod foreign;
pub mod freeze;
mod gate;
pub mod guard;
mod housekeeping;
mod lease;
mod limits;
mod manual;
mod measure;
mod nodes;
mod opening;
mod outbox;
pub mod pace;
mod pass;
pub mod prepare;
pub mod receipts;
pub mod reconcile;
mod record;
mod register;
pub mod report;
mod returning;
mod schedule;
pub mod secrets;
pub mod standstill;
pub mod steps;
mod succession;
mod sweep;
pub mod systems;
mod taking_over;
mod telling;
#[cfg(test)]
pub(crate) mod tests;
mod ticker;
mod took;
mod tripping;
mod watch;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Environment;
use crate::store::Store;
use breaker::BreakerSettings;
pub use facts::facts_by_hand;
pub use housekeeping::LAST_BACKUP;
pub use nodes::{Processes, StartError, node_of};
pub use opening::{opening, stands};
pub use pass::PassReport;
pub use register::{REGISTER_VERSION, landscape};
use report::{PerformSteps, PrepareRuns};

/// How this node works.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Under this name the node holds its leases. Two processes that share a store never share a name.
    pub node: String,
    /// How long a claim lasts without being renewed. After a crash a run rests for as long.
    pub lease: SignedDuration,
    /// Runs that are driven at once.
    pub max_runs: usize,
    /// A predecessor of this node's name is known to be dead (the store's file is locked by this process), so its leases are taken at once.
    pub take_over_at_start: bool,
    pub breaker: BreakerSettings,
    /// How far the wall clock may move against the monotonic one between two passes before everything destructive is frozen.
    pub clock_tolerance: SignedDuration,
    /// After how long a frozen run asks again.
    pub recheck: SignedDuration,
    /// How long the result of an effect may be known to this process alone.
    pub flush_after: Duration,
    /// How often what is wrong without anything happening (overdue, without an owner) is looked for, and what is right again.
    pub sweep_every: Duration,
    /// How often this node says that it lives. One that was silent for four times as long is dead.
    pub heartbeat: Duration,
    /// Where its API answers, for people who look at the nodes.
    pub address: String,
    /// No bell is hung up. Passes are made all the same, more rarely.
    pub without_bell: bool,
    /// Tells whether the last process of this node's name has ended, where several share a store and this can be known.
    pub processes: Option<Arc<dyn Processes>>,
}

impl EngineSettings {
    #[must_use]
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            lease: SignedDuration::from_secs(90),
            max_runs: 64,
            take_over_at_start: false,
            breaker: BreakerSettings::default(),
            clock_tolerance: clocks::TOLERANCE,
            recheck: SignedDuration::from_secs(5),
            flush_after: Duration::from_millis(100),
            sweep_every: Duration::from_secs(60),
            heartbeat: Duration::from_secs(5),
            address: String::new(),
            without_bell: false,
            processes: None,
        }
    }
}

/// What all parts of one engine hold together.
struct Shared {
    store: Arc<dyn Store>,
    steps: Arc<dyn PerformSteps>,
    prepare: Arc<dyn PrepareRuns>,
    env: Environment,
    settings: EngineSettings,
    /// Drawn at this start.
    instance: String,
    /// Under this the node holds its leases.
    holder: String,
    inherited: taking_over::Inherited,
    register: register::Register,
    limits: limits::Limits,
    asking: asking::Asking,
    leases: lease::Leases,
    watch: watch::Watch,
    /// Runs are waiting for a slot of this node.
    crowded: AtomicBool,
    stopping: CancellationToken,
    /// Only the last word is still to be said.
    silent: CancellationToken,
    name_lost: CancellationToken,
    claim_bell: Notify,
    plan_bell: Notify,
    last_pass: Mutex<PassReport>,
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    fn ring(&self) {
        self.claim_bell.notify_one();
        self.plan_bell.notify_one();
    }

    /// What is drawn together with other nodes, where there can be any.
    fn common(&self) -> Option<limits::Common<'_>> {
        (!self.settings.take_over_at_start).then_some(limits::Common {
            store: &*self.store,
            node: &self.settings.node,
        })
    }

    fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed)
    }
}

/// What the engine is made of, before it starts.
pub struct Engine {
    pub store: Arc<dyn Store>,
    pub steps: Arc<dyn PerformSteps>,
    pub prepare: Arc<dyn PrepareRuns>,
    pub env: Environment,
    pub settings: EngineSettings,
}

impl Engine {
    /// Starts claiming and making passes. What a dead predecessor left is taken over first, where that is known to be safe.
    ///
    /// # Errors
    /// When the store cannot be read, or another living server has this node's name. A bell that does not ring is no error: the passes look
    /// by themselves.
    pub async fn start(self) -> Result<EngineHandle, StartError> {
        let (instance, holder) = nodes::instance(&self.settings, &self.env);
        let shared = Arc::new(Shared {
            instance,
            holder,
            inherited: taking_over::Inherited::default(),
            store: self.store,
            steps: self.steps,
            prepare: self.prepare,
            env: self.env,
            settings: self.settings,
            register: register::Register::default(),
            limits: limits::Limits::default(),
            asking: asking::Asking::default(),
            leases: lease::Leases::default(),
            watch: watch::Watch::default(),
            crowded: AtomicBool::new(false),
            stopping: CancellationToken::new(),
            silent: CancellationToken::new(),
            name_lost: CancellationToken::new(),
            claim_bell: Notify::new(),
            plan_bell: Notify::new(),
            last_pass: Mutex::default(),
        });
        nodes::take_name(&shared).await?;
        if shared.settings.take_over_at_start {
            let released = shared.store.release_leases(&shared.settings.node).await?;
            tracing::info!(
                runs = released,
                "took over what the last process of this node had in its hands"
            );
        }
        if !shared.settings.without_bell
            && let Err(error) = ticker::start(Arc::clone(&shared)).await
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the bell does not ring; passes are made every few seconds without it"
            );
        }
        shared.watch.measure(&shared).await?;
        let silence = pass::compare_with_log(&shared).await?;
        let tasks = TaskTracker::new();
        tasks.spawn(claim::run(Arc::clone(&shared)));
        tasks.spawn(pass::run(Arc::clone(&shared), silence));
        tasks.spawn(reconcile::run(Arc::clone(&shared)));
        let renewing = tokio::spawn(lease::keep_renewing(Arc::clone(&shared)));
        let saying = TaskTracker::new();
        saying.spawn(nodes::keep_saying(Arc::clone(&shared)));
        saying.close();
        tasks.close();
        Ok(EngineHandle {
            shared,
            tasks,
            renewing: renewing.abort_handle(),
            saying,
        })
    }
}

/// A running engine. Cheap to clone.
#[derive(Clone)]
pub struct EngineHandle {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    renewing: tokio::task::AbortHandle,
    saying: TaskTracker,
}

/// How the engine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineStatus {
    pub node: String,
    /// Claimed by this node: driven, or waiting for a slot.
    pub runs_in_hands: usize,
    pub last_pass: PassReport,
    pub is_stopping: bool,
}

impl EngineHandle {
    /// Says that there may be something to do. Never waits, and ringing often is ringing once.
    pub fn ring(&self) {
        self.shared.ring();
    }

    #[must_use]
    pub fn status(&self) -> EngineStatus {
        EngineStatus {
            node: self.shared.settings.node.clone(),
            runs_in_hands: self.shared.leases.count(),
            last_pass: self
                .shared
                .last_pass
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            is_stopping: self.shared.is_stopping(),
        }
    }

    /// Answers when another server has taken this node's name: this one was silent for too long, and has stopped by itself.
    pub async fn name_lost(&self) {
        self.shared.name_lost.cancelled().await;
    }

    /// Claims nothing more, lets the steps under way end, stores what came of them, gives the leases back, and answers then.
    pub async fn shutdown(&self) {
        self.shared.stopping.cancel();
        self.tasks.wait().await;
        self.renewing.abort();
        // A word that is still on its way to the store would come behind the last one.
        self.shared.silent.cancel();
        self.saying.wait().await;
        nodes::give_name_back(&self.shared).await;
    }
}
