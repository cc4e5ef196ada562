//! A backup of each step of a rotation, put back after the rotation has ended. What is alive in it is dead downstream, and the other way round.

use jiff::SignedDuration;
use serde_json::json;

use super::{effects, passes};
use crate::domain::workflow::Step;
use crate::engine::freeze::lifted;
use crate::engine::standstill::{Cause, STANDSTILL, ended, stand_still};
use crate::engine::tests::looks::until;
use crate::engine::tests::world::World;
use crate::evidence::audit::decode_event;
use crate::store::StoreOptions;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// In the order of a rotation.
const STEPS: [Step; 11] = [
    Step::Precheck,
    Step::Baseline,
    Step::IssueNew,
    Step::ProveNew,
    Step::Deliver,
    Step::Promote,
    Step::AwaitOverlap,
    Step::RevokeOld,
    Step::EndSessions,
    Step::ProveDead,
    Step::ReadBack,
];

/// Rows 30, 31.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_of_any_step_sends_nothing_until_people_lift_the_standstill() {
    let mut restored = 0;
    for step in STEPS {
        let folder = tempfile::tempdir().unwrap();
        let backup = folder.path().join("keyfall.db");
        let world = World::with_policy(json!({ "overlap": "50ms" })).await;
        let live = world.due("app", HOUR).await;
        world.steps.close_gate(step);
        let engine = world.start().await;
        let reached = until("the step is called, or the run is over without it", || async {
            let run = world.run_of(&live).await;
            let is_over = run.is_some_and(|run| run.row.status == "completed");
            (world.steps.has_called(step) || is_over).then(|| world.steps.has_called(step))
        })
        .await;
        if !reached {
            engine.shutdown().await;
            continue;
        }
        world.store.backup(&backup).await.unwrap();
        world.steps.open_gate(step);
        world.until_status(&live, "completed").await;
        engine.shutdown().await;
        let alive = world.steps.live();

        let world = world
            .reopened(folder.path(), StoreOptions::new(decode_event))
            .await
            .unwrap();
        let cause = Cause {
            reason: "restored from backup monday".to_owned(),
            action: "restored",
            trigger: "request",
            details: json!({}),
        };
        stand_still(&*world.store, &world.env, cause).await.unwrap();
        let before = effects(&world);
        let engine = world.start().await;
        passes(&engine, 3).await;
        assert_eq!(effects(&world), before, "restored at {}", step.name());
        assert!(world.store.setting(STANDSTILL).await.unwrap().is_some());

        // Lifted, and nobody has looked at the run yet.
        world.put(vec![lifted(), ended()]).await;
        passes(&engine, 3).await;
        engine.shutdown().await;
        assert_eq!(effects(&world), before, "lifted at {}", step.name());
        assert_eq!(world.steps.live(), alive);
        let run = world.run_of(&live).await.unwrap();
        assert_eq!(run.row.status, "needs_operator", "restored at {}", step.name());
        restored += 1;
    }
    assert!(restored >= 11, "{restored}");
    println!("COVERED: quiet restores {restored}");
}

/// Row 31. What had ended when the backup was made is due again by what the backup says, and nothing is opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_due_in_a_restored_store_waits_for_people_too() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new().await;
    let live = world.due("app", -HOUR).await;
    world.store.backup(&folder.path().join("keyfall.db")).await.unwrap();
    let world = world
        .reopened(folder.path(), StoreOptions::new(decode_event))
        .await
        .unwrap();
    let cause = Cause {
        reason: "restored from backup monday".to_owned(),
        action: "restored",
        trigger: "request",
        details: json!({}),
    };
    stand_still(&*world.store, &world.env, cause).await.unwrap();
    world.clock.shift(HOUR * 2);
    let engine = world.start().await;
    passes(&engine, 3).await;
    assert!(world.run_of(&live).await.is_none());
    assert_eq!(effects(&world), 0);
    world.put(vec![lifted(), ended()]).await;
    world.until_status(&live, "completed").await;
    engine.shutdown().await;
}
