//! Deaths of the server at random moments of a replay of the scenes change nothing of what comes out: the same projected state as an
//! undisturbed replay, the same truth at the servers, no failed login of any workload, an unbroken log.

mod leaks;
pub(crate) mod manifests;
pub(crate) mod script;
pub(crate) mod seed;
pub(crate) mod truth;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use self::manifests::Names;
use self::script::Script;
use self::seed::Death;
use crate::harness::{Consumer, Database, Keyfall, LIMIT, Seen, Servers, Service, wait_for};

/// How long the schedule goes on, whatever else has ended.
const REPLAY: Duration = Duration::from_secs(15);
const IDENTITIES: [&str; 8] = [
    "batch",
    "cache",
    "keyfall-control.pg",
    "keyfall-control.redis",
    "keyfall-control.shop",
    "legacy",
    "orders",
    "till",
];
/// Where the servers may write.
const ROOTS: &str = "[file_roots]\napps = \"DIR/apps\"\nstate = \"DIR/state\"";

/// What both replays must agree on: everything but how often the clock struck.
#[derive(Debug, PartialEq)]
struct Projection {
    identities: BTreeMap<String, String>,
    /// How many credentials of each identity can log in, at each server that has its account.
    live: BTreeMap<String, usize>,
    /// How often each kind of run ended in which way; of those that are repeated until the last death only that they all ended well.
    runs: BTreeMap<String, usize>,
    needs_operator: Vec<Value>,
    findings: Vec<String>,
    /// What is delivered, by file: whether there is something.
    delivered: BTreeMap<String, bool>,
}

/// Where the store is.
#[derive(Clone, Copy)]
enum Kind {
    Sqlite,
    Postgres,
}

#[test]
fn sqlite_deaths_leave_no_trace() {
    deaths_leave_no_trace(Kind::Sqlite, "sqlite", 0..20);
}

#[test]
fn postgres_deaths_leave_no_trace() {
    deaths_leave_no_trace(Kind::Postgres, "postgres", 0..5);
}

fn deaths_leave_no_trace(kind: Kind, name: &str, share: Range<u64>) {
    // Started before the clock of the replays runs.
    Servers::get();
    let deaths = seed::deaths(share);
    println!(
        "replay: KEYFALL_KILL_SEEDS={}..{} cargo test --test it kills::{name}",
        deaths.start, deaths.end
    );
    let prefix = format!("k{}", seed::prefix());
    let (undisturbed, disturbed) = std::thread::scope(|scope| {
        let calm = scope.spawn(|| replay(kind, &format!("{prefix}c"), 0..0));
        let disturbed = replay(kind, &format!("{prefix}d"), deaths.clone());
        (calm.join().unwrap(), disturbed)
    });
    assert_eq!(disturbed, undisturbed);
    println!("COVERED: kills {name} {}", deaths.end - deaths.start);
}

/// The scenes from the first secret to the last look.
fn replay(kind: Kind, prefix: &str, deaths: Range<u64>) -> Projection {
    let names = Names {
        prefix: prefix.to_owned(),
    };
    let database = matches!(kind, Kind::Postgres).then(Database::fresh);
    let store = database.as_ref().map(Database::store);
    let with: Vec<&str> = store.iter().flat_map(|store| ["--store", store.as_str()]).collect();
    let kf = Keyfall::init(&with);
    kf.add_settings(ROOTS);
    kf.resume();
    fs::create_dir(kf.dir().join("state")).unwrap();
    let apps = kf.dir().join("apps");
    for short in ["orders", "batch", "legacy", "cache"] {
        fs::create_dir_all(apps.join(short)).unwrap();
    }
    let consumers = [
        (
            "orders",
            Consumer::start(Service::Postgres, &apps.join("orders"), false),
        ),
        ("cache", Consumer::start(Service::Redis, &apps.join("cache"), false)),
        ("batch", Consumer::start(Service::Postgres, &apps.join("batch"), true)),
    ];
    let script = Script { kf: &kf, names: &names };
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reaper = scope.spawn(|| reap(&kf, deaths, &ended));
        // A failure in here must end the reaper too.
        let _flag = Flag(&ended);
        let began = Instant::now();
        script.register();
        script.decommission();
        script.rotate_leaked(1);
        wait_for("the schedule's time is over", REPLAY + LIMIT, || {
            (began.elapsed() > REPLAY).then_some(())
        });
        let mut leaks = 1;
        while !reaper.is_finished() {
            leaks += 1;
            script.rotate_leaked(leaks);
        }
        let lives = reaper.join().unwrap();
        println!(
            "{prefix}: {} deaths and {leaks} leaks in {:?}, after (ms) {lives:?}",
            lives.len(),
            began.elapsed()
        );
        // A server that waits long for its own name at each start gets to nothing between its deaths.
        script.rotates(&["orders", "cache"]);
        script.come_to_rest();
        println!(
            "{prefix}: at rest after {:?}, {} scheduled rotations",
            began.elapsed(),
            script.rotations()
        );
    });
    let seen = consumers.map(|(name, consumer)| (name, consumer.stop()));
    judge(&kf, &names, &seen)
}

struct Flag<'a>(&'a AtomicBool);

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Kills and starts again. Most lives are counted from when the server answers, so that something happens in them. Answers how long they were.
fn reap(kf: &Keyfall, deaths: Range<u64>, ended: &AtomicBool) -> Vec<u128> {
    let mut lives = Vec::new();
    for seed in deaths.clone() {
        let life = Death::of(seed).life;
        let born = Instant::now();
        wait_for("the end of a life", life + LIMIT, || {
            (born.elapsed() >= life || ended.load(Ordering::Relaxed)).then_some(())
        });
        kf.kill();
        lives.push(life.as_millis());
        if deaths.contains(&(seed + 1)) && Death::of(seed + 1).at_birth {
            kf.spawn();
        } else {
            kf.resume();
        }
    }
    lives
}

/// Everything that must hold of one replay by itself, and what it is compared by.
fn judge(kf: &Keyfall, names: &Names, seen: &[(&str, Seen)]) -> Projection {
    for (name, seen) in seen {
        println!(
            "{}: {name}: {} logins, {} versions",
            names.prefix,
            seen.logins,
            seen.versions.len()
        );
        assert!(
            seen.failures.is_empty(),
            "{name} could not log in: {:#?}",
            seen.failures
        );
        assert!(seen.logins > 50, "{name} logged in {} times only", seen.logins);
        assert!(seen.versions.len() >= 2, "{name} has seen {:?} only", seen.versions);
    }
    let alice = kf.alice();
    let described = IDENTITIES.map(|name| alice.json(&["describe", "identity", name]));
    let live = truth::live(names, &kf.dir().join("state").join(manifests::SHOP));
    let wrong = truth::differences(&live, &truth::ledger(&described));
    assert!(
        wrong.is_empty(),
        "the servers and the ledger differ: {wrong:#?}\n{live:#?}"
    );
    is_sound(kf);
    Projection {
        identities: described
            .iter()
            .map(|one| (text(&one["name"]), text(&one["state"])))
            .collect(),
        live: count_live(names, &live),
        runs: count_runs(&alice.json(&["runs", "--limit", "1000"])),
        needs_operator: alice.json(&["review"])["needs_operator"].as_array().unwrap().clone(),
        findings: findings(&alice.json(&["get", "findings"])),
        delivered: ["orders", "batch", "legacy", "cache"]
            .map(|short| (short.to_owned(), kf.dir().join("apps").join(short).join("env").exists()))
            .into(),
    }
}

/// The store agrees with itself, and the log with its checkpoint and its anchor.
fn is_sound(kf: &Keyfall) {
    let doctor = kf.alice().json(&["doctor"]);
    let lines = doctor.as_array().unwrap();
    let bad: Vec<&Value> = lines.iter().filter(|line| line["ok"] != Value::Bool(true)).collect();
    assert!(bad.is_empty() && !lines.is_empty(), "doctor: {doctor:#}");
    let anchor = kf.dir().join("anchor").display().to_string();
    kf.alice()
        .ok(&["audit", "verify", "--key", &kf.public_key(), "--anchor", &anchor]);
}

/// By identity: the accounts of an alternating identity count together.
fn count_live(names: &Names, live: &truth::Live) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (account, servers) in live {
        let short = account.replace(&names.account(""), "");
        let short = short.trim_end_matches("_a").trim_end_matches("_b").to_owned();
        for (server, keys) in servers {
            *counts.entry(format!("{short} on {server}")).or_default() += keys.len();
        }
    }
    counts
}

fn count_runs(runs: &Value) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for run in runs.as_array().unwrap() {
        let ended = format!("{} {}", text(&run["kind"]), text(&run["status"]));
        let count = counts.entry(ended).or_insert(0);
        let repeated = run["kind"] == "rotate" || run["kind"] == "emergency_rotate";
        *count = if repeated { 1 } else { *count + 1 };
    }
    counts
}

fn findings(findings: &Value) -> Vec<String> {
    let open = findings
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["resolved_at"].is_null());
    open.map(|one| format!("{}: {}", text(&one["kind"]), text(&one["text"])))
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
