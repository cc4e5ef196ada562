//! Deleting an account: what it owns goes to the group role that it acted as, its rights on objects go, then it goes.
//!
//! Objects live in databases, so each one that holds something of the account is visited, each in a transaction that
//! checks the OID again. Cut off anywhere, the whole can be repeated.

use keyfall_sdk::{CallContext, ConnectorError, PrincipalRef, Result, Revoked};

use super::Postgres;
use super::admin::Deadline;
use super::ask::Ask;
use super::link::Rows;
use super::quote::identifier;
use super::role::Role;

const HOLDINGS: &str = "SELECT d.datname, coalesce(d.datallowconn, true), count(*) FILTER (WHERE s.deptype = 'o') \
    FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid \
    WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = $1 GROUP BY 1, 2 ORDER BY 1";

/// What one database holds of the account. The cluster's own objects (a database, say) have no database.
struct Holding {
    database: Option<String>,
    reachable: bool,
    owned: u64,
}

impl Postgres {
    pub(super) async fn delete(&self, ctx: &CallContext, principal: &PrincipalRef) -> Result<Revoked> {
        let deadline = Deadline::of(ctx);
        let what = "reading what the account owns before it is deleted";
        let (mut seat, role) = self.role_locked(deadline, principal, what).await?;
        let Some(role) = role else {
            seat.leave().await;
            return Ok(Revoked::AlreadyGone);
        };
        let rows = seat.read(what, Ask::new(HOLDINGS).with(&role.oid)).await;
        let superuser = seat.facts.superuser;
        seat.leave().await;
        let holdings = holdings(&rows?);
        check_heir(&role, &holdings)?;

        let hand_over = hand_over(&role, superuser)?;
        for holding in &holdings {
            match &holding.database {
                Some(database) if !self.admin.is_admin_database(database) => {
                    self.hand_over_in(database, deadline, principal, &hand_over).await?;
                }
                _ => {}
            }
        }
        let (seat, role) = self.role_locked(deadline, principal, what).await?;
        let Some(role) = role else {
            seat.leave().await;
            return Ok(Revoked::AlreadyGone);
        };
        let sql = format!("{hand_over}; DROP ROLE {}; COMMIT", identifier(&role.name)?);
        seat.commit("deleting the account", &sql).await?;
        Ok(Revoked::Revoked)
    }

    async fn hand_over_in(
        &self,
        database: &str,
        deadline: Deadline,
        principal: &PrincipalRef,
        hand_over: &str,
    ) -> Result<()> {
        let what = format!("handing over what the account owns in database {database}");
        let (seat, rows) = self
            .admin
            .begin_in(database, deadline, &what, |facts| {
                Role::read_locked(facts, principal, deadline)
            })
            .await?;
        let Some(role) = Role::found(&rows)? else { return Ok(()) };
        role.check_recorded(principal)?;
        seat.commit(&what, &format!("{hand_over}; COMMIT")).await?;
        Ok(())
    }
}

fn holdings(rows: &[Rows]) -> Vec<Holding> {
    let column = |row: &[Option<String>], index: usize| row.get(index).cloned().flatten();
    rows.last()
        .into_iter()
        .flatten()
        .map(|row| Holding {
            database: column(row, 0),
            reachable: column(row, 1).as_deref() == Some("t"),
            owned: column(row, 2).and_then(|count| count.parse().ok()).unwrap_or_default(),
        })
        .collect()
}

/// What an account owns needs an heir, and every place it is in must be open to us.
fn check_heir(role: &Role, holdings: &[Holding]) -> Result<()> {
    let place = |holding: &Holding| match &holding.database {
        Some(database) => format!("{} object(s) in database {database}", holding.owned),
        None => format!("{} object(s) of the cluster itself", holding.owned),
    };
    if let Some(closed) = holdings.iter().find(|holding| !holding.reachable) {
        return Err(ConnectorError::conflict(format!(
            "the account {:?} has rights or {} which accepts no connections; open it or clear them by hand",
            role.name,
            place(closed)
        )));
    }
    let owned: Vec<String> = holdings.iter().filter(|holding| holding.owned > 0).map(place).collect();
    if role.owner.is_none() && !owned.is_empty() {
        return Err(ConnectorError::conflict(format!(
            "the account {:?} owns {} and acts as no group role that could inherit it; reassign what it owns, or run \
             ALTER ROLE … SET role to the one that shall have it",
            role.name,
            owned.join(", ")
        )));
    }
    Ok(())
}

/// An account without a group role owns nothing by now; what it may make in the last moment falls to us, not into the void.
///
/// Who is no superuser must be a member of both; the membership in the account lasts as long as the transaction.
fn hand_over(role: &Role, superuser: bool) -> Result<String> {
    let account = identifier(&role.name)?;
    let heir = match &role.owner {
        Some(owner) => identifier(owner)?,
        None => "CURRENT_USER".to_owned(),
    };
    let hand_over = format!("REASSIGN OWNED BY {account} TO {heir}; DROP OWNED BY {account}");
    if superuser {
        return Ok(hand_over);
    }
    Ok(format!(
        "GRANT {account} TO CURRENT_USER; {hand_over}; REVOKE {account} FROM CURRENT_USER"
    ))
}
