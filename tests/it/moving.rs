//! A store that is moved into another database: its server goes on there, and nowhere else.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Keyfall, Ran, keyfall, ran, wait_for};

pub(crate) fn migrate(from: &str, to: &str) -> Ran {
    ran(
        keyfall().args(["migrate-store", "--from", from, "--to", to, "-o", "json"]),
        b"",
    )
}

/// Every line of `keyfall doctor` says that all is well.
pub(crate) fn is_well(kf: &Keyfall) {
    let lines = kf.alice().json(&["doctor"]);
    assert!(
        lines.as_array().unwrap().iter().all(|line| line["ok"] == true),
        "{lines}"
    );
}

pub(crate) fn serve_from(kf: &Keyfall, store: &str) {
    let text = fs::read_to_string(kf.config()).unwrap();
    let line = text.lines().find(|line| line.starts_with("store =")).unwrap();
    let moved = text.replace(line, &format!("store = \"{store}\""));
    assert_ne!(moved, text);
    fs::write(kf.config(), moved).unwrap();
}

/// Whether a server comes up on this store. It is killed at once.
fn serves(kf: &Keyfall, store: &str) -> bool {
    let ready = PathBuf::from(kf.scratch("early"));
    // Of one that came up before.
    let _ = fs::remove_file(&ready);
    let mut child = kf
        .serve_command()
        .args(["--store", store, "--listen", "127.0.0.1:0"])
        .arg("--ready-file")
        .arg(&ready)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let ended = wait_for(
        "a server comes up or refuses to",
        Duration::from_secs(60),
        || match child.try_wait().unwrap() {
            Some(ended) => Some(Some(ended)),
            None => ready.exists().then_some(None),
        },
    );
    match ended {
        Some(ended) => {
            assert_eq!(ended.code(), Some(1));
            false
        }
        None => {
            child.kill().unwrap();
            child.wait().unwrap();
            true
        }
    }
}

#[test]
fn a_moved_store_serves_from_its_new_place_only() {
    let kf = Keyfall::start();
    for number in 0..20 {
        kf.alice().secret(&format!("secret-{number}"), "s3cret");
    }
    let (from, to) = (
        kf.dir().join("keyfall.db").display().to_string(),
        kf.scratch("moved.db"),
    );

    let running = migrate(&from, &to);
    assert_eq!(running.code, 1);
    assert!(running.stderr.contains("in use by process"), "{}", running.stderr);
    let size = kf.alice().json(&["status"])["log_size"].as_u64().unwrap();
    assert!(kf.stop().success());

    let moved = migrate(&from, &to);
    assert_eq!(moved.code, 0, "{moved:?}");
    let view: Value = serde_json::from_str(&moved.stdout).unwrap();
    assert_eq!(view["records"], size + 1, "{view}");
    assert!(
        view["tables"]
            .as_array()
            .unwrap()
            .iter()
            .all(|table| table["equal"] == true),
        "{view}"
    );
    let again = migrate(&from, &to);
    assert!(
        again.code == 0 && again.stdout.contains("\"already\": true"),
        "{again:?}"
    );

    let closed = ran(&mut kf.serve_command(), b"");
    assert_eq!(closed.code, 1, "{closed:?}");
    assert!(
        closed.stderr.contains("was moved to") && closed.stderr.contains(&to),
        "{}",
        closed.stderr
    );
    let late = ran(keyfall().args(["migrate-store", "--from", &from, "--abandon"]), b"");
    assert!(late.code == 1 && late.stderr.contains("cannot be given up"), "{late:?}");

    serve_from(&kf, &to);
    kf.resume();
    let status = kf.alice().json(&["status"]);
    assert_eq!(
        (&status["frozen"], &status["log_size"]),
        (&Value::Null, &(size + 1).into()),
        "{status}"
    );
    let anchor = kf.dir().join("anchor").display().to_string();
    kf.alice()
        .ok(&["audit", "verify", "--key", &kf.public_key(), "--anchor", &anchor]);
    assert!(kf.alice().ok(&["audit", "list"]).contains("store_moved"));
    is_well(&kf);
}

/// Kills a move again and again, each time by `stride` later, until it comes to its end; and asks for it once more.
pub(crate) fn killed_at_any_instant(kf: &Keyfall, from: &str, to: &str, stride: Duration) {
    let command = || {
        let mut command = keyfall();
        command.args(["migrate-store", "--from", from, "--to", to]);
        command
    };
    let (mut killed, said) = (0, kf.scratch("said"));
    for step in 1_u32.. {
        let mut child = command()
            .stdout(Stdio::null())
            .stderr(fs::File::create(&said).unwrap())
            .spawn()
            .unwrap();
        let until = Instant::now() + stride * step;
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(ended) => break Some(ended),
                None if Instant::now() > until => break None,
                None => std::thread::yield_now(),
            }
        };
        match ended {
            Some(ended) => {
                assert!(
                    ended.success(),
                    "attempt {step}: {ended}: {}",
                    fs::read_to_string(&said).unwrap()
                );
                break;
            }
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                killed += 1;
                // Between two attempts nothing serves from the half of it that arrived.
                if serves(kf, to) {
                    let whole = migrate(from, to);
                    assert!(whole.stdout.contains("\"already\": true"), "{whole:?}");
                    break;
                }
            }
        }
    }
    assert!(killed > 2, "{killed}");
    let done = ran(&mut command(), b"");
    assert!(done.code == 0 && done.stdout.contains("was moved to"), "{done:?}");
}

#[test]
fn a_move_that_is_killed_at_any_instant_goes_on() {
    let kf = Keyfall::start();
    for number in 0..20 {
        kf.alice().secret(&format!("secret-{number}"), "s3cret");
    }
    assert!(kf.stop().success());
    let (from, to) = (
        kf.dir().join("keyfall.db").display().to_string(),
        kf.scratch("moved.db"),
    );
    killed_at_any_instant(&kf, &from, &to, Duration::from_millis(4));
    serve_from(&kf, &to);
    kf.resume();
    is_well(&kf);
}

#[test]
fn a_move_is_given_up_before_its_end_and_not_behind_it() {
    let kf = Keyfall::start();
    kf.alice().secret("some-admin", "s3cret");
    assert!(kf.stop().success());
    let from = kf.dir().join("keyfall.db").display().to_string();
    let none = ran(keyfall().args(["migrate-store", "--from", &from, "--abandon"]), b"");
    assert!(none.code == 1 && none.stderr.contains("not on the move"), "{none:?}");
    // A target on which a move to it ends before its first row.
    let mut to = kf.scratch("nowhere/else.db");
    let refused = migrate(&from, &to);
    assert_eq!(refused.code, 1, "{refused:?}");
    // Half of a move: the marks of another target stay in the source.
    to = kf.scratch("other.db");
    let mut child = keyfall()
        .args(["migrate-store", "--from", &from, "--to", &to])
        .spawn()
        .unwrap();
    child.wait().unwrap();
    let connection = rusqlite::Connection::open(&from).unwrap();
    let unfinished =
        "update settings set value = replace(value, '\"finished\":true', '\"finished\":false') where key = 'moved'";
    assert_eq!(connection.execute(unfinished, []).unwrap(), 1);
    drop(connection);
    let elsewhere = migrate(&from, &kf.scratch("third.db"));
    assert!(
        elsewhere.code == 1 && elsewhere.stderr.contains("--abandon"),
        "{elsewhere:?}"
    );
    let serving = ran(&mut kf.serve_command(), b"");
    assert!(
        serving.code == 1 && serving.stderr.contains("being moved to"),
        "{serving:?}"
    );
    let given_up = ran(keyfall().args(["migrate-store", "--from", &from, "--abandon"]), b"");
    assert_eq!(given_up.code, 0, "{given_up:?}");
    kf.resume();
    assert!(kf.alice().ok(&["audit", "list"]).contains("store_move_abandoned"));
}

#[test]
fn a_closed_store_comes_back_as_an_old_copy_that_stands_still() {
    let kf = Keyfall::start();
    kf.alice().secret("some-admin", "s3cret");
    assert!(kf.stop().success());
    let (from, to) = (
        kf.dir().join("keyfall.db").display().to_string(),
        kf.scratch("moved.db"),
    );
    assert_eq!(migrate(&from, &to).code, 0);
    let kept = kf.scratch("kept.db");
    fs::rename(&from, &kept).unwrap();
    let config = kf.config().display().to_string();
    let restored = ran(keyfall().args(["restore", &kept, "--config", &config]), b"");
    assert_eq!(restored.code, 0, "{restored:?}");
    kf.resume();
    let frozen = kf.alice().json(&["status"])["frozen"].as_str().unwrap().to_owned();
    assert!(frozen.contains("restored from backup"), "{frozen}");
}
