//! The server's life: made, started, guarded against a second one, stopped, started again; and everything that it must not start with.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Keyfall, http, keyfall, ran};

#[test]
fn a_server_is_made_serves_alone_and_ends_in_order() {
    let kf = Keyfall::start();
    assert_eq!(kf.alice().json(&["status"])["log_size"], 1);
    assert_eq!(http("GET", &format!("{}/healthz", kf.url()), None, "").0, 200);
    kf.wait("the server is ready to work", || {
        (http("GET", &format!("{}/readyz", kf.url()), None, "").0 == 200).then_some(())
    });
    let metrics = http("GET", &format!("{}/metrics", kf.url()), None, "").2;
    assert!(metrics.contains("keyfall_log_size 1"), "{metrics}");
    assert_eq!(http("EVIL-7f3a", &format!("{}/nope", kf.url()), None, "").0, 404);
    let metrics = http("GET", &format!("{}/metrics", kf.url()), None, "").2;
    assert!(
        metrics.contains("method=\"other\"") && !metrics.contains("EVIL"),
        "{metrics}"
    );

    let second = ran(&mut kf.serve_command(), b"");
    assert_eq!(second.code, 1);
    assert!(
        second.stderr.contains(&format!("in use by process {}", kf.pid())),
        "{}",
        second.stderr
    );

    assert_eq!(kf.stop().code(), Some(0), "{}", kf.log());
    assert!(!kf.dir().join("ready").exists());
    let gone = kf.alice().fails(&["status", "--server", "http://127.0.0.1:9"], 5);
    assert!(
        gone.contains("cannot be reached") && gone.contains("keyfall serve"),
        "{gone}"
    );
    kf.resume();
    assert_eq!(kf.alice().json(&["status"])["frozen"], serde_json::Value::Null);
}

#[test]
fn init_touches_nothing_that_is_there_and_keeps_keys_to_their_owner() {
    let kf = Keyfall::init(&["--people", "ann,ben,cat"]);
    for name in [
        "kek",
        "signing.key",
        "people/ann.key",
        "people/ben.token",
        "people/cat.toml",
        "keyfall.db",
    ] {
        let mode = fs::metadata(kf.dir().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} has mode {mode:o}");
    }
    let before = fs::read(kf.dir().join("kek")).unwrap();
    let again = ran(keyfall().arg("init").arg(kf.dir()), b"");
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("is not empty"), "{}", again.stderr);
    assert_eq!(fs::read(kf.dir().join("kek")).unwrap(), before);
    let one = ran(keyfall().args(["init", &kf.scratch("one"), "--people", "ann"]), b"");
    assert!(one.stderr.contains("at least two"), "{}", one.stderr);
    assert!(!fs::exists(kf.scratch("one")).unwrap());
}

#[test]
fn a_wrong_key_is_named_as_such() {
    let kf = Keyfall::init(&[]);
    let other = Keyfall::init(&[]);
    fs::copy(other.dir().join("kek"), kf.dir().join("kek")).unwrap();
    let refused = ran(&mut kf.serve_command(), b"");
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("wrong key: the store is sealed under the key"),
        "{}",
        refused.stderr
    );
    fs::set_permissions(kf.dir().join("kek"), fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = ran(&mut kf.serve_command(), b"");
    assert!(exposed.stderr.contains("can be read by others"), "{}", exposed.stderr);
}

#[test]
fn nothing_but_loopback_is_served_without_tls() {
    let kf = Keyfall::init(&[]);
    let open = ran(kf.serve_command().args(["--listen", "0.0.0.0:0"]), b"");
    assert_eq!(open.code, 1);
    assert!(open.stderr.contains("needs TLS"), "{}", open.stderr);
}

#[test]
fn a_missing_or_damaged_store_is_refused_and_not_made_anew() {
    let kf = Keyfall::init(&[]);
    let store = kf.dir().join("keyfall.db");
    let bytes = fs::read(&store).unwrap();
    fs::remove_file(&store).unwrap();
    assert_eq!(ran(&mut kf.serve_command(), b"").code, 1);
    assert!(!store.exists());
    let mut damaged = bytes;
    damaged[..64].fill(0x5a);
    fs::write(&store, &damaged).unwrap();
    let refused = ran(&mut kf.serve_command(), b"");
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert_eq!(fs::read(&store).unwrap(), damaged);
}

#[test]
fn a_store_that_does_not_go_on_from_its_anchor_starts_frozen() {
    let kf = Keyfall::start();
    let store = kf.dir().join("keyfall.db");
    assert!(kf.stop().success());
    let old = fs::read(&store).unwrap();
    kf.resume();
    kf.alice().secret("some-admin", "s3cret");
    assert!(kf.stop().success());
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(kf.dir().join(format!("keyfall.db{suffix}")));
    }
    fs::write(&store, old).unwrap();
    kf.resume();
    let frozen = kf.alice().json(&["status"])["frozen"].as_str().unwrap().to_owned();
    assert!(frozen.contains("rewound"), "{frozen}");
    // It says so once: the freeze stays, and the anchor follows again.
    assert!(kf.stop().success());
    kf.resume();
    assert_eq!(kf.alice().json(&["status"])["frozen"].as_str().unwrap(), frozen);
}

#[test]
fn a_server_whose_anchor_does_not_follow_says_so() {
    let kf = Keyfall::start();
    let ready = || http("GET", &format!("{}/readyz", kf.url()), None, "");
    kf.wait("the server is ready to work", || (ready().0 == 200).then_some(()));
    // A folder stands where the file belongs.
    let anchor = kf.dir().join("anchor");
    fs::remove_file(&anchor).unwrap();
    fs::create_dir(&anchor).unwrap();
    kf.alice().ok(&["freeze", "--reason", "the log must grow"]);
    let why = kf.wait("the server says that its anchor does not follow", || {
        let (code, _, body) = ready();
        (code == 503).then_some(body)
    });
    assert!(why.contains("anchor"), "{why}");
    let metrics = http("GET", &format!("{}/metrics", kf.url()), None, "").2;
    assert!(metrics.contains("keyfall_anchor_follows 0"), "{metrics}");
    fs::remove_dir(&anchor).unwrap();
    kf.wait("the anchor follows again", || (ready().0 == 200).then_some(()));
    assert!(anchor.is_file());
}

#[test]
fn a_backup_comes_back_frozen_and_only_where_nothing_is() {
    let kf = Keyfall::start();
    let backup = kf.alice().json(&["backup", "monday"])["path"]
        .as_str()
        .unwrap()
        .to_owned();
    let config = kf.config().display().to_string();
    let restore = || ran(keyfall().args(["restore", &backup, "--config", &config]), b"");
    let refused = restore();
    assert!(
        refused.code == 1 && refused.stderr.contains("move it away first"),
        "{refused:?}"
    );
    assert!(kf.stop().success());
    fs::rename(kf.dir().join("keyfall.db"), kf.scratch("moved.db")).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(kf.dir().join(format!("keyfall.db{suffix}")));
    }
    let restored = restore();
    assert_eq!(restored.code, 0, "{restored:?}");
    kf.resume();
    let frozen = kf.alice().json(&["status"])["frozen"].as_str().unwrap().to_owned();
    assert!(frozen.contains("restored from backup monday"), "{frozen}");
}

#[test]
fn settings_are_checked_and_printed() {
    let kf = Keyfall::init(&[]);
    let config = kf.config().display().to_string();
    assert_eq!(
        ran(keyfall().args(["config", "check", "--config", &config]), b"").code,
        0
    );
    let printed = ran(keyfall().args(["config", "print", "--config", &config]), b"");
    assert!(printed.stdout.contains("breaker_percent = 20"), "{}", printed.stdout);
    kf.add_settings("lisen = '127.0.0.1:1'");
    let wrong = ran(keyfall().args(["config", "check", "--config", &config]), b"");
    assert!(
        wrong.code == 1 && wrong.stderr.contains("did you mean `listen`?"),
        "{wrong:?}"
    );
}
