//! Stores as each earlier version of the schema left them, for whoever opens them with this binary. `migrations/golden/README.md` says how one
//! more is made.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use refinery::Migration;
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::database::Database;
use super::filled::fill;
use super::support::{BOTH, Home, On, at, environment, opened, path_in};
use crate::evidence::merkle::{Frontier, leaf_hash};
use crate::store::sql::TABLES;
use crate::store::{Creation, Page, RunFilter, Store};

/// When it is set, the store of the newest version is written anew.
const WRITE: &str = "KEYFALL_WRITE_GOLDEN";
/// A store with something in every table.
const FILLED: &str = "filled";
/// "KFAL", as the SQLite driver marks its files.
const APPLICATION_ID: i32 = 0x4B46_414C;

fn migrations() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations")
}

/// The rows of a store of this kind, in the form that they had in that version: they are kept where a migration changed it.
fn rows_of(kind: &str, version: i32) -> String {
    let kept = (1..=version).rev().map(|version| file_of(kind, version));
    let newest = kept.into_iter().find(|file| file.exists());
    std::fs::read_to_string(newest.expect("each kind has a first version")).unwrap()
}

fn file_of(kind: &str, version: i32) -> PathBuf {
    migrations().join(format!("golden/{kind}-V{version:04}.sql"))
}

/// All versions that there were, the newest last.
pub(crate) fn versions() -> RangeInclusive<i32> {
    1..=newest()
}

pub(crate) fn is_written_anew() -> bool {
    std::env::var_os(WRITE).is_some()
}

/// The migrations of a database up to this version, in order.
fn up_to(on: On, version: i32) -> Vec<Migration> {
    let folder = match on {
        On::Sqlite => "sqlite",
        On::Postgres => "postgres",
    };
    let mut found = refinery::load_sql_migrations(migrations().join(folder)).unwrap();
    found.sort();
    found.retain(|one| one.version() <= version);
    found
}

fn newest() -> i32 {
    up_to(On::Sqlite, i32::MAX).last().unwrap().version()
}

/// What makes a store of that version, in the words of the database.
fn script(on: On, kind: &str, version: i32) -> String {
    let mut script = String::new();
    for one in up_to(on, version) {
        script.push_str(one.sql().unwrap());
    }
    script.push_str(
        "create table refinery_schema_history (version int4 primary key, name varchar(255), applied_on varchar(255), checksum varchar(255));\n",
    );
    for one in up_to(on, version) {
        let (number, name, checksum) = (one.version(), one.name(), one.checksum());
        script.push_str(&format!(
            "insert into refinery_schema_history values ({number}, '{name}', '2026-01-01T00:00:00Z', '{checksum}');\n"
        ));
    }
    // A new store holds these rows already.
    script.push_str("delete from log_frontier;\n");
    let rows = rows_of(kind, version);
    match on {
        On::Sqlite => script.push_str(&rows),
        On::Postgres => script.push_str(&rows.replace("x'", "'\\x")),
    }
    script
}

/// A file of that version in this folder.
pub(crate) fn left_in(folder: &Path, kind: &str, version: i32) {
    let connection = Connection::open(path_in(folder)).unwrap();
    connection
        .pragma_update(None, "application_id", APPLICATION_ID)
        .unwrap();
    connection.execute_batch(&script(On::Sqlite, kind, version)).unwrap();
}

async fn left_behind(on: On, version: i32) -> Home {
    match on {
        On::Sqlite => {
            let folder = tempfile::tempdir().unwrap();
            left_in(folder.path(), FILLED, version);
            Home::Folder(folder)
        }
        On::Postgres => {
            let database = Database::create().await;
            let script = script(on, FILLED, version);
            database.client().await.batch_execute(&script).await.unwrap();
            Home::Database(database)
        }
    }
}

#[tokio::test]
async fn a_store_of_every_earlier_version_is_opened_and_holds_what_it_held() {
    if is_written_anew() {
        let test = opened().await;
        fill(&test).await;
        test.store.close().await.unwrap();
        write(FILLED, &test.path());
    }
    for version in versions() {
        for on in BOTH {
            let home = left_behind(on, version).await;
            let store = home.open(&environment().1, Creation::Never).await.unwrap();
            holds_what_it_held(store.as_ref(), &format!("version {version} on {on:?}"), version).await;
        }
    }
}

async fn holds_what_it_held(store: &dyn Store, which: &str, version: i32) {
    assert_eq!(store.check().await.unwrap(), Vec::<String>::new(), "{which}");
    let golden = rows_of(FILLED, version);
    let held = |table: &str| {
        golden
            .lines()
            .filter(|line| line.starts_with(&format!("insert into {table} ")))
            .count()
    };
    let runs = store.runs(&RunFilter::default(), Page::first(1000)).await.unwrap();
    assert_eq!(runs.len(), held("runs"), "{which}: no run is opened by an upgrade");
    assert!(
        runs.iter().all(|run| run.epoch == 0 && run.node.is_none()),
        "{which}: and none is taken"
    );
    let billing = store.identity_named("billing").await.unwrap().unwrap();
    assert_eq!(
        store.credentials_of(billing.id).await.unwrap().len(),
        held("credentials"),
        "{which}"
    );
    assert_eq!(
        store.setting("freeze").await.unwrap().as_deref(),
        Some("a quiet day"),
        "{which}"
    );
    assert_eq!(store.people().await.unwrap().len(), held("people"), "{which}");
    let log = store.log(0, 10_000).await.unwrap();
    assert_eq!(log.len(), held("log"), "{which}");
    let mut tree = Frontier::new();
    for entry in &log {
        tree.append(leaf_hash(&entry.bytes), &mut Vec::new());
    }
    assert_eq!(store.log_state().await.unwrap().root, tree.root(), "{which}");
    assert_eq!(
        store
            .overview(at(0))
            .await
            .unwrap()
            .identities
            .iter()
            .map(|(_, count)| count)
            .sum::<u64>(),
        held("identities") as u64
    );
}

/// Keeps the rows of this store, table by table, as both databases read them (but for how bytes are written).
pub(crate) fn write(kind: &str, store: &Path) {
    let connection = Connection::open(store).unwrap();
    let mut out = String::new();
    for table in TABLES {
        let columns = table.columns.join(", ");
        let mut statement = connection
            .prepare(&format!("select {columns} from {} order by 1, 2", table.name))
            .unwrap();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<String> = (0..table.columns.len())
                .map(|place| literal(row.get_ref(place).unwrap()))
                .collect();
            out.push_str(&format!(
                "insert into {} ({columns}) values ({});\n",
                table.name,
                values.join(", ")
            ));
        }
    }
    std::fs::write(file_of(kind, newest()), out).unwrap();
}

fn literal(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "null".to_owned(),
        ValueRef::Integer(integer) => integer.to_string(),
        ValueRef::Text(text) => format!("'{}'", std::str::from_utf8(text).unwrap().replace('\'', "''")),
        ValueRef::Blob(bytes) => format!(
            "x'{}'",
            bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        ),
        ValueRef::Real(_) => panic!("no column holds a fraction"),
    }
}
