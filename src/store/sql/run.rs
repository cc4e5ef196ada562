//! Runs: texts, and rows to types and back. The row is a cache of the run's log and the place of its lease.

use jiff::{SignedDuration, Timestamp};

use super::super::Result;
use super::super::question::{Page, RunFilter};
use super::super::row::RunRow;
use super::{Bound, Listing, Op, Row, Value, statements};
use crate::domain::ids::{IdentityId, RunId};
use crate::domain::workflow::KNOWN_WORKFLOWS;

macro_rules! columns {
    () => {
        "id, kind, identity, identity_name, system_name, status, step, next_seq, epoch, node, lease_until, wake_at, \
         opened_at, closed_at, workflow"
    };
}

const OPEN_RUN: &str = "open run";

const SELECT: &str = concat!("select ", columns!(), " from runs");

statements! {
    BY_ID = concat!("select ", columns!(), " from runs where id = $id");
    LAST_BEFORE = concat!("select ", columns!(), " from runs where identity = $identity and opened_at < $before \
        order by opened_at desc, id desc limit 1");
    OPEN_OF_IDENTITY = "select id from runs where identity = $identity and closed_at is null";
    LEASE = "select node, epoch, lease_until, next_seq, closed_at from runs where id = $id";
    INSERT = "insert into runs (id, kind, identity, identity_name, system_name, status, step, next_seq, epoch, node, \
        lease_until, wake_at, opened_at, closed_at, workflow) values ($id, $kind, $identity, $identity_name, $system_name, $status, \
        $step, $next_seq, $epoch, $node, $lease_until, $wake_at, $opened_at, $closed_at, $workflow)";
    PROGRESS = "update runs set status = $status, step = $step, next_seq = $next_seq, wake_at = $wake_at, \
        closed_at = $closed_at where id = $id";
    /// The common case: no column that an index holds is named, so one page is written and not six.
    STEP_ON = "update runs set step = $step, next_seq = $next_seq where id = $id and status = $status and closed_at is null \
        and wake_at <= $wake_at";
    PROGRESS_AND_RELEASE = "update runs set status = $status, step = $step, next_seq = $next_seq, wake_at = $wake_at, \
        closed_at = $closed_at, node = null, lease_until = null where id = $id";
    SET_ASIDE = "update runs set wake_at = $until, node = null, lease_until = null where id = $id and closed_at is null";
    /// The lease condition stands outside the subquery too: where several sessions claim at once, the one that waited for the row must
    /// look again. What stands in the comment is for databases with several writers (`/*!…*/`): they leave out what is being
    /// claimed already.
    CLAIM = concat!(
        "with free as (select id from runs where closed_at is null and wake_at is not null and wake_at <= $now \
         and (lease_until is null or lease_until <= $now) and workflow between $oldest and $newest \
         order by wake_at, id limit $limit /*!for update skip locked*/) \
         update runs set epoch = epoch + 1, node = $node, lease_until = $until where id in (select id from free) \
         and closed_at is null and (lease_until is null or lease_until <= $now) returning ",
        columns!()
    );
    IN_HANDS = concat!("select ", columns!(), " from runs where closed_at is null and lease_until is not null \
        order by lease_until, id limit $limit");
    OF_LATER_WORKFLOWS = concat!("select ", columns!(), " from runs where closed_at is null and workflow > $newest \
        order by opened_at, id limit $limit");
    RENEW = "update runs set lease_until = $until where id = $id and node = $node and epoch = $epoch \
        and closed_at is null and lease_until > $now";
    RELEASE_NODE = "update runs set node = null, lease_until = null where closed_at is null and lease_until is not null \
        and node = $node";
    NEXT_FREE = "select wake_at from runs where closed_at is null and wake_at is not null and lease_until is null \
        and workflow between $oldest and $newest order by wake_at, id limit 1";
    NEXT_LEASE_END = "select lease_until from runs where closed_at is null and lease_until is not null \
        and wake_at is not null order by lease_until, id limit 1";
    COUNT_OPEN = "select status, count(*) from runs where closed_at is null group by status order by status";
    UNDER_WAY = "select id, identity, opened_at from runs where closed_at is null and opened_at < $before \
        order by opened_at, id limit $limit";
    UNDER_WAY_AFTER = "select id, identity, opened_at from runs where closed_at is null and opened_at < $before \
        and (opened_at, id) > ($after_at, $after_id) order by opened_at, id limit $limit";
    /// For the deep check: all runs in id order.
    ALL_AFTER = concat!("select ", columns!(), " from runs where id > $after order by id limit $limit");
}

pub(crate) fn under_way(before: Timestamp, after: Option<(Timestamp, RunId)>, limit: u32) -> Result<Bound> {
    match after {
        None => UNDER_WAY.with([("before", before.into()), ("limit", limit.into())]),
        Some((at, id)) => UNDER_WAY_AFTER.with([
            ("before", before.into()),
            ("after_at", at.into()),
            ("after_id", Value::shown(&id)),
            ("limit", limit.into()),
        ]),
    }
}

pub(crate) fn read_under_way(row: Row) -> Result<(Timestamp, RunId, IdentityId)> {
    let mut columns = row.read("run under way");
    let (id, identity) = (columns.shown()?, columns.shown()?);
    Ok((columns.time()?, id, identity))
}

pub(crate) fn list(filter: &RunFilter, page: &Page) -> Result<Bound> {
    let mut listing = Listing::new(SELECT);
    listing
        .and_maybe(
            "identity = $identity",
            "identity",
            filter.identity.map(|id| id.to_string()),
        )
        .and_maybe("kind = $kind", "kind", filter.kind.map(|kind| kind.name()))
        .and_maybe("status = $status", "status", filter.status.as_deref())
        .and_maybe("opened_at >= $since", "since", filter.opened_since)
        .and_maybe(
            "(opened_at, id) < (select opened_at, id from runs where id = $after)",
            "after",
            page.after.as_deref(),
        );
    if filter.open_only {
        listing.and("closed_at is null");
    }
    listing.end(" order by opened_at desc, id desc limit $limit", page.limit)
}

pub(crate) fn opened(run: &RunRow) -> Result<Op> {
    Ok(Op::Do(INSERT.with([
        ("id", Value::shown(&run.id)),
        ("kind", Value::Name(run.kind.name())),
        ("identity", Value::shown(&run.identity)),
        ("identity_name", run.identity_name.as_str().into()),
        ("system_name", run.system_name.as_str().into()),
        ("status", run.status.as_str().into()),
        ("step", run.step.as_deref().into()),
        ("next_seq", run.next_seq.into()),
        ("epoch", run.epoch.into()),
        ("node", run.node.as_deref().into()),
        ("lease_until", run.lease_until.into()),
        ("wake_at", run.wake_at.into()),
        ("opened_at", run.opened_at.into()),
        ("closed_at", run.closed_at.into()),
        ("workflow", run.workflow.into()),
    ])?))
}

/// A run is open as long as somebody may still act on it.
pub(crate) fn is_open(status: &str) -> bool {
    matches!(status, "open" | "needs_operator")
}

pub(crate) fn set_aside(run: RunId, until: Timestamp) -> Result<Op> {
    let bound = SET_ASIDE.with([("id", Value::shown(&run)), ("until", until.into())])?;
    Ok(must(run, bound))
}

/// What `Fact::RunProgress` says.
pub(crate) struct Progress<'a> {
    pub(crate) run: RunId,
    pub(crate) status: &'a str,
    pub(crate) step: Option<&'static str>,
    pub(crate) next_seq: u32,
    pub(crate) wake_at: Option<Timestamp>,
    pub(crate) release: bool,
    /// The instant of the last event, for a run that this closes.
    pub(crate) at: Timestamp,
}

pub(crate) fn progress(progress: &Progress<'_>) -> Result<Op> {
    let open = is_open(progress.status);
    let text = if progress.release || !open {
        &PROGRESS_AND_RELEASE
    } else {
        &PROGRESS
    };
    let bound = text.with([
        ("id", Value::shown(&progress.run)),
        ("status", progress.status.into()),
        ("step", progress.step.map_or(Value::Null, Value::Name)),
        ("next_seq", progress.next_seq.into()),
        ("wake_at", progress.wake_at.filter(|_| open).into()),
        ("closed_at", (!open).then_some(progress.at).into()),
    ])?;
    // Who wants to be woken at an instant that is over is awake: an earlier one, which is stored, says the same.
    let awake = progress
        .wake_at
        .filter(|at| open && !progress.release && *at <= progress.at);
    let Some(wake_at) = awake else {
        return Ok(must(progress.run, bound));
    };
    let short = STEP_ON.with([
        ("id", Value::shown(&progress.run)),
        ("status", progress.status.into()),
        ("step", progress.step.map_or(Value::Null, Value::Name)),
        ("next_seq", progress.next_seq.into()),
        ("wake_at", wake_at.into()),
    ])?;
    Ok(Op::Either {
        short,
        bound,
        what: OPEN_RUN,
        id: progress.run.to_string(),
    })
}

fn must(run: RunId, bound: Bound) -> Op {
    Op::Must {
        bound,
        what: OPEN_RUN,
        id: run.to_string(),
    }
}

pub(crate) fn claim(node: &str, now: Timestamp, lease: SignedDuration, limit: u32) -> Result<Bound> {
    let until = now.saturating_add(lease).unwrap_or(Timestamp::MAX);
    CLAIM.with([
        ("node", node.into()),
        ("now", now.into()),
        ("until", until.into()),
        ("limit", limit.into()),
        ("oldest", (*KNOWN_WORKFLOWS.start()).into()),
        ("newest", (*KNOWN_WORKFLOWS.end()).into()),
    ])
}

pub(crate) fn next_free() -> Result<Bound> {
    NEXT_FREE.with([
        ("oldest", (*KNOWN_WORKFLOWS.start()).into()),
        ("newest", (*KNOWN_WORKFLOWS.end()).into()),
    ])
}

pub(crate) fn in_hands(limit: u32) -> Result<Bound> {
    IN_HANDS.with([("limit", limit.into())])
}

pub(crate) fn of_later_workflows(limit: u32) -> Result<Bound> {
    let newest = *KNOWN_WORKFLOWS.end();
    OF_LATER_WORKFLOWS.with([("newest", newest.into()), ("limit", limit.into())])
}

pub(crate) fn lease(run: RunId) -> Result<Bound> {
    LEASE.with([("id", Value::shown(&run))])
}

pub(crate) fn last_before(identity: IdentityId, before: Timestamp) -> Result<Bound> {
    LAST_BEFORE.with([("identity", Value::shown(&identity)), ("before", before.into())])
}

pub(crate) fn open_of(identity: IdentityId) -> Result<Bound> {
    OPEN_OF_IDENTITY.with([("identity", Value::shown(&identity))])
}

/// Who holds a run and where its log ends.
pub(crate) struct Lease {
    pub(crate) node: Option<String>,
    pub(crate) epoch: u64,
    pub(crate) lease_until: Option<Timestamp>,
    pub(crate) next_seq: u32,
    pub(crate) closed: bool,
}

pub(crate) fn read_lease(row: Row) -> Result<Lease> {
    let mut columns = row.read("run");
    Ok(Lease {
        node: columns.maybe_text()?,
        epoch: columns.number()?,
        lease_until: columns.maybe_time()?,
        next_seq: columns.number()?,
        closed: columns.maybe_time()?.is_some(),
    })
}

pub(crate) fn read(row: Row) -> Result<RunRow> {
    let mut columns = row.read("run");
    Ok(RunRow {
        id: columns.shown()?,
        kind: columns.name()?,
        identity: columns.shown()?,
        identity_name: columns.text()?,
        system_name: columns.text()?,
        status: columns.text()?,
        step: columns.maybe_text()?,
        next_seq: columns.number()?,
        epoch: columns.number()?,
        node: columns.maybe_text()?,
        lease_until: columns.maybe_time()?,
        wake_at: columns.maybe_time()?,
        opened_at: columns.time()?,
        closed_at: columns.maybe_time()?,
        workflow: columns.number()?,
    })
}

pub(crate) fn read_id(row: Row) -> Result<RunId> {
    row.read("run").shown()
}

pub(crate) fn read_instant(row: Row) -> Result<Timestamp> {
    row.read("instant").time()
}
