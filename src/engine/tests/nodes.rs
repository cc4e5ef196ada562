//! Rules that hold between nodes: what another one sent is waited out, unless it is known that nobody is left to send it; leases of a process
//! that may still act are nobody else's; no node opens what it does not know.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use keyfall_sdk::BoxFuture;

use super::looks::until;
use super::world::{Live, World, settings};
use crate::domain::ids::{CredentialId, IdentityId};
use crate::domain::workflow::Step;
use crate::engine::nodes::Processes;
use crate::engine::{Engine, EngineHandle, EngineSettings, StartError};
use crate::faults::between::{Between, Rule};
use crate::store::{Commit, Committed, Fact, Heard, NodeSays, Store, StoreError};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// Longer than a scripted step may take.
const BEHIND_THE_DEADLINE: SignedDuration = SignedDuration::from_secs(6);

/// This process has this mark, and of one other it is known that it has ended.
#[derive(Debug)]
struct Known {
    own: &'static str,
    ended: &'static str,
}

impl Processes for Known {
    fn own(&self) -> Option<String> {
        Some(self.own.to_owned())
    }

    fn has_ended(&self, mark: &str) -> bool {
        mark == self.ended
    }
}

fn node(name: &str, own: &'static str, ended: &'static str) -> EngineSettings {
    EngineSettings {
        node: name.to_owned(),
        take_over_at_start: false,
        heartbeat: Duration::from_millis(50),
        processes: Some(Arc::new(Known { own, ended })),
        ..settings()
    }
}

async fn try_start(world: &World, settings: EngineSettings) -> Result<EngineHandle, StartError> {
    let engine = Engine {
        store: Arc::clone(&world.store),
        steps: Arc::clone(&world.steps) as _,
        prepare: Arc::clone(&world.steps) as _,
        env: world.env.clone(),
        settings,
    };
    engine.start().await
}

/// How often the step arrived downstream.
fn calls(world: &World, step: Step) -> usize {
    world.steps.called().iter().filter(|one| one.step == step).count()
}

/// A node that has sent the issue of a new credential and is not answered.
async fn in_the_middle_of_an_issue(world: &World, settings: EngineSettings) -> EngineHandle {
    world.steps.close_gate(Step::IssueNew);
    let engine = try_start(world, settings).await.unwrap();
    until("the issue was sent", || async {
        (calls(world, Step::IssueNew) == 1).then_some(())
    })
    .await;
    engine
}

/// Its lease is over, as far as the store knows.
async fn lose_lease(world: &World, live: &Live) {
    let holder = world.run_of(live).await.unwrap().row.node.unwrap();
    assert_eq!(world.store.release_leases(&holder).await.unwrap(), 1);
}

/// What was sent and not answered is looked for, not repeated blindly.
fn is_looked_for(world: &World) {
    let called = world.steps.called();
    let mut issues = called.iter().filter(|one| one.step == Step::IssueNew);
    assert!(issues.next().is_some_and(|first| !first.observe_first), "{called:?}");
    assert!(issues.next().is_some_and(|again| again.observe_first), "{called:?}");
}

/// Row 23.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_node_sent_is_waited_out_before_anything_is_looked_at() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    world.clock.hold();
    let first = in_the_middle_of_an_issue(&world, node("node-a", "a", "")).await;
    let second = try_start(&world, node("node-b", "b", "a")).await.unwrap();
    lose_lease(&world, &live).await;
    second.ring();
    let run = until("the run waits for the deadline of what was sent", || async {
        let run = world.run_of(&live).await?;
        let waits = run.row.epoch == 2 && run.row.node.is_none() && run.row.wake_at > Some(world.env.now());
        waits.then_some(run)
    })
    .await;
    let rest = run.row.wake_at.unwrap().duration_since(world.env.now());
    assert!((4_900..=5_100).contains(&rest.as_millis()), "{rest:#}");
    assert_eq!(calls(&world, Step::IssueNew), 1, "nobody looked before the deadline");
    first.shutdown_of_a_loser(&world).await;
    world.clock.shift(BEHIND_THE_DEADLINE);
    world.clock.go_on();
    second.ring();
    world.until_status(&live, "completed").await;
    second.shutdown().await;
    is_looked_for(&world);
}

/// Row 23.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_sent_that_has_ended_is_looked_at_at_once() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    world.clock.hold();
    let first = in_the_middle_of_an_issue(&world, node("node-a", "one", "")).await;
    let second = try_start(&world, node("node-a", "two", "one")).await.unwrap();
    until("the next process looks for what was sent", || async {
        (calls(&world, Step::IssueNew) == 2).then_some(())
    })
    .await;
    assert_eq!(world.run_of(&live).await.unwrap().row.epoch, 2);
    first.shutdown_of_a_loser(&world).await;
    world.clock.go_on();
    world.until_status(&live, "completed").await;
    second.shutdown().await;
    is_looked_for(&world);
}

/// Row 2.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_a_living_process_has_is_not_taken() {
    let world = World::new().await;
    let first = try_start(&world, node("node-a", "one", "")).await.unwrap();
    let second = try_start(&world, node("node-a", "two", "another")).await;
    assert!(
        matches!(&second, Err(StartError::NameTaken { name, .. }) if name == "node-a"),
        "{:?}",
        second.err()
    );
    first.shutdown().await;
    // It has said goodbye.
    try_start(&world, node("node-a", "three", ""))
        .await
        .unwrap()
        .shutdown()
        .await;
}

/// The first word of a process of that name.
fn says(name: &str) -> NodeSays {
    NodeSays {
        name: name.to_owned(),
        instance: "0001 one".to_owned(),
        version: String::new(),
        workflow: 1,
        address: String::new(),
        clock_ahead: SignedDuration::ZERO,
        draining: false,
        starts: true,
        gone: false,
        believed_for: HOUR,
        ended: None,
    }
}

/// Row 23. Who is stopped or cut off says nothing, and may go on at any time: its name is free behind some silence, its leases are not.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_process_loses_its_name_and_keeps_its_leases() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    let opener = in_the_middle_of_an_issue(&world, node("node-x", "x", "")).await;
    lose_lease(&world, &live).await;
    let silent = says("node-a");
    world.store.say(&silent).await.unwrap();
    let claimed = world.store.claim_runs("node-a 0001", HOUR, 1).await.unwrap();
    assert_eq!(claimed.len(), 1);
    let heir = try_start(&world, node("node-a", "two", "")).await.unwrap();
    let held = world.run_of(&live).await.unwrap().row;
    assert_eq!((held.node.as_deref(), held.epoch), (Some("node-a 0001"), 2));
    heir.shutdown().await;
    world.store.say(&silent).await.unwrap();
    let heir = try_start(&world, node("node-a", "three", "one")).await.unwrap();
    until(
        "the run is free as soon as the process is known to have ended",
        || async { (world.run_of(&live).await?.row.epoch == 3).then_some(()) },
    )
    .await;
    opener.shutdown_of_a_loser(&world).await;
    heir.shutdown().await;
}

impl EngineHandle {
    /// What it had sent is answered only now.
    async fn shutdown_of_a_loser(&self, world: &World) {
        self.shared.leases.lose_all();
        world.steps.open_gate(Step::IssueNew);
        self.shutdown().await;
    }
}

/// Between what a pass has read and what it opens, another node opens a run of the identity and ends it.
struct Meanwhile {
    identity: IdentityId,
    newer: CredentialId,
    refused: AtomicU32,
}

impl Rule for Meanwhile {
    fn is_alive(&self) -> bool {
        true
    }

    fn commit<'a>(&'a self, inner: &'a Arc<dyn Store>, commit: Commit) -> BoxFuture<'a, Result<Committed, StoreError>> {
        Box::pin(async move {
            let opens = commit.facts.iter().any(|fact| matches!(fact, Fact::RunOpened(_)));
            if opens && self.refused.load(Ordering::SeqCst) == 0 {
                let fact = Fact::IdentityCurrent {
                    id: self.identity,
                    credential: Some(self.newer),
                };
                let changed = Commit {
                    facts: vec![fact],
                    ..Commit::default()
                };
                inner.commit(changed).await?;
            }
            let committed = inner.commit(commit).await?;
            if opens && matches!(committed, Committed::Refused { .. }) {
                self.refused.fetch_add(1, Ordering::SeqCst);
            }
            Ok(committed)
        })
    }
}

/// Row 23. What this node takes for the credential in use is dead by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_not_opened_from_what_another_node_has_changed_meanwhile() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    let rule = Meanwhile {
        identity: live.id,
        newer: CredentialId::from_uuid(world.env.draw_uuid()),
        refused: AtomicU32::new(0),
    };
    let store = Between::a_store(Arc::clone(&world.store), rule);
    let engine = world.start_with(Arc::clone(&store) as _, settings()).await;
    until("the run is not opened", || async {
        (store.rule.refused.load(Ordering::SeqCst) > 0).then_some(())
    })
    .await;
    engine.shutdown().await;
}

/// Row 2. It may go on with nothing that it has in its hands: whoever has its name now may have given its leases up.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_name_was_taken_sends_nothing_more() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    let silent = in_the_middle_of_an_issue(&world, node("node-a", "one", "")).await;
    let heir = NodeSays {
        instance: "0002 two".to_owned(),
        // By what it knows, the one before it is dead.
        believed_for: SignedDuration::MIN,
        ..says("node-a")
    };
    assert!(matches!(world.store.say(&heir).await.unwrap(), Heard::Ours));
    silent.name_lost().await;
    world.steps.open_gate(Step::IssueNew);
    silent.shutdown().await;
    let alive = Vec::from_iter(world.steps.live());
    assert_eq!(alive, [live.credential], "what was held back is not sent any more");
    assert_eq!(calls(&world, Step::IssueNew), 1);
    let known = world.store.nodes().await.unwrap();
    assert!(
        known.iter().all(|row| row.gone_at.is_none()),
        "it does not say goodbye for its heir: {known:?}"
    );
}
