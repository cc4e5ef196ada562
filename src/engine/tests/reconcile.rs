//! Behind a standstill the systems are looked at, and what they show is held against the store: before anybody lifts it.

use jiff::SignedDuration;
use serde_json::json;

use super::looks::until;
use super::world::World;
use crate::engine::freeze::lifted;
use crate::engine::reconcile::{RECONCILED, Reconciled, forgotten};
use crate::engine::standstill::{Cause, ended, stand_still};
use crate::store::{FindingFilter, Page};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const WHY: &str = "restored from backup monday";
const KIND: &str = "not_as_recorded";

async fn stands_still(world: &World) {
    let cause = Cause {
        reason: WHY.to_owned(),
        action: "restored",
        trigger: "request",
        details: json!({}),
    };
    stand_still(&*world.store, &world.env, cause).await.unwrap();
}

async fn looked_around(world: &World) -> Reconciled {
    until("everything was looked at", || async {
        let stored = world.store.setting(RECONCILED).await.unwrap();
        Reconciled::of_setting(stored.as_deref(), WHY).filter(|seen| seen.done_at.is_some())
    })
    .await
}

async fn texts(world: &World) -> Vec<String> {
    let filter = FindingFilter {
        kind: Some(KIND.to_owned()),
        subject: None,
        open_only: true,
    };
    let found = world.store.findings(&filter, Page::first(10)).await.unwrap();
    found.into_iter().map(|finding| finding.text).collect()
}

/// Rows 30, 31.
#[tokio::test(flavor = "multi_thread")]
async fn a_standstill_names_what_the_systems_have_and_the_store_has_not() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    stands_still(&world).await;
    world.steps.plant(&["made-after-the-backup"]);
    let engine = world.start().await;
    let seen = looked_around(&world).await;
    assert_eq!((seen.looked_at, seen.differ, seen.unread), (1, 1, 0));
    let texts = texts(&world).await;
    assert!(
        texts.len() == 1 && texts[0].contains("made-after-the-backup"),
        "{texts:?}"
    );
    assert!(
        !texts[0].contains(&live.credential.to_string()),
        "it is there: {texts:?}"
    );
    assert_eq!(world.steps.called(), []);

    // Lifted, and the next rotation has read the account.
    world.put(vec![lifted(), ended(), forgotten()]).await;
    world.until_status(&live, "completed").await;
    world.until_open(KIND, &live.name, false).await;
    engine.shutdown().await;
}

/// Rows 30, 31.
#[tokio::test(flavor = "multi_thread")]
async fn a_standstill_names_what_the_store_has_and_the_systems_have_not() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    world.steps.take_away(live.credential);
    stands_still(&world).await;
    let engine = world.start().await;
    let seen = looked_around(&world).await;
    assert_eq!((seen.looked_at, seen.differ, seen.unread), (1, 1, 0));
    let texts = texts(&world).await;
    assert!(
        texts.len() == 1 && texts[0].contains(&format!("does not show {}", live.credential)),
        "{texts:?}"
    );
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_did_not_answer_is_asked_again() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    world.steps.be_silent(true);
    stands_still(&world).await;
    let engine = world.start().await;
    let seen = looked_around(&world).await;
    assert_eq!((seen.looked_at, seen.differ, seen.unread), (1, 0, 1));
    let told = texts(&world).await;
    assert!(
        told.len() == 1 && told[0].contains("could not be read: app"),
        "{told:?}"
    );

    world.steps.be_silent(false);
    world.clock.shift(SignedDuration::from_mins(3));
    world.until_open(KIND, &live.name, false).await;
    let seen = looked_around(&world).await;
    assert_eq!((seen.looked_at, seen.differ, seen.unread), (1, 0, 0));
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_alone_looks_at_nothing() {
    let world = World::new().await;
    world.due("app", HOUR).await;
    let frozen = crate::engine::freeze::Freeze {
        reason: "a drill".to_owned(),
        by: "ada".to_owned(),
        at: world.env.now(),
    };
    world.put(vec![frozen.fact()]).await;
    world.steps.plant(&["somebody's"]);
    let engine = world.start().await;
    until("two passes were made under the freeze", || async {
        (engine.status().last_pass.frozen.is_some() && engine.status().last_pass.at > frozen.at).then_some(())
    })
    .await;
    engine.shutdown().await;
    assert_eq!(world.store.setting(RECONCILED).await.unwrap(), None);
    assert_eq!(texts(&world).await, Vec::<String>::new());
}
