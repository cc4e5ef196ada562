//! The way back: what a run did before its point of no return is taken back, and the credential that it made is proven dead. Behind that point
//! there is no way back.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::scene::{Scene, consumed, policy, text};
use crate::harness::{Delivered, Service, acknowledge, sql};

fn is_back(scene: &Scene, service: Service, run: &str, old: &Delivered, new: &Delivered) {
    assert_ne!(old.secret, new.secret);
    assert_eq!(
        scene.delivered("orders"),
        *old,
        "the workload reads the old secret again"
    );
    scene.works(service, old);
    if service == Service::Redis {
        scene.is_dead(service, new);
    }
    assert_eq!(scene.state("orders"), "active");
    assert_eq!(scene.credentials("orders"), ["active", "dead"]);
    let receipt = scene.receipt(run, 0);
    assert_eq!(receipt["receipt"]["outcome"]["outcome"], "unwound", "{receipt:#}");
    assert_eq!(receipt["dead"].as_array().map(Vec::len), Some(1), "{receipt:#}");
    assert_eq!(scene.findings("run_unwound").len(), 1);
}

/// The workload's own check of its file refuses every version but the first.
#[test]
fn a_delivery_that_fails_is_taken_back_with_the_credential_that_it_was_for() {
    for service in [Service::Postgres, Service::Redis] {
        let scene = Scene::start();
        let (check, wanted) = (scene.kf.scratch("check"), scene.kf.scratch("wanted"));
        let file = scene.folder("orders").join("env");
        fs::write(
            &check,
            format!("#!/bin/sh\n[ ! -e {wanted} ] || grep -qf {wanted} {}\n", file.display()),
        )
        .unwrap();
        fs::set_permissions(&check, fs::Permissions::from_mode(0o755)).unwrap();
        scene.kf.stop();
        scene
            .kf
            .add_settings(&format!("[reload_commands]\ncheck = [\"{check}\"]"));
        scene.kf.resume();
        let mut delivery = scene.identity("orders", service, json!({}))["spec"]["deliverTo"].clone();
        delivery[0]["target"]["after"] = json!({ "command": "check" });
        let old = scene.in_use(service, json!({}), json!({ "deliverTo": delivery }));
        fs::write(&wanted, format!("{}\n", old.version)).unwrap();
        let run = scene.rotate("orders");
        scene.until_step(&run, "deliver");
        let new = scene.kf.wait("the new secret is in the file", || {
            Some(scene.delivered("orders")).filter(|found| *found != old)
        });
        let ended = scene.until_status(&run, "unwound");
        assert!(
            ended.to_string().contains("the reload command `check` failed"),
            "{ended:#}"
        );
        is_back(&scene, service, &run, &old, &new);
    }
}

#[test]
fn a_run_is_cancelled_before_its_point_of_no_return() {
    for service in [Service::Postgres, Service::Redis] {
        let scene = Scene::start();
        let old = scene.in_use(service, json!({}), json!({}));
        let run = scene.rotate("orders");
        scene.until_step(&run, "await_uptake");
        let new = scene.delivered("orders");
        scene.works(service, &new);
        scene.kf.alice().ok(&["cancel", &run, "--reason", "wrong day"]);
        // The workload had not switched yet, and says so by its acknowledgement of the old version.
        assert_eq!(scene.kf.alice().run(&["watch", &run]).code, 1);
        is_back(&scene, service, &run, &old, &new);
    }
}

/// A workload that had switched is waited for before the new credential goes.
#[test]
fn the_way_back_waits_for_workloads_that_had_switched() {
    let scene = Scene::start();
    let mut both = consumed();
    both["consumers"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "worker", "seenBy": "acknowledgement" }));
    let write =
        |name: &str, version: &str| fs::write(scene.folder("orders").join(format!("{name}.version")), version).unwrap();
    let mut manifests = scene.ground(Service::Redis);
    manifests.push(policy("fast", &["orders"], json!({})));
    manifests.push(scene.identity("orders", Service::Redis, both));
    let runs = scene.apply(&manifests);
    scene.takes_up("orders", None);
    let old = scene.delivered("orders");
    write("worker", &old.version);
    for run in &runs {
        scene.kf.follow(run, 0);
    }
    let run = scene.rotate("orders");
    let new = scene.kf.wait("the new secret is in the file", || {
        Some(scene.delivered("orders")).filter(|found| *found != old)
    });
    write("worker", &new.version);
    scene.until_step(&run, "await_uptake");
    scene
        .kf
        .alice()
        .ok(&["cancel", &run, "--reason", "app cannot be restarted today"]);
    scene.until_step(&run, "await_return");
    assert_eq!(scene.delivered("orders"), old);
    scene.works(Service::Redis, &new);
    write("worker", &old.version);
    assert_eq!(scene.kf.alice().run(&["watch", &run]).code, 1);
    is_back(&scene, Service::Redis, &run, &old, &new);
}

#[test]
fn behind_the_point_of_no_return_a_run_only_goes_on() {
    let scene = Scene::start();
    let settling =
        json!({ "refusals": 2, "interval": "100ms", "giveUpAfter": "1m", "keepDeadSecret": "10m", "settling": "3s" });
    let old = scene.in_use(Service::Redis, json!({ "proof": settling }), json!({}));
    let run = scene.rotate("orders");
    scene.takes_up("orders", Some(&old));
    scene.until_step(&run, "prove_dead");
    let refused = scene
        .kf
        .alice()
        .fails(&["cancel", &run, "--reason", "changed my mind"], 1);
    assert!(
        refused.contains("it can only go forward") || refused.contains("only go forward"),
        "{refused}"
    );
    scene.kf.follow(&run, 0);
    scene.is_dead(Service::Redis, &old);
}

/// An account that a provisioning made goes with it, and the same manifest begins anew.
#[test]
fn a_cancelled_provisioning_leaves_no_account_and_begins_again() {
    let scene = Scene::start();
    let mut manifests = scene.ground(Service::Postgres);
    manifests.push(policy("fast", &["orders"], json!({})));
    manifests.push(scene.identity("orders", Service::Postgres, consumed()));
    let runs = scene.apply(&manifests);
    let run = runs.iter().find(|run| scene.run(run)["identity"] == "orders").unwrap();
    scene.until_step(run, "await_uptake");
    let first = scene.delivered("orders");
    scene.works(Service::Postgres, &first);
    scene.kf.alice().ok(&["cancel", run, "--reason", "not yet"]);
    let ended = scene.kf.alice().run(&["watch", run]);
    assert_eq!(ended.code, 1, "{}", ended.stdout);
    scene.is_dead(Service::Postgres, &first);
    assert!(!scene.folder("orders").join("env").exists());
    let left = format!(
        "select rolname from pg_roles where starts_with(rolname, '{}') and rolcanlogin",
        scene.account("orders")
    );
    assert!(sql(scene.servers, "KEYFALL_PG_PRIMARY_PORT", &left).is_empty());
    let again = scene.apply(&manifests);
    assert_eq!(again.len(), 1, "{again:?}");
    scene.until_step(&again[0], "await_uptake");
    acknowledge(&scene.folder("orders"), &scene.delivered("orders").version);
    scene.kf.follow(&again[0], 0);
    scene.works(Service::Postgres, &scene.delivered("orders"));
    let states = scene.credentials("orders");
    assert_eq!(
        states,
        ["active", "dead"],
        "{}",
        text(&scene.describe("orders")["state"])
    );
}
