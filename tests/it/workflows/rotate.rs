//! Rotation by schedule, in each of the three ways, with a workload that logs in all the while; what is left behind; and what is kept of it.

use std::fs;

use rusqlite::Connection;
use serde_json::{Value, json};

use super::scene::{Scene, consumed, over, policy};
use crate::harness::{Consumer, Seen, Service};

/// Rotations that a scenario waits for.
const ROTATIONS: usize = 2;

/// Registers `orders`, rotated every two seconds, and lets its workload see some rotations; then the schedule is slowed.
fn rotated(scene: &Scene, service: Service, strategy: &str) -> (Seen, Vec<String>) {
    let fast = |every: &str| {
        let proof = json!({ "refusals": 3, "interval": "100ms", "giveUpAfter": "1m", "keepDeadSecret": "1s" });
        policy(
            "fast",
            &["orders"],
            json!({ "rotation": { "every": every }, "overlap": "100ms", "proof": proof }),
        )
    };
    let mut manifests = scene.ground(service);
    manifests.push(fast("2s"));
    manifests.push(scene.identity("orders", service, over(consumed(), json!({ "strategy": strategy }))));
    let consumer = Consumer::start(service, &scene.folder("orders"), strategy == "in_place");
    scene.register(&manifests);
    let runs = scene.kf.wait("it was rotated by schedule", || {
        Some(scene.completed("orders", "rotate")).filter(|runs| runs.len() >= ROTATIONS)
    });
    scene.register(&[fast("30d")]);
    scene.kf.wait("nothing is under way", || {
        scene.describe("orders")["open_run"].is_null().then_some(())
    });
    (consumer.stop(), runs)
}

fn judge(scene: &Scene, service: Service, seen: &Seen, runs: &[String]) {
    assert!(seen.versions.len() > ROTATIONS, "{seen:?}");
    let now = scene.delivered("orders");
    scene.works(service, &now);
    for secret in seen.secrets.iter().filter(|secret| **secret != now.secret) {
        for user in users(scene, service) {
            let old = crate::harness::Delivered {
                user,
                secret: secret.clone(),
                version: String::new(),
            };
            scene.is_dead(service, &old);
        }
    }
    let states = scene.credentials("orders");
    assert!(
        states.iter().filter(|state| *state == "active").count() == 1,
        "{states:?}"
    );
    assert!(
        states.iter().all(|state| matches!(state.as_str(), "active" | "dead")),
        "{states:?}"
    );
    for run in runs {
        let verified = scene.receipt(run, 0);
        let evidence = &verified["receipt"]["credentials"][0];
        let vantages = evidence["vantages"].as_array().unwrap();
        assert_eq!(vantages.len(), 2, "{verified:#}");
        for vantage in vantages {
            assert_eq!(vantage["grade"], "E1", "{verified:#}");
            assert!(vantage["rounds"].as_array().unwrap().len() >= 3, "{verified:#}");
        }
        assert_eq!(verified["receipt"]["run"]["trigger"], "schedule");
        assert_eq!(verified["receipt"]["approval"]["standing"], Value::Bool(true));
        // These systems settle within what they document, so no rotation makes the window of the next one longer.
        assert_ne!(evidence["terms"]["settling_source"], "measured here", "{verified:#}");
    }
    assert!(scene.findings("needs_operator").is_empty());
}

fn users(scene: &Scene, service: Service) -> Vec<String> {
    let account = scene.account("orders");
    let now = scene.delivered("orders").user;
    match service {
        // The idle account is disabled on top of its dead credential, and then answers 28000 to the right password only.
        Service::Postgres => vec![now],
        Service::Redis => vec![account],
    }
}

/// The store behind the server's back, for reading.
fn store(scene: &Scene) -> Connection {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    Connection::open_with_flags(scene.kf.dir().join("keyfall.db"), flags).unwrap()
}

#[test]
fn postgres_alternates_between_two_accounts_and_its_dead_secrets_end_on_record() {
    let scene = Scene::start();
    let (seen, runs) = rotated(&scene, Service::Postgres, "alternating_accounts");
    assert!(seen.failures.is_empty(), "{:#?}", seen.failures);
    judge(&scene, Service::Postgres, &seen, &runs);
    dead_secrets_end(&scene);
}

/// Bytes, row and write-ahead log: nothing of a dead secret is left once its time is over, not even sealed.
fn dead_secrets_end(scene: &Scene) {
    let kept = |sql: &str| -> i64 { store(scene).query_row(sql, [], |row| row.get(0)).unwrap() };
    let sealed: Vec<Vec<u8>> = {
        let store = store(scene);
        let mut rows = store
            .prepare("select ciphertext from secrets where destroy_at is not null and destroyed_at is null")
            .unwrap();
        rows.query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    };
    scene.kf.wait("dead secrets are destroyed", || {
        (kept("select count(*) from secrets where destroy_at is not null and destroyed_at is null") == 0).then_some(())
    });
    assert!(kept("select count(*) from secrets where destroyed_at is not null") > 0);
    scene.kf.wait("no byte of them is left", || {
        let files =
            ["keyfall.db", "keyfall.db-wal"].map(|name| fs::read(scene.kf.dir().join(name)).unwrap_or_default());
        let is_left = |bytes: &Vec<u8>| {
            files
                .iter()
                .any(|file| file.windows(bytes.len()).any(|window| window == bytes))
        };
        (!sealed.iter().any(is_left)).then_some(())
    });
    let log = scene.kf.alice().ok(&["audit", "list", "--limit", "1000", "-o", "json"]);
    assert!(log.contains("secrets_destroyed"));
}

/// Between the change and its delivery there is a gap, which the approved plan names; the last delivered secret always comes to work.
#[test]
fn postgres_in_place_changes_the_one_account() {
    let scene = Scene::start();
    let (seen, runs) = rotated(&scene, Service::Postgres, "in_place");
    let last = seen.versions.last().unwrap();
    let of_last: Vec<_> = seen.failures.iter().filter(|failure| failure.contains(last)).collect();
    assert!(of_last.is_empty(), "{of_last:#?}");
    judge(&scene, Service::Postgres, &seen, &runs);
}

#[test]
fn redis_holds_two_passwords_while_workloads_switch() {
    let scene = Scene::start();
    let (seen, runs) = rotated(&scene, Service::Redis, "dual_slot");
    assert!(seen.failures.is_empty(), "{:#?}", seen.failures);
    judge(&scene, Service::Redis, &seen, &runs);
}
