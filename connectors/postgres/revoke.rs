//! Taking a credential away by its recorded id, disabling an account, and stripping its rights.

use keyfall_sdk::{
    BoxFuture, CallContext, ConnectorError, Entitle, PrincipalRef, Result, Revoke, RevokeCall, Revoked, Suspend,
};

use super::Postgres;
use super::account::Account;
use super::admin::{Deadline, Seat};
use super::ask::Ask;
use super::quote::identifier;
use super::role::Role;

impl Revoke for Postgres {
    fn revoke<'a>(&'a self, ctx: &'a CallContext, call: &'a RevokeCall) -> BoxFuture<'a, Result<Revoked>> {
        Box::pin(self.take_secret(ctx, call))
    }

    fn delete_principal<'a>(
        &'a self,
        ctx: &'a CallContext,
        principal: &'a PrincipalRef,
    ) -> BoxFuture<'a, Result<Revoked>> {
        Box::pin(self.delete(ctx, principal))
    }
}

impl Suspend for Postgres {
    fn suspend<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.set_login(ctx, principal, false))
    }

    fn resume<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.set_login(ctx, principal, true))
    }
}

impl Entitle for Postgres {
    fn strip<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(self.take_rights(ctx, principal))
    }
}

impl Postgres {
    /// A seat in a transaction that holds the role's lock, and the role as it is.
    pub(super) async fn role_locked(
        &self,
        deadline: Deadline,
        principal: &PrincipalRef,
        what: &str,
    ) -> Result<(Seat<'_>, Option<Role>)> {
        self.admin.refuse_own(&principal.name)?;
        let (seat, rows) = self
            .admin
            .begin(self.admin.control()?, deadline, what, |facts| {
                Role::read_locked(facts, principal, deadline)
            })
            .await?;
        let role = Role::found(&rows)?;
        if let Some(Err(conflict)) = role.as_ref().map(|role| role.check_recorded(principal)) {
            seat.leave().await;
            return Err(conflict);
        }
        Ok((seat, role))
    }

    /// The password becomes null, which the server refuses like a wrong one (28P01). NOLOGIN stays away until the death is
    /// proven: no proof rests on a disabled account, and PgBouncer finds no such user in `pg_shadow` then and asks for none.
    async fn take_secret(&self, ctx: &CallContext, call: &RevokeCall) -> Result<Revoked> {
        let what = "reading the account before its credential is revoked";
        let (seat, role) = self.role_locked(Deadline::of(ctx), &call.principal, what).await?;
        let account = match holder(call, role, seat.facts.reads_verifiers) {
            Ok(Some(role)) => identifier(&role.name)?,
            outcome => {
                seat.leave().await;
                return outcome.map(|_| Revoked::AlreadyGone);
            }
        };
        let sql = format!("ALTER ROLE {account} PASSWORD NULL; COMMIT");
        seat.commit(&format!("revoking the credential {}", call.key_id.0), &sql)
            .await?;
        Ok(Revoked::Revoked)
    }

    async fn set_login(&self, ctx: &CallContext, principal: &PrincipalRef, login: bool) -> Result<()> {
        let what = "reading the account before it is disabled or enabled";
        let (seat, role) = self.role_locked(Deadline::of(ctx), principal, what).await?;
        let Some(role) = role else {
            seat.leave().await;
            return Err(ConnectorError::not_found(format!(
                "the role {:?} does not exist",
                principal.name
            )));
        };
        if role.can_login == login {
            seat.leave().await;
            return Ok(());
        }
        let word = if login { "LOGIN" } else { "NOLOGIN" };
        let account = identifier(&role.name)?;
        seat.commit(
            "changing whether the account may log in",
            &format!("ALTER ROLE {account} {word}; COMMIT"),
        )
        .await?;
        Ok(())
    }

    async fn take_rights(&self, ctx: &CallContext, principal: &PrincipalRef) -> Result<Vec<String>> {
        let what = "reading the account's rights before they are taken away";
        let (mut seat, role) = self.role_locked(Deadline::of(ctx), principal, what).await?;
        let Some(role) = role else {
            seat.leave().await;
            return Ok(Vec::new());
        };
        let select = Ask::new(Account::select(&seat.facts, "r.oid = $1")).with(&role.oid);
        let rows = seat.read(what, select).await?;
        let Some(account) = Account::all(&rows)?.pop() else {
            seat.leave().await;
            return Ok(Vec::new());
        };
        let statements = account.revocations(&seat.facts)?;
        if statements.is_empty() {
            seat.leave().await;
            return Ok(Vec::new());
        }
        let sql = format!("{}; COMMIT", statements.join("; "));
        seat.commit("taking the account's rights away", &sql).await?;
        Ok(account.removable_grants())
    }
}

/// The role when it holds the recorded credential, `None` when it holds none any more.
fn holder(call: &RevokeCall, role: Option<Role>, readable: bool) -> Result<Option<Role>> {
    let Some(role) = role else { return Ok(None) };
    if !readable {
        return Err(ConnectorError::denied(
            "the admin role may not read pg_authid, so it cannot be checked that the recorded credential is the one to \
             revoke; grant it SELECT on pg_authid",
        ));
    }
    match role.key_id() {
        None => Ok(None),
        Some(held) if held == call.key_id => Ok(Some(role)),
        Some(held) => Err(ConnectorError::conflict(format!(
            "the account {:?} holds the credential {} and not the recorded {}: somebody else set its password; nothing \
             was touched",
            role.name, held.0, call.key_id.0
        ))),
    }
}
