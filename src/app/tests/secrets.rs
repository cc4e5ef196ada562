//! P11: a secret that was given by name travels to the systems of approved manifests that name it, and nowhere else.

use keyfall_sdk::SecretValue;

use super::identities::MANIFESTS;
use super::world::World;
use crate::domain::ids::ResourceId;
use crate::domain::resource::{Kind, Resource, Spec};
use crate::engine::secrets::SecretError;
use crate::engine::systems::SystemError;
use crate::store::Fact;

async fn give(world: &World, secret: &str) {
    let ada = world.caller("ada").await;
    let secret = SecretValue::from(secret.to_owned());
    world.app.set_secret(&ada, "cache-admin", secret).await.unwrap();
}

/// Whether the server would send the secret to this system.
async fn sends(world: &World, system: &str) -> bool {
    match world.app.systems.connected(system).await {
        Ok(_) => true,
        Err(SystemError::Admin { source, .. }) => {
            assert!(matches!(source, SecretError::NamedForOthers(_)), "{source}");
            false
        }
        Err(other) => panic!("{other}"),
    }
}

fn another(name: &str, port: u16) -> String {
    let system = MANIFESTS.split("---\n").nth(1).unwrap();
    system
        .replace("name: cache }", &format!("name: {name} }}"))
        .replace("port: 1", &format!("port: {port}"))
        .replace("admin: {", "controlAccount: other\n  admin: {")
}

#[tokio::test]
async fn a_named_secret_is_sent_to_approved_endpoints_only() {
    let world = World::new().await;
    give(&world, "one").await;
    world.apply(MANIFESTS).await;
    assert!(sends(&world, "cache").await);

    // Somebody writes a system into the store, beside every approval.
    let cache = world.store.resource(Kind::System, "cache").await.unwrap().unwrap();
    let Spec::System(mut manifest) = cache.spec.clone() else {
        panic!("no system")
    };
    manifest.vantages[0].port = 2;
    let stray = Resource {
        id: ResourceId::from_uuid(world.env.draw_uuid()),
        name: "stray".to_owned(),
        spec: Spec::System(manifest),
        ..cache
    };
    world.put(vec![Fact::Resource(stray)]).await;
    assert!(!sends(&world, "stray").await);
}

#[tokio::test]
async fn a_plan_that_sends_a_named_secret_elsewhere_says_so_and_its_approval_allows_it() {
    let world = World::new().await;
    give(&world, "one").await;
    world.apply(MANIFESTS).await;
    let plan = world.plan(&another("mirror", 3)).await.unwrap();
    let warned = |plan: &crate::app::PlanView, words: &str| plan.warnings.iter().any(|one| one.contains(words));
    assert!(warned(&plan, "`cache-admin` is also that of system cache"), "{plan:?}");
    world.approve("bo", &plan).await.unwrap();
    assert!(sends(&world, "mirror").await && sends(&world, "cache").await);

    let renamed = another("mirror", 3).replace("username: admin", "username: root");
    let plan = world.plan(&renamed).await.unwrap();
    assert!(warned(&plan, "administered as `root`"), "{plan:?}");

    // Given anew, it is sealed for both.
    give(&world, "two").await;
    assert!(sends(&world, "mirror").await && sends(&world, "cache").await);
}

#[tokio::test]
async fn a_named_secret_follows_endpoints_that_were_approved() {
    let world = World::new().await;
    world.apply(MANIFESTS).await;
    give(&world, "one").await;
    assert!(sends(&world, "cache").await);
    let cache = world
        .store
        .identity_named("keyfall-control.cache")
        .await
        .unwrap()
        .unwrap();
    for identity in [cache, world.store.identity_named("worker").await.unwrap().unwrap()] {
        let run = world.store.open_run_of(identity.id).await.unwrap().unwrap();
        super::identities::unwind(&world, &run.to_string()).await;
    }
    let moved = MANIFESTS.split("---\n").nth(1).unwrap().replace("port: 1", "port: 4");
    world.apply(&moved).await;
    assert!(sends(&world, "cache").await);
}
