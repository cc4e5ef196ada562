//! What a database must offer. A verb is written once over [`Tx`]; a driver runs it in a transaction and answers when that is durable.
//!
//! | a verb                                              | a driver                                                     |
//! |-----------------------------------------------------|--------------------------------------------------------------|
//! | says which statements, in which order               | begins, prepares, binds, commits, tells errors apart         |
//! | can be run again from its beginning                 | runs it again when the transaction had to be given up        |
//! | awaits nothing but its `Tx`                         | may therefore run it in a place that cannot wait             |

use std::future::Future;
use std::path::Path;

use jiff::Timestamp;

use super::Result;
use super::sql::{Bound, Leaf, Row};

/// One transaction, as a verb sees it.
pub(crate) trait Tx: Send {
    /// The instant of the transaction: by the environment's clock, or the database's where several nodes share it.
    fn now(&self) -> Timestamp;

    /// Runs a statement; answers how many rows it changed.
    fn execute<'a>(&'a mut self, bound: &'a Bound) -> impl Future<Output = Result<u64>> + Send + 'a;

    fn query<'a>(&'a mut self, bound: &'a Bound) -> impl Future<Output = Result<Vec<Row>>> + Send + 'a;

    /// Appends to the log; answers the position of the first entry.
    fn append<'a>(&'a mut self, entries: &'a [Leaf]) -> impl Future<Output = Result<u64>> + Send + 'a;

    /// Keeps the number of rows in a state.
    fn count(&mut self, subject: &'static str, state: &'static str, by: i64);
}

/// One transaction's worth of work.
pub(crate) trait Verb: Send + Sync + 'static {
    type Output: Send + 'static;

    /// For errors: "the store failed while …".
    const DOING: &'static str;

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
    /// Answers when what the verb wrote is durable, or when nothing of it is stored.
    fn write<V: Verb>(&self, verb: V) -> impl Future<Output = Result<V::Output>> + Send;

    /// Runs a verb that only reads, on one consistent state.
    fn read<V: Verb>(&self, verb: V, reach: Reach) -> impl Future<Output = Result<V::Output>> + Send;

    fn backup<'a>(&'a self, to: &'a Path) -> impl Future<Output = Result<()>> + Send + 'a;

    /// Sees to it that overwritten bytes are gone from all files.
    fn scrub(&self) -> impl Future<Output = Result<()>> + Send + '_;

    /// What is wrong with the files' structure.
    fn examine(&self) -> impl Future<Output = Result<Vec<String>>> + Send + '_;

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
