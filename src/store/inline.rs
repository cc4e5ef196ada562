//! A store in memory whose verbs are done at once, on the caller's thread, so that a test with one thread and a paused clock is the same each
//! time. Several nodes are several handles to one database, each behind a line of its own: the line decides when a question arrives, and
//! whether anybody learns what came of it. What is committed is committed, whatever the line does.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use keyfall_sdk::BoxFuture;

use super::driver::{Driver, Reach, Verb};
use super::sql_store::SqlStore;
use super::sqlite::InMemory;
use super::{DecodeEvent, Result, Store};
use crate::clock::Environment;

/// What a question to the database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trip {
    Read,
    Write,
}

/// What lies between one node and the database.
pub(crate) trait Line: Send + Sync + 'static {
    /// Awaited before the transaction. An error: nothing of it happened.
    fn there(&self, trip: Trip) -> BoxFuture<'_, Result<()>>;

    /// Awaited behind it. An error: it is durable, and its caller is told this instead.
    fn back(&self, trip: Trip) -> BoxFuture<'_, Result<()>>;
}

/// One database, to which any number of nodes can be connected.
#[derive(Clone)]
pub(crate) struct Database {
    held: Arc<Mutex<InMemory>>,
    decode: DecodeEvent,
}

impl Database {
    /// The database's own clock is that of the environment.
    pub(crate) fn new(decode: DecodeEvent, environment: &Environment) -> Result<Self> {
        let held = Arc::new(Mutex::new(InMemory::new(environment)?));
        Ok(Self { held, decode })
    }

    /// From here on each record of a run remembers the claim under which the run stood when it was written.
    pub(crate) fn remember_claims(&self) -> Result<()> {
        self.lock().remember_claims()
    }

    /// The epochs of those claims, by position in the log.
    pub(crate) fn claims(&self) -> Result<BTreeMap<u64, u64>> {
        self.lock().claims()
    }

    fn lock(&self) -> MutexGuard<'_, InMemory> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node's store, at the end of its line.
    pub(crate) fn at_the_end_of(&self, line: Arc<dyn Line>, environment: Environment) -> Arc<dyn Store> {
        let driver = Inline {
            held: Arc::clone(&self.held),
            line,
        };
        Arc::new(SqlStore::new(driver, self.decode, environment))
    }
}

struct Inline {
    held: Arc<Mutex<InMemory>>,
    line: Arc<dyn Line>,
}

impl Inline {
    fn lock(&self) -> MutexGuard<'_, InMemory> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Driver for Inline {
    async fn write<V: Verb>(&self, verb: V) -> Result<V::Output> {
        self.line.there(Trip::Write).await?;
        let done = self.lock().write(&verb);
        self.line.back(Trip::Write).await?;
        done
    }

    async fn read<V: Verb>(&self, verb: V, _reach: Reach) -> Result<V::Output> {
        self.line.there(Trip::Read).await?;
        let found = self.lock().read(&verb);
        self.line.back(Trip::Read).await?;
        found
    }

    async fn now(&self) -> Result<Timestamp> {
        self.line.there(Trip::Read).await?;
        let now = self.lock().now();
        self.line.back(Trip::Read).await?;
        now
    }

    async fn backup(&self, _to: &Path) -> Result<()> {
        Err(InMemory::refuse())
    }

    async fn scrub(&self) -> Result<()> {
        Ok(())
    }

    async fn examine(&self) -> Result<Vec<String>> {
        self.lock().examine()
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
