//! A store is moved into another database whole, once, and verified; wherever it is stopped it goes on.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;
use uuid::Uuid;

use super::filled::fill;
use super::rows::note;
use super::support::{at, decode, environment, opened, reopen};
use crate::store::sql::{TABLES, Value};
use crate::store::{
    Begun, Closing, Commit, Creation, End, Fact, Move, MoveError, Purpose, Result, StoreOptions, abandon,
    open_sqlite_end,
};

pub(super) async fn end(path: &Path, purpose: Purpose) -> Result<End> {
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

pub(super) async fn close(end: &End) {
    end.store().close().await.unwrap();
}

pub(super) fn closing(attempt: &str) -> Closing {
    Closing {
        attempt: attempt.to_owned(),
        at: at(7),
        guards: Vec::new(),
        record: note("the store is moved"),
    }
}

/// A filled store that nobody has open any more, and a place for another.
pub(super) async fn filled() -> (TempDir, PathBuf, PathBuf) {
    let test = opened().await;
    fill(&test).await;
    assert_eq!(test.store.check().await.unwrap(), Vec::<String>::new());
    test.store.close().await.unwrap();
    let from = test.path();
    let to = test.folder().join("elsewhere.db");
    (test.into_folder(), from, to)
}

pub(super) async fn begun(source: &End, target: &End, attempt: &str) -> std::result::Result<Move, MoveError> {
    match Move::begin(source, target, closing(attempt)).await? {
        Begun::Move(mut begun) => {
            begun.in_pages_of(3);
            Ok(*begun)
        }
        Begun::Done => panic!("nothing was left to do"),
    }
}

/// From its beginning, or from where it was, to its end.
pub(super) async fn moved(source: &End, target: &End, attempt: &str) -> std::result::Result<(), MoveError> {
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
pub(super) fn contents(path: &Path) -> Vec<(String, Vec<String>)> {
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
