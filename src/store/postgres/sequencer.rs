//! Gives the entries of the log their positions, and keeps the Merkle tree over them.
//!
//! Entries are stored with the commit that they belong to, and wait. Whoever sequences holds the row of the tree's edge, takes what waits in
//! the order of arrival, and writes positions, nodes and edge in one transaction. All of the work is in the database, so the row's lock is the
//! whole fence: a holder that is paused is put out by the database (`idle_in_transaction_session_timeout`), and nothing of its work is stored.
//! Events of one run arrive in their order, because each commit of a run ends before the next one begins.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::{Error, Row, Statement};
use tokio_util::sync::CancellationToken;

use super::super::sql::log::LOWEST_STORED;
use super::super::{Result, StoreError};
use super::Inner;
use super::connection::Connection;
use super::fault::{classify, is_lost};
use crate::evidence::merkle::{Frontier, Hash, Node};

/// Entries wait no longer than this on a store that somebody serves.
const EVERY: Duration = Duration::from_millis(300);
/// Entries that get their positions in one transaction.
const BATCH: i64 = 4096;

const BEGIN: &str = "begin isolation level read committed";
const WAITING: &str = "select size, exists (select 1 from log where position is null) from log_frontier where one = 1";
const EDGE: &str = "select size, peaks from log_frontier where one = 1 for update";
const EDGE_IF_FREE: &str = "select size, peaks from log_frontier where one = 1 for update skip locked";
/// The leaves are hashed as RFC 6962 §2.1 says, where the bytes are.
const ARRIVED: &str =
    "select arrival, sha256('\\x00'::bytea || bytes) from log where position is null order by arrival limit $limit";
const PLACE: &str = "update log set position = given.position \
     from unnest($arrivals::bigint[], $positions::bigint[]) as given (arrival, position) where log.arrival = given.arrival";
const NODES: &str = "insert into log_nodes (level, place, hash) select * from unnest($level::bigint[], $place::bigint[], $hash::bytea[])";
const SET_EDGE: &str = "update log_frontier set size = $size, peaks = $peaks where one = 1";

/// Whom to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Until whoever is at it has ended.
    ForOthers,
    /// Another one at it is as good.
    ForNobody,
}

impl Inner {
    /// Answers when everything that was committed before has its position.
    pub(super) async fn give_positions(self: &Arc<Self>) -> Result<()> {
        if !self.is_waiting().await? {
            return Ok(());
        }
        self.sequence(Wait::ForOthers).await
    }

    /// Until the store is closed: on each node, since any of them may be the last one.
    pub(super) async fn keep_sequencing(self: Arc<Self>, closing: CancellationToken) {
        loop {
            tokio::select! {
                () = closing.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
            let sequenced = async {
                match self.is_waiting().await? {
                    true => self.sequence(Wait::ForNobody).await,
                    false => Ok(()),
                }
            };
            match sequenced.await {
                Ok(()) => {}
                Err(StoreError::Closed) => return,
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "entries of the log wait for their positions; it is tried again"
                ),
            }
        }
    }

    async fn is_waiting(self: &Arc<Self>) -> Result<bool> {
        let lease = self.pool.take().await?;
        let found = rows(&lease.connection, WAITING).await;
        match found {
            Ok(found) => {
                lease.give_back();
                let row = found.first();
                let size = row
                    .map(|row| row.get::<_, i64>(0))
                    .and_then(|size| u64::try_from(size).ok());
                self.pool.saw(size.unwrap_or(0));
                Ok(row.is_some_and(|row| row.get(1)))
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    pub(super) async fn sequence(self: &Arc<Self>, wait: Wait) -> Result<()> {
        loop {
            let lease = self.pool.take().await?;
            // A connection on which something failed is closed, and what it had begun is taken back.
            let batch = Batch {
                connection: &lease.connection,
            }
            .give(wait)
            .await;
            match batch {
                Ok(given) => {
                    lease.give_back();
                    if given < BATCH {
                        return Ok(());
                    }
                }
                Err(Trouble::Database(error)) => return Err(self.failed(&error)),
                Err(Trouble::Store(error)) => return Err(error),
            }
        }
    }

    fn failed(&self, error: &Error) -> StoreError {
        if is_lost(error) {
            self.pool.forget_idle();
        }
        classify("giving entries of the log their positions", error)
    }
}

enum Trouble {
    Database(Error),
    Store(StoreError),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

async fn prepared(connection: &Connection, text: &str) -> std::result::Result<Statement, Error> {
    match connection.known(text, false) {
        Some(statement) => Ok(statement),
        None => connection.prepare(text, false).await,
    }
}

async fn rows(connection: &Connection, text: &str) -> std::result::Result<Vec<Row>, Error> {
    let statement = prepared(connection, text).await?;
    connection.client.query(&statement, &[]).await
}

struct Batch<'a> {
    connection: &'a Connection,
}

impl Batch<'_> {
    /// Answers how many got a position.
    async fn give(&self, wait: Wait) -> std::result::Result<i64, Trouble> {
        let client = &self.connection.client;
        let edge = match wait {
            Wait::ForOthers => EDGE,
            Wait::ForNobody => EDGE_IF_FREE,
        };
        let edge = prepared(self.connection, edge).await?;
        let arrived = prepared(self.connection, ARRIVED).await?;
        client.batch_execute(&self.connection.begin(BEGIN)).await?;
        // What arrived is read behind the lock: everything that the holder before has placed is seen as placed.
        let Some(edge) = client.query_opt(&edge, &[]).await? else {
            client.batch_execute("rollback").await?;
            return Ok(0);
        };
        let arrived = client.query(&arrived, &[&BATCH]).await?;
        if !arrived.is_empty() {
            self.place(&edge, &arrived).await?;
        }
        client.batch_execute("commit").await?;
        Ok(i64::try_from(arrived.len()).unwrap_or(i64::MAX))
    }

    async fn place(&self, edge: &Row, arrived: &[Row]) -> std::result::Result<(), Trouble> {
        let mut frontier = frontier(edge)?;
        let first = i64::try_from(frontier.size()).unwrap_or(i64::MAX);
        let mut arrivals = Vec::with_capacity(arrived.len());
        let mut completed = Vec::new();
        for row in arrived {
            arrivals.push(row.try_get::<_, i64>(0)?);
            let hash = row.try_get::<_, &[u8]>(1)?;
            let hash = Hash::try_from(hash).map_err(|_| Trouble::Store(unreadable("a hash has 32 bytes")))?;
            frontier.append(hash, &mut completed);
        }
        let positions: Vec<i64> = (first..).take(arrivals.len()).collect();
        let client = &self.connection.client;
        let place = prepared(self.connection, PLACE).await?;
        client.execute(&place, &[&arrivals, &positions]).await?;
        self.keep(&frontier, &completed).await
    }

    async fn keep(&self, frontier: &Frontier, completed: &[Node]) -> std::result::Result<(), Trouble> {
        let client = &self.connection.client;
        let stored: Vec<&Node> = completed.iter().filter(|node| node.id.level >= LOWEST_STORED).collect();
        if !stored.is_empty() {
            let nodes = prepared(self.connection, NODES).await?;
            let levels: Vec<i64> = stored.iter().map(|node| node.id.level.into()).collect();
            let places: Vec<i64> = stored
                .iter()
                .map(|node| i64::try_from(node.id.index).unwrap_or(i64::MAX))
                .collect();
            let hashes: Vec<&[u8]> = stored.iter().map(|node| node.hash.as_slice()).collect();
            client.execute(&nodes, &[&levels, &places, &hashes]).await?;
        }
        let set_edge = prepared(self.connection, SET_EDGE).await?;
        let size = i64::try_from(frontier.size()).unwrap_or(i64::MAX);
        client.execute(&set_edge, &[&size, &frontier.peaks().concat()]).await?;
        Ok(())
    }
}

fn unreadable(why: &str) -> StoreError {
    StoreError::Unreadable {
        what: "log frontier",
        why: why.to_owned(),
    }
}

fn frontier(edge: &Row) -> std::result::Result<Frontier, Trouble> {
    let size: i64 = edge.try_get(0)?;
    let peaks: &[u8] = edge.try_get(1)?;
    let unreadable = |why: String| Trouble::Store(unreadable(&why));
    let hashes: std::result::Result<Vec<Hash>, _> = peaks.chunks(32).map(Hash::try_from).collect();
    let hashes = hashes.map_err(|error| unreadable(error.to_string()))?;
    let size = u64::try_from(size).map_err(|error| unreadable(error.to_string()))?;
    Frontier::from_parts(size, hashes).map_err(|error| unreadable(error.to_string()))
}
