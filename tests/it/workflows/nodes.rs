//! One of two Redis nodes is away during a rotation: nothing is taken from anybody on the other, and the run goes on when it is back.

use serde_json::json;

use super::scene::Scene;
use crate::harness::{Delivered, Servers, Service, login};

const NODES: [&str; 2] = ["KEYFALL_REDIS_PORT", "KEYFALL_REDIS2_PORT"];

fn scene() -> Scene {
    Scene::start_on(Servers::own(&["redis", "redis2"]))
}

fn is_let_in(scene: &Scene, node: &str, what: &Delivered) -> bool {
    login(scene.servers, Service::Redis, node, &what.user, &what.secret).is_ok()
}

fn until_failed(scene: &Scene, run: &str) {
    scene.kf.wait("the run met the node that is away", || {
        (!scene.events(run, "failed").is_empty()).then_some(())
    });
}

#[test]
fn nothing_is_revoked_while_a_node_is_away() {
    let scene = scene();
    let old = scene.in_use(Service::Redis, json!({}), json!({}));
    let run = scene.rotate("orders");
    scene.until_step(&run, "await_uptake");
    scene.servers.order("stop", "redis2");
    scene.takes_up("orders", Some(&old));
    until_failed(&scene, &run);
    assert!(
        is_let_in(&scene, NODES[0], &old),
        "the old password still works where the node is up"
    );
    assert!(is_let_in(&scene, NODES[0], &scene.delivered("orders")));
    scene.servers.order("up", "redis2");
    scene.kf.follow(&run, 0);
    scene.is_dead(Service::Redis, &old);
    scene.works(Service::Redis, &scene.delivered("orders"));
    scene.receipt(&run, 0);
}

#[test]
fn nothing_is_delivered_before_every_node_knows_it() {
    let scene = scene();
    let old = scene.in_use(Service::Redis, json!({}), json!({}));
    scene.servers.order("stop", "redis2");
    let run = scene.rotate("orders");
    until_failed(&scene, &run);
    assert_eq!(scene.delivered("orders"), old);
    assert!(is_let_in(&scene, NODES[0], &old));
    scene.servers.order("up", "redis2");
    scene.takes_up("orders", Some(&old));
    scene.kf.follow(&run, 0);
    scene.is_dead(Service::Redis, &old);
    scene.works(Service::Redis, &scene.delivered("orders"));
}
