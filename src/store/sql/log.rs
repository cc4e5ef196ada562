//! The log and the Merkle tree over it: texts, and rows to types and back.
//!
//! Of the tree, complete subtrees from level [`LOWEST_STORED`] on are stored, and the peaks. What lies below is computed from at most 255
//! entries when a proof wants it: appending then writes one node for 256 entries instead of one for each.

use jiff::Timestamp;

use super::super::question::LogPage;
use super::super::row::LogEntry;
use super::super::{Result, StoreError};
use super::{Bound, Row, Value, statements};
use crate::domain::ids::RunId;
use crate::evidence::merkle::{Frontier, Hash, Node, leaf_hash, mark_of};

/// 2⁸ entries make the smallest subtree that is stored.
pub(crate) const LOWEST_STORED: u8 = 8;

statements! {
    FROM = "select position, run, seq, at, bytes, mark from log where position >= $from order by position limit $limit";
    EVENTS = "select bytes from log where run = $run order by seq";
    APPEND = "insert into log (position, run, seq, at, bytes, mark) values ($position, $run, $seq, $at, $bytes, $mark)";
    FRONTIER = "select size, peaks from log_frontier where one = 1";
    SET_FRONTIER = "update log_frontier set size = $size, peaks = $peaks where one = 1";
    NODE = "select hash from log_nodes where level = $level and place = $place";
    ADD_NODE = "insert into log_nodes (level, place, hash) values ($level, $place, $hash)";
    LAST = "select position, run, seq, at, bytes, mark from log order by position desc limit 1";
}

/// An entry that is ready to be appended: its hash does not depend on its place, so the caller's thread has computed it.
pub(crate) struct Leaf {
    pub(crate) run: Value,
    pub(crate) seq: Value,
    pub(crate) at: Value,
    pub(crate) bytes: Value,
    pub(crate) mark: Value,
    pub(crate) hash: Hash,
}

impl Leaf {
    pub(crate) fn of(entry: LogEntry) -> Self {
        let (run, seq) = match entry.run {
            Some((run, seq)) => (Value::shown(&run), seq.into()),
            None => (Value::Null, Value::Null),
        };
        let hash = leaf_hash(&entry.bytes);
        Self {
            run,
            seq,
            at: entry.at.into(),
            bytes: entry.bytes.into(),
            mark: mark_of(&hash).to_vec().into(),
            hash,
        }
    }
}

pub(crate) fn from(position: u64, limit: u32) -> Result<Bound> {
    FROM.with([("from", position.into()), ("limit", limit.into())])
}

pub(crate) fn events(run: RunId) -> Result<Bound> {
    EVENTS.with([("run", Value::shown(&run))])
}

pub(crate) fn node(level: u8, place: u64) -> Result<Bound> {
    NODE.with([("level", level.into()), ("place", place.into())])
}

pub(crate) fn add_node(node: &Node) -> Result<Bound> {
    ADD_NODE.with([
        ("level", node.id.level.into()),
        ("place", node.id.index.into()),
        ("hash", node.hash.to_vec().into()),
    ])
}

pub(crate) fn set_frontier(frontier: &Frontier) -> Result<Bound> {
    SET_FRONTIER.with([
        ("size", frontier.size().into()),
        ("peaks", frontier.peaks().concat().into()),
    ])
}

pub(crate) fn read(row: Row) -> Result<LogPage> {
    let mut columns = row.read("log entry");
    let position = columns.number()?;
    let run: Option<RunId> = columns.maybe_shown()?;
    let seq: Option<u32> = columns.maybe_number()?;
    Ok(LogPage {
        position,
        run: run.zip(seq),
        at: columns.time()?,
        bytes: columns.bytes()?,
        mark: columns.bytes()?,
    })
}

pub(crate) fn read_bytes(row: Row) -> Result<Vec<u8>> {
    row.read("log entry").bytes()
}

pub(crate) fn read_hash(row: Row) -> Result<Hash> {
    row.read("log node").hash()
}

pub(crate) fn read_frontier(row: Row) -> Result<Frontier> {
    let mut columns = row.read("log frontier");
    let size = columns.number()?;
    let peaks = columns.bytes()?;
    let unreadable = |why: String| StoreError::Unreadable {
        what: "log frontier",
        why,
    };
    let hashes = peaks
        .chunks(32)
        .map(Hash::try_from)
        .collect::<std::result::Result<Vec<_>, _>>();
    let hashes = hashes.map_err(|error| unreadable(error.to_string()))?;
    Frontier::from_parts(size, hashes).map_err(|error| unreadable(error.to_string()))
}

/// What the instant of a log entry is, for those who know only the encoded entry.
pub(crate) fn last_instant(entries: &[LogEntry], run: RunId) -> Option<Timestamp> {
    entries
        .iter()
        .rev()
        .find(|entry| entry.run.is_some_and(|(of, _)| of == run))
        .map(|entry| entry.at)
}
