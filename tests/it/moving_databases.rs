//! A store that servers share is moved: only while it stands still and nobody has it open, only into what is empty, and wherever it is killed it
//! goes on.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Database, Keyfall, keyfall, ran};
use crate::moving::{is_well, killed_at_any_instant, migrate, serve_from};

/// A way through a network takes longer than one through a file.
const STRIDE: Duration = Duration::from_millis(25);

/// As if nobody had been seen on it for more than a minute.
fn forget_nodes(database: &Database) {
    database.sql("update nodes set seen_at = seen_at - 61000000");
}

fn on_a_database() -> (Database, Keyfall) {
    let database = Database::fresh();
    let kf = Keyfall::init(&["--store", &database.store()]);
    (database, kf)
}

#[test]
fn a_shared_store_is_moved_only_while_it_is_frozen_and_nobody_lives_on_it() {
    let (database, kf) = on_a_database();
    kf.resume();
    kf.alice().secret("some-admin", "s3cret");
    let (from, to) = (database.store(), kf.scratch("moved.db"));
    let refused = |why: &str| {
        let refused = migrate(&from, &to);
        assert!(refused.code == 1 && refused.stderr.contains(why), "{why}: {refused:?}");
        // The source is the store as before.
        assert_eq!(kf.alice().run(&["status"]).code, 0);
    };
    refused("only while it is frozen");
    kf.alice().ok(&["freeze", "--reason", "the store is moved"]);
    refused("these servers have the store open: main");

    // One that was killed may still live, as far as anybody can tell, for a minute.
    kf.kill();
    let still = migrate(&from, &to);
    assert!(
        still.code == 1 && still.stderr.contains("a minute after it was seen last"),
        "{still:?}"
    );
    forget_nodes(&database);
    let moved = migrate(&from, &to);
    assert_eq!(moved.code, 0, "{moved:?}");

    let closed = ran(&mut kf.serve_command(), b"");
    assert!(closed.code == 1 && closed.stderr.contains("was moved to"), "{closed:?}");
    serve_from(&kf, &to);
    kf.resume();
    let frozen = kf.alice().json(&["status"])["frozen"].as_str().unwrap().to_owned();
    assert!(frozen.contains("the store is moved"), "{frozen}");
    assert!(kf.alice().ok(&["audit", "list"]).contains("store_moved"));
}

#[test]
fn a_target_that_belongs_to_somebody_is_left_alone() {
    let (theirs, other) = on_a_database();
    let kf = Keyfall::start();
    kf.alice().secret("some-admin", "s3cret");
    assert!(kf.stop().success());
    let from = kf.dir().join("keyfall.db").display().to_string();

    let full = migrate(&from, &theirs.store());
    assert!(
        full.code == 1 && full.stderr.contains("the target is not empty"),
        "{full:?}"
    );
    let foreign = Database::fresh();
    foreign.sql("create table orders (id bigint)");
    let refused = migrate(&from, &foreign.store());
    assert!(
        refused.code == 1 && refused.stderr.contains("another program"),
        "{refused:?}"
    );
    assert_eq!(
        foreign.sql("select count(*) from information_schema.tables where table_schema = 'public'"),
        "1"
    );

    // Part of another store's copy: its marks say whose it is.
    let (half, third) = (Database::fresh(), Keyfall::init(&[]));
    let its = third.dir().join("keyfall.db").display().to_string();
    assert_eq!(migrate(&its, &half.store()).code, 0);
    let refused = migrate(&from, &half.store());
    assert!(refused.code == 1 && refused.stderr.contains("not empty"), "{refused:?}");

    // Nothing was begun, on any side.
    kf.resume();
    assert_eq!(kf.alice().json(&["status"])["frozen"], Value::Null);
    other.resume();
    assert_eq!(other.alice().json(&["status"])["frozen"], Value::Null);
}

#[test]
fn a_move_into_a_database_and_back_goes_on_wherever_it_is_killed() {
    let kf = Keyfall::start();
    for number in 0..20 {
        kf.alice().secret(&format!("secret-{number}"), "s3cret");
    }
    assert!(kf.stop().success());
    let (from, database) = (kf.dir().join("keyfall.db").display().to_string(), Database::fresh());
    killed_at_any_instant(&kf, &from, &database.store(), STRIDE);
    forget_nodes(&database);
    serve_from(&kf, &database.store());
    kf.resume();
    is_well(&kf);

    kf.alice().ok(&["freeze", "--reason", "and back"]);
    assert!(kf.stop().success());
    let back = kf.scratch("back.db");
    killed_at_any_instant(&kf, &database.store(), &back, STRIDE);
    let late = ran(
        keyfall().args(["migrate-store", "--from", &database.store(), "--abandon"]),
        b"",
    );
    assert!(late.code == 1 && late.stderr.contains("cannot be given up"), "{late:?}");
    serve_from(&kf, &back);
    kf.resume();
    let frozen = kf.alice().json(&["status"])["frozen"].as_str().unwrap().to_owned();
    assert!(frozen.contains("and back"), "{frozen}");
    let anchor = kf.dir().join("anchor").display().to_string();
    kf.alice()
        .ok(&["audit", "verify", "--key", &kf.public_key(), "--anchor", &anchor]);
}
