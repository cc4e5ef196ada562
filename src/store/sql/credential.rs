//! Credentials: texts, and rows to types and back. The state is kept whole as JSON (`life`), and by name for filters and indexes.

use jiff::Timestamp;
use keyfall_sdk::{KeyId, PrincipalRef};

use super::super::Result;
use super::{Bound, Op, Row, Value, statements};
use crate::domain::identity::{Credential, CredentialState};
use crate::domain::ids::{CredentialId, IdentityId, SecretId};

pub(crate) const SUBJECT: &str = "credentials";

macro_rules! columns {
    () => {
        "id, identity, principal, principal_id, key_id, secret, life, created_at, proven_at, expires_at"
    };
}

statements! {
    BY_ID = concat!("select ", columns!(), " from credentials where id = $id");
    OF_IDENTITY = concat!("select ", columns!(), " from credentials where identity = $identity order by created_at, id");
    LIVING = concat!(
        "select ", columns!(), " from credentials where identity = $identity and state <> 'dead' and state <> 'never_issued' ",
        "order by created_at, id"
    );
    CURRENT = concat!(
        "select ", columns!(), " from credentials where id = (select current_credential from identities where id = $identity)"
    );
    /// From one account's name to the next one's by the index, and of each only the last row.
    LAST_OF_ACCOUNTS = concat!(
        "with recursive accounts (name) as (select (select principal from credentials where identity = $identity ",
        "and principal_id is not null order by principal limit 1) union all select (select principal from credentials ",
        "where identity = $identity and principal_id is not null and principal > accounts.name order by principal limit 1) ",
        "from accounts where accounts.name is not null) select ", columns!(), " from credentials where id in ",
        "(select (select id from credentials where identity = $identity and principal_id is not null ",
        "and principal = accounts.name order by created_at desc, id desc limit 1) from accounts)"
    );
    LATEST = concat!(
        "select ", columns!(), " from credentials where identity = $identity order by created_at desc, id desc limit $limit"
    );
    LIFE = "select life from credentials where id = $id";
    INSERT = "insert into credentials (id, identity, principal, principal_id, key_id, secret, state, life, created_at, proven_at, \
        expires_at) values ($id, $identity, $principal, $principal_id, $key_id, $secret, $state, $life, $created_at, $proven_at, \
        $expires_at)";
    REPLACE = "update credentials set principal = $principal, principal_id = $principal_id, key_id = $key_id, \
        secret = $secret, proven_at = $proven_at, expires_at = $expires_at where id = $id";
    SET_STATE = "update credentials set state = $state, life = $life where id = $id";
    SET_ISSUED = "update credentials set principal = $principal, principal_id = $principal_id, key_id = $key_id where id = $id";
    SET_PROVEN = "update credentials set proven_at = coalesce(proven_at, $at) where id = $id";
    SET_EXPIRES = "update credentials set expires_at = $at where id = $id";
    SET_SECRET = "update credentials set secret = $secret where id = $id";
    WITHOUT_SECRET = "update credentials set secret = null where secret = $secret";
}

pub(crate) fn put(credential: &Credential) -> Result<Op> {
    let id = Value::shown(&credential.id);
    let secret = Value::from(credential.secret.as_ref().map(ToString::to_string));
    let principal_id = Value::from(credential.principal.immutable_id.as_deref());
    let key_id = Value::from(credential.key_id.as_ref().map(|key| key.0.as_str()));
    let update = REPLACE.with([
        ("id", id.clone()),
        ("principal", credential.principal.name.as_str().into()),
        ("principal_id", principal_id.clone()),
        ("key_id", key_id.clone()),
        ("secret", secret.clone()),
        ("proven_at", credential.proven_at.into()),
        ("expires_at", credential.expires_at.into()),
    ])?;
    let insert = INSERT.with([
        ("id", id),
        ("identity", Value::shown(&credential.identity)),
        ("principal", credential.principal.name.as_str().into()),
        ("principal_id", principal_id),
        ("key_id", key_id),
        ("secret", secret),
        ("state", Value::Name(credential.state.name())),
        ("life", Value::json("writing a credential's state", &credential.state)?),
        ("created_at", credential.created_at.into()),
        ("proven_at", credential.proven_at.into()),
        ("expires_at", credential.expires_at.into()),
    ])?;
    Ok(Op::Put {
        update,
        insert,
        subject: SUBJECT,
        state: credential.state.name(),
    })
}

pub(crate) fn move_to(id: CredentialId, to: &CredentialState) -> Result<Op> {
    movement(id, to, false)
}

fn movement(id: CredentialId, to: &CredentialState, only_intended: bool) -> Result<Op> {
    Ok(Op::MoveCredential {
        id: id.to_string(),
        read: LIFE.with([("id", Value::shown(&id))])?,
        to: to.clone(),
        write: SET_STATE.with([
            ("id", Value::shown(&id)),
            ("state", Value::Name(to.name())),
            ("life", Value::json("writing a credential's state", to)?),
        ])?,
        only_intended,
    })
}

/// What the system answered, and with it the step from intended to issued.
pub(crate) fn issued(id: CredentialId, principal: &PrincipalRef, key_id: &KeyId) -> Result<[Op; 2]> {
    let bound = SET_ISSUED.with([
        ("id", Value::shown(&id)),
        ("principal", principal.name.as_str().into()),
        ("principal_id", principal.immutable_id.as_deref().into()),
        ("key_id", key_id.0.as_str().into()),
    ])?;
    Ok([must(id, bound), movement(id, &CredentialState::Issued, true)?])
}

pub(crate) fn proven(id: CredentialId, at: Timestamp) -> Result<Op> {
    let bound = SET_PROVEN.with([("id", Value::shown(&id)), ("at", at.into())])?;
    Ok(must(id, bound))
}

pub(crate) fn expires(id: CredentialId, at: Timestamp) -> Result<Op> {
    let bound = SET_EXPIRES.with([("id", Value::shown(&id)), ("at", at.into())])?;
    Ok(must(id, bound))
}

pub(crate) fn set_secret(id: CredentialId, secret: SecretId) -> Result<Op> {
    let bound = SET_SECRET.with([("id", Value::shown(&id)), ("secret", Value::shown(&secret))])?;
    Ok(must(id, bound))
}

fn must(id: CredentialId, bound: Bound) -> Op {
    Op::Must {
        bound,
        what: "credential",
        id: id.to_string(),
    }
}

/// A destroyed secret is named by no credential.
pub(crate) fn without_secret(secret: &str) -> Result<Bound> {
    WITHOUT_SECRET.with([("secret", secret.into())])
}

pub(crate) fn of(identity: IdentityId) -> Result<Bound> {
    OF_IDENTITY.with([("identity", Value::shown(&identity))])
}

pub(crate) fn current(identity: IdentityId) -> Result<Bound> {
    CURRENT.with([("identity", Value::shown(&identity))])
}

/// The questions whose answers together are what is in play of an identity, besides its current one. A credential may be in both of them.
pub(crate) fn in_play(identity: IdentityId) -> Result<[Bound; 2]> {
    let given = || [("identity", Value::shown(&identity))];
    Ok([LIVING.with(given())?, LAST_OF_ACCOUNTS.with(given())?])
}

pub(crate) fn latest(identity: IdentityId, limit: u32) -> Result<Bound> {
    LATEST.with([("identity", Value::shown(&identity)), ("limit", limit.into())])
}

pub(crate) fn read(row: Row) -> Result<Credential> {
    let mut columns = row.read("credential");
    Ok(Credential {
        id: columns.shown()?,
        identity: columns.shown()?,
        principal: PrincipalRef {
            name: columns.text()?,
            immutable_id: columns.maybe_text()?,
        },
        key_id: columns.maybe_text()?.map(KeyId),
        secret: columns.maybe_shown()?,
        state: columns.json()?,
        created_at: columns.time()?,
        proven_at: columns.maybe_time()?,
        expires_at: columns.maybe_time()?,
    })
}

pub(crate) fn life(row: Row) -> Result<CredentialState> {
    row.read("credential").json()
}
