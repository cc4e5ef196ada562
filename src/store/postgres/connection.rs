//! One connection: how it is set up, and the statements that are prepared on it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_postgres::{Client, Error, SimpleQueryMessage, Statement};

use super::super::copy::Purpose;
use super::super::{Result, StoreError};
use super::address::{Address, Tls};
use super::cluster;
use super::fault::{self, chain, classify, is_missing, told};
use super::near;
use super::text::{locking, translated};
use super::upkeep::HAS_IT_OPEN;

/// As long as a server may take to answer.
pub(super) const CONNECT: Duration = Duration::from_secs(10);

/// Counters of a state are spread over so many rows.
const SHARDS: u32 = 64;

/// What a session may take, so that a node which pauses or a network which goes silent holds nothing for long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Longer than this nobody waits inside a transaction: what it locked is free then.
    pub(super) idle_in_transaction: Duration,
    /// Longer than the one before: who waits for a lock of a paused node sees its end.
    pub(super) lock: Duration,
    pub(super) statement: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            idle_in_transaction: Duration::from_secs(10),
            lock: Duration::from_secs(20),
            statement: Duration::from_mins(2),
        }
    }
}

/// By their portable text.
#[derive(Default)]
struct Statements {
    plain: HashMap<String, Statement>,
    locking: HashMap<String, Statement>,
}

impl Statements {
    fn of(&mut self, locks: bool) -> &mut HashMap<String, Statement> {
        if locks { &mut self.locking } else { &mut self.plain }
    }
}

pub(super) struct Connection {
    pub(super) client: Client,
    /// Which row of each counter is this connection's.
    pub(super) shard: u32,
    mark: Mark,
    statements: Mutex<Statements>,
}

/// What one session alone has: a statement under a name of its own. Whoever finds it speaks to that very session, with all that was set in it.
/// A pooler that gives each transaction another session loses the settings without a word; this it loses with an error.
struct Mark(String);

/// Names that this process has given.
static MARKS: AtomicU64 = AtomicU64::new(0);

impl Mark {
    fn new(address: &Address) -> Self {
        let number = MARKS.fetch_add(1, Ordering::Relaxed);
        Self(format!("keyfall_{}_{number}", address.tag))
    }

    fn set(&self) -> String {
        format!("prepare {} as select 1", self.0)
    }

    fn find(&self) -> String {
        format!("execute {}", self.0)
    }
}

/// Refuses a pooler that hands sessions around, before anything is locked or written through it: what one connection leaves behind in its session
/// is found by another one, or is gone when that one has a session.
pub(super) async fn same_session(address: &Address, client: &Client) -> Result<()> {
    let failed = |error: Error| classify("looking for a pooler", &error);
    let mark = Mark::new(address);
    client.batch_execute(&mark.set()).await.map_err(failed)?;
    let other = connect(address).await?;
    other.batch_execute("begin").await.map_err(failed)?;
    let found = match other.batch_execute(&mark.find()).await {
        Ok(()) => true,
        Err(error) if is_missing(&error) => false,
        Err(error) => return Err(failed(error)),
    };
    match client.batch_execute(&mark.find()).await {
        Ok(()) if found => Err(fault::hands_sessions_around()),
        done => done.map_err(failed),
    }
}

impl Connection {
    /// # Errors
    /// The server does not answer; it leads to another database than the store's, or to a store that is on the move.
    pub(super) async fn open(
        address: &Address,
        patience: Patience,
        purpose: Purpose,
        seen: &AtomicU64,
    ) -> Result<Self> {
        let client = connect(address).await?;
        let failed = |error: Error| classify("setting up a connection", &error);
        let mark = Mark::new(address);
        let answers = client.simple_query(&setup(patience, &mark)).await.map_err(failed)?;
        let pid = answers.iter().rev().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse::<u32>().ok(),
            _ => None,
        });
        cluster::admit(&client, purpose, seen).await?;
        Ok(Self {
            client,
            shard: pid.unwrap_or(0) % SHARDS,
            mark,
            statements: Mutex::default(),
        })
    }

    /// Begins a transaction, in the session that was set up or not at all.
    pub(super) fn begin(&self, how: &str) -> String {
        format!("{how}; {}", self.mark.find())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub(super) fn known(&self, text: &str, locks: bool) -> Option<Statement> {
        let mut statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        statements.of(locks).get(text).cloned()
    }

    /// Prepares a statement at its first use.
    pub(super) async fn prepare(&self, text: &str, locks: bool) -> std::result::Result<Statement, Error> {
        let theirs = if locks { locking(text) } else { translated(text) };
        let statement = self.client.prepare(&theirs).await?;
        let mut statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        statements.of(locks).insert(text.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// A server that would answer a commit before it is on its disk, and on that of a synchronous standby where it has one, is asked to wait for that:
/// what was answered survives a failover. One that waits for more (`remote_apply`) goes on doing so.
pub(super) const DURABLE: &str = "select set_config('synchronous_commit', 'on', false) \
    where current_setting('synchronous_commit') in ('off', 'local', 'remote_write')";

/// A plan holds for all values of its parameters: it is made once for a connection. In one batch, which is one transaction: whatever finds the mark
/// finds the settings.
fn setup(patience: Patience, mark: &Mark) -> String {
    format!(
        "set idle_in_transaction_session_timeout = {}; set lock_timeout = {}; set statement_timeout = {}; \
         set plan_cache_mode = force_generic_plan; set jit = off; set client_min_messages = warning; \
         {DURABLE}; {HAS_IT_OPEN}; {}; select pg_backend_pid()",
        patience.idle_in_transaction.as_millis(),
        patience.lock.as_millis(),
        patience.statement.as_millis(),
        mark.set(),
    )
}

/// A bare connection to a server that can write.
pub(super) async fn connect(address: &Address) -> Result<Client> {
    let failed = |why: String| {
        // In our own words, and in those of tokio-postgres.
        if ["takes no writes", "does not allow writes"]
            .iter()
            .any(|said| why.contains(said))
        {
            return StoreError::Open {
                why: format!(
                    "{} leads to a standby or a read-only server, and nothing is decided where nothing can be written: name every server of the database in the address, so that the writer is found, or wait until there is one",
                    address.shown
                ),
            };
        }
        StoreError::Failed {
            doing: "connecting to the database",
            source: format!("{}: {why}", address.shown).into(),
        }
    };
    match &address.tls {
        Tls::Off => {
            let patience = address.config.get_connect_timeout().copied().unwrap_or(CONNECT);
            let connected = tokio::time::timeout(patience, near::connect(&address.config)).await;
            let connected = connected.map_err(|_| failed("no answer in time".to_owned()))?;
            connected.map_err(|error| failed(told(&error)))
        }
        Tls::On(connector) => {
            let connected = address.config.connect(connector.clone()).await;
            let (client, link) = connected.map_err(|error| failed(chain(&error)))?;
            tokio::spawn(link);
            Ok(client)
        }
    }
}
