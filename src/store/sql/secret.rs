//! Sealed secrets: texts, and rows to types and back. No other file reads or writes this table.

use jiff::Timestamp;

use super::super::Result;
use super::super::row::SecretRow;
use super::{Bound, Op, Row, Value, statements};
use crate::domain::ids::SecretId;

macro_rules! columns {
    () => {
        "id, name, kind, version, endpoint_digest, algorithm, kek_id, wrapped_key, wrap_nonce, nonce, ciphertext, \
         created_at, destroy_at, destroyed_at"
    };
}

statements! {
    BY_ID = concat!("select ", columns!(), " from secrets where id = $id");
    BY_NAME = concat!(
        "select ", columns!(), " from secrets where name = $name and destroyed_at is null order by version desc limit 1"
    );
    TO_DESTROY = "select id from secrets where destroyed_at is null and destroy_at is not null and destroy_at <= $now \
        order by destroy_at, id limit $limit";
    /// Under a key whose id sorts before this one, and behind it: together those that are sealed under another key.
    KEK_BEFORE = concat!(
        "select ", columns!(), " from secrets where destroyed_at is null and kek_id < $kek order by kek_id, id limit $limit"
    );
    KEK_BEHIND = concat!(
        "select ", columns!(), " from secrets where destroyed_at is null and kek_id > $kek order by kek_id, id limit $limit"
    );
    INSERT = "insert into secrets (id, name, kind, version, endpoint_digest, algorithm, kek_id, wrapped_key, wrap_nonce, \
        nonce, ciphertext, created_at, destroy_at, destroyed_at) values ($id, $name, $kind, $version, $endpoint_digest, \
        $algorithm, $kek_id, $wrapped_key, $wrap_nonce, $nonce, $ciphertext, $created_at, $destroy_at, $destroyed_at)";
    WRAPPED = "select 1 from secrets where id = $id and wrapped_key = $wrapped_key and destroyed_at is null";
    DUE = "select 1 from secrets where id = $id and destroyed_at is null and destroy_at is not null and destroy_at <= $now";
    SET_DESTROY_AT = "update secrets set destroy_at = $at where id = $id";
    KEEP = "update secrets set destroy_at = null where id = $id and destroyed_at is null";
    LENGTHS = "select length(wrapped_key), length(ciphertext), destroyed_at from secrets where id = $id";
    OVERWRITE = "update secrets set wrapped_key = $wrapped_key, ciphertext = $ciphertext, destroyed_at = $at where id = $id";
    REWRAP = "update secrets set kek_id = $kek_id, wrapped_key = $wrapped_key, wrap_nonce = $wrap_nonce \
        where id = $id and destroyed_at is null";
    RESEAL = "update secrets set version = $version, endpoint_digest = $endpoint_digest, algorithm = $algorithm, \
        kek_id = $kek_id, wrapped_key = $wrapped_key, wrap_nonce = $wrap_nonce, nonce = $nonce, ciphertext = $ciphertext \
        where id = $id and destroyed_at is null";
}

pub(crate) fn insert(secret: &SecretRow) -> Result<Op> {
    Ok(Op::Do(INSERT.with([
        ("id", Value::shown(&secret.id)),
        ("name", secret.name.as_deref().into()),
        ("kind", secret.kind.as_str().into()),
        ("version", secret.version.into()),
        ("endpoint_digest", Value::shown(&secret.endpoint_digest)),
        ("algorithm", secret.algorithm.as_str().into()),
        ("kek_id", secret.kek_id.as_str().into()),
        ("wrapped_key", secret.wrapped_key.clone().into()),
        ("wrap_nonce", secret.wrap_nonce.clone().into()),
        ("nonce", secret.nonce.clone().into()),
        ("ciphertext", secret.ciphertext.clone().into()),
        ("created_at", secret.created_at.into()),
        ("destroy_at", secret.destroy_at.into()),
        ("destroyed_at", secret.destroyed_at.into()),
    ])?))
}

/// A row while the secret is sealed so.
pub(crate) fn wrapped(id: SecretId, wrapped_key: &[u8]) -> Result<Bound> {
    WRAPPED.with([("id", Value::shown(&id)), ("wrapped_key", wrapped_key.to_vec().into())])
}

/// A row while the secret is there and over its deadline.
pub(crate) fn due(id: SecretId, now: Timestamp) -> Result<Bound> {
    DUE.with([("id", Value::shown(&id)), ("now", now.into())])
}

fn must(id: SecretId, bound: Bound) -> Op {
    Op::Must {
        bound,
        what: "secret",
        id: id.to_string(),
    }
}

pub(crate) fn destroy_at(id: SecretId, at: Timestamp) -> Result<Op> {
    let bound = SET_DESTROY_AT.with([("id", Value::shown(&id)), ("at", at.into())])?;
    Ok(must(id, bound))
}

pub(crate) fn keep(id: SecretId) -> Result<Op> {
    Ok(must(id, KEEP.with([("id", Value::shown(&id))])?))
}

pub(crate) fn destroy(id: SecretId, at: Timestamp) -> Result<Op> {
    Ok(Op::DestroySecret {
        id: id.to_string(),
        read: LENGTHS.with([("id", Value::shown(&id))])?,
        at: at.into(),
    })
}

pub(crate) fn rewrap(id: SecretId, kek_id: &str, wrapped_key: &[u8], wrap_nonce: &[u8]) -> Result<Op> {
    let bound = REWRAP.with([
        ("id", Value::shown(&id)),
        ("kek_id", kek_id.into()),
        ("wrapped_key", wrapped_key.to_vec().into()),
        ("wrap_nonce", wrap_nonce.to_vec().into()),
    ])?;
    Ok(must(id, bound))
}

pub(crate) fn reseal(secret: &SecretRow) -> Result<Op> {
    let bound = RESEAL.with([
        ("version", secret.version.into()),
        ("endpoint_digest", Value::shown(&secret.endpoint_digest)),
        ("algorithm", secret.algorithm.as_str().into()),
        ("kek_id", secret.kek_id.as_str().into()),
        ("wrapped_key", secret.wrapped_key.clone().into()),
        ("wrap_nonce", secret.wrap_nonce.clone().into()),
        ("nonce", secret.nonce.clone().into()),
        ("ciphertext", secret.ciphertext.clone().into()),
        ("id", Value::shown(&secret.id)),
    ])?;
    Ok(must(secret.id, bound))
}

/// The lengths of the wrapped key and the ciphertext; `None` when they are destroyed already.
pub(crate) fn lengths(row: Row) -> Result<Option<(usize, usize)>> {
    let mut columns = row.read("secret");
    let lengths = (columns.number::<u32>()? as usize, columns.number::<u32>()? as usize);
    Ok(columns.maybe_time()?.is_none().then_some(lengths))
}

pub(crate) fn overwrite(id: &str, wrapped_key: usize, ciphertext: usize, at: Value) -> Result<Bound> {
    OVERWRITE.with([
        ("id", id.into()),
        ("wrapped_key", vec![0; wrapped_key].into()),
        ("ciphertext", vec![0; ciphertext].into()),
        ("at", at),
    ])
}

pub(crate) fn read(row: Row) -> Result<SecretRow> {
    let mut columns = row.read("secret");
    Ok(SecretRow {
        id: columns.shown()?,
        name: columns.maybe_text()?,
        kind: columns.text()?,
        version: columns.number()?,
        endpoint_digest: columns.shown()?,
        algorithm: columns.text()?,
        kek_id: columns.text()?,
        wrapped_key: columns.bytes()?,
        wrap_nonce: columns.bytes()?,
        nonce: columns.bytes()?,
        ciphertext: columns.bytes()?,
        created_at: columns.time()?,
        destroy_at: columns.maybe_time()?,
        destroyed_at: columns.maybe_time()?,
    })
}

pub(crate) fn read_id(row: Row) -> Result<SecretId> {
    row.read("secret").shown()
}
