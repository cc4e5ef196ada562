//! Consumers that do not switch: the run holds and names them, and nothing is taken from them until a person says why it may be.

use serde_json::json;

use super::scene::{Scene, consumed, policy};
use crate::harness::{Service, acknowledge};

#[test]
fn a_consumer_that_never_switches_holds_the_run_until_a_person_says_why_not() {
    for service in [Service::Postgres, Service::Redis] {
        let scene = Scene::start();
        let mut manifests = scene.ground(service);
        let uptake = json!({ "interval": "100ms", "timeout": "500ms" });
        manifests.push(policy("fast", &["orders"], json!({ "uptake": uptake })));
        manifests.push(scene.identity("orders", service, consumed()));
        let runs = scene.apply(&manifests);
        scene.kf.wait("the first secret is delivered", || {
            scene.folder("orders").join("env").exists().then_some(())
        });
        acknowledge(&scene.folder("orders"), &scene.delivered("orders").version);
        for run in &runs {
            if scene.run(run)["status"] == "needs_operator" {
                scene.kf.alice().ok(&["retry", run, "--reason", "it has read it"]);
            }
            scene.kf.follow(run, 0);
        }
        let old = scene.delivered("orders");
        let run = scene.rotate("orders");
        let held = scene.until_status(&run, "needs_operator");
        assert!(held["note"].as_str().unwrap().contains("app"), "{held:#}");
        assert!(scene.findings("needs_operator")[0].contains("app"));
        scene.works(service, &old);
        scene.works(service, &scene.delivered("orders"));
        let resume = |reason: &str| ["resume", &run, "--reason", reason].map(str::to_owned);
        for (person, reason, why) in [
            (scene.kf.bob(), " ", "a reason is needed"),
            (scene.kf.alice(), "app is gone", "rotate orders --exception"),
            (scene.kf.bob(), "app is gone", "rotate orders --exception"),
        ] {
            let refused = person.fails(&resume(reason).each_ref().map(String::as_str), 1);
            assert!(refused.contains(why), "{refused}");
        }
        // What the refusal says to do instead.
        scene.kf.alice().ok(&["cancel", &run, "--reason", "app is gone"]);
        scene.until_status(&run, "unwound");
        scene.works(service, &old);
        let run = scene.agreed(&["rotate", "orders", "--exception", "app was switched off last week"])[0].clone();
        scene.kf.follow(&run, 0);
        scene.works(service, &scene.delivered("orders"));
        scene.is_dead(service, &old);
        assert!(scene.findings("needs_operator").is_empty());
        let receipt = scene.receipt(&run, 0);
        assert!(
            receipt["receipt"]["exceptions"]
                .to_string()
                .contains("switched off last week"),
            "{receipt:#}"
        );
    }
}

#[test]
fn a_consumer_that_switches_late_needs_no_override() {
    let scene = Scene::start();
    let mut manifests = scene.ground(Service::Redis);
    manifests.push(policy("fast", &["orders"], json!({})));
    manifests.push(scene.identity("orders", Service::Redis, consumed()));
    let runs = scene.apply(&manifests);
    scene.kf.wait("the first secret is delivered", || {
        scene.folder("orders").join("env").exists().then_some(())
    });
    acknowledge(&scene.folder("orders"), &scene.delivered("orders").version);
    for run in &runs {
        scene.kf.follow(run, 0);
    }
    let old = scene.delivered("orders");
    let run = scene.rotate("orders");
    scene.until_step(&run, "await_uptake");
    scene.works(Service::Redis, &old);
    // Its own old version is no acknowledgement of the new one.
    acknowledge(&scene.folder("orders"), &old.version);
    scene.kf.wait("it was looked at again", || {
        let waits = scene.run(&run)["events"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["event"] == "waiting")
            .count();
        (waits > 3).then_some(())
    });
    assert_eq!(scene.run(&run)["step"], "await_uptake");
    acknowledge(&scene.folder("orders"), &scene.delivered("orders").version);
    scene.kf.follow(&run, 0);
    scene.is_dead(Service::Redis, &old);
}
