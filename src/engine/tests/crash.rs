//! P1, P2, P10: the process dies at each commit, before it is stored and after, and the next one converges to the same end.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::json;

use super::dying::{Cut, DyingStore};
use super::looks::{new_of, run_id, until};
use super::world::{World, settings};
use crate::domain::identity::CredentialState;
use crate::domain::workflow::{Run, Step};
use crate::engine::{EngineHandle, EngineSettings};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// Rows 3, 8.
#[tokio::test(flavor = "multi_thread")]
async fn a_death_at_any_commit_is_survived() {
    for cut in [Cut::BeforeCommit, Cut::AfterCommit] {
        let mut deaths = 0;
        for at in 1.. {
            if !dies_and_recovers(at, cut).await {
                break;
            }
            deaths = at;
        }
        // The opening, four intents, a wait behind each of two rounds, the close.
        assert!(deaths >= 8, "a rotation has more commits than {deaths}");
    }
}

/// Answers whether the run was still under way at this commit.
async fn dies_and_recovers(at: u32, cut: Cut) -> bool {
    let proof = json!({ "refusals": 3, "interval": "100ms", "giveUpAfter": "1m", "keepDeadSecret": "1h" });
    let world = World::with_policy(json!({ "proof": proof })).await;
    let live = world.due("app", HOUR).await;
    let dying = DyingStore::new(Arc::clone(&world.store), at, cut);
    let first = world.start_on(Arc::clone(&dying) as _).await;
    until("the process died or the run ended", || async {
        let is_over = world
            .run_of(&live)
            .await
            .is_some_and(|run| run.row.status == "completed");
        (dying.is_dead() || is_over).then_some(())
    })
    .await;
    let died = dying.is_dead();
    first.shutdown().await;

    let second = world.start().await;
    let run = world.until_status(&live, "completed").await;
    second.shutdown().await;
    let context = format!("death at commit {at}, {cut:?}");
    assert_eq!(world.steps.violations(), Vec::<String>::new(), "{context}");
    assert_eq!(world.steps.live(), [new_of(&run)].into(), "{context}");
    assert!(
        matches!(world.state_of(live.credential).await, CredentialState::Dead { .. }),
        "{context}"
    );
    assert_eq!(world.store.check().await.unwrap(), Vec::<String>::new(), "{context}");
    // What may have happened is looked at before it is repeated.
    for step in [Step::IssueNew, Step::Deliver, Step::RevokeOld, Step::EndSessions] {
        let blind = world
            .steps
            .called()
            .iter()
            .filter(|one| one.step == step && !one.observe_first)
            .count();
        assert!(blind <= 1, "{context}: {step:?} was repeated without looking");
    }
    // Of what was seen, only the attempt that was cut off is lost: each round spent refused logins, which are counted.
    let rounds = world
        .steps
        .called()
        .iter()
        .filter(|one| one.step == Step::ProveDead)
        .count();
    let told = Run::replay(&run.events).unwrap();
    let told = told.progress(live.credential).unwrap().rounds.len();
    assert!(
        told >= 3 && rounds <= told + 1,
        "{context}: {told} of {rounds} rounds are in the log"
    );
    died
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_lease_changes_nothing_more() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    // The run rests in the hands of the first node while a retry is far away, then a second node takes it over.
    let engine = held_at(&world, Step::ProveNew).await;
    let run = until("the run is held", || async {
        world.run_of(&live).await.filter(|run| run.row.node.is_some())
    })
    .await;
    let stolen = world.store.release_leases("node-a").await.unwrap();
    assert_eq!(stolen, 1);
    let other = world.store.claim_runs("node-b", HOUR, 10).await.unwrap();
    assert_eq!(other.len(), 1);
    let before = world.store.run(run_id(&run)).await.unwrap().unwrap();
    world.steps.open_gate(Step::ProveNew);
    until("the loser gave up", || async {
        (engine.status().runs_in_hands == 0).then_some(())
    })
    .await;
    engine.shutdown().await;
    let after = world.store.run(run_id(&run)).await.unwrap().unwrap();
    assert_eq!(after.events, before.events);
    assert_eq!(after.row.node.as_deref(), Some("node-b"));
    assert!(
        !world.steps.called().iter().any(|one| one.step == Step::Deliver),
        "nothing was sent after the loss"
    );
}

/// Starts the engine and lets it come to rest inside of this step.
async fn held_at(world: &World, step: Step) -> EngineHandle {
    world.steps.close_gate(step);
    let engine = world
        .start_with(
            Arc::clone(&world.store),
            EngineSettings {
                take_over_at_start: false,
                ..settings()
            },
        )
        .await;
    until("the step was called", || async {
        world.steps.called().iter().any(|one| one.step == step).then_some(())
    })
    .await;
    engine
}

#[tokio::test(flavor = "multi_thread")]
async fn the_result_of_an_effect_is_soon_durable_also_while_the_next_step_takes_long() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    let engine = held_at(&world, Step::ProveNew).await;
    until("the issue is stored while the proof is under way", || async {
        let run = world.run_of(&live).await?;
        (run.row.step.as_deref() == Some("prove_new")).then_some(())
    })
    .await;
    world.steps.open_gate(Step::ProveNew);
    world.until_status(&live, "completed").await;
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_lets_the_step_under_way_end_and_gives_the_lease_back() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    let engine = held_at(&world, Step::IssueNew).await;
    let stopping = tokio::spawn({
        let engine = engine.clone();
        async move { engine.shutdown().await }
    });
    until("it is stopping", || async { engine.status().is_stopping.then_some(()) }).await;
    world.steps.open_gate(Step::IssueNew);
    stopping.await.unwrap();
    let run = world.run_of(&live).await.unwrap();
    assert_eq!(run.row.node, None);
    assert_eq!(run.row.step.as_deref(), Some("prove_new"), "the result was stored");
}
