//! One transaction on one connection, as verbs see it.
//!
//! | what waits for an answer             | what does not                                                                 |
//! |--------------------------------------|-------------------------------------------------------------------------------|
//! | a question, a count of changed rows  | the beginning, locks, questions told ahead, statements that are only sent     |
//!
//! What does not wait is on its way at once, and its answer is taken when the next one is waited for, in the order of sending. So a commit
//! costs three round trips: all that it looks at, all that it changes, its end.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use keyfall_sdk::BoxFuture;
use tokio_postgres::{Client, Error, Statement};

use super::super::driver::{Lock, Read, Tx, Unchanged, absent};
use super::super::sql::{Bound, Leaf, Row, ledger};
use super::super::{Result, StoreError};
use super::Clock;
use super::connection::Connection;
use super::fault::{Remedy, classify, is_lost, remedy};
use super::log;
use super::value::{Given, to_row};

type Answer<T> = Pin<Box<dyn Future<Output = std::result::Result<T, Error>> + Send>>;

/// Something that was sent and not yet answered.
enum Sent {
    /// `begin`, locks: nothing is learnt but that it was done.
    Done(Answer<()>),
    Rows {
        asked: Asked,
        answer: Answer<Vec<tokio_postgres::Row>>,
    },
    Changed {
        answer: Answer<u64>,
        unchanged: Meaning,
    },
}

/// A question, by which its answer is found again.
#[derive(Clone, PartialEq)]
struct Asked {
    bound: Arc<Bound>,
    locks: bool,
}

/// [`Unchanged`], kept until the answer comes.
enum Meaning {
    Fine,
    Absent(&'static str, String),
    Instead(Box<Bound>, &'static str, String),
}

pub(super) struct Session {
    connection: Arc<Connection>,
    clock: Clock,
    now: Option<Timestamp>,
    sent: VecDeque<Sent>,
    /// Answers to what was asked ahead.
    answers: VecDeque<(Asked, Vec<Row>)>,
    counts: BTreeMap<(&'static str, &'static str), i64>,
    /// Whether it was certain once that a transaction was begun.
    has_written: bool,
    /// What may be done about the first failure.
    remedy: Remedy,
    is_lost: bool,
}

impl Session {
    /// Without a transaction: for one statement, which is consistent by itself.
    pub(super) fn bare(connection: &Arc<Connection>, clock: Clock) -> Self {
        Self {
            connection: Arc::clone(connection),
            clock,
            now: None,
            sent: VecDeque::new(),
            answers: VecDeque::new(),
            counts: BTreeMap::new(),
            has_written: false,
            remedy: Remedy::Nothing,
            is_lost: false,
        }
    }

    pub(super) fn begun(connection: &Arc<Connection>, clock: Clock, begin: &'static str) -> Self {
        let mut session = Self::bare(connection, clock);
        let client = Arc::clone(connection);
        let begin = connection.begin(begin);
        let answer = started(async move { client.client.batch_execute(&begin).await });
        session.sent.push_back(Sent::Done(answer));
        session
    }

    pub(super) fn remedy(&self) -> Remedy {
        self.remedy
    }

    /// The connection is not to be used again.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost || self.connection.is_closed()
    }

    /// Sends what the transaction has counted, and waits until everything was done.
    pub(super) async fn finish(&mut self) -> Result<()> {
        for ((subject, state), by) in std::mem::take(&mut self.counts) {
            if by != 0 {
                let count = ledger::count(subject, state, self.connection.shard, by)?;
                self.send(&count, Unchanged::Fine).await?;
            }
        }
        self.settle().await
    }

    /// Sends the end of a transaction that only read, and does not wait for the answer: whoever gets the connection next is behind it.
    pub(super) fn end_unheard(&mut self) {
        self.sent.clear();
        let connection = Arc::clone(&self.connection);
        drop(started(
            async move { connection.client.batch_execute("rollback").await },
        ));
    }

    pub(super) async fn roll_back(&mut self) {
        self.sent.clear();
        let ended = self.connection.client.batch_execute("rollback").await;
        self.is_lost = self.is_lost || ended.is_err();
    }

    fn failed(&mut self, doing: &'static str, error: &Error) -> StoreError {
        self.remedy = remedy(error);
        self.is_lost = self.is_lost || is_lost(error);
        classify(doing, error)
    }

    /// Takes all answers that are out, in the order of sending.
    fn settle(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.take_answers())
    }

    async fn take_answers(&mut self) -> Result<()> {
        let mut instead = Vec::new();
        while let Some(sent) = self.sent.pop_front() {
            match sent {
                Sent::Done(answer) => {
                    let done = answer.await;
                    done.map_err(|error| self.failed("beginning a transaction", &error))?;
                }
                Sent::Rows { asked, answer } => {
                    let rows = answer.await;
                    let rows = rows.and_then(|rows| rows.iter().map(to_row).collect());
                    let rows = rows.map_err(|error| self.failed("running a query", &error))?;
                    self.answers.push_back((asked, rows));
                }
                Sent::Changed { answer, unchanged } => {
                    let changed = answer.await;
                    let changed = changed.map_err(|error| self.failed("running a statement", &error))?;
                    match unchanged {
                        Meaning::Absent(what, id) if changed == 0 => return Err(absent(what, &id)),
                        Meaning::Instead(longer, what, id) if changed == 0 => instead.push((longer, what, id)),
                        _ => {}
                    }
                }
            }
        }
        for (longer, what, id) in instead {
            if self.change(&longer).await? == 0 {
                return Err(absent(what, &id));
            }
        }
        Ok(())
    }

    /// The statement on this connection, when nothing is out that a question for it would have to wait behind.
    async fn prepared(&mut self, text: &str, locks: bool) -> Result<Statement> {
        if let Some(statement) = self.connection.known(text, locks) {
            return Ok(statement);
        }
        self.settle().await?;
        let connection = Arc::clone(&self.connection);
        let prepared = connection.prepare(text, locks).await;
        prepared.map_err(|error| self.failed("preparing a statement", &error))
    }

    async fn ask(&mut self, bound: &Bound, locks: bool) -> Result<()> {
        let statement = self.prepared(&bound.text, locks).await?;
        let asked = Asked {
            bound: Arc::new(bound.clone()),
            locks,
        };
        let (connection, question) = (Arc::clone(&self.connection), Arc::clone(&asked.bound));
        let answer = started(async move { query(&connection.client, &statement, &question).await });
        self.sent.push_back(Sent::Rows { asked, answer });
        Ok(())
    }

    /// The rows of a question that was asked ahead, or is asked at this moment.
    async fn rows(&mut self, bound: &Bound, locks: bool) -> Result<Vec<Row>> {
        let is_same = |asked: &Asked| asked.locks == locks && *asked.bound == *bound;
        let is_out = self
            .sent
            .iter()
            .any(|sent| matches!(sent, Sent::Rows { asked, .. } if is_same(asked)));
        if !is_out && !self.answers.iter().any(|(asked, _)| is_same(asked)) {
            // Such as a claim, which changes rows and answers them.
            if !bound.text.starts_with("select") {
                self.ready_to_write().await?;
            }
            self.ask(bound, locks).await?;
        }
        self.settle().await?;
        let place = self.answers.iter().position(|(asked, _)| is_same(asked));
        let found = place.and_then(|place| self.answers.remove(place));
        Ok(found.map(|(_, rows)| rows).unwrap_or_default())
    }

    /// Nothing is changed before it is certain that a transaction was begun: else it would be stored at once, and alone.
    async fn ready_to_write(&mut self) -> Result<()> {
        if !self.has_written {
            self.settle().await?;
            self.has_written = true;
        }
        Ok(())
    }

    async fn post(&mut self, bound: &Bound, unchanged: Meaning) -> Result<()> {
        self.ready_to_write().await?;
        let statement = self.prepared(&bound.text, false).await?;
        let (connection, bound) = (Arc::clone(&self.connection), bound.clone());
        let answer = started(async move {
            let values = bound.values.iter().map(Given);
            connection.client.execute_raw(&statement, values).await
        });
        self.sent.push_back(Sent::Changed { answer, unchanged });
        Ok(())
    }

    async fn change(&mut self, bound: &Bound) -> Result<u64> {
        self.ready_to_write().await?;
        self.settle().await?;
        let statement = self.prepared(&bound.text, false).await?;
        let connection = Arc::clone(&self.connection);
        let changed = connection
            .client
            .execute_raw(&statement, bound.values.iter().map(Given))
            .await;
        changed.map_err(|error| self.failed("running a statement", &error))
    }
}

/// Begins at once: what is to be sent is on its way when this returns.
fn started<T: Send + 'static>(
    future: impl Future<Output = std::result::Result<T, Error>> + Send + 'static,
) -> Answer<T> {
    let mut answer: Answer<T> = Box::pin(future);
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Box::pin(ready(done)),
        Poll::Pending => answer,
    }
}

async fn query(
    client: &Client,
    statement: &Statement,
    bound: &Bound,
) -> std::result::Result<Vec<tokio_postgres::Row>, Error> {
    let rows = client.query_raw(statement, bound.values.iter().map(Given)).await?;
    pin!(rows).try_collect().await
}

impl Tx for Session {
    async fn now(&mut self) -> Result<Timestamp> {
        if self.now.is_none() {
            self.now = Some(match &self.clock {
                Clock::Database => log::read_instant(self.rows(&log::now()?, false).await?)?,
                #[cfg(test)]
                Clock::Environment(environment) => environment.now(),
            });
        }
        Ok(self.now.unwrap_or(Timestamp::MIN))
    }

    async fn lock<'a>(&'a mut self, locks: &'a [Lock]) -> Result<()> {
        let statement = self.prepared(log::LOCK, false).await?;
        let keys: Vec<i64> = locks.iter().map(|lock| lock.key).collect();
        let alone: Vec<bool> = locks.iter().map(|lock| lock.alone).collect();
        let connection = Arc::clone(&self.connection);
        let answer = started(async move { connection.client.query(&statement, &[&keys, &alone]).await.map(drop) });
        self.sent.push_back(Sent::Done(answer));
        Ok(())
    }

    async fn ahead<'a>(&'a mut self, reads: impl Iterator<Item = Read<'a>> + Send) -> Result<()> {
        for read in reads {
            match read {
                Read::Plain(bound) => self.ask(bound, false).await?,
                Read::Locked(bound) => self.ask(bound, true).await?,
            }
        }
        Ok(())
    }

    async fn execute<'a>(&'a mut self, bound: &'a Bound) -> Result<u64> {
        self.change(bound).await
    }

    async fn send<'a>(&'a mut self, bound: &'a Bound, unchanged: Unchanged<'a>) -> Result<()> {
        let unchanged = match unchanged {
            Unchanged::Fine => Meaning::Fine,
            Unchanged::Absent(what, id) => Meaning::Absent(what, id.to_owned()),
            Unchanged::Instead(longer, what, id) => Meaning::Instead(Box::new(longer.clone()), what, id.to_owned()),
        };
        self.post(bound, unchanged).await
    }

    async fn query<'a>(&'a mut self, bound: &'a Bound) -> Result<Vec<Row>> {
        self.rows(bound, false).await
    }

    async fn query_locked<'a>(&'a mut self, bound: &'a Bound) -> Result<Vec<Row>> {
        self.rows(bound, true).await
    }

    async fn hold<'a>(&'a mut self, rows: &'a Bound) -> Result<()> {
        self.rows(rows, true).await.map(drop)
    }

    async fn append<'a>(&'a mut self, entries: &'a [Leaf]) -> Result<()> {
        self.ready_to_write().await?;
        let statement = self.prepared(log::APPEND, false).await?;
        let columns = log::Columns::of(entries);
        let connection = Arc::clone(&self.connection);
        let answer = started(async move { columns.insert(&connection.client, &statement).await });
        let unchanged = Meaning::Fine;
        self.sent.push_back(Sent::Changed { answer, unchanged });
        Ok(())
    }

    fn count(&mut self, subject: &'static str, state: &'static str, by: i64) {
        *self.counts.entry((subject, state)).or_default() += by;
    }
}
