//! People and their tokens: texts, and rows to types and back.

use jiff::Timestamp;

use super::super::Result;
use super::super::row::{PersonRow, TokenRow};
use super::{Op, Row, Value, statements};
use crate::domain::ids::{PersonId, TokenId};

macro_rules! columns {
    () => {
        "id, name, roles, public_key, enrolled_by, enrolment, enrolled_at, retired_at"
    };
}

statements! {
    BY_ID = concat!("select ", columns!(), " from people where id = $id");
    /// All of them: people are few.
    EVERYONE = concat!("select ", columns!(), " from people order by enrolled_at, id");
    PUT = "insert into people (id, name, roles, public_key, enrolled_by, enrolment, enrolled_at, retired_at) \
        values ($id, $name, $roles, $public_key, $enrolled_by, $enrolment, $enrolled_at, $retired_at) \
        on conflict (id) do update set name = excluded.name, roles = excluded.roles, public_key = excluded.public_key, \
        enrolled_by = excluded.enrolled_by, enrolment = excluded.enrolment, \
        retired_at = excluded.retired_at";
    RETIRE = "update people set retired_at = coalesce(retired_at, $at) where id = $id";
    TOKEN_BY_HASH = "select id, person, hash, label, created_at, expires_at, revoked_at from tokens where hash = $hash";
    ADD_TOKEN = "insert into tokens (id, person, hash, label, created_at, expires_at, revoked_at) \
        values ($id, $person, $hash, $label, $created_at, $expires_at, $revoked_at)";
    REVOKE_TOKEN = "update tokens set revoked_at = coalesce(revoked_at, $at) where id = $id";
}

pub(crate) fn put(person: &PersonRow) -> Result<Op> {
    let enrolment = match &person.enrolment {
        Some(approval) => Value::json("writing an enrolment", approval)?,
        None => Value::Null,
    };
    Ok(Op::Do(PUT.with([
        ("id", Value::shown(&person.id)),
        ("name", person.name.as_str().into()),
        ("roles", Value::json("writing a person's roles", &person.roles)?),
        ("public_key", person.public_key.as_deref().into()),
        (
            "enrolled_by",
            person.enrolled_by.as_ref().map(ToString::to_string).into(),
        ),
        ("enrolment", enrolment),
        ("enrolled_at", person.enrolled_at.into()),
        ("retired_at", person.retired_at.into()),
    ])?))
}

pub(crate) fn retire(id: PersonId, at: Timestamp) -> Result<Op> {
    Ok(Op::Must {
        bound: RETIRE.with([("id", Value::shown(&id)), ("at", at.into())])?,
        what: "person",
        id: id.to_string(),
    })
}

pub(crate) fn add_token(token: &TokenRow) -> Result<Op> {
    Ok(Op::Do(ADD_TOKEN.with([
        ("id", Value::shown(&token.id)),
        ("person", Value::shown(&token.person)),
        ("hash", token.hash.to_vec().into()),
        ("label", token.label.as_str().into()),
        ("created_at", token.created_at.into()),
        ("expires_at", token.expires_at.into()),
        ("revoked_at", token.revoked_at.into()),
    ])?))
}

pub(crate) fn revoke_token(id: TokenId, at: Timestamp) -> Result<Op> {
    Ok(Op::Must {
        bound: REVOKE_TOKEN.with([("id", Value::shown(&id)), ("at", at.into())])?,
        what: "token",
        id: id.to_string(),
    })
}

pub(crate) fn read(row: Row) -> Result<PersonRow> {
    let mut columns = row.read("person");
    Ok(PersonRow {
        id: columns.shown()?,
        name: columns.text()?,
        roles: columns.json()?,
        public_key: columns.maybe_text()?,
        enrolled_by: columns.maybe_shown()?,
        enrolment: columns.maybe_json()?,
        enrolled_at: columns.time()?,
        retired_at: columns.maybe_time()?,
    })
}

pub(crate) fn read_token(row: Row) -> Result<TokenRow> {
    let mut columns = row.read("token");
    Ok(TokenRow {
        id: columns.shown()?,
        person: columns.shown()?,
        hash: columns.hash()?,
        label: columns.text()?,
        created_at: columns.time()?,
        expires_at: columns.time()?,
        revoked_at: columns.maybe_time()?,
    })
}
