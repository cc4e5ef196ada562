//! A leaked key: replaced at once, by two people, over consumers that are named. And what a person may have revoked.

use serde_json::json;

use super::scene::{Scene, consumed, policy};
use crate::harness::Service;

#[test]
fn a_leaked_credential_is_dead_though_its_consumer_never_switched() {
    for service in [Service::Postgres, Service::Redis] {
        let scene = Scene::start();
        let mut manifests = scene.ground(service);
        manifests.push(policy("fast", &["orders"], json!({})));
        manifests.push(scene.identity("orders", service, consumed()));
        let runs = scene.apply(&manifests);
        scene.takes_up("orders", None);
        for run in &runs {
            scene.kf.follow(run, 0);
        }
        let old = scene.delivered("orders");
        let unreasoned = scene.kf.alice().run(&["rotate", "orders", "--emergency"]);
        assert_ne!(unreasoned.code, 0, "{unreasoned:?}");
        let plan = scene.plan(&["rotate", "orders", "--emergency", "--reason", "found on a forum"]);
        let shown = scene.kf.alice().ok(&["describe", "plan", &plan]);
        assert!(shown.contains("consumer app may break"), "{shown}");
        let own = scene.kf.alice().fails(&["approve", &plan, "--yes"], 1);
        assert!(own.contains("another person"), "{own}");
        scene.works(service, &old);
        let runs = scene.kf.bob().approve(&plan);
        scene.kf.follow(&runs[0], 0);
        scene.is_dead(service, &old);
        scene.works(service, &scene.delivered("orders"));
        let receipt = scene.receipt(&runs[0], 0);
        assert_eq!(receipt["receipt"]["run"]["trigger"], "break_glass");
        let exceptions = receipt["receipt"]["exceptions"].to_string();
        assert!(
            exceptions.contains("found on a forum") && exceptions.contains("app"),
            "{exceptions}"
        );
    }
}

#[test]
fn a_leaked_credential_does_not_live_on_in_the_rotation_that_is_under_way() {
    let scene = Scene::start();
    let old = scene.in_use(Service::Redis, json!({ "overlap": "1h" }), json!({}));
    let run = scene.rotate("orders");
    scene.until_step(&run, "await_uptake");
    let refused = scene.kf.alice().fails(&["rotate", "orders"], 1);
    assert!(refused.contains("--emergency"), "{refused}");
    let plan = scene.plan(&["rotate", "orders", "--emergency", "--reason", "found on a forum"]);
    scene.works(Service::Redis, &old);
    assert_eq!(scene.kf.bob().approve(&plan), std::slice::from_ref(&run));
    scene.kf.follow(&run, 0);
    scene.is_dead(Service::Redis, &old);
    scene.works(Service::Redis, &scene.delivered("orders"));
    let receipt = scene.receipt(&run, 0);
    let exceptions = receipt["receipt"]["exceptions"].to_string();
    assert!(
        exceptions.contains("found on a forum") && exceptions.contains("bob"),
        "{exceptions}"
    );
}

#[test]
fn the_last_good_credential_stays_and_a_dead_one_is_not_killed_twice() {
    let scene = Scene::start();
    let mut manifests = scene.ground(Service::Redis);
    manifests.push(policy("fast", &["orders"], json!({})));
    manifests.push(scene.identity("orders", Service::Redis, json!({})));
    scene.register(&manifests);
    let run = scene.rotate("orders");
    scene.kf.follow(&run, 0);
    let revoke = |credential: &str| {
        scene
            .kf
            .alice()
            .fails(&["revoke", "orders", "--credential", credential, "--reason", "x"], 1)
    };
    let last = revoke(&scene.credential("orders", "active"));
    assert!(last.contains("last proven-good"), "{last}");
    let dead = revoke(&scene.credential("orders", "dead"));
    assert!(dead.contains("dead"), "{dead}");
    scene.works(Service::Redis, &scene.delivered("orders"));
}
