//! Why an identity is due: what a reading of its account says, an owner who left, and what a person asked for and a run could not do.

use jiff::SignedDuration;
use keyfall_sdk::ErrorKind;
use serde_json::json;

use super::looks::until;
use super::runs::cancel;
use super::script::Ask;
use super::world::World;
use crate::domain::due::DueReason;
use crate::domain::workflow::{Run, RunKind, Step};
use crate::store::Fact;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_ends_by_itself_downstream_is_due_in_time_for_that() {
    let world = World::new().await;
    let ends_at = super::super::record::to_micros(world.env.now() + SignedDuration::from_hours(8));
    world.steps.end_account_at(ends_at);
    let live = world.due("app", HOUR).await;
    let engine = world.start().await;
    world.until_status(&live, "completed").await;
    engine.shutdown().await;
    let identity = world.store.identity(live.id).await.unwrap().unwrap();
    let current = world
        .store
        .credential(identity.current.unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(current.expires_at, Some(ends_at));
    let (due, reason) = identity.due.unwrap();
    assert_eq!(reason, DueReason::Expiring);
    assert!(due < ends_at && due > ends_at - MINUTE * 2, "{due}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_expires_before_its_age_is_due_is_due_then() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    let expires = super::super::record::to_micros(world.env.now() + SignedDuration::from_hours(8));
    world.change(&live, |one| one.spec.expires = expires).await;
    let engine = world.start().await;
    world.until_status(&live, "completed").await;
    engine.shutdown().await;
    assert_eq!(world.due_of(&live).await, Some((expires, DueReason::Expiring)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_rotates_is_due_once_when_its_owner_has_left() {
    let world = World::with_policy(json!({ "budget": { "per": "1s" } })).await;
    let ours = world.due("ours", -HOUR * 20).await;
    let unselected = world.due("unselected", -HOUR * 20).await;
    let other = world.due("other", -HOUR * 20).await;
    world.put(vec![world.owner("leaving")]).await;
    world.change(&ours, |one| one.spec.owner = "leaving".to_owned()).await;
    let elsewhere = |one: &mut crate::domain::identity::Identity| {
        one.spec.owner = "leaving".to_owned();
        one.spec.system = "elsewhere".to_owned();
    };
    world.change(&unselected, elsewhere).await;
    let before = world.due_of(&unselected).await;
    let engine = world.start().await;
    world.retire_owner("leaving").await;
    let run = world.until_status(&ours, "completed").await;
    assert_eq!(Run::replay(&run.events).unwrap().plan().reason, DueReason::OwnerLeft);
    world.until_open("unowned", "unselected", true).await;
    assert!(world.is_open("unowned", "ours").await, "a rotation gives it no owner");
    engine.shutdown().await;
    assert_eq!(world.due_of(&ours).await.unwrap().1, DueReason::MaxAge);
    assert_eq!(world.due_of(&unselected).await, before);
    assert!(world.run_of(&other).await.is_none());
}

/// Each has its own instant in the window in which the policy's budget counts, and keeps it; none waits for longer than that.
/// Row 35.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_owner_leaves_behind_does_not_come_due_in_one_instant() {
    let world =
        World::with_policy(json!({ "autonomy": "observe", "budget": { "destructive": 100, "per": "2h" } })).await;
    world.put(vec![world.owner("leaving")]).await;
    let mut all = Vec::new();
    for number in 0..1_000 {
        let live = world.due(&format!("app-{number}"), -HOUR * 20).await;
        world.change(&live, |one| one.spec.owner = "leaving".to_owned()).await;
        all.push(live);
    }
    let leaked = world.due("leaked", -HOUR * 20).await;
    let soon = super::super::record::to_micros(world.env.now() + MINUTE);
    let compromised = Some((soon, DueReason::Compromised));
    world
        .put(vec![Fact::IdentityDue {
            id: leaked.id,
            due: compromised,
        }])
        .await;
    world.change(&leaked, |one| one.spec.owner = "leaving".to_owned()).await;
    let before = world.env.now();
    let engine = world.start().await;
    world.retire_owner("leaving").await;
    world.until_open("unowned", "leaked", true).await;
    world.until_open("unowned", "app-999", true).await;
    let after = world.env.now();
    let mut places = std::collections::BTreeMap::new();
    for live in &all {
        let (at, reason) = world.due_of(live).await.unwrap();
        assert_eq!(reason, DueReason::OwnerLeft);
        assert!(at >= before && at <= after + HOUR * 2, "{at}");
        places.insert(at, live.id);
    }
    assert!(places.len() > 990, "{}", places.len());
    let widest = places.keys().zip(places.keys().skip(10));
    let widest = widest.map(|(one, tenth)| tenth.duration_since(*one)).min().unwrap();
    assert!(widest > SignedDuration::from_secs(1), "ten within {widest}");
    assert_eq!(world.due_of(&leaked).await, compromised);

    // Another owner leaves, and passes look at all of them again: nothing is moved.
    let last = world.due("last", -HOUR * 20).await;
    world.put(vec![world.owner("following")]).await;
    world.change(&last, |one| one.spec.owner = "following".to_owned()).await;
    world.retire_owner("following").await;
    world.until_open("unowned", "last", true).await;
    engine.shutdown().await;
    for (at, id) in &places {
        let identity = world.store.identity(*id).await.unwrap().unwrap();
        assert_eq!(identity.due, Some((*at, DueReason::OwnerLeft)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_asked_for_stays_due_when_its_run_was_taken_back() {
    for (kind, reason) in [
        (RunKind::Rotate, DueReason::Requested),
        (RunKind::EmergencyRotate, DueReason::Compromised),
    ] {
        let world = World::with_policy(json!({ "autonomy": "approve" })).await;
        let live = world.due("app", -HOUR * 20).await;
        world.ask(&live, world.request(kind, reason), |_| ()).await;
        world.steps.ask(Step::Deliver, Ask::Fail(ErrorKind::Denied));
        let engine = world.start().await;
        world.until_status(&live, "unwound").await;
        let (again, why) = world.due_of(&live).await.unwrap();
        let pause = again.duration_since(world.env.now());
        assert_eq!(why, reason);
        assert!(pause > MINUTE * 13 && pause <= MINUTE * 15, "{pause}");
        engine.shutdown().await;

        let due = Some((world.env.now() - MINUTE, why));
        world.put(vec![Fact::IdentityDue { id: live.id, due }]).await;
        let engine = world.start().await;
        world.until_open("approval_wanted", "app", true).await;
        engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_comes_back_by_itself_under_a_policy_that_rotates_and_then_is_done() {
    let world = World::new().await;
    let live = world.due("app", -HOUR * 20).await;
    let due = Some((world.env.now() - MINUTE, DueReason::Compromised));
    world.put(vec![Fact::IdentityDue { id: live.id, due }]).await;
    let engine = world.start().await;
    let run = world.until_status(&live, "completed").await;
    engine.shutdown().await;
    assert_eq!(Run::replay(&run.events).unwrap().plan().reason, DueReason::Compromised);
    assert_eq!(world.due_of(&live).await.unwrap().1, DueReason::MaxAge);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_asked_for_and_took_back_is_withdrawn_but_a_compromise_is_not() {
    for (kind, reason) in [
        (RunKind::Rotate, DueReason::Requested),
        (RunKind::Rotate, DueReason::Compromised),
    ] {
        for step in [Step::Deliver, Step::AwaitOverlap] {
            let world = World::new().await;
            let live = world.due("app", -HOUR * 20).await;
            let before = world.due_of(&live).await;
            let request = world.request(kind, reason);
            world.ask(&live, request, |plan| plan.timing.overlap = HOUR).await;
            // The run waits there while a person cancels it.
            if step == Step::Deliver {
                let busy = ErrorKind::RateLimited { after_ms: 60_000 };
                world.steps.ask(step, Ask::Fail(busy));
            }
            let engine = world.start().await;
            let waiting = until("it waits", || async {
                let run = world.run_of(&live).await?;
                (run.row.node.is_none() && run.row.step.as_deref() == Some(step.name())).then_some(run)
            })
            .await;
            cancel(&world, &live, &waiting, engine).await;
            let (at, why) = world.due_of(&live).await.unwrap();
            if reason == DueReason::Compromised {
                assert_eq!(why, reason, "{step:?}");
                assert!(at < world.env.now() + MINUTE * 15, "{step:?}: {at}");
            } else if step == Step::Deliver {
                assert_eq!(Some((at, why)), before, "nothing of it had changed");
            } else {
                assert_eq!(why, DueReason::MaxAge);
            }
        }
    }
}
