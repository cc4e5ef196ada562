//! A store on a file or in a database of its own, and a clock that the test moves.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use uuid::Uuid;

use super::database::Database;
use super::rows::{entry, identity, opening, run_row};
use crate::clock::{Clock, Environment};
use crate::domain::identity::Identity;
use crate::domain::ids::{IdentityId, RunId};
use crate::domain::workflow::Event;
use crate::store::{
    Commit, Committed, Creation, Fact, Guard, PostgresOptions, Result, RunRow, Store, StoreOptions, open_postgres,
    open_sqlite,
};

pub(super) const START: &str = "2026-11-21T03:10:00Z";

pub(super) fn at(seconds: i64) -> Timestamp {
    START.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

pub(super) struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        at(self.0.load(Ordering::SeqCst))
    }
}

pub(super) fn decode(bytes: &[u8]) -> std::result::Result<Event, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// The database under a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    Sqlite,
    Postgres,
}

/// What holds for one holds for the other.
pub(super) const BOTH: [On; 2] = [On::Sqlite, On::Postgres];

/// Where a store lies, gone with the test.
pub(super) enum Home {
    Folder(TempDir),
    Database(Database),
}

/// A store of its own.
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<TestClock>,
    environment: Environment,
    pub(super) home: Home,
    ids: Mutex<u128>,
}

impl On {
    /// A new store. The name of the database goes before what a failing test says.
    pub(super) async fn opened(self) -> Opened {
        let home = match self {
            Self::Sqlite => return opened().await,
            Self::Postgres => Home::Database(Database::create().await),
        };
        let (clock, environment) = environment();
        Opened {
            store: home.open(&environment, Creation::Always).await.unwrap(),
            clock,
            environment,
            home,
            ids: Mutex::new(0),
        }
    }
}

impl Home {
    pub(super) async fn open(&self, environment: &Environment, creation: Creation) -> Result<Arc<dyn Store>> {
        match self {
            Self::Folder(folder) => {
                let mut options = StoreOptions::new(decode);
                options.creation = creation;
                open_sqlite(&path_in(folder.path()), options, environment.clone()).await
            }
            Self::Database(database) => {
                let mut options = PostgresOptions::for_test(&database.url(), environment, decode);
                options.creation = creation;
                open_postgres(options, environment.clone()).await
            }
        }
    }
}

pub(super) fn path_in(folder: &Path) -> PathBuf {
    folder.join("keyfall.db")
}

pub(super) fn environment() -> (Arc<TestClock>, Environment) {
    let clock = Arc::new(TestClock(AtomicI64::new(0)));
    let environment = Environment::new(
        Arc::clone(&clock) as Arc<dyn Clock>,
        Arc::new(ring::rand::SystemRandom::new()),
    );
    (clock, environment)
}

pub(super) async fn open_at(path: &Path, options: StoreOptions) -> Result<Arc<dyn Store>> {
    open_sqlite(path, options, environment().1).await
}

pub(super) async fn reopen(path: &Path) -> Result<Arc<dyn Store>> {
    let mut options = StoreOptions::new(decode);
    options.creation = Creation::Never;
    open_at(path, options).await
}

pub(super) async fn opened() -> Opened {
    opened_with(StoreOptions::new(decode)).await
}

pub(super) async fn opened_with(options: StoreOptions) -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let (clock, environment) = environment();
    let store = open_sqlite(&path_in(folder.path()), options, environment.clone())
        .await
        .unwrap();
    Opened {
        store,
        clock,
        environment,
        home: Home::Folder(folder),
        ids: Mutex::new(0),
    }
}

impl Opened {
    /// The file of a store that lies in one.
    pub(super) fn path(&self) -> PathBuf {
        path_in(self.folder())
    }

    pub(super) fn folder(&self) -> &Path {
        match &self.home {
            Home::Folder(folder) => folder.path(),
            Home::Database(_) => panic!("this store lies in no folder"),
        }
    }

    /// Ends the store, and keeps its folder.
    pub(super) fn into_folder(self) -> TempDir {
        match self.home {
            Home::Folder(folder) => folder,
            Home::Database(_) => panic!("this store lies in no folder"),
        }
    }

    pub(super) fn database(&self) -> &Database {
        match &self.home {
            Home::Folder(_) => panic!("this store lies in no database"),
            Home::Database(database) => database,
        }
    }

    /// The same store as another node has it open.
    pub(super) async fn beside(&self) -> Arc<dyn Store> {
        self.home.open(&self.environment, Creation::Never).await.unwrap()
    }

    /// The same store, opened by another process after this one ended.
    pub(super) async fn opened_again(self) -> Self {
        self.store.close().await.unwrap();
        let Self {
            store,
            clock,
            environment,
            home,
            ids,
        } = self;
        drop(store);
        Self {
            store: home.open(&environment, Creation::Never).await.unwrap(),
            clock,
            environment,
            home,
            ids,
        }
    }

    pub(super) fn set_clock(&self, seconds: i64) {
        self.clock.0.store(seconds, Ordering::SeqCst);
    }

    pub(super) fn uuid(&self) -> Uuid {
        let mut ids = self.ids.lock().unwrap();
        *ids += 1;
        Uuid::from_u128(*ids)
    }

    pub(super) async fn put(&self, facts: Vec<Fact>) {
        let committed = self.try_put(facts).await.unwrap();
        assert!(matches!(committed, Committed::Stored), "{committed:?}");
    }

    pub(super) async fn try_put(&self, facts: Vec<Fact>) -> Result<Committed> {
        self.store
            .commit(Commit {
                facts,
                ..Commit::default()
            })
            .await
    }

    /// An identity with nothing else.
    pub(super) async fn identity(&self, name: &str) -> Identity {
        let one = identity(IdentityId::from_uuid(self.uuid()), name);
        self.put(vec![Fact::Identity(one.clone())]).await;
        one
    }

    /// An open run of a new identity, awake since `wake`, with its first event.
    pub(super) async fn run(&self, name: &str, wake: i64) -> RunRow {
        let identity = self.identity(name).await;
        let row = run_row(RunId::from_uuid(self.uuid()), &identity, wake);
        let opened = opening(&row);
        let committed = self
            .store
            .commit(Commit {
                guards: vec![Guard::NoOpenRun { identity: identity.id }],
                facts: vec![Fact::RunOpened(row.clone())],
                log: vec![entry(&row, &opened)],
            })
            .await;
        assert!(matches!(committed, Ok(Committed::Stored)), "{committed:?}");
        row
    }

    pub(super) async fn claim(&self, node: &str, seconds: i64, limit: u32) -> Vec<RunId> {
        self.set_clock(seconds);
        let lease = SignedDuration::from_secs(30);
        let claimed = self.store.claim_runs(node, lease, limit).await.unwrap();
        claimed.iter().map(|one| one.row.id).collect()
    }
}
