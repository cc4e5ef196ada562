//! The PostgreSQL driver: one database, any number of nodes.
//!
//! | who             | does                                                                                                |
//! |-----------------|-----------------------------------------------------------------------------------------------------|
//! | `address.rs`    | reads the address; with `tls.rs`, says how the server is spoken to and whom it must prove to be      |
//! | `migrate.rs`    | refuses what must not be opened, migrates under a lock                                              |
//! | `connection.rs` | one connection: its settings and its prepared statements                                            |
//! | `cluster.rs`    | asks which database answers, and refuses another one than the store was last run on                 |
//! | `near.rs`       | the way to a server on this machine: answers no request for the password itself                     |
//! | `pool.rs`       | connections at rest                                                                                 |
//! | `session.rs`    | one transaction as a [`super::driver::Tx`]: sends ahead what waits for no answer                     |
//! | `sequencer.rs`  | gives the log's entries their positions                                                             |
//! | `upkeep.rs`     | scrubbing, the structure's check                                                                    |
//! | `fault.rs`      | what an error of PostgreSQL means for those who wait                                                |
//!
//! A lost connection ends no store: whoever was in a transaction is told, or is run again where nothing can be stored yet, and the next one
//! connects anew. Nothing outside this folder knows tokio-postgres.

mod address;
mod cluster;
mod connection;
mod fault;
mod log;
mod migrate;
mod near;
mod pool;
mod sequencer;
mod session;
#[cfg(test)]
mod sessions_tests;
#[cfg(test)]
mod tests;
mod text;
mod tls;
mod upkeep;
mod value;

#[cfg(test)]
pub(in crate::store) use text::translated;

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use keyfall_sdk::SecretValue;
use tokio_util::sync::CancellationToken;

use super::copy::{End, Purpose, admit};
use super::driver::{DAMAGED_DATABASE, Driver, Reach, Verb};
use super::sql_store::SqlStore;
use super::{Creation, DecodeEvent, Result, Store, StoreError};
use crate::clock::Environment;
use address::Address;
use connection::Patience;
use fault::{Remedy, classify, is_lost, stored_nothing};
use pool::{Lease, Pool};
use session::Session;

/// How a store on PostgreSQL is opened.
#[derive(Debug)]
pub struct PostgresOptions {
    /// The address, with the password when there is one. See `migrations/postgres/README.md` for what may stand in it.
    pub url: SecretValue,
    /// This server's name, which the database's own views show.
    pub node: String,
    pub creation: Creation,
    pub purpose: Purpose,
    pub decode: DecodeEvent,
    /// Refuses a database with another `STORE_ID`, when the caller knows which store it belongs to.
    pub store_id: Option<String>,
    /// Connections at most.
    pub connections: usize,
    patience: Patience,
    clock: Clock,
}

impl PostgresOptions {
    #[must_use]
    pub fn new(url: SecretValue, node: impl Into<String>, decode: DecodeEvent) -> Self {
        Self {
            url,
            node: node.into(),
            creation: Creation::IfMissing,
            purpose: Purpose::Work,
            decode,
            store_id: None,
            connections: 32,
            patience: Patience::default(),
            clock: Clock::Database,
        }
    }
}

#[cfg(test)]
impl PostgresOptions {
    /// Time is what the environment says, so that a test can move it.
    pub(crate) fn for_test(url: &str, environment: &Environment, decode: DecodeEvent) -> Self {
        Self {
            connections: 12,
            clock: Clock::Environment(environment.clone()),
            ..Self::new(SecretValue::from(url.to_owned()), "test", decode)
        }
    }
}

/// Whose clock says what time it is.
#[derive(Clone)]
enum Clock {
    /// One for all nodes.
    Database,
    #[cfg(test)]
    Environment(Environment),
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

/// Opens the store in this database. Any number of servers may have it open at once.
///
/// # Errors
/// The address is wrong or would be spoken to in a weaker way than it asks for; the server does not answer or refuses the login; there is no
/// store, or another one than expected, or a newer Keyfall's.
pub async fn open_postgres(options: PostgresOptions, environment: Environment) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(open(&options, environment).await?))
}

/// The same, for a move.
///
/// # Errors
/// As [`open_postgres`].
pub async fn open_postgres_end(options: PostgresOptions, environment: Environment) -> Result<End> {
    let store = open(&options, environment).await?;
    let name = store.driver.inner.pool.shown().to_owned();
    Ok(End::of(store, name))
}

async fn open(options: &PostgresOptions, environment: Environment) -> Result<SqlStore<PostgresDriver>> {
    let driver = PostgresDriver::open(options, &environment).await?;
    admit(&driver, options.purpose).await?;
    Ok(SqlStore::new(driver, options.decode, environment))
}

struct PostgresDriver {
    inner: Arc<Inner>,
    closing: CancellationToken,
}

/// What transactions and the sequencer share.
struct Inner {
    pool: Arc<Pool>,
    clock: Clock,
}

/// What the sessions of a move are called.
const MOVER: &str = "keyfall-move";

const WRITE: &str = "begin isolation level read committed";
/// All questions of a verb see one state.
const READ: &str = "begin isolation level repeatable read read only";

impl PostgresDriver {
    async fn open(options: &PostgresOptions, environment: &Environment) -> Result<Self> {
        let url = options
            .url
            .expose_secret_str()
            .ok_or_else(|| address::unusable("it is no text"))?;
        let tag = environment.draw_uuid().simple().to_string();
        let name = match options.purpose {
            // No server's name begins so, whatever it is called.
            Purpose::MoveFrom | Purpose::MoveTo => MOVER.to_owned(),
            _ => format!("keyfall/{}", options.node),
        };
        let address = Address::parse(url.trim(), &name, tag)?;
        migrate::prepare(&address, options, environment).await?;
        let inner = Arc::new(Inner {
            pool: Pool::new(address, options.patience, options.purpose, options.connections),
            clock: options.clock.clone(),
        });
        let closing = CancellationToken::new();
        tokio::spawn(Arc::clone(&inner).keep_sequencing(closing.clone()));
        Ok(Self { inner, closing })
    }
}

impl Drop for PostgresDriver {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// How often a transaction that met another one is run.
const MOST_TRIES: u32 = 12;
/// How often a transaction is run whose connection was lost before its commit.
const MOST_CONNECTIONS: u32 = 3;

/// How often a verb was run, by why.
#[derive(Default)]
struct Tries {
    again: u32,
    unique: u32,
    elsewhere: u32,
}

impl Tries {
    fn allow(&mut self, remedy: Remedy) -> bool {
        let (tries, most) = match remedy {
            Remedy::Again => (&mut self.again, MOST_TRIES),
            Remedy::OnceMore => (&mut self.unique, 2),
            Remedy::Elsewhere => (&mut self.elsewhere, MOST_CONNECTIONS),
            Remedy::Nothing => return false,
        };
        *tries = tries.saturating_add(1);
        *tries < most
    }
}

impl Inner {
    async fn write<V: Verb>(&self, verb: &V) -> Result<V::Output> {
        let mut tries = Tries::default();
        loop {
            let lease = self.pool.take().await?;
            let mut session = Session::begun(&lease.connection, self.clock.clone(), WRITE);
            let done = match verb.run(&mut session).await {
                Ok(output) => session.finish().await.map(|()| output),
                Err(error) => Err(error),
            };
            match done {
                Ok(output) => {
                    self.commit(lease).await?;
                    return Ok(output);
                }
                Err(error) => {
                    let remedy = session.remedy();
                    self.undo(session, lease).await;
                    if !tries.allow(remedy) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Nothing of it is stored, whatever happens here.
    async fn undo(&self, mut session: Session, lease: Lease) {
        if !session.is_lost() {
            session.roll_back().await;
        }
        if session.is_lost() {
            self.pool.forget_idle();
        } else {
            lease.give_back();
        }
    }

    async fn commit(&self, lease: Lease) -> Result<()> {
        match lease.connection.client.batch_execute("commit").await {
            Ok(()) => {
                lease.give_back();
                Ok(())
            }
            Err(error) if stored_nothing(&error) => Err(classify("committing", &error)),
            Err(error) => {
                if is_lost(&error) {
                    self.pool.forget_idle();
                }
                Err(StoreError::OutcomeUnknown {
                    why: fault::chain(&error),
                })
            }
        }
    }

    async fn read<V: Verb>(&self, verb: &V, reach: Reach) -> Result<V::Output> {
        let mut tries = Tries::default();
        loop {
            let lease = self.pool.take().await?;
            let mut session = match reach {
                Reach::Point => Session::bare(&lease.connection, self.clock.clone()),
                Reach::Range => Session::begun(&lease.connection, self.clock.clone(), READ),
            };
            let read = verb.run(&mut session).await;
            let remedy = session.remedy();
            if session.is_lost() {
                self.pool.forget_idle();
            } else {
                if reach == Reach::Range {
                    session.end_unheard();
                }
                lease.give_back();
            }
            match read {
                Err(_) if tries.allow(remedy) => {}
                read => return read,
            }
        }
    }
}

impl Driver for PostgresDriver {
    const DAMAGED: &'static str = DAMAGED_DATABASE;

    /// In a task of its own: a caller that goes away leaves no transaction half done.
    async fn write<V: Verb>(&self, verb: V) -> Result<V::Output> {
        let inner = Arc::clone(&self.inner);
        let written = tokio::spawn(async move { inner.write(&verb).await });
        written.await.map_err(|error| StoreError::Failed {
            doing: V::DOING,
            source: Box::new(error),
        })?
    }

    async fn read<V: Verb>(&self, verb: V, reach: Reach) -> Result<V::Output> {
        self.inner.read(&verb, reach).await
    }

    async fn backup(&self, _to: &Path) -> Result<()> {
        Err(StoreError::NotOffered {
            what: "a backup",
            instead: "use the database's own tools, such as pg_dump or continuous archiving (PITR), and keep the KEK elsewhere",
        })
    }

    async fn scrub(&self) -> Result<()> {
        upkeep::scrub(&self.inner).await
    }

    async fn examine(&self) -> Result<Vec<String>> {
        upkeep::examine(&self.inner).await
    }

    async fn now(&self) -> Result<Timestamp> {
        match &self.inner.clock {
            Clock::Database => upkeep::now(&self.inner).await,
            #[cfg(test)]
            Clock::Environment(environment) => Ok(environment.now()),
        }
    }

    async fn give_positions(&self) -> Result<()> {
        self.inner.give_positions().await
    }

    async fn end_others(&self) -> Result<()> {
        upkeep::end_others(&self.inner).await
    }

    async fn close(&self) -> Result<()> {
        self.closing.cancel();
        self.inner.pool.close().await;
        Ok(())
    }
}
