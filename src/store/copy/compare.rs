//! Whether a copy is the same as what it was copied from, row by row. Each row is hashed with its columns' kinds and lengths, and a table's
//! hashes are summed up, so that the order in which a database gives rows does not matter.

use ring::digest::{Context, SHA256};

use super::super::sql::{TABLES, Table, Value};
use super::super::{Result, StoreError};
use super::{End, MoveError, Progress, split};

/// One table of both stores.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TableReport {
    pub table: &'static str,
    /// Rows that are copied; those that belong to one database are not counted.
    pub source: u64,
    pub target: u64,
    /// Every row has the same bytes.
    pub equal: bool,
}

#[derive(Default, PartialEq)]
struct Sum {
    rows: u64,
    lanes: [u64; 4],
}

impl Sum {
    fn add(&mut self, row: &[Value]) {
        let mut context = Context::new(&SHA256);
        for value in row {
            feed(&mut context, value);
        }
        let digest = context.finish();
        for (lane, bytes) in self.lanes.iter_mut().zip(digest.as_ref().chunks_exact(8)) {
            let word = bytes.iter().fold(0_u64, |word, byte| (word << 8) | u64::from(*byte));
            *lane = lane.wrapping_add(word);
        }
        self.rows += 1;
    }
}

fn feed(context: &mut Context, value: &Value) {
    let (kind, bytes): (u8, &[u8]) = match value {
        Value::Null => (0, &[]),
        Value::Integer(number) => return feed_number(context, *number),
        Value::Text(text) => (2, text.as_bytes()),
        Value::Name(name) => (2, name.as_bytes()),
        Value::Bytes(bytes) => (3, bytes),
    };
    context.update(&[kind]);
    context.update(&(bytes.len() as u64).to_be_bytes());
    context.update(bytes);
}

fn feed_number(context: &mut Context, number: i64) {
    context.update(&[1]);
    context.update(&number.to_be_bytes());
}

async fn sum(end: &End, table: &Table, told: &mut (dyn FnMut(u64) + Send)) -> Result<Sum> {
    let mut sum = Sum::default();
    let mut after: Option<Vec<Value>> = None;
    loop {
        let page = end.port.rows(table.page(after.as_deref(), table.page)).await?;
        let last_one = page.len() < table.page as usize;
        let (last, rows) = split(table, page);
        for row in &rows {
            sum.add(row);
        }
        told(sum.rows);
        after = last.or(after);
        if last_one {
            return Ok(sum);
        }
    }
}

pub(super) async fn verify(
    source: &End,
    target: &End,
    told: &mut (dyn FnMut(Progress) + Send),
) -> std::result::Result<Vec<TableReport>, MoveError> {
    let mut reports = Vec::with_capacity(TABLES.len());
    let mut problems = Vec::new();
    for table in TABLES {
        let of = source.count(table).await?;
        let theirs = sum(source, table, &mut |_| {}).await?;
        let tell = &mut |rows| {
            told(Progress {
                table: table.name,
                rows,
                of,
            });
        };
        // A row that is damaged so that it cannot be read is a difference like any other.
        let ours = match sum(target, table, tell).await {
            Ok(ours) => ours,
            Err(error @ (StoreError::Damaged { .. } | StoreError::Unreadable { .. })) => {
                problems.push(format!("{}: {error}", table.name));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let report = TableReport {
            table: table.name,
            source: theirs.rows,
            target: ours.rows,
            equal: theirs == ours,
        };
        if report.source != report.target {
            problems.push(format!(
                "{} has {} rows in the source and {} in the target",
                report.table, report.source, report.target
            ));
        } else if !report.equal {
            problems.push(format!("a row of {} has other bytes in the target", report.table));
        }
        reports.push(report);
    }
    let (theirs, ours) = (source.store.log_state().await?, target.store.log_state().await?);
    if (theirs.size, theirs.root) != (ours.size, ours.root) {
        problems.push("the log has another root in the target".to_owned());
    }
    // Among much else it computes the root over the bytes of the target's log, and compares it with the one above.
    problems.extend(target.store.check().await?);
    match problems.is_empty() {
        true => Ok(reports),
        false => Err(MoveError::Differs { problems }),
    }
}
