//! One role as the catalog shows it, read under the lock that every change of ours to that role takes.

use std::time::Duration;

use keyfall_sdk::{ConnectorError, KeyId, PrincipalRef, Result};
use ring::digest;

use super::admin::{Deadline, Facts};
use super::ask::Ask;
use super::link::Rows;
use super::quote::identifier;

/// Our advisory locks: "KEYF". A change whose reply was lost may still be running; who takes its lock has seen it end.
const LOCK_CLASS: u32 = 0x4b45_5946;
const LOCK: &str = "SELECT pg_advisory_xact_lock($1, hashtext($2))";
const LOCK_SHARED: &str = "SELECT pg_advisory_xact_lock_shared($1, hashtext($2))";

/// The transactions that hold one of these locks in this database; who only reads shares it.
const AT_WORK: &str = "SELECT DISTINCT virtualtransaction FROM pg_locks WHERE locktype = 'advisory' AND classid = $1::bigint::oid \
    AND mode = 'ExclusiveLock' AND granted AND pid <> pg_backend_pid() AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// What the comment on a role of ours begins with.
const MARK: &str = "keyfall ";

/// The comment that names the run a role comes from.
pub(super) fn mark(marker: &str) -> String {
    format!("{MARK}{marker}")
}

/// A role that logs in, or once did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) oid: String,
    /// The stored form of the password. `None` also where we may not read it: see [`Facts::reads_verifiers`].
    pub(super) verifier: Option<String>,
    pub(super) comment: Option<String>,
    pub(super) can_login: bool,
    /// `VALID UNTIL` has passed.
    pub(super) lapsed: bool,
    /// The group role that it acts as (`ALTER ROLE … SET role`).
    pub(super) owner: Option<String>,
}

impl Role {
    /// The statements that begin a transaction and read one role in it. [`Role::found`] understands their rows.
    ///
    /// A recorded role is looked for by its OID first: under another name it is still there, and so is its password.
    pub(super) fn read_locked(facts: &Facts, principal: &PrincipalRef, deadline: Deadline) -> Result<Vec<Ask>> {
        let name = checked_name(&principal.name)?;
        let oid = recorded_oid(principal)?;
        let (catalog, password) = if facts.reads_verifiers {
            ("pg_authid", "r.rolpassword")
        } else {
            ("pg_roles", "NULL")
        };
        // The row lock keeps other people's ALTER ROLE out until we commit; only a superuser may take it.
        let row_lock = if facts.superuser && !facts.standby {
            " FOR UPDATE OF r"
        } else {
            ""
        };
        let read = format!(
            "SELECT r.rolname, r.oid, {password}, shobj_description(r.oid, 'pg_authid'), r.rolcanlogin, \
             coalesce(r.rolvaliduntil < clock_timestamp(), false), \
             (SELECT substr(c, 6) FROM pg_db_role_setting s, unnest(s.setconfig) c \
              WHERE s.setrole = r.oid AND s.setdatabase = 0 AND c LIKE 'role=%') \
             FROM {catalog} r WHERE r.rolname = $1 OR r.oid = $2 ORDER BY r.oid = $2 DESC LIMIT 1{row_lock}"
        );
        Ok(vec![
            Ask::new("BEGIN ISOLATION LEVEL READ COMMITTED"),
            Ask::new(deadline.on_the_server()),
            lock(name),
            Ask::new(read).with(name).with(oid),
        ])
    }

    /// The role in the rows of [`Role::read_locked`].
    pub(super) fn found(rows: &[Rows]) -> Result<Option<Self>> {
        let garbled = || ConnectorError::protocol("the server's answer about a role is not what was asked for");
        let Some(row) = rows.get(1).ok_or_else(garbled)?.first() else {
            return Ok(None);
        };
        let [name, oid, verifier, comment, can_login, lapsed, owner] = row.as_slice() else {
            return Err(garbled());
        };
        Ok(Some(Self {
            name: name.clone().ok_or_else(garbled)?,
            oid: oid.clone().ok_or_else(garbled)?,
            verifier: verifier.clone(),
            comment: comment.clone(),
            can_login: can_login.as_deref() == Some("t"),
            lapsed: lapsed.as_deref() == Some("t"),
            owner: owner.clone(),
        }))
    }

    pub(super) fn key_id(&self) -> Option<KeyId> {
        self.verifier.as_deref().map(|verifier| key_id(&self.oid, verifier))
    }

    /// The account that was recorded, or a `Conflict`.
    pub(super) fn check_recorded(&self, principal: &PrincipalRef) -> Result<()> {
        match &principal.immutable_id {
            Some(recorded) if recorded == &self.oid && self.name == principal.name => Ok(()),
            Some(recorded) if recorded == &self.oid => Err(ConnectorError::conflict(format!(
                "the recorded account {:?} (OID {recorded}) was renamed to {:?}; name it back, or adopt it under its new name",
                principal.name, self.name
            ))),
            Some(recorded) => Err(ConnectorError::conflict(format!(
                "the role {:?} has OID {} and the recorded account has OID {recorded}: it was dropped and made again by \
                 somebody else; adopt the role that is there, or drop it",
                self.name, self.oid
            ))),
            None => Err(ConnectorError::conflict(format!(
                "no OID is recorded for {:?}, and a role is never changed by its name alone",
                self.name
            ))),
        }
    }

    pub(super) fn is_marked(&self) -> bool {
        self.comment.as_deref().is_some_and(|comment| comment.starts_with(MARK))
    }
}

/// `<oid>/<first 16 hex digits of the SHA-256 of the stored verifier>`. A SCRAM verifier holds a random salt, so nothing
/// can be guessed from its hash. An MD5 one has no salt but the name, so its hash would confirm a guess and is left out.
pub(super) fn key_id(oid: &str, verifier: &str) -> KeyId {
    if !verifier.starts_with("SCRAM-SHA-256$") {
        return KeyId(format!("{oid}/md5"));
    }
    let hash = digest::digest(&digest::SHA256, verifier.as_bytes());
    let hex: String = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    KeyId(format!("{oid}/{hex}"))
}

/// Waits for, and takes, our own lock on a role's name until the transaction ends.
pub(super) fn lock(name: &str) -> Ask {
    Ask::new(LOCK).with(LOCK_CLASS).with(name)
}

/// Waits until no change of ours to the role is at work any more. A change whose client has given up may still wait for its standby at its commit,
/// and its row looks like before to everybody else: only its lock tells.
pub(super) fn no_change_under_way(name: &str, patience: Duration) -> [Ask; 2] {
    let millis = patience.as_millis();
    [
        Ask::new("SELECT set_config('lock_timeout', $1, true)").with(format!("{millis}ms")),
        Ask::new(LOCK_SHARED).with(LOCK_CLASS).with(name),
    ]
}

/// The transactions that change a role of ours at this moment.
pub(super) fn changes_under_way() -> Ask {
    Ask::new(AT_WORK).with(LOCK_CLASS)
}

/// The recorded OID as a number; 0, which no role has, where none is recorded.
pub(super) fn recorded_oid(principal: &PrincipalRef) -> Result<u32> {
    principal.immutable_id.as_deref().map_or(Ok(0), |oid| {
        oid.parse()
            .map_err(|_| ConnectorError::conflict(format!("the recorded id {oid:?} of {:?} is no OID", principal.name)))
    })
}

/// A name to be compared with. Refused like an identifier, because comparing with a name cuts it to 63 bytes, too.
pub(super) fn checked_name(name: &str) -> Result<&str> {
    identifier(name)?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::key_id;

    #[test]
    fn an_unsalted_hash_leaves_no_fingerprint() {
        assert_eq!(key_id("7", "md5a3556571e93b0d20722ba62be61e8c2d").0, "7/md5");
        let scram = key_id("7", "SCRAM-SHA-256$4096:c2FsdA==$a:b").0;
        assert_eq!(scram.len(), "7/".len() + 16);
        assert_ne!(scram, key_id("7", "SCRAM-SHA-256$4096:c2FsdA==$a:c").0);
    }
}
