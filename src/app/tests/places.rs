//! One place is one identity's, and what lies there already is not overwritten unasked.

use std::fs;

use super::identities::MANIFESTS;
use super::world::World;
use crate::app::AppError;

const DESTINATIONS: &str = "\
---
apiVersion: keyfall.dev/v1
kind: Destination
metadata: { name: apps }
spec: { connector: file, environment: test, owner: team, defaults: { root: apps } }
---
apiVersion: keyfall.dev/v1
kind: Destination
metadata: { name: all }
spec: { connector: file, environment: test, owner: team, defaults: { root: all } }
";

/// An identity that is delivered to one place, with more of the delivery's own fields.
fn reader(name: &str, destination: &str, path: &str, more: &str) -> String {
    format!(
        "---
apiVersion: keyfall.dev/v1
kind: Identity
metadata: {{ name: {name} }}
spec:
  kind: service_account
  system: cache
  environment: test
  owner: team
  expires: 2099-01-01T00:00:00Z
  account: {name}
  strategy: dual_slot
  access: {{ rules: [\"~*\", \"+get\"] }}
  deliverTo:
    - {{ destination: {destination}, {more} target: {{ path: {path}, layout: raw }} }}
"
    )
}

async fn with_destinations(identities: &str) -> World {
    let world = World::new().await;
    world.apply(&format!("{MANIFESTS}{DESTINATIONS}{identities}")).await;
    world
}

async fn refused(world: &World, manifests: &str, words: &str) {
    match world.plan(manifests).await {
        Err(AppError::Invalid { problems }) => {
            assert!(problems.iter().any(|one| one.contains(words)), "{problems:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn two_identities_of_one_request_share_no_place() {
    let world = World::new().await;
    let (one, two) = (reader("one", "apps", "it", ""), reader("two", "apps", "it", ""));
    let manifests = format!("{MANIFESTS}{DESTINATIONS}{one}{two}");
    refused(
        &world,
        &manifests,
        "the secret of `one` is delivered to this very place",
    )
    .await;
}

#[tokio::test]
async fn no_identity_is_delivered_to_the_place_of_a_registered_one() {
    let world = with_destinations(&reader("one", "apps", "it", "")).await;
    let words = "the secret of `one` is delivered to this very place";
    refused(&world, &reader("two", "apps", "it", ""), words).await;
    // By another destination, whose root holds the first one's.
    refused(&world, &reader("two", "all", "apps/it", ""), words).await;
    assert!(world.plan(&reader("two", "apps", "other", "")).await.is_ok());
}

#[tokio::test]
async fn no_destination_moves_onto_the_place_of_another_identity() {
    let both = reader("one", "apps", "it", "") + &reader("two", "all", "it", "");
    let world = with_destinations(&both).await;
    let moved = DESTINATIONS.replace("root: all", "root: apps");
    refused(&world, &moved, "would be delivered to one place").await;
}

#[tokio::test]
async fn what_lies_there_already_is_replaced_only_when_the_manifest_says_so() {
    let world = with_destinations("").await;
    fs::write(world.path("apps/it"), "somebody's").unwrap();
    refused(&world, &reader("one", "apps", "it", ""), "lies there already").await;
    let plan = world
        .plan(&reader("one", "apps", "it", "replace: true,"))
        .await
        .unwrap();
    let warned = plan
        .warnings
        .iter()
        .any(|one| one.contains("is overwritten, and is not put back"));
    assert!(warned, "{plan:?}");

    // Somebody puts a file there while people sign.
    let plan = world.plan(&reader("two", "apps", "late", "")).await.unwrap();
    fs::write(world.path("apps/late"), "somebody's").unwrap();
    let late = world.approve("bo", &plan).await;
    assert!(matches!(late, Err(AppError::Invalid { .. })), "{late:?}");
    fs::remove_file(world.path("apps/late")).unwrap();
    world.approve("bo", &plan).await.unwrap();
}
