//! The SQLite driver: one file, one writer thread with group commit, readers beside it.
//!
//! | who            | does                                                                                           |
//! |----------------|------------------------------------------------------------------------------------------------|
//! | `open.rs`      | takes the lock, refuses what must not be opened, sets the connection up, migrates              |
//! | `settle.rs`    | writes anew what a dead process left in the write-ahead log, before it is believed              |
//! | `reserve.rs`   | room on the disk that only results of calls that were made may take                            |
//! | `writer.rs`    | runs everything that waits in one transaction, commits once, then answers everyone             |
//! | `session.rs`   | one connection as a [`super::driver::Tx`]; keeps the Merkle tree's right edge and the counters |
//! | `readers.rs`   | read-only connections; one row is read at once, a page on a thread for blocking work           |
//! | `upkeep.rs`    | backup, scrubbing, the structure's check                                                       |
//! | `fault.rs`     | what an error of SQLite means for those who wait                                               |
//!
//! Nothing outside this folder knows rusqlite.

mod fault;
#[cfg(test)]
mod in_memory;
mod lock;
mod migrate;
mod open;
mod readers;
mod reserve;
mod session;
mod settle;
#[cfg(test)]
mod tests;
mod upkeep;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::copy::{End, Purpose, admit};
use super::driver::{Driver, Reach, Verb};
use super::sql_store::SqlStore;
use super::{DecodeEvent, Result, Store, StoreError};
use crate::clock::Environment;
use fault::Health;
#[cfg(test)]
pub(super) use in_memory::InMemory;
use readers::Readers;
use reserve::Reserve;
use session::Session;
use writer::{Hands, Writer};

/// What may happen when there is no file yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// A new store is made where there is none.
    IfMissing,
    /// A server that finds no store was given a wrong path: it must not begin an empty register.
    Never,
    /// For `init`: what is there already is not touched.
    Always,
}

#[derive(Debug, Clone)]
pub struct StoreOptions {
    pub creation: Creation,
    pub decode: DecodeEvent,
    /// Refuses a file with another `STORE_ID`, when the caller knows which store it belongs to.
    pub store_id: Option<String>,
    /// A store that is on the move opens for that only.
    pub purpose: Purpose,
    /// Connections for reading.
    pub readers: usize,
    /// Transactions that may share one commit.
    pub group: usize,
    /// Pages of the write-ahead log after which it is moved into the file. A longer log makes a page that is written again and again reach the
    /// file once: 4,000 pages are 32 MB.
    pub checkpoint_after: u32,
    /// Bytes of the disk that are kept for results of calls that were made; on a small file system less. None by default.
    pub reserve: u64,
    /// The file grows to no more pages of 8 KiB than this.
    pub most_pages: Option<u32>,
}

impl StoreOptions {
    #[must_use]
    pub fn new(decode: DecodeEvent) -> Self {
        Self {
            creation: Creation::IfMissing,
            decode,
            store_id: None,
            purpose: Purpose::Work,
            readers: 4,
            group: 256,
            checkpoint_after: 4000,
            reserve: 0,
            most_pages: None,
        }
    }
}

/// Opens the store in this file. What is checked does not grow with the register: [`Store::check`] looks at everything.
///
/// # Errors
/// Another process holds the file; the file is missing, damaged, another program's or a newer Keyfall's; it is another store than the
/// one that was expected; the SQLite library is one that loses data.
pub async fn open_sqlite(path: &Path, options: StoreOptions, environment: Environment) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(open(path, options, environment).await?))
}

/// The same, for a move from this file or to it.
///
/// # Errors
/// Those of [`open_sqlite`].
pub async fn open_sqlite_end(path: &Path, options: StoreOptions, environment: Environment) -> Result<End> {
    Ok(End::of(
        open(path, options, environment).await?,
        path.display().to_string(),
    ))
}

async fn open(path: &Path, options: StoreOptions, environment: Environment) -> Result<SqlStore<SqliteDriver>> {
    let (decode, purpose) = (options.decode, options.purpose);
    let path = path.to_owned();
    let of_driver = environment.clone();
    let driver = blocking("opening", move || SqliteDriver::open(&path, &options, &of_driver)).await?;
    admit(&driver, purpose).await?;
    Ok(SqlStore::new(driver, decode, environment))
}

/// Runs what may wait for the disk where it holds up no other task.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| StoreError::Failed {
            doing,
            source: Box::new(error),
        })?
}

pub(super) struct SqliteDriver {
    path: PathBuf,
    writer: Writer,
    readers: Arc<Readers>,
    health: Arc<Health>,
    environment: Environment,
}

impl SqliteDriver {
    fn open(path: &Path, options: &StoreOptions, environment: &Environment) -> Result<Self> {
        let path = &*lock::only_path(path)?;
        let lock = lock::take(path)?;
        settle::settle(path)?;
        let connection = open::writer(path, options, environment)?;
        let health = Arc::new(Health::default());
        let readers = Readers::open(path, options.readers, environment, &health)?;
        let session = Session::for_writing(connection, environment.clone())?;
        let reserve = Reserve::beside(path, options.reserve);
        let hands = Hands { session, lock, reserve };
        let writer = Writer::start(hands, options.group, Arc::clone(&health))?;
        Ok(Self {
            path: path.to_owned(),
            writer,
            readers: Arc::new(readers),
            health,
            environment: environment.clone(),
        })
    }
}

impl Driver for SqliteDriver {
    async fn write<V: Verb>(&self, verb: V) -> Result<V::Output> {
        self.health.check()?;
        self.writer.run(verb).await
    }

    async fn read<V: Verb>(&self, verb: V, reach: Reach) -> Result<V::Output> {
        self.health.check()?;
        self.readers.run(verb, reach).await
    }

    async fn backup(&self, to: &Path) -> Result<()> {
        self.health.check()?;
        let (from, to) = (self.path.clone(), to.to_owned());
        blocking("writing a backup", move || upkeep::backup(&from, &to)).await
    }

    async fn scrub(&self) -> Result<()> {
        self.health.check()?;
        self.writer.scrub().await
    }

    async fn examine(&self) -> Result<Vec<String>> {
        self.health.check()?;
        let path = self.path.clone();
        blocking("checking the file", move || upkeep::examine(&path)).await
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok(self.environment.now())
    }

    async fn close(&self) -> Result<()> {
        self.health.close();
        self.readers.close();
        self.writer.close().await
    }
}
