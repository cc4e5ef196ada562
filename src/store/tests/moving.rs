//! A store is moved into another database whole, once, and verified; wherever it is stopped it goes on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use keyfall_sdk::BoxFuture;
use rusqlite::Connection;
use tempfile::TempDir;
use uuid::Uuid;

use super::database::Database;
use super::filled::fill;
use super::support::{On, at, decode, environment, note, opened, reopen};
use crate::store::copy::Port;
use crate::store::sql::{Bound, GIVEN, LOCAL, TABLES, Value};
use crate::store::{
    Begun, Closing, Commit, Creation, End, Fact, Move, MoveError, PostgresOptions, Purpose, Result, StoreError,
    StoreOptions, abandon, open_postgres_end, open_sqlite_end,
};

async fn end(path: &Path, purpose: Purpose) -> Result<End> {
    let options = StoreOptions {
        purpose,
        creation: match purpose {
            Purpose::MoveTo => Creation::IfMissing,
            _ => Creation::Never,
        },
        ..StoreOptions::new(decode)
    };
    open_sqlite_end(path, options, environment().1).await
}

async fn close(end: &End) {
    end.store().close().await.unwrap();
}

fn closing(attempt: &str) -> Closing {
    Closing {
        attempt: attempt.to_owned(),
        at: at(7),
        guards: Vec::new(),
        record: note("the store is moved"),
    }
}

/// A filled store that nobody has open any more, and a place for another.
async fn filled() -> (TempDir, PathBuf, PathBuf) {
    let test = opened().await;
    fill(&test).await;
    assert_eq!(test.store.check().await.unwrap(), Vec::<String>::new());
    test.store.close().await.unwrap();
    let from = test.path();
    let to = test.folder().join("elsewhere.db");
    (test.into_folder(), from, to)
}

async fn begun(source: &End, target: &End, attempt: &str) -> std::result::Result<Move, MoveError> {
    match Move::begin(source, target, closing(attempt)).await? {
        Begun::Move(mut begun) => {
            begun.in_pages_of(3);
            Ok(*begun)
        }
        Begun::Done => panic!("nothing was left to do"),
    }
}

/// From its beginning, or from where it was, to its end.
async fn moved(source: &End, target: &End, attempt: &str) -> std::result::Result<(), MoveError> {
    let mut begun = begun(source, target, attempt).await?;
    begun.copy(&mut |_| {}).await?;
    let report = begun.verify(&mut |_| {}).await?;
    for table in &report {
        assert!(
            table.equal && table.source > 0,
            "{table:?}: every table must have rows here"
        );
    }
    begun.finish().await
}

async fn move_all(from: &Path, to: &Path) {
    let (source, target) = (
        end(from, Purpose::MoveFrom).await.unwrap(),
        end(to, Purpose::MoveTo).await.unwrap(),
    );
    moved(&source, &target, "one").await.unwrap();
    close(&source).await;
    close(&target).await;
}

/// Every table of a file by its rows, without what belongs to one database.
fn contents(path: &Path) -> Vec<(String, Vec<String>)> {
    let connection = Connection::open(path).unwrap();
    let rows = |table: &crate::store::sql::Table| {
        let text = format!(
            "select {} from {} order by {}",
            table.columns.join(", "),
            table.name,
            table.key.join(", ")
        );
        let mut statement = connection.prepare(&text).unwrap();
        let width = table.columns.len();
        let read = |row: &rusqlite::Row<'_>| {
            let values: Vec<_> = (0..width).map(|column| row.get_ref(column).unwrap()).collect();
            let key = values[0].as_str().unwrap_or_default().into();
            Ok((!table.is_local(&[Value::Text(key)])).then(|| format!("{values:?}")))
        };
        let rows = statement.query_map([], read).unwrap();
        rows.filter_map(|row| row.unwrap()).collect::<Vec<_>>()
    };
    TABLES
        .iter()
        .map(|table| (table.name.to_owned(), rows(table)))
        .collect()
}

#[tokio::test]
async fn the_list_of_tables_is_the_schema() {
    let test = opened().await;
    test.store.close().await.unwrap();
    let connection = Connection::open(test.path()).unwrap();
    let texts = |sql: &str| {
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let mut found: Vec<String> = rows.map(|row| row.unwrap()).collect();
        found.sort();
        found
    };
    let mut known: Vec<_> = TABLES
        .iter()
        .map(|table| table.name)
        .chain(LOCAL.iter().copied())
        .collect();
    known.sort_unstable();
    let there = texts("select name from sqlite_schema where type = 'table' and name not like 'sqlite_%'");
    assert_eq!(
        there, known,
        "a table is neither copied nor known to belong to one database"
    );
    for table in TABLES {
        let given = GIVEN
            .iter()
            .filter(|(of, _)| *of == table.name)
            .map(|(_, column)| *column);
        let mut columns: Vec<_> = table.columns.iter().copied().chain(given).collect();
        columns.sort_unstable();
        let there = texts(&format!("select name from pragma_table_info('{}')", table.name));
        assert_eq!(there, columns, "{}", table.name);
    }
}

#[tokio::test]
async fn the_list_of_tables_is_the_schema_of_the_other_database_too() {
    let test = On::Postgres.opened().await;
    let client = test.database().client().await;
    let texts = async |sql: &str| {
        let rows = client.query(sql, &[]).await.unwrap();
        let mut found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        found.sort();
        found
    };
    let mut known: Vec<_> = TABLES
        .iter()
        .map(|table| table.name)
        .chain(LOCAL.iter().copied())
        .collect();
    known.sort_unstable();
    let there = "select table_name::text from information_schema.tables where table_schema = current_schema()";
    assert_eq!(texts(there).await, known);
    for table in TABLES {
        let mut given: Vec<_> = GIVEN
            .iter()
            .filter(|(of, _)| *of == table.name)
            .map(|(_, column)| *column)
            .collect();
        // The order in which entries came, until they have their positions.
        given.extend((table.name == "log").then_some("arrival"));
        let mut columns: Vec<_> = table.columns.iter().copied().chain(given).collect();
        columns.sort_unstable();
        let there = format!(
            "select column_name::text from information_schema.columns where table_schema = current_schema() and table_name = '{}'",
            table.name
        );
        assert_eq!(texts(&there).await, columns, "{}", table.name);
    }
}

async fn database_end(database: &Database, purpose: Purpose) -> Result<End> {
    let environment = environment().1;
    let mut options = PostgresOptions::for_test(&database.url(), &environment, decode);
    options.purpose = purpose;
    open_postgres_end(options, environment).await
}

/// SQLite to PostgreSQL, killed now and then, and back again.
#[tokio::test]
async fn through_the_other_database_and_back_it_is_the_same_store() {
    let (folder, from, _) = filled().await;
    let database = Database::create().await;
    let source = end(&from, Purpose::MoveFrom).await.unwrap();
    let mut kills = 0;
    for at_write in [0, 25, 90] {
        let target = database_end(&database, Purpose::MoveTo).await.unwrap();
        let dying = target.through(|port| {
            let stored = at_write % 2 == 0;
            let left = AtomicI64::new(at_write);
            Arc::new(Dying { port, left, stored })
        });
        kills += u32::from(moved(&source, &dying, "one").await.is_err());
        close(&target).await;
    }
    assert_eq!(kills, 3);
    let target = database_end(&database, Purpose::MoveTo).await.unwrap();
    moved(&source, &target, "one").await.unwrap();
    close(&source).await;
    close(&target).await;

    // A server that has it open is put out when the store is closed, and let in no more.
    let working = database_end(&database, Purpose::Work).await.unwrap();
    let commit = || Commit {
        log: vec![note("and on")],
        ..Commit::default()
    };
    working.store().commit(commit()).await.unwrap();
    let size = working.store().log_state().await.unwrap().size;
    let back = folder.path().join("back.db");
    let mut options = PostgresOptions::for_test(&database.url(), &environment().1, decode);
    options.purpose = Purpose::MoveFrom;
    "move".clone_into(&mut options.node);
    let source = open_postgres_end(options, environment().1).await.unwrap();
    let target = end(&back, Purpose::MoveTo).await.unwrap();
    let mut one = begun(&source, &target, "back").await.unwrap();
    let refused = working.store().commit(commit()).await.err().unwrap();
    assert!(refused.to_string().contains("being moved to"), "{refused}");
    one.copy(&mut |_| {}).await.unwrap();
    one.verify(&mut |_| {}).await.unwrap();
    one.finish().await.unwrap();
    close(&source).await;
    close(&target).await;
    drop(working);

    let (mut there, mut here) = (contents(&from), contents(&back));
    for tables in [&mut there, &mut here] {
        // What was recorded on the other side: that it went on, and that it was moved back.
        tables.retain(|(name, _)| name != "log" && name != "log_frontier");
    }
    assert_eq!(there, here);
    let store = reopen(&back).await.unwrap();
    assert_eq!(store.log_state().await.unwrap().size, size + 1);
    assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_store_is_moved_whole_and_the_source_never_acts_again() {
    let (_folder, from, to) = filled().await;
    let before = contents(&from);
    move_all(&from, &to).await;
    let after = contents(&from);
    for ((table, before), (_, after)) in before.iter().zip(&after) {
        let more = match table.as_str() {
            // The record that it was moved.
            "log" => 1,
            _ => 0,
        };
        assert_eq!(after.len(), before.len() + more, "{table} of the source");
    }
    assert_eq!(contents(&to), after);
    let why = reopen(&from).await.err().unwrap().to_string();
    assert!(why.contains("was moved to") && why.contains("elsewhere.db"), "{why}");

    let arrived = reopen(&to).await.unwrap();
    assert_eq!(arrived.check().await.unwrap(), Vec::<String>::new());
    let state = arrived.log_state().await.unwrap();
    assert_eq!(state.size, 622);
    // The tree goes on from what was copied.
    let commit = Commit {
        log: vec![note("and on")],
        ..Commit::default()
    };
    arrived.commit(commit).await.unwrap();
    assert_eq!(arrived.log_state().await.unwrap().size, 623);
    assert_eq!(arrived.check().await.unwrap(), Vec::<String>::new());
    let latest: Vec<i64> = arrived
        .settling("orders-db", 3)
        .await
        .unwrap()
        .iter()
        .map(|sample| sample.micros)
        .collect();
    assert_eq!(latest, [7, 6, 5], "rows without a key of ours keep their order");
    arrived.close().await.unwrap();

    // Asked again, it is done.
    let (source, target) = (
        end(&from, Purpose::MoveFrom).await.unwrap(),
        end(&to, Purpose::MoveTo).await.unwrap(),
    );
    assert!(matches!(
        Move::begin(&source, &target, closing("two")).await.unwrap(),
        Begun::Done
    ));
    let refused = abandon(&source, note("given up")).await.err().unwrap();
    assert!(matches!(refused, MoveError::Finished), "{refused}");
}

#[tokio::test]
async fn back_and_forth_it_is_the_same_store() {
    let (folder, from, to) = filled().await;
    move_all(&from, &to).await;
    let back = folder.path().join("back.db");
    move_all(&to, &back).await;
    let (mut there, mut here) = (contents(&to), contents(&back));
    assert_eq!(there, here);
    let log = |tables: &mut Vec<(String, Vec<String>)>| tables.iter_mut().find(|one| one.0 == "log").unwrap().1.clone();
    assert_eq!(log(&mut there).len(), 623);
    assert_eq!(log(&mut there), log(&mut here));
    let store = reopen(&back).await.unwrap();
    assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
}

/// Dies with a write: before it was stored, or right after.
struct Dying {
    port: Arc<dyn Port>,
    left: AtomicI64,
    stored: bool,
}

impl Port for Dying {
    fn rows(&self, bound: Bound) -> BoxFuture<'_, Result<Vec<Vec<Value>>>> {
        Box::pin(async move {
            match self.left.load(Ordering::SeqCst) {
                ..0 => Err(StoreError::Closed),
                _ => self.port.rows(bound).await,
            }
        })
    }

    fn end_others(&self) -> BoxFuture<'_, Result<()>> {
        self.port.end_others()
    }

    fn run(&self, bounds: Vec<Bound>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            match self.left.fetch_sub(1, Ordering::SeqCst) {
                1.. => self.port.run(bounds).await,
                0 if self.stored => self.port.run(bounds).await.and(Err(StoreError::Closed)),
                _ => Err(StoreError::Closed),
            }
        })
    }
}

#[tokio::test]
async fn wherever_it_is_killed_it_goes_on_and_copies_each_row_once() {
    let (folder, from, _) = filled().await;
    let pristine = folder.path().join("pristine.db");
    std::fs::copy(&from, &pristine).unwrap();
    let (mut killed, mut deaths) = (0, 0_i64);
    for stored in [false, true] {
        // A stride that is no divisor of anything here, and the first writes one by one.
        let mut at_write = 0;
        loop {
            let from = folder.path().join(format!("from-{stored}-{at_write}.db"));
            let to = folder.path().join(format!("to-{stored}-{at_write}.db"));
            std::fs::copy(&pristine, &from).unwrap();
            let source = end(&from, Purpose::MoveFrom).await.unwrap();
            let target = end(&to, Purpose::MoveTo).await.unwrap();
            let dying = target.through(|port| {
                Arc::new(Dying {
                    port,
                    left: AtomicI64::new(at_write),
                    stored,
                })
            });
            let ended = moved(&source, &dying, "one").await;
            close(&source).await;
            close(&target).await;
            if ended.is_ok() {
                break;
            }
            killed += 1;
            for closed in [&from, &to] {
                // Neither acts: the source only if it was not closed yet.
                let opened = reopen(closed).await;
                let early = at_write == 0 && closed == &from;
                assert!(
                    opened.is_err() || early || (!stored && closed == &to && at_write == 0),
                    "{closed:?}"
                );
                if let Ok(store) = opened {
                    store.close().await.unwrap();
                }
            }
            let source = end(&from, Purpose::MoveFrom).await.unwrap();
            let target = end(&to, Purpose::MoveTo).await.unwrap();
            match Move::begin(&source, &target, closing("two")).await.unwrap() {
                Begun::Move(mut begun) => {
                    begun.copy(&mut |_| {}).await.unwrap();
                    begun.verify(&mut |_| {}).await.unwrap();
                    begun.finish().await.unwrap();
                }
                Begun::Done => assert!(stored, "only a last write that was stored is an end"),
            }
            close(&source).await;
            close(&target).await;
            assert_eq!(contents(&to), contents(&from), "killed with write {at_write}");
            reopen(&to).await.unwrap().close().await.unwrap();
            deaths = deaths.max(at_write);
            at_write += if at_write < 8 { 1 } else { 37 };
        }
    }
    assert!(
        deaths > 200 && killed > 24,
        "{killed} kills, the last with write {deaths}"
    );
}

#[tokio::test]
async fn a_byte_that_changed_on_the_way_is_found() {
    let (folder, from, to) = filled().await;
    let pristine = folder.path().join("pristine.db");
    std::fs::copy(&from, &pristine).unwrap();
    for (number, harm) in [
        "update secrets set ciphertext = cast('sealed bytes, others' as blob)",
        "update credentials set principal = 'another'",
        "update settings set value = 'another' where key = 'freeze'",
        "delete from spends where scope = 'destructive:3'",
        "update log_nodes set hash = zeroblob(32)",
        "update counters set amount = amount + 1",
        "drop trigger log_is_not_changed; update log set bytes = cast('nate 2/7' as blob) where position = 208",
    ]
    .into_iter()
    .enumerate()
    {
        let from = folder.path().join(format!("from-{number}.db"));
        let to = to.with_file_name(format!("to-{number}.db"));
        std::fs::copy(&pristine, &from).unwrap();
        let source = end(&from, Purpose::MoveFrom).await.unwrap();
        let target = end(&to, Purpose::MoveTo).await.unwrap();
        let mut one = begun(&source, &target, "one").await.unwrap();
        one.copy(&mut |_| {}).await.unwrap();
        close(&target).await;
        let connection = Connection::open(&to).unwrap();
        connection.execute_batch(harm).unwrap();
        assert!(connection.changes() > 0, "{harm}");
        drop(connection);
        let target = end(&to, Purpose::MoveTo).await.unwrap();
        let again = begun(&source, &target, "one").await.unwrap();
        let found = again.verify(&mut |_| {}).await.err().unwrap();
        assert!(matches!(&found, MoveError::Differs { .. }), "{harm}: {found}");
    }
}

#[tokio::test]
async fn what_is_in_the_way_is_left_alone() {
    let (folder, from, to) = filled().await;
    let source = end(&from, Purpose::MoveFrom).await.unwrap();

    let other = opened().await;
    other
        .put(vec![Fact::Setting {
            key: "freeze",
            value: Some("theirs".to_owned()),
        }])
        .await;
    other.store.close().await.unwrap();
    let full = end(&other.path(), Purpose::MoveTo).await.unwrap();
    let refused = begun(&source, &full, "one").await.err().unwrap();
    assert!(matches!(refused, MoveError::NotEmpty), "{refused}");
    assert_eq!(source.moved().await.unwrap(), None, "nothing was begun");

    // What must hold does not, and the source goes on.
    let target = end(&to, Purpose::MoveTo).await.unwrap();
    let unfrozen = Closing {
        guards: vec![crate::store::Guard::SettingIs {
            key: "freeze",
            value: None,
        }],
        ..closing("one")
    };
    let refused = Move::begin(&source, &target, unfrozen).await.err().unwrap();
    assert!(matches!(refused, MoveError::Changed), "{refused}");
    assert_eq!(source.moved().await.unwrap(), None);

    // The same target serves, since nothing was copied to it yet; another one does not while it is on its way.
    let mut one = begun(&source, &target, "two").await.unwrap();
    let third = end(&folder.path().join("third.db"), Purpose::MoveTo).await.unwrap();
    let refused = begun(&source, &third, "three").await.err().unwrap();
    assert!(matches!(refused, MoveError::OnItsWay { .. }), "{refused}");

    // Given up: the source is the store again, and what was copied can be finished no more.
    one.copy(&mut |_| {}).await.unwrap();
    abandon(&source, note("given up")).await.unwrap();
    let refused = one.finish().await.err().unwrap();
    assert!(matches!(refused, MoveError::NotMoving), "{refused}");
    let refused = begun(&source, &target, "four").await.err().unwrap();
    assert!(matches!(refused, MoveError::HoldsAnother), "{refused}");
    moved(&source, &third, "five").await.unwrap();
    close(&target).await;
    let why = reopen(&to).await.err().unwrap().to_string();
    assert!(
        why.contains("unfinished copy of") && why.contains("migrate-store"),
        "{why}"
    );
}

#[test]
fn a_mark_names_a_move_and_no_secret() {
    let moved = crate::store::Moved {
        attempt: Uuid::from_u128(1).to_string(),
        to: "postgres://keyfall@db.example.com/keyfall".to_owned(),
        at: at(0),
        finished: false,
    };
    let text = serde_json::to_string(&moved).unwrap();
    assert_eq!(serde_json::from_str::<crate::store::Moved>(&text).unwrap(), moved);
}
