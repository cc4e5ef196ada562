//! Identities: texts, and rows to types and back.

use jiff::Timestamp;

use super::super::question::{DueIdentity, IdentityFilter, Page};
use super::super::{Result, StoreError};
use super::{Bound, Listing, Op, Row, Value, statements};
use crate::domain::due::DueReason;
use crate::domain::identity::{Identity, IdentityState};
use crate::domain::ids::{CredentialId, IdentityId, RunId};

pub(crate) const SUBJECT: &str = "identities";

macro_rules! columns {
    () => {
        "id, name, version, labels, spec, state, current_credential, due_at, due_reason, is_control, approved, created_at"
    };
}

const SELECT: &str = concat!("select ", columns!(), " from identities");

statements! {
    BY_ID = concat!("select ", columns!(), " from identities where id = $id");
    BY_NAME = concat!("select ", columns!(), " from identities where name = $name");
    CONTROL = concat!(
        "select ", columns!(), " from identities where system = $system and is_control = 1 ",
        "and state <> 'decommissioned' order by id limit 1"
    );
    STATE = "select state from identities where id = $id";
    STANDS = "select state from identities where id = $id and state = $state and coalesce(current_credential, '') = $current";
    VERSION_BY_NAME = "select version from identities where name = $name";
    INSERT = "insert into identities (id, name, version, labels, spec, state, current_credential, due_at, due_reason, \
        is_control, approved, created_at, kind, system, environment, owner, expires_at, is_active, open_run) \
        values ($id, $name, $version, $labels, $spec, $state, $current, $due_at, $due_reason, \
        $is_control, $approved, $created_at, $kind, $system, $environment, $owner, $expires_at, $is_active, null)";
    REPLACE = "update identities set name = $name, version = $version, labels = $labels, spec = $spec, \
        is_control = $is_control, approved = $approved, kind = $kind, system = $system, environment = $environment, \
        owner = $owner, expires_at = $expires_at where id = $id";
    SET_STATE = "update identities set state = $state, is_active = $is_active where id = $id";
    SET_CURRENT = "update identities set current_credential = $current where id = $id";
    SET_DUE = "update identities set due_at = $due_at, due_reason = $due_reason where id = $id";
    PUT_OFF = "update identities set due_at = $to where id = $id and due_at = $was and due_reason = $reason and open_run is null";
    RUN_OPENED = "update identities set open_run = $run where id = $id";
    RUN_CLOSED = "update identities set open_run = null where id = (select identity from runs where id = $run) \
        and open_run = $run";
    DUE = "select id, due_at, due_reason from identities where is_active = 1 and open_run is null \
        and due_at is not null and due_at <= $now order by due_at, id limit $limit";
    DUE_AFTER = "select id, due_at, due_reason from identities where is_active = 1 and open_run is null \
        and due_at is not null and due_at <= $now and (due_at, id) > ($after_at, $after_id) order by due_at, id limit $limit";
    COUNT_DUE = "select count(*) from (select id from identities where is_active = 1 and open_run is null \
        and due_at is not null and due_at <= $now order by due_at, id limit $limit) as due";
    EXPIRING = "select id, expires_at from identities where state <> 'decommissioned' and expires_at < $before \
        order by expires_at, id limit $limit";
    EXPIRING_AFTER = "select id, expires_at from identities where state <> 'decommissioned' and expires_at < $before \
        and (expires_at, id) > ($after_at, $after_id) order by expires_at, id limit $limit";
    NEXT_OWNER = "select owner from identities where owner > $after order by owner limit 1";
    COUNT_EXPIRING = "select count(*) from (select id from identities where state <> 'decommissioned' \
        and expires_at <= $until order by expires_at limit $limit) as expiring";
}

pub(crate) fn list(filter: &IdentityFilter, page: &Page) -> Result<Bound> {
    let mut listing = Listing::new(SELECT);
    listing
        .and_maybe("system = $system", "system", filter.system.as_deref())
        .and_maybe(
            "environment = $environment",
            "environment",
            filter.environment.as_deref(),
        )
        .and_maybe("owner = $owner", "owner", filter.owner.as_deref())
        .and_maybe("state = $state", "state", filter.state.as_deref())
        .and_maybe("name > $after", "after", page.after.as_deref());
    if let Some(kind) = filter.kind {
        listing.and_with("kind = $kind", "kind", name_of(&kind)?);
    }
    if let Some(prefix) = &filter.name_prefix {
        listing.and_with("name >= $prefix", "prefix", prefix.as_str().into());
        listing.and_with("name < $behind", "behind", format!("{prefix}{}", char::MAX).into());
    }
    if !filter.with_control {
        listing.and("is_control = 0");
    }
    listing.end(" order by name limit $limit", page.limit)
}

/// The name of a variant without data, as its type writes it.
fn name_of(value: &impl serde::Serialize) -> Result<Value> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => Ok(Value::Text(name)),
        Ok(_) => Ok(Value::Null),
        Err(source) => Err(StoreError::Failed {
            doing: "writing a name",
            source: Box::new(source),
        }),
    }
}

pub(crate) fn put(identity: &Identity) -> Result<Op> {
    let spec = &identity.spec;
    let labels = Value::json("writing labels", &identity.labels)?;
    let spec_json = Value::json("writing an identity's spec", spec)?;
    let approved = identity.approved.as_ref();
    let approved = match approved {
        Some(approval) => Value::json("writing an approval", approval)?,
        None => Value::Null,
    };
    let kind = name_of(&spec.kind)?;
    let update = REPLACE.with([
        ("id", Value::shown(&identity.id)),
        ("name", identity.name.as_str().into()),
        ("version", identity.version.into()),
        ("labels", labels.clone()),
        ("spec", spec_json.clone()),
        ("is_control", identity.is_control.into()),
        ("approved", approved.clone()),
        ("kind", kind.clone()),
        ("system", spec.system.as_str().into()),
        ("environment", spec.environment.as_str().into()),
        ("owner", spec.owner.as_str().into()),
        ("expires_at", spec.expires.into()),
    ])?;
    let insert = INSERT.with([
        ("id", Value::shown(&identity.id)),
        ("name", identity.name.as_str().into()),
        ("version", identity.version.into()),
        ("labels", labels),
        ("spec", spec_json),
        ("state", Value::Name(identity.state.name())),
        ("current", identity.current.as_ref().map(ToString::to_string).into()),
        ("due_at", identity.due.map(|(at, _)| at).into()),
        (
            "due_reason",
            identity
                .due
                .map_or(Value::Null, |(_, reason)| Value::Name(reason.name())),
        ),
        ("is_control", identity.is_control.into()),
        ("approved", approved),
        ("created_at", identity.created_at.into()),
        ("kind", kind),
        ("system", spec.system.as_str().into()),
        ("environment", spec.environment.as_str().into()),
        ("owner", spec.owner.as_str().into()),
        ("expires_at", spec.expires.into()),
        ("is_active", may_be_due(identity.state)),
    ])?;
    Ok(Op::Put {
        update,
        insert,
        subject: SUBJECT,
        state: identity.state.name(),
    })
}

/// Only what is active is ever due.
fn may_be_due(state: IdentityState) -> Value {
    (state == IdentityState::Active).into()
}

/// The row that is changed when a run is opened.
pub(crate) fn held(id: IdentityId) -> Result<Bound> {
    STATE.with([("id", Value::shown(&id))])
}

pub(crate) fn stands(id: IdentityId, state: IdentityState, current: Option<CredentialId>) -> Result<Bound> {
    let current = current.map(|id| id.to_string()).unwrap_or_default();
    STANDS.with([
        ("id", Value::shown(&id)),
        ("state", state.name().into()),
        ("current", current.into()),
    ])
}

pub(crate) fn move_to(id: IdentityId, to: IdentityState) -> Result<Op> {
    Ok(Op::MoveIdentity {
        id: id.to_string(),
        read: STATE.with([("id", Value::shown(&id))])?,
        to,
        write: SET_STATE.with([
            ("id", Value::shown(&id)),
            ("state", Value::Name(to.name())),
            ("is_active", may_be_due(to)),
        ])?,
    })
}

pub(crate) fn set_current(id: IdentityId, credential: Option<CredentialId>) -> Result<Op> {
    let current = credential.as_ref().map(ToString::to_string).into();
    must(id, SET_CURRENT.with([("id", Value::shown(&id)), ("current", current)])?)
}

pub(crate) fn set_due(id: IdentityId, due: Option<(Timestamp, DueReason)>) -> Result<Op> {
    let reason = due.map_or(Value::Null, |(_, reason)| Value::Name(reason.name()));
    let bound = SET_DUE.with([
        ("id", Value::shown(&id)),
        ("due_at", due.map(|(at, _)| at).into()),
        ("due_reason", reason),
    ])?;
    must(id, bound)
}

pub(crate) fn put_off(id: IdentityId, was: (Timestamp, DueReason), to: Timestamp) -> Result<Op> {
    Ok(Op::Do(PUT_OFF.with([
        ("id", Value::shown(&id)),
        ("was", was.0.into()),
        ("reason", Value::Name(was.1.name())),
        ("to", to.into()),
    ])?))
}

fn must(id: IdentityId, bound: Bound) -> Result<Op> {
    Ok(Op::Must {
        bound,
        what: "identity",
        id: id.to_string(),
    })
}

pub(crate) fn run_opened(id: IdentityId, run: RunId) -> Result<Op> {
    let bound = RUN_OPENED.with([("id", Value::shown(&id)), ("run", Value::shown(&run))])?;
    Ok(Op::Do(bound))
}

pub(crate) fn run_closed(run: RunId) -> Result<Op> {
    Ok(Op::Do(RUN_CLOSED.with([("run", Value::shown(&run))])?))
}

pub(crate) fn due(now: Timestamp, after: Option<(Timestamp, IdentityId)>, limit: u32) -> Result<Bound> {
    match after {
        None => DUE.with([("now", now.into()), ("limit", limit.into())]),
        Some((at, id)) => DUE_AFTER.with([
            ("now", now.into()),
            ("after_at", at.into()),
            ("after_id", Value::shown(&id)),
            ("limit", limit.into()),
        ]),
    }
}

pub(crate) fn expiring(before: Timestamp, after: Option<(Timestamp, IdentityId)>, limit: u32) -> Result<Bound> {
    match after {
        None => EXPIRING.with([("before", before.into()), ("limit", limit.into())]),
        Some((at, id)) => EXPIRING_AFTER.with([
            ("before", before.into()),
            ("after_at", at.into()),
            ("after_id", Value::shown(&id)),
            ("limit", limit.into()),
        ]),
    }
}

pub(crate) fn read_expiring(row: Row) -> Result<(Timestamp, IdentityId)> {
    let mut columns = row.read("expiring identity");
    let id = columns.shown()?;
    Ok((columns.time()?, id))
}

pub(crate) fn read(row: Row) -> Result<Identity> {
    let mut columns = row.read("identity");
    Ok(Identity {
        id: columns.shown()?,
        name: columns.text()?,
        version: columns.number()?,
        labels: columns.json()?,
        spec: columns.json()?,
        state: columns.name()?,
        current: columns.maybe_shown()?,
        due: match (columns.maybe_time()?, columns.maybe_name()?) {
            (Some(at), Some(reason)) => Some((at, reason)),
            _ => None,
        },
        is_control: columns.flag()?,
        approved: columns.maybe_json()?,
        created_at: columns.time()?,
    })
}

pub(crate) fn read_due(row: Row) -> Result<DueIdentity> {
    let mut columns = row.read("due identity");
    Ok(DueIdentity {
        id: columns.shown()?,
        due_at: columns.time()?,
        reason: columns.name()?,
    })
}

pub(crate) fn state(row: Row) -> Result<IdentityState> {
    row.read("identity").name()
}
