//! What a database must offer. A verb is written once over [`Tx`]; a driver runs it in a transaction and answers when that is durable.
//!
//! | a verb                                              | a driver                                                     |
//! |-----------------------------------------------------|--------------------------------------------------------------|
//! | says which statements, in which order               | begins, prepares, binds, commits, tells errors apart         |
//! | can be run again from its beginning                 | runs it again when the transaction had to be given up        |
//! | awaits nothing but its `Tx`                         | may therefore run it in a place that cannot wait             |

use std::future::{Future, ready};
use std::path::Path;

use jiff::Timestamp;

use super::sql::{Bound, Leaf, Row};
use super::{Result, StoreError};

/// One transaction, as a verb sees it. A database with one writer needs no locks and no announcements: what is empty here is enough for it.
pub(crate) trait Tx: Send {
    /// The instant of the transaction: by the environment's clock, or the database's where several nodes share it.
    fn now(&mut self) -> impl Future<Output = Result<Timestamp>> + Send;

    /// Waits until no other transaction holds one of these locks, and holds them until the transaction ends.
    fn lock<'a>(&'a mut self, _locks: &'a [Lock]) -> impl Future<Output = Result<()>> + Send + 'a {
        ready(Ok(()))
    }

    /// Tells which questions come next, in this order: at the other end of a wire they are sent together. An answer that nobody asks for
    /// afterwards is dropped.
    fn ahead<'a>(
        &'a mut self,
        _reads: impl Iterator<Item = Read<'a>> + Send,
    ) -> impl Future<Output = Result<()>> + Send {
        ready(Ok(()))
    }

    /// Runs a statement; answers how many rows it changed.
    fn execute<'a>(&'a mut self, bound: &'a Bound) -> impl Future<Output = Result<u64>> + Send + 'a;

    /// Runs a statement whose answer the next one does not need. Its failure may show later, but before the transaction ends.
    fn send<'a>(
        &'a mut self,
        bound: &'a Bound,
        unchanged: Unchanged<'a>,
    ) -> impl Future<Output = Result<()>> + Send + 'a {
        async move {
            match (self.execute(bound).await?, unchanged) {
                (0, Unchanged::Absent(what, id)) => Err(absent(what, id)),
                (0, Unchanged::Instead(longer, what, id)) => match self.execute(longer).await? {
                    0 => Err(absent(what, id)),
                    _ => Ok(()),
                },
                _ => Ok(()),
            }
        }
    }

    fn query<'a>(&'a mut self, bound: &'a Bound) -> impl Future<Output = Result<Vec<Row>>> + Send + 'a;

    /// Reads rows that nobody else may change until the transaction ends.
    fn query_locked<'a>(&'a mut self, bound: &'a Bound) -> impl Future<Output = Result<Vec<Row>>> + Send + 'a {
        self.query(bound)
    }

    /// Sees to it that nobody else changes these rows until the transaction ends.
    fn hold<'a>(&'a mut self, _rows: &'a Bound) -> impl Future<Output = Result<()>> + Send + 'a {
        ready(Ok(()))
    }

    /// Appends to the log. The entries get their positions here, or from the sequencer.
    fn append<'a>(&'a mut self, entries: &'a [Leaf]) -> impl Future<Output = Result<()>> + Send + 'a;

    /// Keeps the number of rows in a state.
    fn count(&mut self, subject: &'static str, state: &'static str, by: i64);
}

/// A question that is told [`Tx::ahead`].
#[derive(Clone, Copy)]
pub(crate) enum Read<'a> {
    Plain(&'a Bound),
    Locked(&'a Bound),
}

/// What it means when a statement that is only sent changes no row.
pub(crate) enum Unchanged<'a> {
    Fine,
    /// What it is about is not there.
    Absent(&'static str, &'a str),
    /// This longer one is run; when it changes nothing either, what it is about is not there.
    Instead(&'a Bound, &'static str, &'a str),
}

pub(crate) fn absent(what: &'static str, id: &str) -> StoreError {
    StoreError::Absent {
        what,
        id: id.to_owned(),
    }
}

/// What to do about damage of a store that is a file.
pub(crate) const DAMAGED_FILE: &str =
    "Restore a backup with `keyfall restore BACKUP`, or inspect a copy; this server stops here";
/// What to do about damage of a store that is a database of a server's.
pub(crate) const DAMAGED_DATABASE: &str = "Stop every keyfall on this database and have the database's log and disks looked at; then fail over to a \
    standby that is intact, or restore it with the database's own tools (continuous archiving, pg_restore). Keyfall stands still on what was \
    restored until two people have looked at what was done since";

/// A lock on something that may have no row yet. Whoever only looks shares it; whoever changes it holds it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lock {
    pub(crate) key: i64,
    pub(crate) alone: bool,
}

impl Lock {
    /// Two names with one key (once in 2⁶⁴) wait for one another, and nothing worse.
    fn of(kind: u8, name: &str, alone: bool) -> Self {
        // FNV-1a: the keys are the same on all nodes, whatever they were built with.
        let bytes = std::iter::once(kind).chain(name.bytes());
        let key = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self {
            key: key.cast_signed(),
            alone,
        }
    }

    pub(crate) fn of_setting(key: &str, alone: bool) -> Self {
        Self::of(b's', key, alone)
    }

    pub(crate) fn of_node(name: &str) -> Self {
        Self::of(b'n', name, true)
    }

    pub(crate) fn of_system(name: &str) -> Self {
        Self::of(b'l', name, true)
    }

    pub(crate) fn of_budget(scope: &str, alone: bool) -> Self {
        Self::of(b'b', scope, alone)
    }

    pub(crate) fn of_finding(kind: &str, subject: &str) -> Self {
        Self::of(b'f', &format!("{kind}/{subject}"), true)
    }

    /// Each once and in one order for all, so that no two transactions wait for one another; held alone where somebody asks for that.
    pub(crate) fn in_order(locks: &mut Vec<Self>) {
        locks.sort_unstable_by_key(|lock| (lock.key, !lock.alone));
        locks.dedup_by_key(|lock| lock.key);
    }
}

/// One transaction's worth of work.
pub(crate) trait Verb: Send + Sync + 'static {
    type Output: Send + 'static;

    /// For errors: "the store failed while …".
    const DOING: &'static str;

    /// It stores what came of a call that was made, and may take the room that is kept for that.
    fn takes_reserve(&self) -> bool {
        false
    }

    fn run<'a, T: Tx>(&'a self, tx: &'a mut T) -> impl Future<Output = Result<Self::Output>> + Send + 'a;
}

/// How much a reading touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// A few rows by key: quicker to do at once than to hand over to another thread.
    Point,
    /// A page, a run's events, a scan.
    Range,
}

pub(crate) trait Driver: Send + Sync + 'static {
    /// What to do about damage.
    const DAMAGED: &'static str = DAMAGED_FILE;

    /// Answers when what the verb wrote is durable, or when nothing of it is stored.
    fn write<V: Verb>(&self, verb: V) -> impl Future<Output = Result<V::Output>> + Send;

    /// Runs a verb that only reads, on one consistent state.
    fn read<V: Verb>(&self, verb: V, reach: Reach) -> impl Future<Output = Result<V::Output>> + Send;

    fn backup<'a>(&'a self, to: &'a Path) -> impl Future<Output = Result<()>> + Send + 'a;

    /// Sees to it that overwritten bytes are gone from all files.
    fn scrub(&self) -> impl Future<Output = Result<()>> + Send + '_;

    /// What is wrong with the files' structure.
    fn examine(&self) -> impl Future<Output = Result<Vec<String>>> + Send + '_;

    /// The clock by which leases are given.
    fn now(&self) -> impl Future<Output = Result<Timestamp>> + Send + '_;

    /// Answers when every entry that was committed before has its position in the log.
    fn give_positions(&self) -> impl Future<Output = Result<()>> + Send + '_ {
        ready(Ok(()))
    }

    /// Ends the sessions of every other process on this store, so that each of them is asked anew whether it may open it. Where one process at a time
    /// opens a store there are none.
    fn end_others(&self) -> impl Future<Output = Result<()>> + Send + '_ {
        ready(Ok(()))
    }

    fn close(&self) -> impl Future<Output = Result<()>> + Send + '_;
}

/// One statement, its rows as a type.
pub(crate) struct Select<R> {
    pub(crate) bounds: Vec<Bound>,
    pub(crate) map: fn(Row) -> Result<R>,
}

impl<R: Send + 'static> Verb for Select<R> {
    type Output = Vec<R>;
    const DOING: &'static str = "reading";

    async fn run<'a, T: Tx>(&'a self, tx: &'a mut T) -> Result<Vec<R>> {
        let mut found = Vec::new();
        tx.ahead(self.bounds.iter().map(Read::Plain)).await?;
        for bound in &self.bounds {
            for row in tx.query(bound).await? {
                found.push((self.map)(row)?);
            }
        }
        Ok(found)
    }
}

/// One statement, the rows that it changed.
pub(crate) struct Execute {
    pub(crate) bound: Bound,
}

impl Verb for Execute {
    type Output = u64;
    const DOING: &'static str = "writing";

    async fn run<'a, T: Tx>(&'a self, tx: &'a mut T) -> Result<u64> {
        tx.execute(&self.bound).await
    }
}

/// The one value of a row that has only one.
pub(crate) fn only_number(row: Row) -> Result<u64> {
    row.read("figure").number()
}

pub(crate) fn only_text(row: Row) -> Result<String> {
    row.read("value").text()
}

/// The first of what was found, for questions that have one answer.
pub(crate) fn first<R>(found: Vec<R>) -> Option<R> {
    found.into_iter().next()
}
