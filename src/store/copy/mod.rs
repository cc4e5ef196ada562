//! Moving a store into another database: every row of every table, in pages, each page in one transaction with the note of how far the copy
//! has come. So it may be killed anywhere and goes on where it was, each row once.
//!
//! | when              | in the source                       | in the target                                                 |
//! |-------------------|-------------------------------------|---------------------------------------------------------------|
//! | begun             |                                     | `arriving`, with an attempt of its own; it was empty          |
//! | closed            | `moved`, naming the same attempt    | `arriving`; nothing is copied before this                     |
//! | copying           | `moved`                             | `arriving`, with the last key, in the commit of its rows      |
//! | verified          | `moved`, finished                   | `arriving`                                                    |
//! | done              | `moved`, finished                   | no mark: it is the store                                      |
//!
//! At no instant do both open for work, and from `finished` on the source never does again. Nothing is taken away from the source.
//!
//! It knows tables and columns, and neither what they mean nor which databases these are.

mod compare;
mod end;
mod progress;

use jiff::Timestamp;

use super::sql::{Bound, Row, TABLES, Table, Value, ledger, log};
use super::{Commit, Committed, Fact, Guard, LogEntry, Result, StoreError};
use crate::evidence::merkle::{Frontier, leaf_hash};
use progress::{Arriving, Part, Reached, read, write};

pub use compare::TableReport;
pub use end::End;
#[cfg(test)]
pub(super) use end::Port;
pub use progress::{ARRIVING, MOVED, Moved};
pub(super) use progress::{admit, admitted};

/// What a store is opened for. A store that is on the move opens for that only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Work,
    MoveFrom,
    MoveTo,
    /// It is taken for an old copy, and comes to a standstill at once.
    Restore,
    /// Work in whichever database it is found, for whoever brings it to a standstill there.
    Accept,
}

/// Why a store was not moved. Nothing is lost by any of it.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    #[error("the target is not empty: name a file that is not there, or an empty database")]
    NotEmpty,
    #[error("the target holds part of a copy that was given up, or of another store: make an empty one and name that")]
    HoldsAnother,
    #[error(
        "the source is on its way to {to}, and this is another target: name that one, or give that copy up with `keyfall migrate-store --abandon`"
    )]
    OnItsWay { to: String },
    #[error("the source changed while it was being closed: stop every server on it and try again")]
    Changed,
    #[error("the source is not on the move")]
    NotMoving,
    #[error(
        "the target was verified, and is the store: it cannot be given up. Run the same `keyfall migrate-store --from … --to …` again if it did not come to its end"
    )]
    Finished,
    #[error("the copy is not the source: {}", problems.join("; "))]
    Differs { problems: Vec<String> },
    #[error("the store did not answer")]
    Store(#[from] StoreError),
}

/// Who wants it and when: what the record of it says, and what must hold when the source is closed.
pub struct Closing {
    pub attempt: String,
    pub at: Timestamp,
    /// What must hold in the source at the instant of its closing.
    pub guards: Vec<Guard>,
    /// The record that goes into the source's log, and with it into the target's.
    pub record: LogEntry,
}

/// How far a copy or its verification has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub table: &'static str,
    /// Rows of this table that were copied or compared.
    pub rows: u64,
    /// Rows of this table in the source.
    pub of: u64,
}

/// A move that was begun: source and target hold its marks.
pub struct Move {
    source: End,
    target: End,
    arriving: Arriving,
    /// At most so many rows at once.
    page: u32,
}

/// What a beginning found.
pub enum Begun {
    Move(Box<Move>),
    /// The target is the store already.
    Done,
}

impl Move {
    /// Begins a move, or takes one up where it was. The source is closed for everything else from here on.
    ///
    /// # Errors
    /// Either end holds something that the move must not go over; see [`MoveError`].
    pub async fn begin(source: &End, target: &End, closing: Closing) -> std::result::Result<Begun, MoveError> {
        let id = source.id().await?;
        let moved = source.moved().await?;
        let arriving = match (&moved, target.arriving().await?) {
            (Some(moved), Some(mark)) if mark.attempt == moved.attempt => mark,
            (Some(moved), None) if moved.finished && target.id().await? == id => return Ok(Begun::Done),
            (Some(moved), _) => return Err(MoveError::OnItsWay { to: moved.to.clone() }),
            (None, Some(mark)) if mark.reached.is_none() && mark.source == id => mark,
            (None, Some(_)) => return Err(MoveError::HoldsAnother),
            (None, None) => Self::mark_target(source, target, id, closing.attempt.clone()).await?,
        };
        if moved.is_none() {
            Self::close_source(source, target, &arriving, closing).await?;
        }
        // Whoever had it open before it was closed is asked anew, and refused.
        source.port.end_others().await?;
        // Nothing is added any more, and what waits for its position gets it before the log is copied.
        source.store.log_state().await?;
        Ok(Begun::Move(Box::new(Self {
            source: source.clone(),
            target: target.clone(),
            arriving,
            page: u32::MAX,
        })))
    }

    async fn mark_target(
        source: &End,
        target: &End,
        id: String,
        attempt: String,
    ) -> std::result::Result<Arriving, MoveError> {
        if !target.is_empty().await? {
            return Err(MoveError::NotEmpty);
        }
        let mark = Arriving {
            attempt,
            source: id,
            from: source.name.clone(),
            reached: None,
        };
        let key = ledger::SET.with([("key", ARRIVING.into()), ("value", write(ARRIVING, &mark)?.into())])?;
        target.port.run(vec![key]).await?;
        Ok(mark)
    }

    async fn close_source(
        source: &End,
        target: &End,
        arriving: &Arriving,
        closing: Closing,
    ) -> std::result::Result<(), MoveError> {
        let moved = Moved {
            attempt: arriving.attempt.clone(),
            to: target.name.clone(),
            at: closing.at,
            finished: false,
        };
        let mut guards = vec![moved_is(None)];
        guards.extend(closing.guards);
        let commit = Commit {
            guards,
            facts: vec![set_moved(Some(write(MOVED, &moved)?))],
            log: vec![closing.record],
        };
        match source.store.commit(commit).await? {
            Committed::Stored => Ok(()),
            Committed::Refused { .. } => Err(MoveError::Changed),
        }
    }

    /// Small pages, so that a test with few rows has many.
    #[cfg(test)]
    pub(in crate::store) fn in_pages_of(&mut self, rows: u32) {
        self.page = rows;
    }

    /// Copies what is not there yet.
    ///
    /// # Errors
    /// Either store does not answer, or the target holds a row that the copy did not bring.
    pub async fn copy(&mut self, told: &mut (dyn FnMut(Progress) + Send)) -> std::result::Result<(), MoveError> {
        // Where positions are given in batches, everything that waits for one gets it now.
        self.source.store.log_state().await?;
        let reached = self.arriving.reached.clone();
        let done = reached.as_ref().map_or(0, |reached| {
            let place = TABLES.iter().position(|table| table.name == reached.table);
            place.unwrap_or(0) + usize::from(reached.whole)
        });
        for table in TABLES.iter().skip(done) {
            let after = reached.as_ref().filter(|reached| reached.table == table.name);
            let after = after.map(|reached| reached.after.iter().map(Part::to_value).collect());
            self.copy_table(table, after, told).await?;
        }
        Ok(())
    }

    async fn copy_table(
        &mut self,
        table: &'static Table,
        mut after: Option<Vec<Value>>,
        told: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<()> {
        let of = self.source.count(table).await?;
        let mut rows = match after {
            Some(_) => self.target.count(table).await?,
            None => 0,
        };
        let limit = table.page.min(self.page);
        let mut tree = self.tree(table).await?;
        loop {
            told(Progress {
                table: table.name,
                rows,
                of,
            });
            let page = self.source.port.rows(table.page(after.as_deref(), limit)).await?;
            let whole = page.len() < limit as usize;
            rows += page.len() as u64;
            let (last, wanted) = split(table, page);
            after = last.or(after);
            let was = write(ARRIVING, &self.arriving)?;
            let mut rows_of_page = table.insert(&wanted);
            if let Some((tree, bytes)) = &mut tree {
                rows_of_page.push(grown(tree, *bytes, &wanted)?);
            }
            let key = after.as_deref().unwrap_or_default();
            self.arriving.reached = Some(Reached {
                table: table.name.to_owned(),
                after: key.iter().map(Part::of).collect::<Result<_>>()?,
                whole,
            });
            let mut bounds = vec![went_on(was, &self.arriving)?];
            bounds.append(&mut rows_of_page);
            self.target.port.run(bounds).await?;
            if whole {
                return Ok(());
            }
        }
    }

    /// The log never stands without the tree over it, wherever a copy ends: the tree so far, and which column of an entry it is made of.
    async fn tree(&self, table: &Table) -> Result<Option<(Frontier, usize)>> {
        if table.name != "log" {
            return Ok(None);
        }
        let rows = self.target.port.rows(log::FRONTIER.with([])?).await?;
        let frontier = rows.into_iter().next().map(|row| log::read_frontier(Row::new(row)));
        let bytes = table.columns.iter().position(|column| *column == "bytes");
        Ok(frontier.transpose()?.zip(bytes))
    }

    /// Compares what arrived with what is in the source: every row of every table, the log's root over the bytes of the target, and
    /// whether the target is sound by itself.
    ///
    /// # Errors
    /// [`MoveError::Differs`] names each difference.
    pub async fn verify(
        &self,
        told: &mut (dyn FnMut(Progress) + Send),
    ) -> std::result::Result<Vec<TableReport>, MoveError> {
        compare::verify(&self.source, &self.target, told).await
    }

    /// Ends the move: the source is the store no more, then the target is.
    ///
    /// # Errors
    /// Either store does not answer; what was begun can be finished by another call.
    pub async fn finish(self) -> std::result::Result<(), MoveError> {
        let moved = self.source.moved().await?.ok_or(MoveError::NotMoving)?;
        if moved.attempt != self.arriving.attempt {
            return Err(MoveError::OnItsWay { to: moved.to });
        }
        let finished = Moved {
            finished: true,
            ..moved.clone()
        };
        let commit = Commit {
            guards: vec![moved_is(Some(write(MOVED, &moved)?))],
            facts: vec![set_moved(Some(write(MOVED, &finished)?))],
            log: Vec::new(),
        };
        match self.source.store.commit(commit).await? {
            Committed::Stored => {}
            Committed::Refused { .. } => return Err(MoveError::Changed),
        }
        let mark = write(ARRIVING, &self.arriving)?;
        let done = ledger::UNSET_IF.with([("key", ARRIVING.into()), ("value", mark.into())])?;
        self.target.port.run(vec![done]).await?;
        Ok(())
    }
}

/// Gives a move up: the source opens for work again, and what was copied can be finished no more.
///
/// # Errors
/// There is no move, or it has come too far.
pub async fn abandon(source: &End, record: LogEntry) -> std::result::Result<Moved, MoveError> {
    let value = source.store.setting(MOVED).await?.ok_or(MoveError::NotMoving)?;
    let moved: Moved = read(MOVED, &value)?;
    if moved.finished {
        return Err(MoveError::Finished);
    }
    let commit = Commit {
        guards: vec![moved_is(Some(value))],
        facts: vec![set_moved(None)],
        log: vec![record],
    };
    match source.store.commit(commit).await? {
        Committed::Stored => Ok(moved),
        Committed::Refused { .. } => Err(MoveError::Changed),
    }
}

/// Takes the mark of a move away from a store that comes to a standstill anyway: a copy that was put back.
#[must_use]
pub fn unmoved() -> Fact {
    set_moved(None)
}

fn moved_is(value: Option<String>) -> Guard {
    Guard::SettingIs { key: MOVED, value }
}

fn set_moved(value: Option<String>) -> Fact {
    Fact::Setting { key: MOVED, value }
}

/// Changes nothing where somebody else went on with the same copy meanwhile.
fn went_on(was: String, mark: &Arriving) -> Result<Bound> {
    let value = write(ARRIVING, mark)?;
    ledger::SET_IF.with([("key", ARRIVING.into()), ("value", value.into()), ("was", was.into())])
}

fn grown(tree: &mut Frontier, bytes: usize, entries: &[Vec<Value>]) -> Result<Bound> {
    let mut completed = Vec::new();
    for entry in entries {
        if let Some(Value::Bytes(bytes)) = entry.get(bytes) {
            tree.append(leaf_hash(bytes), &mut completed);
        }
        completed.clear();
    }
    log::set_frontier(tree)
}

/// The key of the last row, and the columns of those rows that are copied.
fn split(table: &Table, page: Vec<Vec<Value>>) -> (Option<Vec<Value>>, Vec<Vec<Value>>) {
    let mut last = None;
    let mut wanted = Vec::with_capacity(page.len());
    for mut key in page {
        let columns = key.split_off(table.key.len());
        if !table.is_local(&key) {
            wanted.push(columns);
        }
        last = Some(key);
    }
    (last, wanted)
}
