//! What only the driver can show: lost connections, commits of which nobody knows, servers that refuse, and holders that pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::sequencer::Wait;
use super::{Driver, PostgresDriver, PostgresOptions, Reach};
use crate::clock::Environment;
use crate::store::driver::{Execute, Select, Tx, Verb, only_text};
use crate::store::sql::{self, ledger};
use crate::store::tests::database::Database;
use crate::store::tests::poll::pause;
use crate::store::{Result, StoreError};

const SOON: Duration = Duration::from_secs(10);

async fn opened_at(url: &str, change: impl FnOnce(&mut PostgresOptions)) -> PostgresDriver {
    let environment = Environment::of_this_machine();
    let mut options = PostgresOptions::for_test(url, &environment, |_| Err("no events here".to_owned()));
    change(&mut options);
    PostgresDriver::open(&options, &environment).await.unwrap()
}

async fn opened() -> (PostgresDriver, Database) {
    let database = Database::create().await;
    (opened_at(&database.url(), |_| {}).await, database)
}

fn set(key: &str) -> Execute {
    Execute {
        bound: ledger::SET.with([("key", key.into()), ("value", "on".into())]).unwrap(),
    }
}

async fn is_set(driver: &PostgresDriver, key: &str) -> bool {
    let select = Select {
        bounds: vec![ledger::setting(key).unwrap()],
        map: only_text,
    };
    !driver.read(select, Reach::Point).await.unwrap().is_empty()
}

/// Ends every session of the store's, as a restart of the server does.
async fn end_sessions(database: &Database) {
    let text = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'keyfall/%'";
    database.client().await.batch_execute(text).await.unwrap();
}

/// Row 30.
#[tokio::test]
async fn a_lost_connection_ends_no_store() {
    let (driver, database) = opened().await;
    for round in 0..3 {
        let key = format!("round-{round}");
        driver.write(set(&key)).await.unwrap();
        end_sessions(&database).await;
        assert!(is_set(&driver, &key).await);
        end_sessions(&database).await;
        driver.write(set(&format!("{key} again"))).await.unwrap();
    }
}

/// Waits in the middle until the test has done something to the connection under it.
struct InTheMiddle {
    reached: Arc<tokio::sync::Notify>,
    go_on: Arc<tokio::sync::Notify>,
}

impl Verb for InTheMiddle {
    type Output = ();
    const DOING: &'static str = "waiting";

    async fn run<'a, T: Tx>(&'a self, tx: &'a mut T) -> Result<()> {
        tx.execute(&set("first").bound).await?;
        self.reached.notify_one();
        self.go_on.notified().await;
        tx.execute(&set("second").bound).await.map(drop)
    }
}

#[tokio::test]
async fn a_transaction_whose_connection_is_lost_before_its_commit_is_run_again() {
    let (driver, database) = opened().await;
    let (reached, go_on) = (Arc::default(), Arc::<tokio::sync::Notify>::default());
    let verb = InTheMiddle {
        reached: Arc::clone(&reached),
        go_on: Arc::clone(&go_on),
    };
    let disturb = async {
        reached.notified().await;
        end_sessions(&database).await;
        go_on.notify_one();
        reached.notified().await;
        go_on.notify_one();
    };
    let (written, ()) = tokio::join!(driver.write(verb), disturb);
    written.unwrap();
    assert!(is_set(&driver, "first").await && is_set(&driver, "second").await);
}

#[tokio::test]
async fn a_caller_that_goes_away_has_its_work_stored() {
    let (driver, _database) = opened().await;
    let (reached, go_on) = (
        Arc::<tokio::sync::Notify>::default(),
        Arc::<tokio::sync::Notify>::default(),
    );
    let verb = InTheMiddle {
        reached: Arc::clone(&reached),
        go_on: Arc::clone(&go_on),
    };
    {
        let writing = driver.write(verb);
        tokio::select! {
            _ = writing => panic!("nobody let it go on"),
            () = reached.notified() => {}
        }
    }
    go_on.notify_one();
    let stored = async {
        while !is_set(&driver, "second").await {
            pause(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, stored).await.unwrap();
}

const PASS: u8 = 0;
const CUT_BEFORE: u8 = 1;
const CUT_BEHIND: u8 = 2;

/// Somebody between the store and the server, who cuts the line around a commit.
struct Between {
    port: u16,
    cut: Arc<AtomicU8>,
}

impl Between {
    async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(AtomicU8::new(PASS));
        let rule = Arc::clone(&cut);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                let back = tokio::spawn(pass(far_in, near_out, None));
                let cut = (Arc::clone(&rule), back.abort_handle());
                let forth = tokio::spawn(pass(near_in, far_out, Some(cut)));
                tokio::spawn(async move {
                    let _ = forth.await;
                    back.abort();
                });
            }
        });
        Self { port, cut }
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cut: Option<(Arc<AtomicU8>, AbortHandle)>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..count];
        let is_commit = bytes.windows(7).any(|window| window == b"commit\0");
        let cut = cut.as_ref().filter(|_| is_commit);
        match cut.map_or(PASS, |(cut, _)| cut.load(Ordering::SeqCst)) {
            CUT_BEFORE => return,
            CUT_BEHIND => {
                // Before the server has anything to answer.
                cut.inspect(|(_, back)| back.abort());
                to.write_all(bytes).await.unwrap();
                return;
            }
            _ => {
                if to.write_all(bytes).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Row 5 has the same question of a system; here it is asked of the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_commit_that_lost_its_connection_nobody_says_what_became_of_it() {
    let database = Database::create().await;
    let between = Between::start(database.port()).await;
    let driver = opened_at(&database.url_by_way_of(between.port), |_| {}).await;
    driver.write(set("before")).await.unwrap();
    for (cut, key) in [(CUT_BEFORE, "cut before"), (CUT_BEHIND, "cut behind")] {
        between.cut.store(cut, Ordering::SeqCst);
        let written = driver.write(set(key)).await;
        between.cut.store(PASS, Ordering::SeqCst);
        assert!(
            matches!(written, Err(StoreError::OutcomeUnknown { .. })),
            "{key}: {written:?}"
        );
        // The store goes on, and what is stored is the truth.
        driver.write(set("after")).await.unwrap();
    }
    assert!(
        !is_set(&driver, "cut before").await,
        "the commit never reached the server"
    );
    let stored = async {
        while !is_set(&driver, "cut behind").await {
            pause(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, stored).await.unwrap();
}

/// The server has a line in `pg_hba.conf` that makes it ask this user in clear.
#[tokio::test]
async fn a_password_is_not_given_to_whoever_asks_for_it_in_clear() {
    let database = Database::create().await;
    let (_, place) = database
        .url()
        .rsplit_once('@')
        .map(|(_, place)| ((), place.to_owned()))
        .unwrap();
    let environment = Environment::of_this_machine();
    let url = format!("postgres://keyfall_ask_clear:hidden@{place}");
    let options = PostgresOptions::for_test(&url, &environment, |_| Err("no events here".to_owned()));
    let error = PostgresDriver::open(&options, &environment).await.err().unwrap();
    let text = super::fault::told(&error);
    assert!(
        text.contains("only SCRAM is answered") && !text.contains("hidden"),
        "{text}"
    );
}

/// Makes the server refuse the next `times` changes of a setting in this way.
async fn refuse(database: &Database, code: &str, times: u32) {
    let text = format!(
        "create sequence if not exists refusals; select setval('refusals', 1, false); \
         create or replace function refuse() returns trigger language plpgsql as $$ begin \
         if nextval('refusals') <= {times} then raise exception 'on purpose' using errcode = '{code}'; end if; \
         return new; end $$; drop trigger if exists refuse on settings; \
         create trigger refuse before insert or update on settings for each row execute function refuse()"
    );
    database.client().await.batch_execute(&text).await.unwrap();
}

#[tokio::test]
async fn what_a_server_refuses_is_told_or_done_again() {
    let (driver, database) = opened().await;
    // Other transactions were in the way: the same again, so often.
    for code in ["40001", "40P01"] {
        refuse(&database, code, 5).await;
        driver.write(set(code)).await.unwrap();
    }
    refuse(&database, "40001", 1000).await;
    assert!(matches!(
        driver.write(set("never")).await,
        Err(StoreError::Failed { .. })
    ));
    // Somebody else took the place since the guards looked; whoever still has it the second time keeps it.
    refuse(&database, "23505", 1).await;
    driver.write(set("once")).await.unwrap();
    refuse(&database, "23505", 2).await;
    assert!(matches!(
        driver.write(set("twice")).await,
        Err(StoreError::Conflict { .. })
    ));
    for (code, is_told) in [
        (
            "53100",
            (|error| matches!(error, StoreError::Unwritable { why } if why.contains("no room")))
                as fn(&StoreError) -> bool,
        ),
        (
            "25006",
            |error| matches!(error, StoreError::Unwritable { why } if why.contains("read-only")),
        ),
        ("XX001", |error| {
            let text = error.to_string();
            matches!(error, StoreError::Damaged { .. })
                && text.contains("pg_restore")
                && !text.contains("keyfall restore")
        }),
        ("23514", |error| matches!(error, StoreError::Conflict { .. })),
        ("57014", |error| matches!(error, StoreError::Failed { .. })),
        ("55P03", |error| matches!(error, StoreError::Failed { .. })),
    ] {
        refuse(&database, code, 10).await;
        let error = driver.write(set("never")).await.unwrap_err();
        assert!(is_told(&error), "{code}: {error:?}");
    }
    refuse(&database, "53100", 0).await;
    driver.write(set("at last")).await.unwrap();
    assert!(!is_set(&driver, "never").await && is_set(&driver, "at last").await);
}

/// Row 2: whoever gives positions is fenced by the lock alone.
#[tokio::test]
async fn a_sequencer_that_pauses_is_put_out() {
    let database = Database::create().await;
    let driver = opened_at(&database.url(), |options| {
        options.patience.idle_in_transaction = Duration::from_millis(300);
    })
    .await;
    let paused = driver.inner.pool.take().await.unwrap();
    let client = &paused.connection.client;
    client
        .batch_execute("begin; select size from log_frontier where one = 1 for update")
        .await
        .unwrap();
    let bare = database.client().await;
    bare.batch_execute("insert into log (at, bytes, mark) values (1, 'one', 'm')")
        .await
        .unwrap();
    driver.inner.sequence(Wait::ForNobody).await.unwrap();
    let waiting = "select count(*) from log where position is null";
    let count: i64 = bare.query_one(waiting, &[]).await.unwrap().get(0);
    assert_eq!(count, 1, "who holds the edge is not overtaken");
    tokio::time::timeout(SOON, driver.give_positions())
        .await
        .unwrap()
        .unwrap();
    let count: i64 = bare.query_one(waiting, &[]).await.unwrap().get(0);
    assert_eq!(count, 0);
    let late = client
        .batch_execute("update log_frontier set size = 77 where one = 1; commit")
        .await;
    assert!(late.is_err(), "what was paused changes nothing any more");
}

/// Every statement is one that PostgreSQL takes, with columns of types that are read.
#[tokio::test]
async fn every_statement_is_prepared_with_types_that_are_known() {
    let (driver, _database) = opened().await;
    let lease = driver.inner.pool.take().await.unwrap();
    for (noun, name, statement) in sql::all() {
        let prepared = lease.connection.prepare(statement.text(), false).await;
        let prepared = prepared.unwrap_or_else(|error| panic!("{noun}::{name}: {}", super::fault::chain(&error)));
        assert_eq!(prepared.params().len(), statement.names().len(), "{noun}::{name}");
        let known = ["int4", "int8", "text", "bytea"];
        for column in prepared.columns() {
            assert!(known.contains(&column.type_().name()), "{noun}::{name}: {column:?}");
        }
        assert!(
            prepared.params().iter().all(|wanted| known.contains(&wanted.name())),
            "{noun}::{name}: {:?}",
            prepared.params()
        );
    }
}
