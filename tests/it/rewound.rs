//! A database that has lost what it had committed: a backup of its files that was put back, under a running server or before a start, and an
//! asynchronous standby that was promoted without the last commits. Nothing in the database says so, or only its timeline; the anchor does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::elsewhere::{PRIMARY, REPLICA, frozen, provisioned, truth, two_lift_it};
use crate::harness::{Keyfall, LIMIT, Servers, sql, wait_for};

fn rotate(kf: &Keyfall) {
    let asked = kf.alice().json(&["rotate", "app", "--reason", "before it is lost"]);
    kf.follow(asked["run"]["id"].as_str().unwrap(), 0);
}

/// All entries of the log have come to the anchor.
fn anchored(kf: &Keyfall) -> u64 {
    kf.wait("the anchor has followed the log", || {
        let size = kf.alice().json(&["status"])["log_size"].as_u64()?;
        let anchor = fs::read_to_string(kf.dir().join("anchor")).ok()?;
        (anchor.lines().nth(1)?.parse::<u64>().ok()? == size).then_some(size)
    })
}

/// The anchor that the store does not go on from is kept.
fn kept_anchors(kf: &Keyfall) -> usize {
    let names = fs::read_dir(kf.dir()).unwrap().map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with("anchor.before-"))
        .count()
}

/// The files of a server that is stopped, as a backup takes them.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

/// Puts the files of `before` in the place of a stopped server's.
fn put_back(data: &Path, before: &Path) {
    fs::remove_dir_all(data).unwrap();
    copy(before, data);
}

/// Row 31.
#[test]
fn files_that_were_put_back_are_known_by_the_anchor_whether_a_server_runs_or_starts() {
    let servers = Servers::own(&["postgres"]);
    let name = format!("kf_put_back_{}", std::process::id());
    let kf = provisioned(servers, &name, &[PRIMARY]);
    let data = PathBuf::from(&sql(servers, PRIMARY, "show data_directory")[0][0]);
    let before = data.with_extension("before");
    servers.order("stop", "postgres");
    copy(&data, &before);
    servers.order("up", "postgres");
    kf.wait("the store answers again", || {
        (kf.alice().run(&["status"]).code == 0).then_some(())
    });
    rotate(&kf);
    let lost = anchored(&kf);

    // Under the running server: the same server, timeline and database, and a shorter log.
    servers.order("stop", "postgres");
    put_back(&data, &before);
    let as_it_was = truth(&kf);
    servers.order("up", "postgres");
    let why = frozen(&kf);
    // Whoever sees it first: the way to the database, or the anchor.
    let reasons = [
        "an earlier state of it was put back",
        "does not go on from the anchor file",
    ];
    assert!(reasons.iter().any(|reason| why.contains(reason)), "{why}");
    let status = kf.alice().json(&["status"]);
    assert!(status["log_size"].as_u64().unwrap() < lost, "{status}");
    assert_eq!(truth(&kf), as_it_was);
    wait_for("the anchor that it does not go on from is kept", LIMIT, || {
        (kept_anchors(&kf) == 1).then_some(())
    });

    // And at a start.
    assert!(kf.stop().success());
    servers.order("stop", "postgres");
    put_back(&data, &before);
    servers.order("up", "postgres");
    kf.resume();
    let why = frozen(&kf);
    assert!(why.contains("does not go on from the anchor file"), "{why}");
    assert_eq!((truth(&kf), kept_anchors(&kf)), (as_it_was, 2));
    lifted_by_two(&kf);
    fs::remove_dir_all(&before).unwrap();
}

/// Nothing is sent before two people have looked. Then the credential that was lost is found by reading, and still nothing is taken away: a
/// person is told which, and what to do.
fn lifted_by_two(kf: &Keyfall) {
    let before = truth(kf);
    let text = kf.wait("what was lost is named before anybody signs", || {
        let found = kf.alice().json(&["get", "findings", "--kind", "not_as_recorded"]);
        found[0]["text"].as_str().map(str::to_owned)
    });
    assert!(
        text.contains("which is not recorded as alive") && text.contains("does not show"),
        "{text}"
    );
    two_lift_it(kf, &before);
    assert_eq!(kf.alice().json(&["status"])["frozen"], Value::Null);
    let asked = kf.alice().json(&["rotate", "app", "--reason", "in a test"]);
    let told = kf.follow(asked["run"]["id"].as_str().unwrap(), 1);
    assert!(
        told.contains("does not show the recorded credential") && told.contains("--emergency"),
        "{told}"
    );
    assert_eq!(truth(kf), before);
}

/// Row 30.
#[test]
fn a_standby_that_lacks_the_last_commits_stands_still_when_it_is_promoted() {
    let servers = Servers::own(&["postgres", "replica"]);
    let name = format!("kf_behind_{}", std::process::id());
    let kf = provisioned(servers, &name, &[PRIMARY, REPLICA]);
    let size = anchored(&kf);
    wait_for("the standby has what was committed", LIMIT, || {
        let text = "select pg_last_wal_replay_lsn()::text";
        let there = sql(servers, REPLICA, text)[0][0].clone();
        let here = sql(servers, PRIMARY, "select pg_current_wal_lsn()::text")[0][0].clone();
        (there == here).then_some(())
    });
    // From here on it hears nothing more.
    sql(servers, REPLICA, "alter system set primary_conninfo = ''");
    sql(servers, REPLICA, "select pg_reload_conf()");
    wait_for("the standby is cut off", LIMIT, || {
        let receivers = sql(
            servers,
            REPLICA,
            "select count(*) from pg_stat_wal_receiver where pid is not null",
        );
        (receivers[0][0] == "0").then_some(())
    });
    rotate(&kf);
    assert!(anchored(&kf) > size);
    servers.order("stop", "postgres");
    sql(servers, REPLICA, "select pg_promote()");
    let as_it_was = truth(&kf);
    let why = frozen(&kf);
    assert!(why.contains("a standby was promoted"), "{why}");
    wait_for("the anchor that it does not go on from is kept", LIMIT, || {
        (kept_anchors(&kf) == 1).then_some(())
    });
    assert_eq!(truth(&kf), as_it_was);
    lifted_by_two(&kf);
}
