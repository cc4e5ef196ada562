//! What is recorded: a store is made, identities are registered and rotated to their proven end, one alone and two at once, with the
//! write-ahead log moved into the file before, between and behind them.

use std::path::Path;
use std::sync::Arc;

use jiff::SignedDuration;
use keyfall_sdk::BoxFuture;
use serde_json::json;

use super::recorder::{Recorder, Tape, Told};
use crate::domain::ids::RunId;
use crate::domain::workflow::{Outcome, Run, Step};
use crate::engine::report::{Closing, Hold, PerformSteps, StepEnd, StepReport};
use crate::engine::tests::dying::DyingStore;
use crate::engine::tests::world::{World, settings};
use crate::evidence::audit::decode_event;
use crate::store::{LogPage, StoreOptions};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// What the disk was told, and the log as it was at the end.
pub(super) struct Recording {
    pub(super) tape: Tape,
    pub(super) log: Vec<LogPage>,
}

/// The log is moved into the file several times in one rotation, and begun again at its front.
pub(super) fn options() -> StoreOptions {
    StoreOptions {
        readers: 1,
        checkpoint_after: 40,
        ..StoreOptions::new(decode_event)
    }
}

/// Writes a store into an empty folder, and answers how.
pub(super) async fn record(folder: &Path) -> Recording {
    let recorder = Recorder::new();
    let folder = folder.canonicalize().unwrap();
    let watched = keyfall_vfs::watch(&folder, Arc::clone(&recorder) as _);
    let world = World::in_folder(&folder, options()).await.unwrap();
    world.register(json!({})).await;
    let first = world.due("first", HOUR).await;
    let told = Arc::clone(&recorder);
    let store = DyingStore::telling(
        Arc::clone(&world.store),
        Box::new(move |entries| {
            let entries = entries.iter().map(|entry| entry.bytes.clone()).collect();
            told.tell(Told::Answered(entries));
        }),
    );
    let steps = Arc::new(Telling {
        inner: Arc::clone(&world.steps) as _,
        recorder: Arc::clone(&recorder),
    });
    let engine = world.start_doing(steps, store, settings()).await;
    world.until_status(&first, "completed").await;
    world.store.scrub().await.unwrap();
    let others = [world.due("second", HOUR).await, world.due("third", HOUR).await];
    engine.ring();
    for other in &others {
        world.until_status(other, "completed").await;
    }
    engine.shutdown().await;
    assert_eq!(world.steps.violations(), Vec::<String>::new());
    let log = world.store.log(0, 1000).await.unwrap();
    world.store.close().await.unwrap();
    drop(world);
    drop(watched);
    let tape = recorder.tape();
    Recording { tape, log }
}

/// Tells of every effect that is sent.
pub(super) struct Telling {
    pub(super) inner: Arc<dyn PerformSteps>,
    pub(super) recorder: Arc<Recorder>,
}

impl PerformSteps for Telling {
    fn intent(&self, run: &Run, step: Step) -> serde_json::Value {
        self.inner.intent(run, step)
    }

    fn obstacle<'a>(&'a self, run: &'a Run, step: Step) -> BoxFuture<'a, Option<StepEnd>> {
        self.inner.obstacle(run, step)
    }

    fn perform<'a>(
        &'a self,
        run: &'a Run,
        step: Step,
        attempt: u32,
        observe_first: bool,
        hold: Hold,
    ) -> BoxFuture<'a, StepReport> {
        if step.has_effect() {
            let (run, seq) = (run.id(), run.next_seq() - 1);
            self.recorder.tell(Told::Sent { run, seq });
        }
        self.inner.perform(run, step, attempt, observe_first, hold)
    }

    fn time_limit(&self, run: &Run, step: Step) -> SignedDuration {
        self.inner.time_limit(run, step)
    }

    fn must_record_at_once(&self, run: &Run, step: Step) -> bool {
        self.inner.must_record_at_once(run, step)
    }

    fn closing(&self, run: &Run, outcome: &Outcome, at: jiff::Timestamp) -> Closing {
        self.inner.closing(run, outcome, at)
    }

    fn let_go(&self, run: RunId) {
        self.inner.let_go(run);
    }
}
