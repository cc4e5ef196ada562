//! Switching a user off and on again, and taking its rights away, on every control node.

use std::collections::BTreeSet;

use keyfall_sdk::{BoxFuture, CallContext, ConnectorError, Entitle, PrincipalRef, Result, Suspend};

use super::issue::{apply, partial, read_everywhere};
use super::node::Deadline;
use super::{RedisConnector, check_recorded};

impl Suspend for RedisConnector {
    fn suspend<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.spare_own_account(principal, "disable")?;
            self.change_everywhere(ctx, principal, &["off"]).await?;
            Ok(())
        })
    }

    fn resume<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.change_everywhere(ctx, principal, &["on"]).await?;
            Ok(())
        })
    }
}

impl Entitle for RedisConnector {
    fn strip<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            self.spare_own_account(principal, "strip")?;
            self.change_everywhere(ctx, principal, &["-@all", "resetkeys", "resetchannels"])
                .await
        })
    }
}

impl RedisConnector {
    /// Applies modifiers wherever the user exists (`ACL SETUSER` would create it where it does not). Answers the grants that
    /// it had before, over all nodes.
    async fn change_everywhere(
        &self,
        ctx: &CallContext,
        principal: &PrincipalRef,
        modifiers: &[&str],
    ) -> Result<Vec<String>> {
        check_recorded(principal)?;
        let mut sessions = self.open_all(Deadline::of(ctx)).await?;
        let found = read_everywhere(&mut sessions, &principal.name).await?;
        if found.iter().all(Option::is_none) {
            return Err(ConnectorError::not_found(format!(
                "Redis user `{}` exists on no node.",
                principal.name
            )));
        }
        let mut before = BTreeSet::new();
        let mut done = Vec::new();
        for (session, user) in sessions.iter_mut().zip(&found) {
            let Some(user) = user else { continue };
            before.extend(user.grants().into_iter().filter(|grant| grant != "nopass"));
            let mut cmd = redis::cmd("ACL");
            cmd.arg("SETUSER").arg(&principal.name).arg(modifiers);
            if modifiers.contains(&"-@all") && !user.selectors.is_empty() {
                cmd.arg("clearselectors");
            }
            let outcome = apply(session, &cmd).await;
            outcome.map_err(|error| partial(&done, session.vantage_name(), error))?;
            done.push(session.vantage_name());
        }
        Ok(before.into_iter().collect())
    }
}
