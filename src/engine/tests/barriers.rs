//! P6, P9: what holds a destructive step back, and that nothing else is held back with it.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::json;

use super::dying::{Cut, DyingStore};
use super::looks::{new_of, until};
use super::rows::secret_row;
use super::runs::append;
use super::world::{Live, World};
use crate::domain::actor::{Actor, Approver};
use crate::domain::due::DueReason;
use crate::domain::identity::CredentialState;
use crate::domain::ids::{CredentialId, PersonId, RunId, SecretId};
use crate::domain::workflow::{EventBody, Run, RunKind, Step};
use crate::engine::freeze::{FREEZE, Freeze, lifted};
use crate::engine::standstill::{Cause, StandstillError, ended, stand_still, stand_still_while};
use crate::engine::{EngineHandle, opening};
use crate::evidence::record::AuditRecord;
use crate::store::{Committed, Fact, Guard, StoredRun};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

async fn freeze(world: &World) {
    let freeze = Freeze {
        reason: "drill".to_owned(),
        by: "ada".to_owned(),
        at: world.env.now(),
    };
    world.put(vec![freeze.fact()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_holds_before_the_revocation_and_lets_the_run_be_cancelled() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    world.steps.close_gate(Step::Promote);
    let engine = world.start().await;
    until("it promotes", || async {
        world.steps.has_called(Step::Promote).then_some(())
    })
    .await;
    freeze(&world).await;
    world.steps.open_gate(Step::Promote);
    let held = until("the run rests before the revocation", || async {
        let run = world.run_of(&live).await?;
        (run.row.step.as_deref() == Some("revoke_old") && run.row.node.is_none()).then_some(run)
    })
    .await;
    assert!(world.steps.is_live(live.credential));
    assert!(!world.steps.has_called(Step::RevokeOld));
    let folded = Run::replay(&held.events).unwrap();
    assert!(!folded.is_past_pivot(), "a held step has not begun");

    world.put(vec![lifted()]).await;
    engine.ring();
    world.until_status(&live, "completed").await;
    engine.shutdown().await;
    assert!(!world.steps.is_live(live.credential));
}

/// The seconds to come are given out to others that are held.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_held_with_many_others_asks_again_behind_them() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    world.steps.close_gate(Step::Promote);
    let engine = world.start().await;
    until("it promotes", || async {
        world.steps.has_called(Step::Promote).then_some(())
    })
    .await;
    freeze(&world).await;
    let now = world.env.now();
    let minute = now + SignedDuration::from_mins(1);
    while engine.shared.asking.at(now, now) < minute {}
    world.steps.open_gate(Step::Promote);
    let held = until("the run rests before the revocation", || async {
        let run = world.run_of(&live).await?;
        (run.row.step.as_deref() == Some("revoke_old") && run.row.node.is_none()).then_some(run)
    })
    .await;
    assert!(held.row.wake_at.unwrap() > minute - SignedDuration::from_secs(1));
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_scheduled_opens_under_a_freeze() {
    let world = World::new().await;
    freeze(&world).await;
    let live = world.due("app", HOUR).await;
    let engine = world.start().await;
    until("it is held", || async {
        (engine.status().last_pass.held == 1).then_some(())
    })
    .await;
    world.until_open("overdue", "app", true).await;
    assert!(world.run_of(&live).await.is_none());
    // The pass says so at its end, a moment after its findings.
    let by = until("the pass says who froze", || async {
        engine.status().last_pass.frozen.map(|freeze| freeze.by)
    });
    assert_eq!(by.await, "ada");
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_is_never_exceeded_also_when_a_node_dies_between() {
    let world = World::with_policy(json!({ "budget": { "destructive": 2, "per": "1h" } })).await;
    let mut all = Vec::new();
    for number in 0..5 {
        all.push(world.due(&format!("app-{number}"), HOUR).await);
    }
    let dying = DyingStore::new(Arc::clone(&world.store), 14, Cut::AfterCommit);
    let first = world.start_on(Arc::clone(&dying) as _).await;
    until("the first process died", || async { dying.is_dead().then_some(()) }).await;
    first.shutdown().await;
    let second = world.start().await;
    until("two are through and three wait", || async {
        let mut waiting = 0;
        for live in &all {
            let run = world.run_of(live).await?;
            waiting += usize::from(run.row.step.as_deref() == Some("revoke_old") && run.row.status == "open");
        }
        (waiting == 3).then_some(())
    })
    .await;
    until("those two are dead", || async {
        let mut dead = 0;
        for live in &all {
            dead += usize::from(matches!(
                world.state_of(live.credential).await,
                CredentialState::Dead { .. }
            ));
        }
        (dead == 2).then_some(())
    })
    .await;
    assert_eq!(
        world
            .store
            .spent("destructive:daily", world.env.now() - HOUR)
            .await
            .unwrap(),
        2
    );
    let kinds: Vec<_> = world.open_findings().await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["budget_spent"]);
    let log = world.store.log(0, 1000).await.unwrap();
    let records = log.iter().map(|entry| AuditRecord::decode(&entry.bytes).unwrap());
    let told = records.filter(|record| record.action == "findings_raised" && record.details.contains("budget_spent"));
    let told = told.count();
    assert!(
        (1..=3).contains(&told),
        "no change without a record, and no record for meeting it again: {told}"
    );
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_does_not_hold_any_more_stops_before_anything_is_taken_away() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    world.steps.close_gate(Step::Promote);
    let engine = world.start().await;
    until("it promotes", || async {
        world.steps.has_called(Step::Promote).then_some(())
    })
    .await;
    world.steps.refuse_approvals("the approver was retired");
    world.steps.open_gate(Step::Promote);
    world.until_status(&live, "needs_operator").await;
    engine.shutdown().await;
    assert!(world.steps.is_live(live.credential));
}

/// Row 2.
#[tokio::test(flavor = "multi_thread")]
async fn an_identity_has_one_open_run() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    world.steps.close_gate(Step::Precheck);
    let engine = world.start().await;
    let run = until("a run is open", || async { world.run_of(&live).await }).await;
    let mut plan = Run::replay(&run.events).unwrap().plan().clone();
    plan.run = RunId::from_uuid(world.env.draw_uuid());
    let second = opening(plan, None).unwrap();
    let answer = world.store.commit(second).await.unwrap();
    assert_eq!(answer, Committed::Refused { guard: 0 });
    world.steps.open_gate(Step::Precheck);
    engine.shutdown().await;
}

/// Row 31.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_put_back_issues_and_delivers_nothing_and_asks_about_each_open_run() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    world.steps.close_gate(Step::Precheck);
    let engine = world.start().await;
    until("a run is open", || async { world.run_of(&live).await }).await;
    let cause = Cause {
        reason: "restored".to_owned(),
        action: "restored",
        trigger: "request",
        details: json!({}),
    };
    stand_still(&*world.store, &world.env, cause).await.unwrap();
    world.steps.open_gate(Step::Precheck);
    let asked = world.until_status(&live, "needs_operator").await;

    let retried = EventBody::Retried {
        by: Actor::Engine,
        reason: "looked at".to_owned(),
    };
    append(&world, &asked.events, retried).await;
    engine.ring();
    until("the run rests before it issues", || async {
        let run = world.run_of(&live).await?;
        (run.row.step.as_deref() == Some("issue_new") && run.row.node.is_none()).then_some(())
    })
    .await;
    assert!(!world.steps.has_called(Step::IssueNew));

    world.put(vec![lifted(), ended()]).await;
    engine.ring();
    world.until_status(&live, "completed").await;
    engine.shutdown().await;
}

/// A run of `name` that has delivered and then waits, cancelled there.
async fn cancelled_behind_its_delivery(world: &World, engine: &EngineHandle, live: &Live) -> StoredRun {
    let resting = until("the run rests before the revocation", || async {
        let run = world.run_of(live).await?;
        (run.row.step.as_deref() == Some("revoke_old") && run.row.node.is_none()).then_some(run)
    })
    .await;
    let cancelled = EventBody::CancelRequested {
        by: Actor::Engine,
        reason: "not today".to_owned(),
    };
    append(world, &resting.events, cancelled).await;
    engine.ring();
    until("the run rests on its way back", || async {
        let run = world.run_of(live).await?;
        (run.row.step.as_deref() == Some("revoke_new") && run.row.node.is_none()).then_some(run)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_holds_the_way_back_too() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    world.steps.close_gate(Step::Promote);
    let engine = world.start().await;
    until("it promotes", || async {
        world.steps.has_called(Step::Promote).then_some(())
    })
    .await;
    freeze(&world).await;
    world.steps.open_gate(Step::Promote);
    let held = cancelled_behind_its_delivery(&world, &engine, &live).await;
    assert!(world.steps.is_live(new_of(&held)) && world.steps.is_live(live.credential));
    assert!(!world.steps.has_called(Step::RevokeNew));
    world.put(vec![lifted()]).await;
    engine.ring();
    world.until_status(&live, "unwound").await;
    engine.shutdown().await;
    assert_eq!(world.steps.live(), [live.credential].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn taking_back_what_was_given_out_spends_from_the_budget() {
    let world = World::with_policy(json!({ "budget": { "destructive": 1, "per": "1h" } })).await;
    let first = world.due("first", HOUR).await;
    let engine = world.start().await;
    world.until_status(&first, "completed").await;
    let second = world.due("second", HOUR).await;
    engine.ring();
    let held = cancelled_behind_its_delivery(&world, &engine, &second).await;
    engine.shutdown().await;
    assert!(world.steps.is_live(new_of(&held)) && world.steps.is_live(second.credential));
    let spent = world.store.spent("destructive:daily", world.env.now() - HOUR).await;
    assert_eq!(spent.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_of_one_run_that_ran_out_lets_nothing_be_taken_away() {
    let world = World::new().await;
    let pattern = world.due("pattern", HOUR).await;
    let asked = world.due("asked", -HOUR).await;
    world.steps.close_gate(Step::Precheck);
    let engine = world.start().await;
    let run = until("a run is open", || async { world.run_of(&pattern).await }).await;
    let mut plan = Run::replay(&run.events).unwrap().plan().clone();
    plan.run = RunId::from_uuid(world.env.draw_uuid());
    plan.identity = asked.id;
    plan.identity_name = asked.name.clone();
    plan.old[0].id = asked.credential;
    plan.approval.standing = false;
    plan.approval.approvers.push(Approver {
        person: PersonId::from_uuid(world.env.draw_uuid()),
        name: "bo".to_owned(),
        public_key: String::new(),
        expires_at_micros: (world.env.now() - HOUR).as_microsecond(),
        signature: String::new(),
    });
    let new = plan.new.as_mut().unwrap();
    new.id = CredentialId::from_uuid(world.env.draw_uuid());
    new.secret = SecretId::from_uuid(world.env.draw_uuid());
    let secret = secret_row(new.secret, world.env.now());
    let opened = world.store.commit(opening(plan, Some(secret)).unwrap()).await.unwrap();
    assert!(matches!(opened, Committed::Stored), "{opened:?}");
    world.steps.open_gate(Step::Precheck);
    engine.ring();
    let stuck = world.until_status(&asked, "needs_operator").await;
    assert!(
        format!("{:?}", stuck.events.last()).contains("ran out"),
        "{:?}",
        stuck.events.last()
    );
    assert!(format!("{:?}", stuck.events.last()).contains("keyfall cancel"));
    engine.shutdown().await;
    assert!(world.steps.is_live(asked.credential));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signed_a_policy_cannot_ask_for_its_rotations_alone() {
    for solo in [false, true] {
        let world = World::new().await;
        let live = world.due("app", -HOUR).await;
        let bo = PersonId::from_uuid(world.env.draw_uuid());
        let mut request = world.request(RunKind::Rotate, DueReason::Requested);
        request.initiator = Actor::Person {
            id: bo,
            name: "bo".to_owned(),
        };
        request.approval.standing = true;
        request.approval.solo = solo;
        request.approval.approvers.push(Approver {
            person: bo,
            name: "bo".to_owned(),
            public_key: String::new(),
            expires_at_micros: (world.env.now() + HOUR).as_microsecond(),
            signature: String::new(),
        });
        world.ask(&live, request, |_| ()).await;
        let engine = world.start().await;
        let end = if solo { "completed" } else { "needs_operator" };
        let run = world.until_status(&live, end).await;
        engine.shutdown().await;
        assert_eq!(world.steps.is_live(live.credential), !solo);
        let last = format!("{:?}", run.events.last());
        assert_eq!(
            last.contains("bo asked for this run") && last.contains("somebody else"),
            !solo,
            "{last}"
        );
    }
}

/// Several servers find the same cause, and the slowest of them finds it lifted.
#[tokio::test]
async fn a_standstill_is_not_brought_back_behind_who_lifted_it() {
    let world = World::new().await;
    let cause = || Cause {
        reason: "the database is another one".to_owned(),
        action: "frozen",
        trigger: "watch",
        details: json!({}),
    };
    let was = || Guard::SettingIs {
        key: "database",
        value: Some("was".to_owned()),
    };
    let late = stand_still_while(&*world.store, &world.env, cause(), vec![was()]).await;
    assert!(matches!(late, Err(StandstillError::Moved)), "{late:?}");
    assert_eq!(world.store.setting(FREEZE).await.unwrap(), None);
    let value = Some("was".to_owned());
    world.put(vec![Fact::Setting { key: "database", value }]).await;
    stand_still_while(&*world.store, &world.env, cause(), vec![was()])
        .await
        .unwrap();
    assert!(world.store.setting(FREEZE).await.unwrap().is_some());
}
