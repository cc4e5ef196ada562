//! Receipts: texts, and rows to types and back. The place in the log is found by the closing event's number.

use super::super::Result;
use super::super::question::{Page, ReceiptFilter};
use super::super::row::ReceiptRow;
use super::{Bound, Listing, Op, Row, Value, statements};

macro_rules! select {
    () => {
        "select id, run, identity, body, body_digest, closing_seq, \
         (select position from log where log.run = receipts.run and log.seq = receipts.closing_seq), at from receipts"
    };
}

statements! {
    BY_ID = concat!(select!(), " where id = $id");
    INSERT = "insert into receipts (id, run, identity, body, body_digest, closing_seq, at) \
        values ($id, $run, $identity, $body, $body_digest, $closing_seq, $at)";
}

pub(crate) fn list(filter: &ReceiptFilter, page: &Page) -> Result<Bound> {
    let mut listing = Listing::new(select!());
    listing
        .and_maybe(
            "identity = $identity",
            "identity",
            filter.identity.map(|id| id.to_string()),
        )
        .and_maybe("run = $run", "run", filter.run.map(|id| id.to_string()))
        .and_maybe(
            "(at, id) < (select at, id from receipts where id = $after)",
            "after",
            page.after.as_deref(),
        );
    listing.end(" order by at desc, id desc limit $limit", page.limit)
}

pub(crate) fn insert(receipt: &ReceiptRow) -> Result<Op> {
    Ok(Op::Do(INSERT.with([
        ("id", Value::shown(&receipt.id)),
        ("run", Value::shown(&receipt.run)),
        ("identity", Value::shown(&receipt.identity)),
        ("body", receipt.body.clone().into()),
        ("body_digest", Value::shown(&receipt.body_digest)),
        ("closing_seq", receipt.closing_seq.into()),
        ("at", receipt.at.into()),
    ])?))
}

pub(crate) fn read(row: Row) -> Result<ReceiptRow> {
    let mut columns = row.read("receipt");
    Ok(ReceiptRow {
        id: columns.shown()?,
        run: columns.shown()?,
        identity: columns.shown()?,
        body: columns.bytes()?,
        body_digest: columns.shown()?,
        closing_seq: columns.number()?,
        log_position: columns.maybe_number()?,
        at: columns.time()?,
    })
}
