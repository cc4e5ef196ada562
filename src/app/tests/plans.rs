//! What is asked for twice is one plan to sign.

use super::identities::MANIFESTS;
use super::world::World;
use crate::app::{PageQuery, PlanView};

async fn waiting(world: &World) -> usize {
    let ada = world.caller("ada").await;
    let plans = world.app.plans(&ada, Some("proposed"), PageQuery::default());
    plans.await.unwrap().len()
}

#[tokio::test]
async fn the_same_plan_of_the_same_person_is_stored_once() {
    let world = World::new().await;
    let first = world.plan(MANIFESTS).await.unwrap();
    let same = |plan: PlanView| plan.id == first.id && plan.digest == first.digest;
    assert!(same(world.plan(MANIFESTS).await.unwrap()));
    assert_eq!(waiting(&world).await, 1);

    // Another reason, another person or another manifest is another plan.
    assert!(!same(world.plan_as("ada", MANIFESTS, "because").await.unwrap()));
    assert!(!same(world.plan_as("bo", MANIFESTS, "").await.unwrap()));
    let other = MANIFESTS.replace("\"+get\"", "\"+get\", \"+set\"");
    assert!(!same(world.plan(&other).await.unwrap()));
    assert_eq!(waiting(&world).await, 4);

    // One that was decided on is not taken up again.
    let bo = world.caller("bo").await;
    world.app.reject(&bo, &first.id, "no".to_owned()).await.unwrap();
    assert!(!same(world.plan(MANIFESTS).await.unwrap()));
}

#[tokio::test]
async fn a_request_that_is_made_twice_waits_once() {
    let world = World::new().await;
    let ada = world.caller("ada").await;
    world.app.freeze(&ada, "why".to_owned()).await.unwrap();
    let one = world.app.unfreeze(&ada, "over".to_owned()).await.unwrap();
    let two = world.app.unfreeze(&ada, "over".to_owned()).await.unwrap();
    assert_eq!(one.id, two.id);
}
