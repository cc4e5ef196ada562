//! A freeze holds what takes something away, through a restart too, until another person has signed its end.

use serde_json::{Value, json};

use super::scene::Scene;
use crate::harness::Service;

#[test]
fn a_freeze_holds_a_revocation_until_another_person_lifts_it() {
    let scene = Scene::start();
    let old = scene.in_use(Service::Postgres, json!({}), json!({}));
    let run = scene.rotate("orders");
    scene.until_step(&run, "await_uptake");
    scene.kf.alice().ok(&["freeze", "--reason", "an incident"]);
    scene.takes_up("orders", Some(&old));
    scene.until_held("frozen");
    scene.works(Service::Postgres, &old);
    scene.kf.kill();
    scene.kf.resume();
    scene.until_held("frozen");
    scene.works(Service::Postgres, &old);

    let plan = scene.plan(&["unfreeze", "--reason", "it is over"]);
    let own = scene.kf.alice().fails(&["approve", &plan, "--yes"], 1);
    assert!(own.contains("another person"), "{own}");
    assert_ne!(scene.kf.alice().json(&["status"])["frozen"], Value::Null);
    scene.kf.bob().approve(&plan);
    scene.kf.follow(&run, 0);
    scene.is_dead(Service::Postgres, &old);
    scene.works(Service::Postgres, &scene.delivered("orders"));
}
