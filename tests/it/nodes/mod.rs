//! Three servers, a primary and its synchronous standby, consumers that log in all the time; servers are killed, stopped for twice a lease, cut off,
//! and the database fails over. Nothing of that may show: no write of a former holder, no second revocation, no secret that is lost, no credential
//! that nobody knows, no failed login, nothing that was due and not done.
//!
//! `KEYFALL_NODES_ROTATIONS` says how much is rotated meanwhile, `KEYFALL_NODES_SEED` what happens.

mod cluster;
mod database;
mod faults;
mod ledger;
mod logs;
mod proxy;
mod register;

use std::fs;
use std::time::Instant;

use serde_json::Value;

use crate::harness::{Consumer, Seen, Servers, Service, tls_provider};
use crate::kills::manifests::Names;
use crate::kills::seed;
use cluster::Cluster;
use database::Database;
use faults::{Draw, Happened};
use register::Size;

/// The share of every change's checks.
const ROTATIONS: usize = 60;
/// So that every kind of fault is met.
const FEWEST_FAULTS: u32 = 4;

fn wanted<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    let given = std::env::var(name).ok();
    given.map_or(otherwise, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text}"))
    })
}

/// Rows 2, 23, 30.
#[test]
fn three_nodes_share_the_work_and_no_fault_shows() {
    tls_provider();
    Servers::get();
    let rotations = wanted("KEYFALL_NODES_ROTATIONS", ROTATIONS);
    let seed: u64 = wanted("KEYFALL_NODES_SEED", seed::prefix() % 1_000_000);
    println!(
        "replay: KEYFALL_NODES_SEED={seed} KEYFALL_NODES_ROTATIONS={rotations} cargo test --test it three_nodes_share"
    );
    let names = Names {
        prefix: format!("n{}", seed::prefix()),
    };
    let database = Database::start();
    let cluster = Cluster::start(&database);
    let consumers = consumers(&cluster);
    let size = Size::for_rotations(rotations);
    register::register(&cluster, &database, &names, size);
    let began = Instant::now();
    let mut happened = Happened::default();
    let mut draw = Draw(seed);
    let mut turn = 0;
    while turn < FEWEST_FAULTS || database.rotations() < rotations {
        if turn == FEWEST_FAULTS / 2 {
            faults::fail_over(&cluster, &database, &mut happened);
        }
        faults::one(&cluster, &mut draw, turn, &mut happened);
        turn += 1;
        if turn % 10 == 0 {
            println!(
                "{:?}: {} rotations, {happened:?}",
                began.elapsed(),
                database.rotations()
            );
        }
    }
    println!("{} rotations in {:?}", database.rotations(), began.elapsed());
    register::come_to_rest(&cluster, &database, size);
    let seen = consumers.map(|(name, consumer)| (name, consumer.stop()));
    logins_are_sound(&seen);
    all_is_sound(&cluster, &database, &names, size);
    nodes_are_told(&cluster);
    println!(
        "COVERED: nodes rotations {}\nCOVERED: nodes kills {}\nCOVERED: nodes stops {}\nCOVERED: nodes cuts {}\nCOVERED: nodes failovers {}",
        database.rotations(),
        happened.kills,
        happened.stops,
        happened.cuts,
        happened.failovers
    );
}

/// Workloads that log in all the time.
fn consumers(cluster: &Cluster) -> [(&'static str, Consumer); 3] {
    let apps = cluster.path("apps");
    for short in ["orders", "batch", "legacy", "cache"] {
        fs::create_dir_all(apps.join(short)).unwrap();
    }
    let of = |service, name: &'static str| (name, Consumer::start(service, &apps.join(name), false));
    [
        of(Service::Postgres, "orders"),
        of(Service::Redis, "cache"),
        of(Service::Postgres, "batch"),
    ]
}

/// The servers' own truth, the register's rows, the sealed secrets and the logs agree.
fn all_is_sound(cluster: &Cluster, database: &Database, names: &Names, size: Size) {
    let rows = ledger::rows(database);
    logs::tell_unproven(database, &rows);
    ledger::is_true(cluster, names, &rows);
    ledger::each_died_once(cluster, &rows);
    ledger::secrets_are_whole(cluster, database, &rows);
    register_is_sound(cluster, size);
    logs::are_sound(database);
}

fn logins_are_sound(seen: &[(&str, Seen)]) {
    for (name, seen) in seen {
        println!("{name}: {} logins, {} versions", seen.logins, seen.versions.len());
        assert!(
            seen.failures.is_empty(),
            "{name} could not log in: {:#?}",
            seen.failures
        );
        assert!(seen.logins > 50, "{name}: {seen:?}");
        assert!(*name == "batch" || seen.versions.len() >= 2, "{name}: {seen:?}");
    }
}

/// What each node and each person would be told.
fn register_is_sound(cluster: &Cluster, size: Size) {
    for name in register::identities(size) {
        let identity = cluster.ask("alice", &["describe", "identity", &name]).unwrap();
        assert_eq!(identity["state"], "active", "{identity:#}");
        assert!(!identity["due_at"].is_null(), "{identity:#}");
    }
    let review = cluster.ask("alice", &["review"]).unwrap();
    for list in ["still_alive", "unprovable", "needs_operator", "overdue"] {
        assert_eq!(review[list], Value::Array(Vec::new()), "{list}: {review:#}");
    }
    let doctor = cluster.ask("alice", &["doctor"]).unwrap();
    let bad = doctor.as_array().unwrap().iter().filter(|line| line["ok"] != true);
    assert_eq!(bad.count(), 0, "{doctor:#}");
    let alice = cluster.person("alice").remove(0);
    let anchor = cluster.nodes[0].dir().join("anchor").display().to_string();
    alice.ok(&["audit", "verify", "--key", &cluster.public_key(), "--anchor", &anchor]);
}

/// `keyfall nodes` knows all three.
fn nodes_are_told(cluster: &Cluster) {
    let nodes = cluster.ask("alice", &["nodes"]).unwrap();
    let alive = nodes.as_array().unwrap().iter().filter(|node| node["state"] == "alive");
    assert_eq!(alive.count(), cluster::NODES, "{nodes:#}");
}
