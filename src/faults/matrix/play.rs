//! Plays one run to its rest: starts processes, kills what the fault kills, lets leases and waits be over without waiting for them, and answers
//! where a person is asked because of the fault.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::bench::{Bench, LEASE};
use super::fault::{Fault, Site};
use super::hand::{Hand, Life};
use super::scene::Scene;
use super::steps::Habits;
use super::watch::Watcher;
use crate::domain::actor::Actor;
use crate::domain::workflow::{Event, EventBody, Run, RunKind, Step};
use crate::engine::EngineHandle;
use crate::evidence::audit::encode_event;
use crate::faults::oracle::{Case, run_at_rest};
use crate::store::{Commit, Fact, Guard, LogEntry, Page, RunFilter, RunRow, StoredRun};

/// Looks without anything that is new, after which a run is stuck.
const PATIENCE: u32 = 10_000;
/// How often the state is looked at when nothing says that it changed.
const LOOK: Duration = Duration::from_millis(4);
/// Looks at a run that its node has not in hand and does not ask for, after which the node has left it.
const IS_LEFT: u32 = 2;

/// What is played.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) kind: RunKind,
    pub(crate) habits: Habits,
    pub(crate) fault: Option<Fault>,
    /// Where a person is asked, one takes what was meddled with away and sends the run on.
    pub(crate) is_answered: bool,
}

/// What came of it.
pub(crate) struct Played {
    /// `completed`, `unwound`, `needs_operator`…
    pub(crate) status: String,
    /// Every call that was made, by step, and every step.
    pub(crate) sites: Vec<Site>,
    pub(crate) path: Vec<Step>,
    /// Behind it there is no way back.
    pub(crate) pivot: Option<Step>,
    /// A person sent it on.
    pub(crate) was_asked: bool,
    pub(crate) has_struck: bool,
    pub(crate) wrong: Vec<String>,
    /// The events, for people.
    pub(crate) log: String,
}

pub(crate) async fn play(bench: &Bench, piece: Piece) -> Played {
    if let Ok(filter) = std::env::var("KEYFALL_MATRIX_LOG") {
        // Another test of this process may have set it up already.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).try_init();
    }
    let scene = Scene::set(bench, piece.kind).await;
    let account = scene.plan.identity_name.clone();
    let out = bench.out.clone();
    let is_demo = bench.flavour.is_demo();
    let take_up = move |version: &str| {
        if !is_demo {
            std::fs::write(out.join(format!("{account}.acks")), format!("app {version}\n")).unwrap();
        }
    };
    let watcher = Watcher::new(
        Arc::clone(&bench.store),
        Arc::clone(&scene.truth),
        bench.secrets(),
        scene.plan.clone(),
        Box::new(take_up),
    );
    let hand = Hand::new(piece.fault, Arc::clone(&watcher) as _, bench.time.clone());
    scene.open(bench).await;
    let mut player = Player {
        bench,
        scene: &scene,
        hand,
        habits: piece.habits,
        lives: 0,
        patience: PATIENCE,
    };
    let (mut stored, mut was_asked) = (player.come_to_rest().await, false);
    if stored.row.status == "needs_operator" && piece.is_answered {
        was_asked = true;
        player.habits.fails = None;
        player.retry(&stored).await;
        stored = player.come_to_rest().await;
    }
    player.hand.let_late_ones_arrive().await;
    let case = Case {
        store: &*bench.store,
        secrets: &bench.secrets(),
        truth: &*scene.truth,
        identity: scene.identity,
    };
    let mut wrong = watcher.wrong();
    wrong.extend(run_at_rest(&case, scene.plan.run, &scene.before).await);
    Played {
        status: stored.row.status.clone(),
        path: path(&stored),
        pivot: pivot(&stored),
        sites: player.hand.sites(),
        was_asked,
        has_struck: player.hand.has_struck(),
        wrong,
        log: told(&stored),
    }
}

struct Player<'a> {
    bench: &'a Bench,
    scene: &'a Scene,
    hand: Arc<Hand>,
    habits: Habits,
    lives: u32,
    patience: u32,
}

struct Process {
    node: String,
    life: Arc<Life>,
    engine: EngineHandle,
}

impl Process {
    /// Or may be about to: the store has not answered it yet.
    fn has_a_run(&self) -> bool {
        self.engine.status().runs_in_hands > 0 || !self.life.asks_nothing()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.life.end();
    }
}

impl Player<'_> {
    /// Until the run is closed or asks a person.
    async fn come_to_rest(&mut self) -> StoredRun {
        let mut process = self.start().await;
        let mut zombies = Vec::new();
        let mut idle = 0;
        loop {
            let _ = tokio::time::timeout(LOOK, self.hand.bell.notified()).await;
            if process.life.is_dead() {
                process.engine.shutdown().await;
                process = self.start_after(&process.node).await;
                continue;
            }
            if *self.hand.held.borrow() && zombies.is_empty() {
                // Its lease is over while it sleeps; another node takes the run.
                self.bench.store.release_leases(&process.node).await.unwrap();
                self.bench.time.pass(LEASE + LOOK).await;
                let next = self.start_after(&process.node).await;
                zombies.push(std::mem::replace(&mut process, next));
                continue;
            }
            let row = &self.row().await;
            if row.node.as_ref() == Some(&process.node) && !zombies.is_empty() && wrote(&self.stored().await, row.epoch)
            {
                // It wakes up while the other node is at work.
                self.hand.held.send_replace(false);
            }
            if row.status != "open" && row.node.is_none() {
                self.hand.held.send_replace(false);
                for zombie in zombies {
                    zombie.engine.shutdown().await;
                }
                process.engine.shutdown().await;
                return self.stored().await;
            }
            // Who slept may have claimed it anew.
            let mut awake = zombies.iter().chain([&process]);
            let has_it = |one: &Process| row.node.as_ref() == Some(&one.node) && one.has_a_run();
            let is_left = row.node.is_some() && !awake.any(has_it);
            idle = if is_left { idle + 1 } else { 0 };
            if idle > IS_LEFT {
                // It was left in the middle: whoever takes it waits until its lease is over, and that is now.
                let node = row.node.clone().unwrap_or_default();
                self.bench.store.release_leases(&node).await.unwrap();
                process.engine.ring();
                idle = 0;
            }
            self.skip_waits(row, &process.engine);
            self.patience -= 1;
            if self.patience == 0 {
                panic!("the run does not come to rest: {}", told(&self.stored().await));
            }
        }
    }

    /// A stored wait costs no time where the clock is ours.
    fn skip_waits(&self, row: &RunRow, engine: &EngineHandle) {
        let Some(wake_at) = row.wake_at.filter(|_| row.node.is_none() && row.status == "open") else {
            return;
        };
        let left = wake_at.duration_since(self.bench.env.now());
        if left > SignedDuration::from_millis(5) {
            self.bench.time.skip(left);
        }
        engine.ring();
    }

    async fn start(&mut self) -> Process {
        self.lives += 1;
        let is_one = self.bench.database.is_of_one_process();
        let node = if is_one {
            "node".to_owned()
        } else {
            format!("node-{}", self.bench.name())
        };
        self.started(node).await
    }

    async fn started(&self, node: String) -> Process {
        let life = Arc::new(Life::new(&node));
        let engine = self.bench.start(&node, &self.hand, &life, self.habits).await;
        Process { node, life, engine }
    }

    /// The next process: after a death on a database of one process under the same name, otherwise another node, once the lease is over.
    async fn start_after(&mut self, node: &str) -> Process {
        self.bench.store.release_leases(node).await.unwrap();
        self.lives += 1;
        let next = format!("node-{}", self.bench.name());
        self.started(next).await
    }

    /// Without its events, which are many.
    async fn row(&self) -> RunRow {
        let filter = RunFilter {
            identity: Some(self.scene.identity),
            ..RunFilter::default()
        };
        let rows = self.bench.store.runs(&filter, Page::first(10)).await.unwrap();
        rows.into_iter().find(|row| row.id == self.scene.plan.run).unwrap()
    }

    async fn stored(&self) -> StoredRun {
        self.bench.store.run(self.scene.plan.run).await.unwrap().unwrap()
    }

    /// A person does what there is to do and sends the run on.
    async fn retry(&self, stored: &StoredRun) {
        let mut run = Run::replay(&stored.events).unwrap();
        let at = self.bench.env.now();
        let event = Event {
            seq: run.next_seq(),
            at,
            epoch: stored.row.epoch,
            body: EventBody::Retried {
                by: Actor::Engine,
                reason: "the cause is gone".to_owned(),
            },
        };
        run.apply(&event).unwrap();
        let progress = Fact::RunProgress {
            run: run.id(),
            status: run.status().name().to_owned(),
            step: run.step().map(Step::name),
            next_seq: run.next_seq(),
            wake_at: Some(at),
            release: true,
        };
        let commit = Commit {
            guards: vec![Guard::RunAt {
                run: run.id(),
                next_seq: event.seq,
            }],
            facts: vec![progress],
            log: vec![LogEntry {
                run: Some((run.id(), event.seq)),
                at,
                bytes: encode_event(run.plan(), &run, &event),
            }],
        };
        self.bench.commit(commit).await;
    }
}

/// Whoever has the run under this epoch has written to it.
fn wrote(stored: &StoredRun, epoch: u64) -> bool {
    stored.events.last().is_some_and(|event| event.epoch == epoch)
}

/// The step at whose beginning the run went past its point of no return.
fn pivot(stored: &StoredRun) -> Option<Step> {
    let mut run = Run::replay(stored.events.get(..1)?).unwrap();
    stored.events.iter().skip(1).find_map(|event| {
        run.apply(event).unwrap();
        run.is_past_pivot().then(|| event.body.step()).flatten()
    })
}

/// The steps in the order in which they ended.
fn path(stored: &StoredRun) -> Vec<Step> {
    let done = stored.events.iter().filter_map(|event| match &event.body {
        EventBody::Succeeded { step, .. } => Some(*step),
        _ => None,
    });
    done.collect()
}

fn told(stored: &StoredRun) -> String {
    let line = |event: &Event| {
        let mut told = serde_json::to_value(&event.body).unwrap();
        for long in ["plan", "seen", "intent", "output", "receipt_digest", "deadline"] {
            told.as_object_mut().unwrap().remove(long);
        }
        format!("  {} (epoch {}) {told}", event.seq, event.epoch)
    };
    let lines: Vec<String> = stored.events.iter().map(line).collect();
    format!(
        "status {}, node {:?}\n{}",
        stored.row.status,
        stored.row.node,
        lines.join("\n")
    )
}
