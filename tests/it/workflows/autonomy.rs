//! The rungs below `automatic`: what is due is said, and nothing is done before a person has asked and another one has signed.

use serde_json::json;

use super::scene::{Scene, policy};
use crate::harness::Service;

#[test]
fn a_due_rotation_waits_for_a_signature() {
    let scene = Scene::start();
    let mut manifests = scene.ground(Service::Redis);
    manifests.push(policy(
        "careful",
        &["orders"],
        json!({ "autonomy": "approve", "rotation": { "every": "1s" } }),
    ));
    manifests.push(scene.identity("orders", Service::Redis, json!({})));
    scene.register(&manifests);
    let old = scene.delivered("orders");
    let wanted = scene
        .kf
        .wait("it is said to be due", || scene.findings("approval_wanted").pop());
    assert!(wanted.contains("keyfall rotate orders"), "{wanted}");
    assert_eq!(scene.completed("orders", "rotate"), Vec::<String>::new());
    assert_eq!(scene.delivered("orders"), old);

    let plan = scene.plan(&["rotate", "orders", "--reason", "it is due"]);
    let own = scene.kf.alice().fails(&["approve", &plan, "--yes"], 1);
    assert!(own.contains("another person"), "{own}");
    scene.works(Service::Redis, &old);
    let runs = scene.kf.bob().approve(&plan);
    scene.kf.follow(&runs[0], 0);
    scene.is_dead(Service::Redis, &old);
    let receipt = scene.receipt(&runs[0], 0);
    assert_eq!(receipt["receipt"]["approval"]["standing"], false);
}
