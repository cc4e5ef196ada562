//! Three servers, a primary and its synchronous standby, consumers that log in all the time; servers are killed, stopped for twice a lease, cut off,
//! and the database fails over. Nothing of that may show: no write of a former holder, no second revocation, no secret that is lost, no credential
//! that nobody knows, no failed login, nothing that was due and not done.
//!
//! `KEYFALL_NODES_ROTATIONS` says how much is rotated meanwhile, `KEYFALL_NODES_SEED` what happens.

mod cluster;
mod database;
mod faults;
mod proxy;
mod register;

use std::collections::BTreeMap;
use std::fs;

use keyfall::domain::workflow::{Event, EventBody, StepOutput};
use keyfall_sdk::Revoked;
use serde_json::Value;

use crate::harness::{Consumer, Seen, Servers, Service, tls_provider};
use crate::kills::manifests::{Names, SHOP};
use crate::kills::{seed, truth};
use cluster::Cluster;
use database::Database;
use faults::{Draw, Happened};

/// The share of every change's checks.
const ROTATIONS: usize = 60;
/// So that every kind of fault is met twice.
const FEWEST_FAULTS: u32 = 8;

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
    for short in ["orders", "batch", "legacy", "cache"] {
        fs::create_dir_all(cluster.path("apps").join(short)).unwrap();
    }
    let apps = cluster.path("apps");
    let consumers = [
        (
            "orders",
            Consumer::start(Service::Postgres, &apps.join("orders"), false),
        ),
        ("cache", Consumer::start(Service::Redis, &apps.join("cache"), false)),
        ("batch", Consumer::start(Service::Postgres, &apps.join("batch"), false)),
    ];
    register::register(&cluster, &names);
    let mut happened = Happened::default();
    let mut draw = Draw(seed);
    let mut turn = 0;
    while turn < FEWEST_FAULTS || database.rotations() < rotations {
        if turn == FEWEST_FAULTS / 2 {
            faults::fail_over(&cluster, &database, &mut happened);
        }
        faults::one(&cluster, &mut draw, turn, &mut happened);
        turn += 1;
    }
    register::come_to_rest(&cluster);
    let seen = consumers.map(|(name, consumer)| (name, consumer.stop()));
    logins_are_sound(&seen);
    let runs = database.events();
    downstream_is_sound(&cluster, &names, &runs);
    logs_are_sound(&runs);
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

/// What lives downstream is what the register calls active, nothing more and nothing less.
fn downstream_is_sound(cluster: &Cluster, names: &Names, runs: &BTreeMap<String, Vec<Event>>) {
    let identities = register::identities();
    let described: Vec<Value> = identities
        .iter()
        .map(|name| cluster.ask("alice", &["describe", "identity", name]).unwrap())
        .collect();
    let live = truth::live(names, &cluster.path("state").join(SHOP));
    tell_unproven(&described, runs);
    let wrong = truth::differences(&live, &truth::ledger(&described));
    assert!(wrong.is_empty(), "the servers and the register differ: {wrong:#?}");
    for identity in &described {
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

/// What is gone and not proven dead: why, and the runs that ended it, from first to last.
fn tell_unproven(described: &[Value], runs: &BTreeMap<String, Vec<Event>>) {
    let credentials = described
        .iter()
        .filter_map(|one| one["credentials"].as_array())
        .flatten();
    for credential in credentials.filter(|one| one["state"] == "unprovable") {
        println!("not proven dead: {}: {}", credential["account"], credential["note"]);
        let id = credential["id"].as_str().unwrap();
        for (run, events) in runs {
            let told = events.iter().map(|event| serde_json::to_string(event).unwrap());
            let told: Vec<String> = told.collect();
            if told.iter().any(|event| event.contains(id)) {
                println!("  {run}:\n    {}", told.join("\n    "));
            }
        }
    }
}

/// No event of a holder behind one of its successor, and no credential that was taken away twice.
fn logs_are_sound(runs: &BTreeMap<String, Vec<Event>>) {
    let mut revoked: BTreeMap<String, u32> = BTreeMap::new();
    let mut taken_over = 0;
    for (run, events) in runs {
        let epochs: Vec<u64> = events.iter().map(|event| event.epoch).collect();
        assert!(epochs.is_sorted(), "{run}: a former holder wrote: {epochs:?}");
        let numbers = events.iter().map(|event| event.seq);
        assert!(numbers.eq(0..u32::try_from(events.len()).unwrap()), "{run} has a gap");
        taken_over += u32::from(epochs.last() > Some(&1));
        for event in events {
            if let EventBody::Succeeded {
                output: StepOutput::Revoked { outcomes },
                ..
            } = &event.body
            {
                for (credential, _) in outcomes.iter().filter(|(_, outcome)| **outcome == Revoked::Revoked) {
                    *revoked.entry(credential.to_string()).or_default() += 1;
                }
            }
        }
        let is_closed = matches!(events.last().map(|event| &event.body), Some(EventBody::Closed { .. }));
        assert!(is_closed, "{run} is not over");
    }
    let twice: Vec<_> = revoked.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "taken away more than once: {twice:?}");
    println!("{} runs, {taken_over} of them claimed more than once", runs.len());
}

/// `keyfall nodes` knows all three.
fn nodes_are_told(cluster: &Cluster) {
    let nodes = cluster.ask("alice", &["nodes"]).unwrap();
    let alive = nodes.as_array().unwrap().iter().filter(|node| node["state"] == "alive");
    assert_eq!(alive.count(), cluster::NODES, "{nodes:#}");
}
