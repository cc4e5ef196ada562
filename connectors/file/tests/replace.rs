//! What readers and crashes see of a replacement, and what repeats.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keyfall_sdk::{Confirmation, ErrorKind, Revoked};
use serde_json::json;

use super::{SECRET, Setup, names, raw};

#[tokio::test]
async fn a_delivery_is_whole_private_and_repeatable() {
    let setup = Setup::new();
    let first = setup.deliver(raw("db"), SECRET).await.unwrap();
    assert!(first.changed);
    assert!(first.place.ends_with("root/db (root `apps`)"), "{}", first.place);
    assert_eq!(setup.text("db"), SECRET);
    let meta = std::fs::metadata(setup.root().join("db")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
    assert_eq!(names(&setup.root()), ["db"]);

    assert!(!setup.deliver(raw("db"), SECRET).await.unwrap().changed);
    assert_eq!(std::fs::metadata(setup.root().join("db")).unwrap().ino(), meta.ino());
    assert_eq!(setup.confirm(raw("db"), SECRET).await, Confirmation::Matches);
    assert_eq!(setup.confirm(raw("db"), "another").await, Confirmation::Differs);
    assert_eq!(setup.confirm(raw("gone"), SECRET).await, Confirmation::Absent);
    assert_eq!(setup.confirm(raw("no/dir"), SECRET).await, Confirmation::Absent);

    assert_eq!(setup.withdraw(&raw("db")).await.unwrap(), Revoked::Revoked);
    assert_eq!(setup.withdraw(&raw("db")).await.unwrap(), Revoked::AlreadyGone);
    assert_eq!(setup.withdraw(&raw("no/dir")).await.unwrap(), Revoked::AlreadyGone);
    assert!(names(&setup.root()).is_empty());
}

#[tokio::test]
async fn a_changed_mode_is_put_right_and_the_umask_does_not_matter() {
    let setup = Setup::new();
    let target = json!({ "root": "apps", "path": "db", "layout": "raw", "mode": "0640" });
    setup.deliver(target.clone(), SECRET).await.unwrap();
    let file = setup.root().join("db");
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(setup.confirm(target.clone(), SECRET).await, Confirmation::Differs);
    assert!(setup.deliver(target, SECRET).await.unwrap().changed);
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
}

#[tokio::test]
async fn the_owner_is_set_by_root_and_refused_clearly_to_others() {
    let setup = Setup::new();
    let target = json!({ "root": "apps", "path": "db", "layout": "raw", "owner": 1, "group": "daemon" });
    let outcome = setup.deliver(target, SECRET).await;
    if rustix::process::geteuid().is_root() {
        outcome.unwrap();
        let meta = std::fs::metadata(setup.root().join("db")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1, 1));
    } else {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.message().contains("only root"), "{error}");
        assert!(names(&setup.root()).is_empty(), "a refused delivery leaves nothing");
    }
    let unknown = json!({ "root": "apps", "path": "db2", "layout": "raw", "owner": "nobody-has-this-name" });
    assert_eq!(
        setup.deliver(unknown, SECRET).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

/// A reader that looks as fast as it can never sees anything but one whole content.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_one_content_or_the_other() {
    let setup = Setup::new();
    let contents: Vec<String> = ["a", "b"].iter().map(|letter| letter.repeat(20_000)).collect();
    setup.deliver(raw("db"), &contents[0]).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let reader = {
        let (stop, file, contents) = (Arc::clone(&stop), setup.root().join("db"), contents.clone());
        std::thread::spawn(move || {
            let mut reads = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let seen = std::fs::read_to_string(&file).expect("the file is always there");
                assert!(contents.contains(&seen), "a torn read of {} bytes", seen.len());
                reads += 1;
            }
            reads
        })
    };
    for round in 1..=1_000 {
        assert!(setup.deliver(raw("db"), &contents[round % 2]).await.unwrap().changed);
    }
    stop.store(true, Ordering::Relaxed);
    assert!(reader.join().unwrap() > 100, "the reader hardly ran");
}

#[tokio::test]
async fn what_a_crash_left_behind_is_removed_by_the_next_delivery() {
    let setup = Setup::new();
    std::fs::write(setup.root().join(".db.keyfall"), "half a secr").unwrap();
    setup.deliver(raw("db"), SECRET).await.unwrap();
    assert_eq!(names(&setup.root()), ["db"]);
    std::fs::write(setup.root().join(".db.keyfall"), "half a secr").unwrap();
    setup.withdraw(&raw("db")).await.unwrap();
    assert!(names(&setup.root()).is_empty());
}

#[tokio::test]
async fn a_second_delivery_at_the_same_time_waits_its_turn() {
    let setup = Setup::new();
    let held = std::fs::File::create(setup.root().join(".db.keyfall")).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let error = setup.deliver(raw("db"), SECRET).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert_eq!(names(&setup.root()), [".db.keyfall"]);
    drop(held);
    setup.deliver(raw("db"), SECRET).await.unwrap();
}
