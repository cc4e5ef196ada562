//! What only the driver can show: verbs that misbehave, callers that go away, commits of which nobody knows.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::ffi;
use tempfile::TempDir;

use super::fault::{Fault, Health, stored_nothing};
use super::{SqliteDriver, StoreOptions};
use crate::clock::Environment;
use crate::store::driver::{Driver, Execute, Reach, Select, Tx, Verb, only_text};
use crate::store::sql::ledger;
use crate::store::{Result, StoreError};

fn opened() -> (Arc<SqliteDriver>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions::new(|_| Err("no events here".to_owned()));
    let environment = Environment::of_this_machine();
    let driver = SqliteDriver::open(&folder.path().join("keyfall.db"), &options, &environment).unwrap();
    (Arc::new(driver), folder)
}

fn set(key: &str) -> Execute {
    Execute {
        bound: ledger::SET.with([("key", key.into()), ("value", "on".into())]).unwrap(),
    }
}

async fn is_set(driver: &SqliteDriver, key: &str) -> bool {
    let bounds = vec![ledger::setting(key).unwrap()];
    let map = only_text;
    !driver
        .read(Select { bounds, map }, Reach::Point)
        .await
        .unwrap()
        .is_empty()
}

#[derive(Clone, Copy, PartialEq)]
enum Misbehaviour {
    Panics,
    Waits,
}

struct Misbehaves(Misbehaviour);

impl Verb for Misbehaves {
    type Output = ();
    const DOING: &'static str = "misbehaving";

    async fn run<'a, T: Tx>(&'a self, tx: &'a mut T) -> Result<()> {
        tx.execute(&set("half").bound).await?;
        tx.count("identities", "active", 7);
        if self.0 == Misbehaviour::Waits {
            std::future::pending::<()>().await;
        }
        panic!("on purpose");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verb_that_panics_or_waits_harms_nobody_else() {
    let (driver, _folder) = opened();
    let mut tasks = Vec::new();
    for number in 0..60 {
        let driver = Arc::clone(&driver);
        tasks.push(tokio::spawn(async move {
            match number % 3 {
                0 => driver.write(Misbehaves(Misbehaviour::Panics)).await.map(|()| 0),
                1 => driver.write(Misbehaves(Misbehaviour::Waits)).await.map(|()| 0),
                _ => driver.write(set(&format!("key-{number}"))).await,
            }
        }));
    }
    for (number, task) in tasks.into_iter().enumerate() {
        match (number % 3, task.await.unwrap()) {
            (0, Err(StoreError::Failed { source, .. })) => assert!(source.to_string().contains("on purpose")),
            (1, Err(StoreError::Failed { source, .. })) => assert!(source.to_string().contains("waited")),
            (2, Ok(1)) => assert!(is_set(&driver, &format!("key-{number}")).await),
            (_, other) => panic!("{number}: {other:?}"),
        }
    }
    assert!(!is_set(&driver, "half").await);
    let bounds = vec![ledger::counted("identities").unwrap()];
    let map = ledger::read_count;
    assert!(
        driver
            .read(Select { bounds, map }, Reach::Point)
            .await
            .unwrap()
            .is_empty()
    );
}

/// Readings whose callers have gone away give their connections back, and no caller after them is turned away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_go_away_take_no_reader_along() {
    let (driver, _folder) = opened();
    for _ in 0..5 {
        for _ in 0..8 {
            let bounds = (0..5000).map(|_| ledger::setting("x").unwrap()).collect();
            let map = only_text;
            let reading = driver.read(Select { bounds, map }, Reach::Range);
            let _ = tokio::time::timeout(Duration::from_nanos(1), reading).await;
        }
        assert!(!is_set(&driver, "x").await);
    }
}

/// Row 32.
#[test]
fn only_a_failure_before_the_commit_record_is_certain() {
    let failure = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
    for certain in [ffi::SQLITE_FULL, ffi::SQLITE_BUSY] {
        assert!(stored_nothing(&failure(certain)));
    }
    for doubtful in [
        ffi::SQLITE_IOERR_FSYNC,
        ffi::SQLITE_IOERR_WRITE,
        ffi::SQLITE_IOERR_SHMSIZE,
        ffi::SQLITE_NOMEM,
    ] {
        assert!(!stored_nothing(&failure(doubtful)));
    }
}

/// Row 32.
#[test]
fn after_a_doubtful_commit_nothing_is_answered_any_more() {
    let health = Health::default();
    health.note(&Fault::Unwritable { why: "full".to_owned() });
    assert!(health.check().is_ok());
    health.note(&Fault::Doubtful {
        why: "fsync".to_owned(),
    });
    health.close();
    assert!(matches!(health.check(), Err(StoreError::Doubtful { .. })));
}

#[tokio::test]
async fn a_second_server_is_refused_under_any_name_of_the_file() {
    let (first, folder) = opened();
    let named = folder.path().join("other.db");
    std::os::unix::fs::symlink(folder.path().join("keyfall.db"), &named).unwrap();
    let why = refused(&named);
    assert!(why.contains("in use by process"), "{why}");
    drop(first);

    let linked = folder.path().join("linked.db");
    std::fs::hard_link(folder.path().join("keyfall.db"), &linked).unwrap();
    for path in [linked, folder.path().join("keyfall.db")] {
        let why = refused(&path);
        assert!(why.contains("second name"), "{why}");
    }
    let nowhere = folder.path().join("nowhere.db");
    std::os::unix::fs::symlink(folder.path().join("missing.db"), &nowhere).unwrap();
    refused(&nowhere);
    assert!(!folder.path().join("missing.db").exists());
}

fn refused(path: &std::path::Path) -> String {
    let options = StoreOptions::new(|_| Err("no events here".to_owned()));
    match SqliteDriver::open(path, &options, &Environment::of_this_machine()) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error.to_string(),
    }
}
