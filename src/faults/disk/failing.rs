//! Each call fails: there is no room, the device answers with an error, a synchronisation fails. The store then refuses, or ends; it never goes
//! on from a commit of which it does not know. The next process finds everything that was answered and takes the run to its end.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jiff::SignedDuration;
use keyfall_sdk::BoxFuture;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::cut::Fate;
use super::power::{Case, survives};
use super::recorder::{Kind, Op, Recorder, Told};
use super::rotation::{Recording, Telling, options};
use super::{Slice, folder};
use crate::domain::identity::CredentialState;
use crate::engine::EngineHandle;
use crate::engine::tests::looks::{new_of, until};
use crate::engine::tests::world::{Live, World, settings};
use crate::faults::between::{Between, Rule};
use crate::store::{Commit, Committed, Result, Store, StoreError};

/// One of so many faults is tried with every change.
const SHARE: usize = 12;
/// Calls of one rotation, and some more: what comes behind its end is not counted as tried.
const CALLS: usize = 260;
const KINDS: [Kind; 6] = [
    Kind::FullOnce,
    Kind::Full,
    Kind::Broken,
    Kind::Unsynchronised,
    Kind::LogUnsynchronised,
    Kind::Unreadable,
];

/// Holds the store to its word: what was answered is told, and after a doubt nothing may be answered.
#[derive(Default)]
struct Word {
    answered: Mutex<Vec<Vec<u8>>>,
    recorder: Arc<Recorder>,
    /// The commit at which the write-ahead log could not be synchronised is in doubt, whatever the store says of it.
    doubts: bool,
    in_doubt: AtomicBool,
    broken: AtomicBool,
}

impl Rule for Word {
    fn is_alive(&self) -> bool {
        true
    }

    fn commit<'a>(&'a self, inner: &'a Arc<dyn Store>, commit: Commit) -> BoxFuture<'a, Result<Committed>> {
        Box::pin(async move {
            let entries: Vec<Vec<u8>> = commit.log.iter().map(|entry| entry.bytes.clone()).collect();
            let was_in_doubt = self.in_doubt.load(Ordering::SeqCst);
            let answer = inner.commit(commit).await;
            match &answer {
                Ok(_) if was_in_doubt => self.broken.store(true, Ordering::SeqCst),
                Ok(Committed::Refused { .. }) => {}
                Ok(_) => {
                    self.recorder.tell(Told::Answered(entries.clone()));
                    self.answered.lock().unwrap().extend(entries);
                }
                Err(error) => {
                    let is_told = matches!(error, StoreError::Doubtful { .. } | StoreError::Damaged { .. });
                    if is_told || (self.doubts && self.recorder.has_failed()) {
                        self.in_doubt.store(true, Ordering::SeqCst);
                    }
                }
            }
            answer
        })
    }
}

/// What came of one fault.
struct Outcome {
    has_failed: bool,
    recording: Recording,
}

async fn fails(folder: &Path, kind: Kind, after: usize) -> std::result::Result<Outcome, String> {
    let recorder = Recorder::new();
    let folder = folder.canonicalize().unwrap();
    let _watched = keyfall_vfs::watch(&folder, Arc::clone(&recorder) as _);
    let world = World::in_folder(&folder, options()).await.unwrap();
    world.register(json!({})).await;
    let live = world.due("app", SignedDuration::from_hours(1)).await;
    let word = Word {
        recorder: Arc::clone(&recorder),
        doubts: kind == Kind::LogUnsynchronised,
        ..Word::default()
    };
    let store = Between::a_store(Arc::clone(&world.store), word);
    recorder.fail(kind, after);
    let engine = start(&world, Arc::clone(&store) as _, &recorder).await;
    if let Some(engine) = engine {
        let looks = AtomicUsize::new(0);
        let what = format!("the run ends, or {kind:?} after {after} calls has ended what the process could do");
        until(&what, || async {
            let is_over =
                world.store.setting("freeze").await.is_err() || stands(&world, &live, &engine, &recorder).await;
            // Results are offered to a full store for a minute, as long as the process lives.
            let waited = recorder.has_failed() && looks.fetch_add(1, Ordering::SeqCst) > 30;
            (is_over || waited).then_some(())
        })
        .await;
        engine.shutdown().await;
    }
    let word = &store.rule;
    if word.broken.load(Ordering::SeqCst) {
        return Err("a commit was answered after one that is in doubt".to_owned());
    }
    if word.in_doubt.load(Ordering::SeqCst) && world.store.setting("freeze").await.is_ok() {
        return Err("a question was answered after a commit that is in doubt".to_owned());
    }
    let has_failed = recorder.has_failed();
    let (folder, recorder) = died(&folder, &recorder);
    let _watched = keyfall_vfs::watch(folder.path(), Arc::clone(&recorder) as _);
    let answered = std::mem::take(&mut *word.answered.lock().unwrap());
    drop(store);
    let world = world
        .reopened(folder.path(), options())
        .await
        .map_err(|error| error.to_string())?;
    is_sound(&*world.store, &answered).await?;
    ends_well(&world, &live, &recorder).await?;
    let log = world.store.log(0, 1000).await.unwrap();
    world.store.close().await.unwrap();
    let tape = recorder.tape();
    let recording = Recording { tape, log };
    Ok(Outcome { has_failed, recording })
}

/// What a process leaves that is killed here, in a folder of its own: nothing that the old one still does to its files is seen in it. The disk
/// is the same one, and works again.
fn died(left: &Path, recorder: &Recorder) -> (TempDir, Arc<Recorder>) {
    let next = folder();
    for file in ["keyfall.db", "keyfall.db-wal"] {
        if left.join(file).exists() {
            std::fs::copy(left.join(file), next.path().join(file)).unwrap();
        }
    }
    let log = next.path().join("keyfall.db-wal");
    (next, Recorder::going_on(recorder.tape(), &log))
}

/// `None` where the fault comes before the engine can be started.
async fn start(world: &World, store: Arc<dyn Store>, recorder: &Arc<Recorder>) -> Option<EngineHandle> {
    let engine = crate::engine::Engine {
        store,
        steps: Arc::new(Telling {
            inner: Arc::clone(&world.steps) as _,
            recorder: Arc::clone(recorder),
        }),
        prepare: Arc::clone(&world.steps) as _,
        env: world.env.clone(),
        settings: settings(),
    };
    engine.start().await.ok()
}

/// The run is over, or the fault has come and this process has let go of the run.
async fn stands(world: &World, live: &Live, engine: &EngineHandle, recorder: &Recorder) -> bool {
    let run = world.store.open_run_of(live.id).await;
    let is_closed = matches!(run, Ok(None)) && !world.steps.is_live(live.credential);
    is_closed || (recorder.has_failed() && engine.status().runs_in_hands == 0)
}

async fn is_sound(store: &dyn Store, answered: &[Vec<u8>]) -> std::result::Result<(), String> {
    let problems = store.check().await.map_err(|error| error.to_string())?;
    if !problems.is_empty() {
        return Err(problems.join("; "));
    }
    let log = store.log(0, 1000).await.map_err(|error| error.to_string())?;
    let lost = answered
        .iter()
        .filter(|bytes| !log.iter().any(|page| page.bytes == **bytes));
    match lost.count() {
        0 => Ok(()),
        lost => Err(format!("{lost} records of commits that were answered are gone")),
    }
}

/// The next process takes the run to its end.
async fn ends_well(world: &World, live: &Live, recorder: &Arc<Recorder>) -> std::result::Result<(), String> {
    let word = Word {
        recorder: Arc::clone(recorder),
        ..Word::default()
    };
    let store = Between::a_store(Arc::clone(&world.store), word);
    let engine = start(world, store as _, recorder)
        .await
        .ok_or("the next process does not start")?;
    let run = world.until_status(live, "completed").await;
    engine.shutdown().await;
    let violations = world.steps.violations();
    if !violations.is_empty() {
        return Err(violations.join("; "));
    }
    if world.steps.live() != [new_of(&run)].into() {
        return Err(format!("alive downstream: {:?}", world.steps.live()));
    }
    match world.state_of(live.credential).await {
        CredentialState::Dead { .. } => {}
        other => return Err(format!("the old credential is {other:?}")),
    }
    is_sound(&*world.store, &[]).await
}

/// Row 32.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_call_fails_nothing_that_was_answered_is_lost_and_the_next_process_goes_on() {
    let slice = Slice::from_environment(SHARE);
    let of_kind = |kind: Kind| (0..CALLS).map(move |after| (kind, after));
    let all = KINDS.into_iter().flat_map(of_kind).enumerate();
    let cases: Vec<_> = all
        .filter(|(case, _)| slice.has(*case))
        .map(|(_, fault)| fault)
        .collect();
    let cases = Arc::new(cases);
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..4 {
        let (cases, next) = (Arc::clone(&cases), Arc::clone(&next));
        workers.spawn(async move {
            let (mut wrong, mut tried) = (Vec::new(), 0);
            while let Some((kind, after)) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                let folder = folder();
                match fails(folder.path(), *kind, *after).await {
                    Ok(outcome) => tried += usize::from(outcome.has_failed),
                    Err(why) => wrong.push(format!("{kind:?} after {after} calls: {why}")),
                }
            }
            (wrong, tried)
        });
    }
    let (wrong, tried): (Vec<_>, Vec<usize>) = workers.join_all().await.into_iter().unzip();
    let wrong = wrong.concat();
    assert!(
        wrong.is_empty(),
        "KEYFALL_DISK_SLICE={}/{} cargo test -p keyfall faults::disk::failing\n{}",
        slice.number,
        slice.of,
        wrong.join("\n")
    );
    println!("COVERED: disk faults {}", tried.iter().sum::<usize>());
}

/// What a system could not synchronise it may forget, and go on showing to whoever reads. The next process therefore finds commits in the
/// write-ahead log that are on no disk, and must not rely on them before they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_next_process_finds_in_a_log_that_was_not_synchronised_is_made_durable_first() {
    let mut tried = 0;
    for after in (0..CALLS).step_by(40) {
        let folder = folder();
        let outcome = fails(folder.path(), Kind::LogUnsynchronised, after).await.unwrap();
        let ops = &outcome.recording.tape.ops;
        let Some(failed) = ops.iter().position(|op| matches!(op, Op::FailedSync { .. })) else {
            continue;
        };
        for at in (failed..=ops.len()).step_by(7) {
            let case = Case { at, fate: Fate::Lost };
            let survived = survives(&outcome.recording, case).await;
            assert_eq!(survived, Ok(()), "the synchronisation after {after} calls failed");
            tried += 1;
        }
    }
    assert!(tried > 50, "{tried}");
    println!("COVERED: disk cuts behind a failed synchronisation {tried}");
}
