//! P8: the secret of a take-over lives as long as its plan, and a plan that waits spoils no backup.

use keyfall_sdk::SecretValue;

use super::identities::MANIFESTS;
use super::world::World;
use crate::app::{AdoptAsk, PlanView};
use crate::domain::ids::{PlanId, SecretId};
use crate::domain::plan::{Action, Plan};
use crate::domain::resource::IdentityKind;

async fn proposed(world: &World) -> (PlanView, SecretId) {
    world.apply(MANIFESTS).await;
    let ask = AdoptAsk {
        name: "legacy".to_owned(),
        system: "cache".to_owned(),
        account: "legacy".to_owned(),
        kind: IdentityKind::ServiceAccount,
        environment: "test".to_owned(),
        owner: "team".to_owned(),
        expires: "2099-01-01T00:00:00Z".parse().unwrap(),
        take_over: true,
        secret: Some(SecretValue::from("somebody's password".to_owned())),
        reason: String::new(),
    };
    let plan = world.app.adopt(&world.caller("ada").await, ask).await.unwrap();
    let id: PlanId = plan.id.parse().unwrap();
    let content = world.store.plan(id).await.unwrap().unwrap().content;
    let stored: Plan = serde_json::from_slice(&content).unwrap();
    let secret = stored.actions.iter().find_map(|action| match action {
        Action::TakeOver { secret, .. } => *secret,
        _ => None,
    });
    (plan, secret.unwrap())
}

#[tokio::test]
async fn a_plan_to_take_an_account_over_leaves_the_store_sound_and_its_secret_ends_with_it() {
    let world = World::new().await;
    let (plan, secret) = proposed(&world).await;
    assert_eq!(world.store.check().await.unwrap(), Vec::<String>::new());
    let expires = plan.expires_at;
    let row = world.store.secret(secret).await.unwrap().unwrap();
    assert!(row.destroy_at.is_some_and(|at| at <= expires), "{:?}", row.destroy_at);

    let bo = world.caller("bo").await;
    world.app.reject(&bo, &plan.id, "no".to_owned()).await.unwrap();
    let row = world.store.secret(secret).await.unwrap().unwrap();
    assert!(row.destroy_at.is_some_and(|at| at <= world.env.now()));
}

#[tokio::test]
async fn a_plan_that_is_carried_out_keeps_its_secret() {
    let world = World::new().await;
    let (plan, secret) = proposed(&world).await;
    world.approve("bo", &plan).await.unwrap();
    let row = world.store.secret(secret).await.unwrap().unwrap();
    assert_eq!(row.destroy_at, None);
    assert_eq!(world.store.check().await.unwrap(), Vec::<String>::new());
}
