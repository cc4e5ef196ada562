//! That the watcher sees what SQLite does, that its failures arrive, and that files elsewhere are left alone.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, ErrorCode};

use super::{Call, Failure, Watcher, watch};

#[derive(Default)]
struct Seen {
    calls: Mutex<Vec<String>>,
    fails: Mutex<Option<(&'static str, Failure)>>,
}

impl Watcher for Seen {
    fn about_to(&self, call: Call<'_>) -> Result<(), Failure> {
        let name = match call {
            Call::Open { .. } => "open",
            Call::Read { .. } => "read",
            Call::Write { .. } => "write",
            Call::Truncate { .. } => "truncate",
            Call::Sync { .. } => "sync",
            Call::Delete { .. } => "delete",
        };
        self.calls.lock().unwrap().push(name.to_owned());
        match *self.fails.lock().unwrap() {
            Some((fails, failure)) if fails == name => Err(failure),
            _ => Ok(()),
        }
    }
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("keyfall-vfs-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn filled(folder: &Path) -> Connection {
    let connection = Connection::open(folder.join("a.db")).unwrap();
    connection
        .execute_batch(
            "pragma journal_mode = wal; pragma synchronous = full; create table t (a); insert into t values (1);",
        )
        .unwrap();
    connection
}

#[test]
fn calls_in_a_watched_folder_are_seen_and_others_are_not() {
    let (here, elsewhere) = (Folder::new("here"), Folder::new("elsewhere"));
    let seen = Arc::new(Seen::default());
    let watched = watch(&here.0, Arc::clone(&seen) as _);
    drop(filled(&elsewhere.0));
    assert_eq!(*seen.calls.lock().unwrap(), Vec::<String>::new());
    drop(filled(&here.0));
    let calls = seen.calls.lock().unwrap().clone();
    for wanted in ["open", "read", "write", "sync", "delete"] {
        assert!(calls.iter().any(|call| call == wanted), "{wanted}: {calls:?}");
    }
    drop(watched);
    let before = seen.calls.lock().unwrap().len();
    let again = Connection::open(here.0.join("a.db")).unwrap();
    let count: i64 = again.query_row("select count(*) from t", [], |row| row.get(0)).unwrap();
    assert_eq!((count, seen.calls.lock().unwrap().len()), (1, before));
}

#[test]
fn failures_arrive_as_what_they_are() {
    let folder = Folder::new("failing");
    let seen = Arc::new(Seen::default());
    let _watched = watch(&folder.0, Arc::clone(&seen) as _);
    let connection = filled(&folder.0);
    for (call, failure, code) in [
        ("write", Failure::Full { after: 100 }, ErrorCode::DiskFull),
        ("write", Failure::Broken { after: 0 }, ErrorCode::SystemIoFailure),
        ("sync", Failure::Broken { after: 0 }, ErrorCode::SystemIoFailure),
    ] {
        *seen.fails.lock().unwrap() = Some((call, failure));
        let failed = connection.execute("insert into t values (2)", []).unwrap_err();
        assert_eq!(failed.sqlite_error_code(), Some(code), "{call}: {failed}");
        *seen.fails.lock().unwrap() = None;
    }
    connection.execute("insert into t values (3)", []).unwrap();
    let sound: String = connection
        .query_row("pragma integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
}
