//! One connection as a transaction that verbs see, with what the writer keeps beside it: the right edge of the Merkle tree and the counters,
//! which are written once for a whole group.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use jiff::Timestamp;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ToSql};

use super::super::driver::{DAMAGED_FILE, Tx};
use super::super::sql::{Bound, Leaf, Row, Statement, Value, ledger, log};
use super::super::{Result, StoreError};
use super::fault::{Fault, classify};
use crate::clock::Environment;
use crate::evidence::merkle::{Frontier, Hash};

/// There is one writer.
const ONLY_SHARD: u32 = 0;

pub(super) struct Session {
    connection: Connection,
    environment: Environment,
    now: Timestamp,
    /// The tree as it is on the disk.
    frontier: Frontier,
    pending: Pending,
    /// A failure that no verb can go on after.
    fault: Option<Fault>,
    /// A statement found no room.
    is_full: Cell<bool>,
}

/// What the transaction has added so far and its end will write.
#[derive(Clone, Default)]
pub(super) struct Pending {
    leaves: Vec<Hash>,
    counts: BTreeMap<(&'static str, &'static str), i64>,
}

impl Session {
    pub(super) fn for_writing(connection: Connection, environment: Environment) -> Result<Self> {
        let mut session = Self::for_reading(connection, environment);
        session.load_frontier()?;
        Ok(session)
    }

    pub(super) fn for_reading(connection: Connection, environment: Environment) -> Self {
        Self {
            connection,
            now: environment.now(),
            environment,
            frontier: Frontier::new(),
            pending: Pending::default(),
            fault: None,
            is_full: Cell::new(false),
        }
    }

    fn load_frontier(&mut self) -> Result<()> {
        let found = self.query_now(&log::FRONTIER.with([])?)?.into_iter().next();
        let row = found.ok_or_else(|| StoreError::Damaged {
            what: "the log has no frontier".to_owned(),
            advice: DAMAGED_FILE,
        })?;
        self.frontier = log::read_frontier(row)?;
        let last = self.query_now(&log::LAST.with([])?)?.into_iter().next();
        let size = match last {
            Some(row) => log::read(row)?.position + 1,
            None => 0,
        };
        if size != self.frontier.size() {
            return Err(StoreError::Damaged {
                what: format!("the log ends at {size}, and its tree at {}", self.frontier.size()),
                advice: DAMAGED_FILE,
            });
        }
        Ok(())
    }

    /// Reads the clock for the next verb.
    pub(super) fn look_at_clock(&mut self) {
        self.now = self.environment.now();
    }

    pub(super) fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    /// Whether a statement found no room since this was asked last.
    pub(super) fn take_full(&self) -> bool {
        self.is_full.take()
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn pending(&self) -> Pending {
        self.pending.clone()
    }

    pub(super) fn set_pending(&mut self, pending: Pending) {
        self.pending = pending;
    }

    /// Runs one of the driver's own statements (`begin`, `savepoint`, …).
    pub(super) fn control(&self, text: &'static str) -> std::result::Result<(), rusqlite::Error> {
        let done = self.connection.prepare_cached(text)?.raw_execute().map(drop);
        done.inspect_err(|error| self.note_full(error))
    }

    pub(super) fn roll_back(&mut self) {
        self.pending = Pending::default();
        // After some failures SQLite has rolled back already, and there is nothing left to undo.
        if !self.connection.is_autocommit() {
            let _ = self.control("rollback");
        }
    }

    /// Writes what the group has added to the tree and to the counters. Answers the tree as it will be when the commit is durable.
    pub(super) fn write_pending(&mut self) -> Result<Frontier> {
        let mut frontier = self.frontier.clone();
        if !self.pending.leaves.is_empty() {
            let mut completed = Vec::with_capacity(self.pending.leaves.len());
            for leaf in &self.pending.leaves {
                frontier.append(*leaf, &mut completed);
            }
            for node in completed.iter().filter(|node| node.id.level >= log::LOWEST_STORED) {
                self.execute_now(&log::add_node(node)?)?;
            }
            self.execute_now(&log::set_frontier(&frontier)?)?;
        }
        for ((subject, state), by) in std::mem::take(&mut self.pending.counts) {
            if by != 0 {
                self.execute_now(&ledger::count(subject, state, ONLY_SHARD, by)?)?;
            }
        }
        Ok(frontier)
    }

    /// The commit is durable.
    pub(super) fn keep(&mut self, frontier: Frontier) {
        self.frontier = frontier;
        self.pending = Pending::default();
    }

    fn prepare(&self, bound: &Bound) -> std::result::Result<CachedStatement<'_>, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached(&bound.text)?;
        for (place, value) in bound.values.iter().enumerate() {
            statement.raw_bind_parameter(place + 1, Sql(value))?;
        }
        Ok(statement)
    }

    fn execute_now(&mut self, bound: &Bound) -> Result<u64> {
        let changed = self.prepare(bound).and_then(|mut statement| statement.raw_execute());
        changed
            .map(|rows| rows as u64)
            .map_err(|source| self.failed("running a statement", &source))
    }

    fn query_now(&mut self, bound: &Bound) -> Result<Vec<Row>> {
        let found = self.prepare(bound).and_then(|mut statement| {
            let width = statement.column_count();
            let mut rows = statement.raw_query();
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let values = (0..width).map(|column| row.get_ref(column).and_then(to_value));
                found.push(Row::new(values.collect::<std::result::Result<_, _>>()?));
            }
            Ok(found)
        });
        found.map_err(|source| self.failed("running a query", &source))
    }

    fn append_now(&mut self, entries: &[Leaf]) -> Result<()> {
        let first = self.frontier.size() + self.pending.leaves.len() as u64;
        let appended = self.insert_entries(first, entries);
        appended.map_err(|source| self.failed("appending to the log", &source))?;
        self.pending.leaves.extend(entries.iter().map(|entry| entry.hash));
        Ok(())
    }

    fn insert_entries(&self, first: u64, entries: &[Leaf]) -> std::result::Result<(), rusqlite::Error> {
        let text: &Statement = &log::APPEND;
        let mut statement = self.connection.prepare_cached(text.text())?;
        for (position, entry) in (first..).zip(entries) {
            let position = Value::from(position);
            // In the order of the names in the text, which a test pins.
            for (place, value) in [&position, &entry.run, &entry.seq, &entry.at, &entry.bytes, &entry.mark]
                .into_iter()
                .enumerate()
            {
                statement.raw_bind_parameter(place + 1, Sql(value))?;
            }
            statement.raw_execute()?;
        }
        Ok(())
    }

    fn note_full(&self, error: &rusqlite::Error) {
        if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
            self.is_full.set(true);
        }
    }

    fn failed(&mut self, doing: &'static str, source: &rusqlite::Error) -> StoreError {
        let error = classify(doing, source);
        self.note_full(source);
        self.fault = self.fault.take().or_else(|| Fault::of(&error));
        error
    }
}

impl Tx for Session {
    fn now(&mut self) -> impl Future<Output = Result<Timestamp>> + Send {
        ready(Ok(self.now))
    }

    fn execute<'a>(&'a mut self, bound: &'a Bound) -> impl Future<Output = Result<u64>> + Send + 'a {
        ready(self.execute_now(bound))
    }

    fn query<'a>(&'a mut self, bound: &'a Bound) -> impl Future<Output = Result<Vec<Row>>> + Send + 'a {
        ready(self.query_now(bound))
    }

    fn append<'a>(&'a mut self, entries: &'a [Leaf]) -> impl Future<Output = Result<()>> + Send + 'a {
        ready(self.append_now(entries))
    }

    fn count(&mut self, subject: &'static str, state: &'static str, by: i64) {
        *self.pending.counts.entry((subject, state)).or_default() += by;
    }
}

/// A value as SQLite is given it.
struct Sql<'a>(&'a Value);

impl ToSql for Sql<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(integer) => ValueRef::Integer(*integer),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Name(name) => ValueRef::Text(name.as_bytes()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn to_value(value: ValueRef<'_>) -> std::result::Result<Value, rusqlite::Error> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Text(_) => Value::Text(value.as_str()?.to_owned()),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
        ValueRef::Real(_) => return Err(rusqlite::Error::InvalidQuery),
    })
}

/// Polls once. On SQLite nothing that a verb awaits ever waits.
pub(super) fn at_once<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(StoreError::Failed {
            doing: "running a verb",
            source: "it waited for something else than its transaction".into(),
        }),
    }
}
