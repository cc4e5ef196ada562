//! What a new process knows of refused logins: as much as its predecessors wrote down, and the worst of what they could not.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{BoxFuture, PrincipalStatus, Strategy};
use serde_json::json;
use tempfile::TempDir;

use super::super::super::lease::Hold;
use super::{Bench, Driven, Live, Turn};
use crate::domain::workflow::{Decision, Run, RunKind, RunPlan, Step, decide};
use crate::engine::opening;
use crate::engine::report::PerformSteps;
use crate::engine::steps::{Asked, RecordedRefusals, StepSettings, Steps, StoredRefusals};
use crate::evidence::audit::{decode_event, encode_event};
use crate::store::{Commit, Committed, Fact, LogEntry, Store, StoreError, StoreOptions, open_sqlite};

/// For tests in which no process ends.
pub(super) struct NothingRecorded;

impl RecordedRefusals for NothingRecorded {
    fn refused<'a>(&'a self, _asked: Asked<'a>) -> BoxFuture<'a, Result<Vec<Timestamp>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// A bench whose runs are in a real store, and whose process can end.
struct Served {
    bench: Bench,
    store: Arc<dyn Store>,
    _folder: TempDir,
}

const LOCKED_AT: u32 = 13;
/// Half of it, in whole pairs of a wrong and a random login at one vantage.
const MOST: usize = 6;
const LEASE: SignedDuration = SignedDuration::from_millis(1);

impl Served {
    async fn new() -> Self {
        let lockout = json!({ "lockout": { "failures": LOCKED_AT, "windowMs": 600_000 } });
        let bench = Bench::new(Strategy::DualSlot, json!({ "faults": lockout })).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keyfall.db");
        let options = StoreOptions::new(decode_event);
        let store = open_sqlite(&path, options, bench.steps.env.clone()).await.unwrap();
        let mut served = Self {
            bench,
            store,
            _folder: folder,
        };
        served.restart();
        served
    }

    /// Another process on the same store. Nothing of the one before is left in memory.
    fn restart(&mut self) {
        self.bench.steps = self.process(false);
    }

    fn process(&self, has_others: bool) -> Steps {
        let before = &self.bench.steps;
        Steps::new(
            Arc::clone(&before.systems),
            Arc::clone(&before.secrets),
            Arc::clone(&before.controls),
            Arc::new(StoredRefusals(Arc::clone(&self.store))),
            before.env.clone(),
            StepSettings::default().beside_others(has_others),
        )
    }

    async fn commit(&self, commit: Commit) {
        let committed = self.store.commit(commit).await.unwrap();
        assert!(matches!(committed, Committed::Stored), "{committed:?}");
    }

    async fn opened(&self, plan: RunPlan) -> Driven {
        let driven = self.bench.open(plan.clone());
        self.commit(opening(plan, None).unwrap()).await;
        driven
    }

    /// Stores what was seen behind the `stored` first events.
    async fn record(&self, driven: &Driven, stored: usize, status: &str) {
        let run = Run::replay(&driven.events).unwrap();
        let log = driven.events.iter().skip(stored).map(|event| LogEntry {
            run: Some((run.id(), event.seq)),
            at: event.at,
            bytes: encode_event(run.plan(), &run, event),
        });
        let progress = Fact::RunProgress {
            run: run.id(),
            status: status.to_owned(),
            step: run.step().map(|step| step.name()),
            next_seq: run.next_seq(),
            wake_at: Some(self.bench.now()),
            release: true,
        };
        self.commit(Commit {
            facts: vec![progress],
            log: log.collect(),
            ..Commit::default()
        })
        .await;
    }

    fn revocation(&self, live: &Live) -> RunPlan {
        let mut plan = self.bench.plan(RunKind::Revoke, std::slice::from_ref(live), None);
        plan.timing.opened_at = self.bench.now();
        // It is never done, and never far from the next round.
        plan.proof.refusals = 1_000;
        plan.proof.settling = SignedDuration::ZERO;
        plan.proof.give_up_after = SignedDuration::from_hours(48);
        plan.proof.interval = SignedDuration::from_millis(1);
        plan
    }

    fn failures(&self) -> usize {
        let account = self.bench.provider.account("app").unwrap();
        assert_eq!(account.status(), PrincipalStatus::Enabled, "it was locked");
        account.failures.len()
    }

    async fn until_proof(&self, driven: &mut Driven) {
        let mut turn = |_: &Run, step| if step == Step::ProveDead { Turn::Stop } else { Turn::Go };
        self.bench.go(driven, &mut turn).await;
    }

    /// One attempt at the step under the cursor, unless the run waits.
    async fn attempt(&self, driven: &mut Driven, is_recorded: bool) {
        let Decision::Perform {
            step,
            attempt,
            observe_first,
        } = decide(&driven.run, self.bench.now())
        else {
            return;
        };
        let report = self
            .bench
            .steps
            .perform(&driven.run, step, attempt, observe_first, Hold::of_no_run())
            .await;
        if is_recorded {
            driven.take(self.bench.now(), step, report);
        }
    }
}

/// Two nodes take turns at the runs of one account, and neither saw what the other was refused.
#[tokio::test]
async fn nodes_that_take_turns_have_one_budget() {
    let mut served = Served::new().await;
    let live = served.bench.provision("app").await;
    served.restart();
    let mut other = served.process(true);
    served.bench.steps = served.process(true);
    let mut most = 0;
    for _ in 0..12 {
        let mut driven = served.opened(served.revocation(&live)).await;
        served.until_proof(&mut driven).await;
        served.attempt(&mut driven, true).await;
        served.record(&driven, 1, "unprovable").await;
        most = most.max(served.failures());
        served.bench.advance(SignedDuration::from_millis(2));
        std::mem::swap(&mut served.bench.steps, &mut other);
    }
    assert_eq!(most, MOST);
}

#[tokio::test]
async fn a_restart_does_not_hand_out_a_fresh_budget() {
    let mut served = Served::new().await;
    let live = served.bench.provision("app").await;
    let mut driven = served.opened(served.revocation(&live)).await;
    served.until_proof(&mut driven).await;
    while served.failures() < MOST {
        served.attempt(&mut driven, true).await;
        served.bench.advance(SignedDuration::from_millis(2));
    }
    served.record(&driven, 1, "unprovable").await;

    // Another run on the same account: its own log knows of no refusal.
    served.restart();
    let mut other = served.opened(served.revocation(&live)).await;
    served.until_proof(&mut other).await;
    for _ in 0..5 {
        served.attempt(&mut other, true).await;
        served.bench.advance(SignedDuration::from_millis(2));
        assert_eq!(served.failures(), MOST);
    }
    // What left the window is room again.
    served.bench.advance(SignedDuration::from_mins(10));
    served.attempt(&mut other, true).await;
    let account = served.bench.provider.account("app").unwrap();
    assert!(!account.failures.is_empty() && account.failures.len() <= MOST);
}

/// Rounds that follow on one another without a pause are stored together, so a process may die behind several of them.
#[tokio::test]
async fn rounds_without_a_pause_are_all_counted_when_a_process_dies_behind_them() {
    let mut served = Served::new().await;
    let live = served.bench.provision("app").await;
    let mut plan = served.revocation(&live);
    plan.proof.interval = SignedDuration::ZERO;
    plan.proof.refusals = 3;
    let mut driven = served.opened(plan).await;
    served.until_proof(&mut driven).await;
    served.record(&driven, 1, "open").await;
    for _ in 0..10 {
        served.bench.advance(SignedDuration::from_secs(1));
        served.restart();
        assert_eq!(served.store.claim_runs("node", LEASE, 1).await.unwrap().len(), 1);
        let mut lost = Driven {
            run: driven.run.clone(),
            receipt: None,
            events: driven.events.clone(),
        };
        while lost.run.step() == Some(Step::ProveDead) && is_wanted_now(&lost.run, served.bench.now()) {
            served.attempt(&mut lost, true).await;
        }
        assert!(served.failures() <= MOST, "{}", served.failures());
    }
    assert_eq!(served.failures(), MOST, "the first one tried what there was room for");
}

fn is_wanted_now(run: &Run, now: Timestamp) -> bool {
    matches!(decide(run, now), Decision::Perform { .. })
}

/// Each process dies between its logins and their record: only that it had taken the run into its hands is known.
/// Row 18.
#[tokio::test]
async fn a_crash_loop_locks_no_account() {
    let mut served = Served::new().await;
    let live = served.bench.provision("app").await;
    let mut driven = served.opened(served.revocation(&live)).await;
    served.until_proof(&mut driven).await;
    served.record(&driven, 1, "open").await;
    let mut most = 0;
    for _ in 0..20 {
        served.bench.advance(SignedDuration::from_secs(1));
        served.restart();
        let claimed = served.store.claim_runs("node", LEASE, 1).await.unwrap();
        assert_eq!(claimed.len(), 1);
        served.attempt(&mut driven, false).await;
        most = most.max(served.failures());
    }
    assert!(most > 0 && most <= MOST, "{most}");
    // When the loop has ended, the run goes on by itself.
    served.bench.advance(SignedDuration::from_mins(11));
    let before = driven.events.len();
    served.attempt(&mut driven, true).await;
    assert!(
        driven.run.progress(live.id).is_some_and(|seen| !seen.rounds.is_empty()),
        "{:?}",
        &driven.events[before..]
    );
}
