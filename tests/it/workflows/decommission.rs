//! The end of an identity: nothing of it is left at any server or in its file, its name is never given again, and all of it is proven.

use std::fs;

use serde_json::{Value, json};

use super::scene::{Scene, policy, yaml};
use crate::harness::{Service, redis_admin, sql};

#[test]
fn nothing_is_left_of_a_decommissioned_identity() {
    for service in [Service::Postgres, Service::Redis] {
        let scene = Scene::start();
        let mut manifests = scene.ground(service);
        let identity = scene.identity("orders", service, json!({}));
        manifests.extend([policy("fast", &["orders"], json!({})), identity.clone()]);
        scene.register(&manifests);
        let first = scene.delivered("orders");
        let rotation = scene.rotate("orders");
        scene.kf.follow(&rotation, 0);
        let second = scene.delivered("orders");
        assert!(!accounts(&scene, service).is_empty());

        let runs = scene.agreed(&["decommission", "orders", "--reason", "switched off"]);
        scene.kf.follow(&runs[0], 0);
        assert_eq!(accounts(&scene, service), Vec::<String>::new());
        for secret in [&first, &second] {
            scene.is_dead(service, secret);
        }
        assert!(!scene.folder("orders").join("env").exists());
        assert_eq!(scene.state("orders"), "decommissioned");
        assert_eq!(scene.credentials("orders"), ["dead", "dead"]);
        its_end_is_proven_by_the_control_identity(&scene, &runs[0]);

        let file = scene.kf.scratch("again.yaml");
        fs::write(&file, yaml(&[identity])).unwrap();
        let refused = scene.kf.alice().run(&["plan", "-f", &file]);
        assert!(
            refused.code != 0 && refused.stderr.contains("not given again"),
            "{refused:?}"
        );
        for asked in [
            ["rotate", "orders", "--reason", "x"],
            ["decommission", "orders", "--reason", "x"],
        ] {
            assert!(scene.kf.alice().fails(&asked, 1).contains("decommissioned"));
        }
    }
}

fn its_end_is_proven_by_the_control_identity(scene: &Scene, run: &str) {
    let receipt = scene.receipt(run, 0);
    let evidence = &receipt["receipt"]["credentials"][0];
    for vantage in evidence["vantages"].as_array().unwrap() {
        for round in vantage["rounds"].as_array().unwrap() {
            assert_eq!(round["positive"]["principal"], scene.account("control"), "{round:#}");
        }
    }
    assert_eq!(evidence["vantages"].as_array().map(Vec::len), Some(2));
    assert_ne!(evidence["end"], Value::Null);
}

/// What the servers still know under the identity's name, its owner role aside.
fn accounts(scene: &Scene, service: Service) -> Vec<String> {
    let account = scene.account("orders");
    service
        .ports()
        .iter()
        .flat_map(|port| match service {
            Service::Postgres => {
                let text = format!("select rolname from pg_roles where starts_with(rolname, '{account}') and rolname <> '{account}_owner'");
                sql(scene.servers, port, &text).into_iter().flatten().collect::<Vec<_>>()
            }
            Service::Redis => match redis_admin(scene.servers, port, &["ACL", "GETUSER", &account]) {
                redis::Value::Nil => Vec::new(),
                found => vec![format!("{found:?}")],
            },
        })
        .collect()
}

/// A legitimate scream while the account is disabled: the run is cancelled and everything works again.
#[test]
fn a_scream_gives_everything_back() {
    for service in [Service::Postgres, Service::Redis] {
        let scene = Scene::start();
        let mut manifests = scene.ground(service);
        let listen = json!({ "listen": "1m" });
        manifests.push(policy("fast", &["orders"], json!({ "decommission": listen })));
        manifests.push(scene.identity("orders", service, json!({})));
        scene.register(&manifests);
        let secret = scene.delivered("orders");
        let runs = scene.agreed(&["decommission", "orders", "--reason", "nobody needs it"]);
        scene.until_step(&runs[0], "listen");
        assert_eq!(scene.state("orders"), "quarantined");
        for port in service.ports() {
            let locked = crate::harness::login(scene.servers, service, port, &secret.user, &secret.secret);
            assert!(locked.is_err(), "{port}: a disabled account lets nobody in");
        }
        scene
            .kf
            .alice()
            .ok(&["cancel", &runs[0], "--reason", "the monthly report needs it"]);
        assert_eq!(scene.kf.alice().run(&["watch", &runs[0]]).code, 1);
        scene.works(service, &secret);
        assert_eq!(scene.state("orders"), "active");
        assert_eq!(scene.credentials("orders"), ["active"]);
        let run = scene.rotate("orders");
        scene.kf.follow(&run, 0);
        scene.works(service, &scene.delivered("orders"));
    }
}
