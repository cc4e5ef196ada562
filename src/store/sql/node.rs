//! Nodes and what they share of systems: texts, and rows to types and back.

use jiff::{SignedDuration, Timestamp};

use super::super::Result;
use super::super::nodes::{NodeRow, NodeSays};
use super::{Bound, Row, Value, statements};

macro_rules! columns {
    () => {
        "name, instance, version, workflow, address, started_at, seen_at, clock_ahead, draining, gone_at"
    };
}

statements! {
    BY_NAME = concat!("select ", columns!(), " from nodes where name = $name");
    EVERY = concat!("select ", columns!(), " from nodes order by name");
    STARTED = "insert into nodes (name, instance, version, workflow, address, started_at, seen_at, clock_ahead, draining, gone_at) \
        values ($name, $instance, $version, $workflow, $address, $now, $now, $clock_ahead, $draining, $gone_at) \
        on conflict (name) do update set instance = excluded.instance, version = excluded.version, workflow = excluded.workflow, \
        address = excluded.address, started_at = excluded.started_at, seen_at = excluded.seen_at, \
        clock_ahead = excluded.clock_ahead, draining = excluded.draining, gone_at = excluded.gone_at";
    SEEN = "update nodes set seen_at = $now, address = $address, clock_ahead = $clock_ahead, draining = $draining, \
        gone_at = coalesce(gone_at, $gone_at) where name = $name and instance = $instance";
    PACE = "select given_until, left_alone_until from system_paces where system = $system";
    KEEP_PACE = "insert into system_paces (system, given_until, left_alone_until) values ($system, $given_until, $left_alone_until) \
        on conflict (system) do update set given_until = excluded.given_until, left_alone_until = excluded.left_alone_until";
    SLOTS_OF_OTHERS = "select cast(coalesce(sum(slots), 0) as bigint) from system_slots where system = $system and node <> $node and until > $now";
    KEEP_SLOTS = "insert into system_slots (system, node, slots, until) values ($system, $node, $slots, $until) \
        on conflict (system, node) do update set slots = excluded.slots, until = excluded.until";
    FORGET_SLOTS = "delete from system_slots where system = $system and until <= $now";
}

pub(crate) fn by_name(name: &str) -> Result<Bound> {
    BY_NAME.with([("name", name.into())])
}

fn micros(length: SignedDuration) -> Value {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX).into()
}

pub(crate) fn started(says: &NodeSays, now: Timestamp) -> Result<Bound> {
    STARTED.with([
        ("name", says.name.as_str().into()),
        ("instance", says.instance.as_str().into()),
        ("version", says.version.as_str().into()),
        ("workflow", says.workflow.into()),
        ("address", says.address.as_str().into()),
        ("now", now.into()),
        ("clock_ahead", micros(says.clock_ahead)),
        ("draining", says.draining.into()),
        ("gone_at", says.gone.then_some(now).into()),
    ])
}

pub(crate) fn seen(says: &NodeSays, now: Timestamp) -> Result<Bound> {
    SEEN.with([
        ("name", says.name.as_str().into()),
        ("instance", says.instance.as_str().into()),
        ("address", says.address.as_str().into()),
        ("now", now.into()),
        ("clock_ahead", micros(says.clock_ahead)),
        ("draining", says.draining.into()),
        ("gone_at", says.gone.then_some(now).into()),
    ])
}

pub(crate) fn read(row: Row) -> Result<NodeRow> {
    let mut columns = row.read("node");
    Ok(NodeRow {
        name: columns.text()?,
        instance: columns.text()?,
        version: columns.text()?,
        workflow: columns.number()?,
        address: columns.text()?,
        started_at: columns.time()?,
        seen_at: columns.time()?,
        clock_ahead: SignedDuration::from_micros(columns.number()?),
        draining: columns.flag()?,
        gone_at: columns.maybe_time()?,
    })
}

pub(crate) fn pace(system: &str) -> Result<Bound> {
    PACE.with([("system", system.into())])
}

/// Until when calls are given out, and until when the system is left alone.
pub(crate) fn read_pace(row: Row) -> Result<(Timestamp, Option<Timestamp>)> {
    let mut columns = row.read("pace");
    Ok((columns.time()?, columns.maybe_time()?))
}

pub(crate) fn keep_pace(system: &str, given_until: Timestamp, left_alone_until: Option<Timestamp>) -> Result<Bound> {
    KEEP_PACE.with([
        ("system", system.into()),
        ("given_until", given_until.into()),
        ("left_alone_until", left_alone_until.into()),
    ])
}

pub(crate) fn slots_of_others(system: &str, node: &str, now: Timestamp) -> Result<Bound> {
    SLOTS_OF_OTHERS.with([("system", system.into()), ("node", node.into()), ("now", now.into())])
}

pub(crate) fn keep_slots(system: &str, node: &str, slots: u32, until: Timestamp) -> Result<Bound> {
    KEEP_SLOTS.with([
        ("system", system.into()),
        ("node", node.into()),
        ("slots", slots.into()),
        ("until", until.into()),
    ])
}

pub(crate) fn forget_slots(system: &str, now: Timestamp) -> Result<Bound> {
    FORGET_SLOTS.with([("system", system.into()), ("now", now.into())])
}
