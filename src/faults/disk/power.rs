//! The power goes at each call that SQLite makes on the store's files. I3, I4, I6 and P2 stand on it: what was answered is durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;

use super::chance::Chance;
use super::cut::{Disk, FATES, Fate};
use super::recorder::{Op, Told};
use super::rotation::{Recording, record};
use super::{Slice, folder, reopen};

/// One of so many cuts is tried with every change.
const SHARE: usize = 8;

/// The power goes before call `at`, with this fate for what was not synchronised.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) at: usize,
    pub(super) fate: Fate,
}

async fn recorded() -> Recording {
    let folder = folder();
    record(folder.path()).await
}

fn disk_before(recording: &Recording, at: usize) -> Disk {
    let mut disk = Disk::with("keyfall.db");
    for op in &recording.tape.ops[..at] {
        disk.take(op);
    }
    disk
}

fn owed_before(recording: &Recording, at: usize) -> usize {
    let told = recording.tape.told.iter().filter(|(when, _)| *when <= at);
    told.map(|(_, told)| reopen::owed(recording, told)).max().unwrap_or(0)
}

pub(super) async fn survives(recording: &Recording, case: Case) -> Result<(), String> {
    let folder = folder();
    let seed = case.at as u64 * 31 + case.fate as u64;
    disk_before(recording, case.at).leave(folder.path(), case.fate, &mut Chance::of(seed));
    let owed = owed_before(recording, case.at);
    reopen::holds(folder.path(), &recording.log, owed).await.map_err(|why| {
        format!(
            "the power went before call {} of {}, {case:?}: {why}",
            case.at,
            recording.tape.ops.len()
        )
    })
}

fn cases(recording: &Recording, slice: Slice) -> Vec<Case> {
    let mut disk = Disk::with("keyfall.db");
    let mut cases = Vec::new();
    for at in 0..=recording.tape.ops.len() {
        if slice.has(at) {
            // Where everything is synchronised, the fates are the same.
            let fates = if disk.is_settled() { &FATES[..1] } else { &FATES[..] };
            cases.extend(fates.iter().map(|fate| Case { at, fate: *fate }));
        }
        if let Some(op) = recording.tape.ops.get(at) {
            disk.take(op);
        }
    }
    cases
}

/// What does not hold, of all these cases; no more than a few.
async fn broken(recording: &Arc<Recording>, cases: Vec<Case>, enough: usize) -> Vec<String> {
    let cases = Arc::new(cases);
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..2 {
        let (recording, cases, next) = (Arc::clone(recording), Arc::clone(&cases), Arc::clone(&next));
        workers.spawn(async move {
            let mut broken = Vec::new();
            while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                broken.extend(survives(&recording, *case).await.err());
                if broken.len() >= enough {
                    break;
                }
            }
            broken
        });
    }
    workers.join_all().await.concat()
}

/// Rows 3, 8, 19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_the_power_goes_what_was_answered_is_there_and_nothing_is_half_there() {
    let recording = Arc::new(recorded().await);
    let slice = Slice::from_environment(SHARE);
    let cases = cases(&recording, slice);
    let (tried, calls) = (cases.len(), recording.tape.ops.len());
    let broken = broken(&recording, cases, 3).await;
    assert!(
        broken.is_empty(),
        "KEYFALL_DISK_SLICE={}/{} cargo test -p keyfall faults::disk::power\n{}",
        slice.number,
        slice.of,
        broken.join("\n")
    );
    let cuts = (0..=calls).filter(|at| slice.has(*at)).count();
    println!("COVERED: disk cuts {cuts} of {}", calls + 1);
    println!("COVERED: disk states after a cut {tried}");
}

/// The harness itself: the same calls without the synchronisations of the write-ahead log, as under `synchronous=NORMAL`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_synchronise_its_commits_is_found_out() {
    let recording = recorded().await;
    let mut lazy = recording;
    let is_of = |op: Option<&Op>, name: &str| match op {
        Some(Op::Sync { file } | Op::Write { file, .. } | Op::Truncate { file, .. }) => file == name,
        _ => false,
    };
    let mut kept = Vec::new();
    let mut moved = vec![0; lazy.tape.ops.len() + 1];
    for (at, op) in lazy.tape.ops.iter().enumerate() {
        moved[at] = kept.len();
        // What precedes a move into the file is synchronised under any setting.
        let next = lazy.tape.ops.get(at + 1);
        let is_commit =
            matches!(op, Op::Sync { .. }) && is_of(Some(op), "keyfall.db-wal") && is_of(next, "keyfall.db-wal");
        if !is_commit {
            kept.push(op.clone());
        }
    }
    moved[lazy.tape.ops.len()] = kept.len();
    lazy.tape.ops = kept;
    for (at, _) in &mut lazy.tape.told {
        *at = moved[*at];
    }
    let lazy = Arc::new(lazy);
    let all = cases(&lazy, Slice { number: 0, of: 5 });
    let found = broken(&lazy, all, 1).await;
    assert!(found.iter().any(|why| why.contains("were relied on")), "{found:?}");
}

/// The harness itself: the same calls, and each answer as if it had been given before its commit was synchronised.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_answers_before_its_commit_is_durable_is_found_out() {
    let mut hasty = recorded().await;
    let is_commit = |op: &Op| matches!(op, Op::Sync { file } if file.ends_with("-wal"));
    for (at, told) in &mut hasty.tape.told {
        let before = hasty.tape.ops[..*at].iter().rposition(is_commit);
        if let (Told::Answered(_), Some(before)) = (told, before) {
            *at = before;
        }
    }
    let hasty = Arc::new(hasty);
    let all = cases(&hasty, Slice { number: 0, of: 1 });
    let found = broken(&hasty, all, 1).await;
    assert!(found.iter().any(|why| why.contains("were relied on")), "{found:?}");
}
