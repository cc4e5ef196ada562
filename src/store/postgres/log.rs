//! What PostgreSQL's log has of its own: entries that arrive without a position, and the statements of the driver itself.

use jiff::Timestamp;
use tokio_postgres::{Client, Error, Statement};

use super::super::sql::{Bound, Leaf, Row, Value};
use super::super::{Result, StoreError};
use std::borrow::Cow;

/// Takes the locks in the order in which they are given.
pub(super) const LOCK: &str = "select case when alone then pg_advisory_xact_lock(key) else pg_advisory_xact_lock_shared(key) end \
     from unnest($keys::bigint[], $alone::boolean[]) as wanted (key, alone)";

/// Several entries at once; each gets its number of arrival in this order.
pub(super) const APPEND: &str = "insert into log (run, seq, at, bytes, mark) \
     select * from unnest($run::text[], $seq::bigint[], $at::bigint[], $bytes::bytea[], $mark::bytea[])";

pub(super) const NOW: &str = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";

/// What time it is by the database's clock, at the moment at which it is asked.
pub(super) fn now() -> Result<Bound> {
    Ok(Bound {
        text: Cow::Borrowed(NOW),
        values: Vec::new(),
    })
}

pub(super) fn read_instant(rows: Vec<Row>) -> Result<Timestamp> {
    let row = rows.into_iter().next().ok_or_else(|| StoreError::Unreadable {
        what: "instant",
        why: "the database did not say what time it is".to_owned(),
    })?;
    row.read("instant").time()
}

/// Entries, column by column.
pub(super) struct Columns {
    run: Vec<Option<String>>,
    seq: Vec<Option<i64>>,
    at: Vec<Option<i64>>,
    bytes: Vec<Vec<u8>>,
    mark: Vec<Vec<u8>>,
}

impl Columns {
    pub(super) fn of(entries: &[Leaf]) -> Self {
        Self {
            run: entries.iter().map(|entry| text(&entry.run)).collect(),
            seq: entries.iter().map(|entry| integer(&entry.seq)).collect(),
            at: entries.iter().map(|entry| integer(&entry.at)).collect(),
            bytes: entries.iter().map(|entry| bytes(&entry.bytes)).collect(),
            mark: entries.iter().map(|entry| bytes(&entry.mark)).collect(),
        }
    }

    pub(super) async fn insert(&self, client: &Client, statement: &Statement) -> std::result::Result<u64, Error> {
        let Self {
            run,
            seq,
            at,
            bytes,
            mark,
        } = self;
        client.execute(statement, &[run, seq, at, bytes, mark]).await
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(integer) => Some(*integer),
        _ => None,
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::Bytes(bytes) => bytes.clone(),
        _ => Vec::new(),
    }
}
