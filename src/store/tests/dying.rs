//! A move that dies at any write, in either direction, goes on where it was.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use keyfall_sdk::BoxFuture;

use super::database::Database;
use super::moving::{begun, close, closing, contents, end, filled, moved};
use super::rows::note;
use super::support::{decode, environment, reopen};
use crate::store::copy::Port;
use crate::store::sql::{Bound, Value};
use crate::store::{Begun, Commit, End, Move, PostgresOptions, Purpose, Result, StoreError, open_postgres_end};

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

/// Another process brings the move to its end.
async fn taken_up(from: &Path, to: &Path, stored: bool) {
    let source = end(from, Purpose::MoveFrom).await.unwrap();
    let target = end(to, Purpose::MoveTo).await.unwrap();
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
            taken_up(&from, &to, stored).await;
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
