//! A budget of one: of three rotations that are wanted at once, each window sees one revocation, across a restart too.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::scene::{Scene, policy, text};
use crate::harness::Service;

const NAMES: [&str; 3] = ["one", "two", "three"];

#[test]
fn a_budget_of_one_revokes_one_in_a_window() {
    let scene = Scene::start();
    let mut manifests = scene.ground(Service::Redis);
    manifests.push(policy(
        "fast",
        &NAMES,
        json!({ "budget": { "destructive": 1, "per": "4s" } }),
    ));
    manifests.extend(NAMES.map(|name| scene.identity(name, Service::Redis, json!({}))));
    scene.register(&manifests);
    let old = NAMES.map(|name| scene.delivered(name));
    let runs = NAMES.map(|name| scene.rotate(name));
    scene.until_held("budget");
    assert!(!scene.findings("budget_spent").is_empty());
    let dead = || {
        old.iter()
            .filter(|one| crate::harness::refused(scene.servers, Service::Redis, &one.user, &one.secret))
            .count()
    };
    assert!(dead() < NAMES.len());
    scene.kf.kill();
    scene.kf.resume();
    let mut begun: Vec<Timestamp> = runs
        .iter()
        .map(|run| {
            scene.kf.follow(run, 0);
            let started = scene.events(run, "started");
            let revoke = started.iter().find(|event| event["step"] == "revoke_old").unwrap();
            text(&revoke["at"]).parse().unwrap()
        })
        .collect();
    begun.sort();
    for pair in begun.windows(2) {
        assert!(
            pair[1].duration_since(pair[0]) >= SignedDuration::from_secs(4),
            "{begun:?}"
        );
    }
    assert_eq!(dead(), NAMES.len());
}
