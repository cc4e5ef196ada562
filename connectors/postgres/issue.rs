//! Putting a secret on an account, and reading whether it is there. The server is given a SCRAM verifier, never the secret.

use std::num::NonZeroU32;

use futures_util::future::join;
use keyfall_sdk::{
    BoxFuture, CallContext, ConnectorError, Issue, IssueCall, IssueObservation, Issued, Placement, PrincipalRef,
    PrincipalState, Result,
};
use serde_json::Value;

use super::Postgres;
use super::account::is_membership;
use super::admin::{Deadline, Facts};
use super::ask::Ask;
use super::config::{Access, access_problems};
use super::link::Rows;
use super::quote::{identifier, literal};
use super::role::{Role, checked_name, key_id, lock, mark};
use super::scram::{ITERATIONS, Verifier, fresh_salt};

/// What a new account must never be able to do, whatever the server's defaults say. NOINHERIT, because an account with an
/// owner acts as that owner from its first statement on; with rights of its own it could create things that it owns itself.
const POWERLESS: &str = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS";

impl Issue for Postgres {
    fn check_access(&self, access: &Value) -> Vec<String> {
        access_problems(access)
    }

    /// With an owner the account shows the owner alone: the other roles are the owner's.
    fn lacking(&self, access: &Value, state: &PrincipalState) -> Vec<String> {
        let Ok(access) = Access::parse(access) else {
            return Vec::new();
        };
        let held = |role: &String| state.grants.iter().any(|grant| is_membership(grant, role));
        let wanted = match access.owner {
            Some(owner) => vec![owner],
            None => access.member_of,
        };
        let missing = wanted.iter().filter(|role| !held(role));
        missing.map(|role| format!("it is no member of {role}")).collect()
    }

    fn issue<'a>(&'a self, ctx: &'a CallContext, call: &'a IssueCall) -> BoxFuture<'a, Result<Issued>> {
        Box::pin(self.put_secret(ctx, call))
    }

    fn observe<'a>(&'a self, ctx: &'a CallContext, call: &'a IssueCall) -> BoxFuture<'a, Result<IssueObservation>> {
        Box::pin(self.look_for_secret(ctx, call))
    }
}

/// The group role that an identity's accounts act as, as the catalog shows it.
struct Owner {
    name: String,
    exists: bool,
    /// Roles that it is already a member of.
    member_of: Vec<String>,
}

impl Postgres {
    async fn put_secret(&self, ctx: &CallContext, call: &IssueCall) -> Result<Issued> {
        let deadline = Deadline::of(ctx);
        let access = Access::parse(&call.access)
            .map_err(|error| ConnectorError::conflict(format!("the identity's `access` cannot be used: {error}")))?;
        let name = &call.principal.name;
        let what = "reading the account before a secret is issued";
        let begin = self.admin.begin(self.admin.control()?, deadline, what, |facts| {
            let mut asks = Role::read_locked(facts, &call.principal, deadline)?;
            asks.extend(read_memberships(name, &access)?);
            Ok(asks)
        });
        let (begun, verifier) = join(begin, self.new_verifier(call)).await;
        let (seat, rows) = begun?;
        let role = Role::found(&rows)?;
        let decided = decide(call, role.as_ref(), &seat.facts).and(verifier);
        let statements = decided.and_then(|verifier| {
            let verifier = verifier.to_string();
            let sql = statements(call, &access, role.as_ref(), &rows, &verifier)?;
            Ok((sql, verifier))
        });
        let (sql, verifier) = match statements {
            Ok(ready) => ready,
            Err(error) => {
                seat.leave().await;
                return Err(error);
            }
        };
        let rows = seat.commit("putting the secret on the account", &sql).await?;
        let made = || rows.last()?.first()?.first()?.clone();
        let oid = match &role {
            Some(role) => role.oid.clone(),
            None => made().ok_or_else(|| {
                ConnectorError::ambiguous("the account was written, and the server did not say its OID")
            })?,
        };
        Ok(Issued {
            key_id: key_id(&oid, &verifier),
            principal: PrincipalRef {
                name: name.clone(),
                immutable_id: Some(oid),
            },
            created_principal: role.is_none() || call.principal.immutable_id.is_none(),
        })
    }

    /// The salted key is left where the coming logins look for it.
    async fn new_verifier(&self, call: &IssueCall) -> Result<Verifier> {
        let salt = fresh_salt().map_err(|error| ConnectorError::transient(error.to_string()))?;
        let iterations = NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN);
        let key = self.keys.derive(&call.secret, &salt, iterations).await;
        Ok(Verifier::new(&key, salt, iterations))
    }

    async fn look_for_secret(&self, ctx: &CallContext, call: &IssueCall) -> Result<IssueObservation> {
        let what = "reading whether the secret is on the account";
        let deadline = Deadline::of(ctx);
        let (seat, rows) = self
            .admin
            .begin(self.admin.control()?, deadline, what, |facts| {
                Role::read_locked(facts, &call.principal, deadline)
            })
            .await?;
        let readable = seat.facts.reads_verifiers;
        seat.leave().await;
        let Some(role) = Role::found(&rows)? else {
            return Ok(IssueObservation::NotApplied);
        };
        if call.principal.immutable_id.is_some() {
            role.check_recorded(&call.principal)?;
        }
        if !readable {
            return Ok(IssueObservation::Unknown {
                why: "the admin role may not read pg_authid, so what an account holds cannot be seen; try the secret by a login".to_owned(),
            });
        }
        let held = role.verifier.as_deref().and_then(Verifier::parse);
        let secret = call.secret.clone();
        let matches = tokio::task::spawn_blocking(move || held.is_some_and(|held| held.is_of(secret.expose_secret())))
            .await
            .map_err(|_| ConnectorError::transient("comparing the stored verifier was cut off; try again"))?;
        Ok(match role.key_id().filter(|_| matches) {
            Some(key_id) => IssueObservation::Applied(Issued {
                principal: PrincipalRef {
                    name: role.name.clone(),
                    immutable_id: Some(role.oid.clone()),
                },
                key_id,
                created_principal: call.principal.immutable_id.is_none(),
            }),
            None => IssueObservation::NotApplied,
        })
    }
}

/// Whether the secret may go onto what is there.
fn decide(call: &IssueCall, role: Option<&Role>, facts: &Facts) -> Result<()> {
    let name = &call.principal.name;
    let Some(role) = role else {
        return match &call.principal.immutable_id {
            None => Ok(()),
            Some(oid) => Err(ConnectorError::not_found(format!(
                "the recorded account {name:?} (OID {oid}) does not exist any more"
            ))),
        };
    };
    if call.principal.immutable_id.is_some() {
        role.check_recorded(&call.principal)?;
    } else if role.comment.as_deref() != Some(mark(&call.marker).as_str()) {
        return Err(ConnectorError::conflict(format!(
            "a role {name:?} exists already and this run did not make it; adopt it or choose another name"
        )));
    }
    if !role.can_login && (role.verifier.is_some() || !facts.reads_verifiers) {
        return Err(ConnectorError::conflict(format!(
            "the account {name:?} is disabled (NOLOGIN) and holds a credential; resume it before it gets another one"
        )));
    }
    if role.lapsed {
        return Err(ConnectorError::conflict(format!(
            "the account {name:?} has a VALID UNTIL in the past and would refuse any secret; extend it first"
        )));
    }
    if call.placement == Placement::Alongside && role.verifier.is_some() && call.principal.immutable_id.is_some() {
        return Err(ConnectorError::conflict(format!(
            "the account {name:?} holds a credential and a role has room for one; revoke that one first, or replace it in place"
        )));
    }
    match role.key_id() {
        Some(held) if call.placement == Placement::Replace && !call.replaces.contains(&held) => {
            Err(ConnectorError::conflict(format!(
                "the account {name:?} holds the credential {}, which nobody recorded: somebody else set its password; nothing was touched",
                held.0
            )))
        }
        _ => Ok(()),
    }
}

const MEMBERSHIPS: &str = "SELECT r.rolname, g.rolname, r.rolcanlogin OR r.rolsuper FROM pg_roles r \
    LEFT JOIN pg_auth_members m ON m.member = r.oid LEFT JOIN pg_roles g ON g.oid = m.roleid WHERE r.rolname = $1";

/// Results of [`read_memberships`], behind the lock on the account's name and the role itself.
const OF_ACCOUNT: usize = 2;
const OF_OWNER: usize = 4;

/// What the account is a member of, where it shall be a member of anything. Where it has an owner: a lock on that, whom two issues may otherwise make at the same time, and the owner
/// (with whether it can serve as one) and its memberships.
fn read_memberships(name: &str, access: &Access) -> Result<Vec<Ask>> {
    let of = |name| Ask::new(MEMBERSHIPS).with(name);
    let name = checked_name(name)?;
    if access.owner.is_none() && access.member_of.is_empty() {
        return Ok(Vec::new());
    }
    let mut asks = vec![of(name)];
    if let Some(owner) = &access.owner {
        let owner = checked_name(owner)?;
        asks.extend([lock(owner), of(owner)]);
    }
    Ok(asks)
}

fn memberships(rows: &[Rows], index: usize) -> Vec<String> {
    rows.get(index)
        .into_iter()
        .flatten()
        .filter_map(|row| row.get(1).cloned().flatten())
        .collect()
}

fn owner(access: &Access, rows: &[Rows]) -> Result<Option<Owner>> {
    let Some(name) = &access.owner else { return Ok(None) };
    let first = rows.get(OF_OWNER).and_then(|rows| rows.first());
    if first.is_some_and(|row| row.get(2).is_some_and(|flag| flag.as_deref() == Some("t"))) {
        return Err(ConnectorError::conflict(format!(
            "the owner {name:?} can log in or is a superuser; an owner must be a plain group role (NOLOGIN)"
        )));
    }
    Ok(Some(Owner {
        name: name.clone(),
        exists: first.is_some(),
        member_of: memberships(rows, OF_OWNER),
    }))
}

/// The batch that makes it so. Everything in it is one transaction.
fn statements(call: &IssueCall, access: &Access, role: Option<&Role>, rows: &[Rows], verifier: &str) -> Result<String> {
    let account = identifier(&call.principal.name)?;
    let comment = literal(&mark(&call.marker))?;
    let password = literal(verifier)?;
    let mut batch = Vec::new();
    match role {
        None => {
            let inherit = if access.owner.is_some() { "NOINHERIT" } else { "INHERIT" };
            batch.push(format!(
                "CREATE ROLE {account} LOGIN {inherit} {POWERLESS} PASSWORD {password}"
            ));
            batch.push(format!("COMMENT ON ROLE {account} IS {comment}"));
        }
        Some(role) => {
            batch.push(format!("ALTER ROLE {account} LOGIN PASSWORD {password}"));
            if role.is_marked() {
                batch.push(format!("COMMENT ON ROLE {account} IS {comment}"));
            }
        }
    }
    // What an adopted account may do is not ours to change while its secret is replaced.
    if role.is_none_or(Role::is_marked) {
        entitle(&mut batch, call, access, role, rows)?;
    }
    if role.is_none() {
        let name = literal(&call.principal.name)?;
        batch.push(format!("SELECT oid FROM pg_roles WHERE rolname = {name}"));
    }
    batch.push("COMMIT".to_owned());
    Ok(batch.join("; "))
}

fn entitle(
    batch: &mut Vec<String>,
    call: &IssueCall,
    access: &Access,
    role: Option<&Role>,
    rows: &[Rows],
) -> Result<()> {
    let account = identifier(&call.principal.name)?;
    let holds = memberships(rows, OF_ACCOUNT);
    let mut grant = |to: &str, held: &[String], granted: &str| -> Result<()> {
        if !held.iter().any(|held| held == granted) {
            batch.push(format!("GRANT {} TO {to}", identifier(granted)?));
        }
        Ok(())
    };
    let Some(owner) = owner(access, rows)? else {
        return access
            .member_of
            .iter()
            .try_for_each(|granted| grant(&account, &holds, granted));
    };
    let group = identifier(&owner.name)?;
    let mut made = Vec::new();
    if !owner.exists {
        made.push(format!("CREATE ROLE {group} NOLOGIN INHERIT {POWERLESS}"));
        made.push(format!(
            "COMMENT ON ROLE {group} IS {}",
            literal(&mark(&format!("group role, {}", call.marker)))?
        ));
    }
    access
        .member_of
        .iter()
        .try_for_each(|granted| grant(&group, &owner.member_of, granted))?;
    grant(&account, &holds, &owner.name)?;
    if role.and_then(|role| role.owner.as_deref()) != Some(owner.name.as_str()) {
        batch.push(format!("ALTER ROLE {account} SET role = {}", literal(&owner.name)?));
    }
    batch.splice(0..0, made);
    Ok(())
}
