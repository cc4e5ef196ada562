//! A due set that is larger than anybody expects opens the breaker: nothing scheduled begins, through a restart too, until a person has looked
//! and another one has signed.

use serde_json::{Value, json};

use super::scene::{Scene, policy};
use crate::harness::{Service, http};

const NAMES: [&str; 4] = ["one", "two", "three", "four"];

/// What the policy makes due at once is spread over the window of its budget, which leaves nothing to suspect: here it is none.
fn policy_of(every: &str) -> Value {
    let budget = json!({ "destructive": 10_000, "per": "1ms" });
    policy(
        "fast",
        &NAMES,
        json!({ "rotation": { "every": every }, "budget": budget }),
    )
}

#[test]
fn a_suspicious_due_set_rotates_nothing_before_two_people_agree() {
    let scene = Scene::start();
    scene.kf.stop();
    scene.kf.add_settings("[engine]\nbreaker_at_least = 3");
    scene.kf.resume();
    let mut manifests = scene.ground(Service::Redis);
    manifests.push(policy_of("30d"));
    manifests.extend(NAMES.map(|name| scene.identity(name, Service::Redis, json!({}))));
    scene.register(&manifests);
    let old = NAMES.map(|name| scene.delivered(name));

    scene.apply(&[policy_of("1s")]);
    let status = || scene.kf.alice().json(&["status"]);
    scene.kf.wait("the breaker is open", || {
        (status()["breaker"] != Value::Null).then_some(())
    });
    scene.kf.kill();
    scene.kf.resume();
    assert_ne!(status()["breaker"], Value::Null, "a restart does not close it");
    scene.kf.wait("a pass has looked", || {
        let metrics = http("GET", &format!("{}/metrics", scene.kf.url()), None, "").2;
        metrics.contains("keyfall_last_pass_timestamp_seconds").then_some(())
    });
    for (name, old) in NAMES.iter().zip(&old) {
        assert_eq!(scene.delivered(name), *old);
        scene.works(Service::Redis, old);
    }
    assert!(!scene.findings("breaker_open").is_empty());

    let plan = scene.plan(&["rearm", "--reason", "the policy was changed on purpose"]);
    let own = scene.kf.alice().fails(&["approve", &plan, "--yes"], 1);
    assert!(own.contains("another person"), "{own}");
    scene.kf.bob().approve(&plan);
    scene.kf.wait("each was rotated", || {
        NAMES
            .iter()
            .all(|name| !scene.completed(name, "rotate").is_empty())
            .then_some(())
    });
    for old in &old {
        scene.is_dead(Service::Redis, old);
    }
}
