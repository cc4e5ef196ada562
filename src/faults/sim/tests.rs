//! The seeds that are run, and those that once found something.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::live;

/// `KEYFALL_SIM_SEEDS=FROM..TO`; a single one is run also when it is known to find something.
fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("KEYFALL_SIM_SEEDS") else {
        return 0..1000;
    };
    let (from, to) = text.split_once("..").expect("KEYFALL_SIM_SEEDS=FROM..TO");
    from.parse().unwrap()..to.parse().unwrap()
}

fn is_traced() -> bool {
    std::env::var_os("KEYFALL_SIM_TRACE").is_some()
}

fn replay(seed: u64) -> String {
    format!(
        "KEYFALL_SIM_TRACE=1 KEYFALL_SIM_SEEDS={seed}..{} cargo test --lib faults::sim::tests::seeds_live_through_their_faults -- --nocapture",
        seed + 1
    )
}

/// Seeds that once found something, with what it was.
const KEPT: &[(u64, &str)] = &[
    (
        29,
        "an issue call that was late was sent again, and its twin was known to nobody",
    ),
    (
        59,
        "what a person was asked to delete was asked for again after every retry",
    ),
    (
        18,
        "a node that was stopped while it compared the clocks asked for work without end",
    ),
    (
        84,
        "a run that went from one node to another had its receipt go back in time",
    ),
    (
        577,
        "a run that was claimed by a node whose clock is behind closed before it opened",
    ),
    (
        153,
        "an issue call that was late left a credential with other bytes, and nobody knew it",
    ),
    (
        6,
        "a run on a system that cannot say what it made was taken back without end",
    ),
    (27, "a run on a system that cannot say what it made asked without end"),
    (
        138,
        "a twin of a system that cannot say what it made was known to nobody",
    ),
    (68, "an account of our own was taken for somebody else's"),
    (
        130,
        "a new credential that was never let in was tried for ever where few logins may be refused",
    ),
    (368, "an account of our own was taken for somebody else's"),
    (
        19,
        "a delivery that was late landed behind its withdrawal, and the consumer kept a secret that was dead",
    ),
    (
        457,
        "a delivery that was late landed behind its withdrawal, and the consumer kept a secret that was dead",
    ),
    (
        375,
        "the sessions of a control identity's new credential were ended without end",
    ),
];

/// Seeds that find what is not mended, with what that is. They are told as skipped until it is.
const OPEN: &[(u64, &str)] = &[];

fn is_open(seed: u64) -> bool {
    OPEN.iter().any(|(open, _)| *open == seed)
}

/// The lying systems of a life are named by its seed and known to the whole process: two tests that live the same seed at once would share them.
static ALONE: Mutex<()> = Mutex::new(());

/// Answers what was wrong, told so that it can be repeated.
fn complaint(seed: u64) -> Result<usize, String> {
    let lived = live(seed, is_traced());
    if is_traced() {
        println!("{}", lived.trace.join("\n"));
    }
    if lived.violations.is_empty() {
        return Ok(lived.runs);
    }
    Err(format!(
        "seed {seed}:\n  {}\n  replay: {}",
        lived.violations.join("\n  "),
        replay(seed)
    ))
}

/// Row 11.
#[test]
fn seeds_live_through_their_faults() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let seeds = seeds();
    let alone = seeds.end - seeds.start == 1;
    let next = AtomicU64::new(seeds.start);
    let (done, runs) = (AtomicU64::new(0), AtomicUsize::new(0));
    let complaints = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds.end {
                        return;
                    }
                    if is_open(seed) && !alone {
                        continue;
                    }
                    let lived = std::panic::catch_unwind(|| complaint(seed));
                    let lived = lived.unwrap_or_else(|_| Err(format!("seed {seed} panicked: {}", replay(seed))));
                    done.fetch_add(1, Ordering::SeqCst);
                    match lived {
                        Ok(count) => {
                            runs.fetch_add(count, Ordering::SeqCst);
                        }
                        Err(text) => complaints.lock().unwrap().push(text),
                    }
                }
            });
        }
    });
    let open: Vec<_> = OPEN.iter().filter(|(seed, _)| seeds.contains(seed) && !alone).collect();
    if !open.is_empty() {
        let told: Vec<_> = open.iter().map(|(seed, what)| format!("{seed} ({what})")).collect();
        println!("SKIPPED: seeds that find what is not mended: {}", told.join(", "));
    }
    println!("COVERED: seeds {}", done.load(Ordering::SeqCst));
    println!("COVERED: simulated runs {}", runs.load(Ordering::SeqCst));
    let complaints = complaints.into_inner().unwrap();
    assert!(
        complaints.is_empty(),
        "{} seed(s) found something:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

#[test]
fn what_was_found_once_stays_away() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // The others are lived through with their neighbours.
    let lived = seeds();
    for (seed, what) in KEPT.iter().filter(|(seed, _)| !lived.contains(seed)) {
        if let Err(text) = complaint(*seed) {
            panic!("{what}: {text}");
        }
    }
}

#[test]
fn one_seed_is_one_life() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for seed in 0..4 {
        let (one, two) = (live(seed, false), live(seed, false));
        assert_eq!(one.log, two.log, "seed {seed} decides its whole life");
    }
    assert_ne!(live(0, false).log, live(1, false).log);
}
