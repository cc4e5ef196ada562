//! Findings: texts, and rows to types and back. A finding is raised once per kind and subject while it is open.

use jiff::Timestamp;

use super::super::Result;
use super::super::question::{FindingFilter, Page};
use super::super::row::FindingRow;
use super::{Bound, Listing, Op, Row, Value, statements};

const SELECT: &str = "select id, kind, subject, severity, text, owner, raised_at, resolved_at from findings";

statements! {
    RAISE = "insert into findings (id, kind, subject, severity, text, owner, raised_at, resolved_at, is_open) \
        values ($id, $kind, $subject, $severity, $text, $owner, $raised_at, $resolved_at, $is_open) \
        on conflict (kind, subject) where is_open = 1 do update set severity = excluded.severity, text = excluded.text, \
        owner = excluded.owner";
    RESOLVE = "update findings set resolved_at = $at, is_open = 0 where kind = $kind and subject = $subject and is_open = 1";
    OPEN = "select subject from findings where kind = $kind and subject = $subject and is_open = 1";
    SAYS = "select text from findings where kind = $kind and subject = $subject and is_open = 1";
    COUNT_OPEN = "select kind, count(*) from findings where is_open = 1 group by kind order by kind";
}

/// Open ones first, newest first. The key of a page says whether its last row was open when it was shown, so that one which is resolved
/// meanwhile does not take the open ones behind it away.
pub(crate) fn list(filter: &FindingFilter, page: &Page) -> Result<Bound> {
    let mut listing = Listing::new(SELECT);
    listing
        .and_maybe("kind = $kind", "kind", filter.kind.as_deref())
        .and_maybe("subject = $subject", "subject", filter.subject.as_deref());
    if filter.open_only {
        listing.and("is_open = 1");
    }
    if let Some(after) = &page.after {
        let (was_open, id) = match after.split_once(':') {
            Some((state, id)) => (state == FindingRow::OPEN, id),
            None => (true, after.as_str()),
        };
        listing.and_with(
            "(is_open, raised_at, id) < ($was_open, (select raised_at from findings where id = $after), $after)",
            "was_open",
            was_open.into(),
        );
        listing.given("after", id.into());
    }
    listing.end(
        " order by is_open desc, raised_at desc, id desc limit $limit",
        page.limit,
    )
}

pub(crate) fn open(kind: &str, subject: &str) -> Result<Bound> {
    OPEN.with([("kind", kind.into()), ("subject", subject.into())])
}

/// What the open finding says.
pub(crate) fn says(kind: &str, subject: &str) -> Result<Bound> {
    SAYS.with([("kind", kind.into()), ("subject", subject.into())])
}

pub(crate) fn raise(finding: &FindingRow) -> Result<Op> {
    Ok(Op::Do(RAISE.with([
        ("id", Value::shown(&finding.id)),
        ("kind", finding.kind.as_str().into()),
        ("subject", finding.subject.as_str().into()),
        ("severity", finding.severity.as_str().into()),
        ("text", finding.text.as_str().into()),
        ("owner", finding.owner.as_str().into()),
        ("raised_at", finding.raised_at.into()),
        ("resolved_at", finding.resolved_at.into()),
        ("is_open", finding.resolved_at.is_none().into()),
    ])?))
}

pub(crate) fn resolve(kind: &'static str, subject: &str, at: Timestamp) -> Result<Op> {
    Ok(Op::Do(RESOLVE.with([
        ("kind", Value::Name(kind)),
        ("subject", subject.into()),
        ("at", at.into()),
    ])?))
}

pub(crate) fn read(row: Row) -> Result<FindingRow> {
    let mut columns = row.read("finding");
    Ok(FindingRow {
        id: columns.shown()?,
        kind: columns.text()?,
        subject: columns.text()?,
        severity: columns.text()?,
        text: columns.text()?,
        owner: columns.text()?,
        raised_at: columns.time()?,
        resolved_at: columns.maybe_time()?,
    })
}
