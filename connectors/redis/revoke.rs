//! Taking one password, or a whole user, off every control node. What is gone already is a success, and is saved again.

use keyfall_sdk::{
    BoxFuture, CallContext, ConnectorError, ErrorKind, KeyId, PrincipalRef, Result, Revoke, RevokeCall, Revoked,
};

use super::acl::AclUser;
use super::issue::{partial, read_everywhere};
use super::key::StoredHash;
use super::node::{Deadline, Session};
use super::{RedisConnector, check_recorded};

impl Revoke for RedisConnector {
    fn revoke<'a>(&'a self, ctx: &'a CallContext, call: &'a RevokeCall) -> BoxFuture<'a, Result<Revoked>> {
        Box::pin(self.revoke_everywhere(ctx, call))
    }

    fn delete_principal<'a>(
        &'a self,
        ctx: &'a CallContext,
        principal: &'a PrincipalRef,
    ) -> BoxFuture<'a, Result<Revoked>> {
        Box::pin(self.delete_everywhere(ctx, principal))
    }
}

impl RedisConnector {
    async fn revoke_everywhere(&self, ctx: &CallContext, call: &RevokeCall) -> Result<Revoked> {
        check_recorded(&call.principal)?;
        let mut sessions = self.open_all(Deadline::of(ctx)).await?;
        let found = read_everywhere(&mut sessions, &call.principal.name).await?;
        let mut targets = Vec::new();
        for user in &found {
            targets.push(match user {
                Some(user) => self.target(user, &call.key_id)?,
                None => None,
            });
        }
        let mut done = Vec::new();
        for (session, target) in sessions.iter_mut().zip(&targets) {
            session.forget_cut(&call.principal.name);
            let outcome = remove(session, &call.principal.name, target.as_ref()).await;
            outcome.map_err(|error| partial(&done, session.vantage_name(), error))?;
            session.keep_cut(&call.principal.name).await;
            done.push(session.vantage_name());
        }
        Ok(outcome_of(targets.iter().any(Option::is_some)))
    }

    /// The listed password that the recorded id names. `None` when the user does not hold it any more.
    fn target(&self, user: &AclUser, key_id: &KeyId) -> Result<Option<StoredHash>> {
        if user.nopass {
            return Err(ConnectorError::conflict(format!(
                "Redis user `{}` is `nopass`: it takes any password, so taking one away ends nothing. Give it passwords \
                 of its own, or delete it.",
                user.name
            )));
        }
        let target = user
            .hashes
            .iter()
            .find(|hash| self.key_ids.of(&user.name, hash) == *key_id);
        let is_ours = self
            .admin
            .as_ref()
            .is_some_and(|admin| user.name == admin.username && target == Some(&StoredHash::of(&admin.secret)));
        if is_ours {
            return Err(ConnectorError::conflict(
                "This is the password with which Keyfall is logged in here; give the system its new admin credential first.",
            ));
        }
        Ok(target.cloned())
    }

    async fn delete_everywhere(&self, ctx: &CallContext, principal: &PrincipalRef) -> Result<Revoked> {
        check_recorded(principal)?;
        self.spare_own_account(principal, "delete")?;
        if principal.name == "default" {
            return Err(ConnectorError::unsupported(
                "Redis cannot delete its `default` user; disable it instead.",
            ));
        }
        let mut sessions = self.open_all(Deadline::of(ctx)).await?;
        let mut done = Vec::new();
        let mut deleted = 0_u32;
        for session in &mut sessions {
            let outcome = delete(session, &principal.name).await;
            deleted += outcome.map_err(|error| partial(&done, session.vantage_name(), error))?;
            done.push(session.vantage_name());
        }
        Ok(outcome_of(deleted > 0))
    }
}

async fn remove(session: &mut Session<'_>, user: &str, target: Option<&StoredHash>) -> Result<()> {
    if let Some(hash) = target {
        let mut cmd = redis::cmd("ACL");
        cmd.arg("SETUSER").arg(user).arg(format!("!{}", hash.0));
        let outcome = session.write::<()>(&cmd, "ACL SETUSER to remove a password").await;
        if let Err(error) = outcome {
            if error.kind() != ErrorKind::Unsupported {
                return Err(error);
            }
            // Redis reports a password that is not there as an error; somebody may have been quicker than us.
            if session.user(user).await?.is_some_and(|user| user.holds(hash)) {
                return Err(error);
            }
        }
    }
    session.persist().await?;
    Ok(())
}

/// `ACL DELUSER` also closes the user's connections. Answers how many users went.
async fn delete(session: &mut Session<'_>, user: &str) -> Result<u32> {
    let deleted = session
        .write::<u32>(redis::cmd("ACL").arg("DELUSER").arg(user), "ACL DELUSER")
        .await?;
    session.persist().await?;
    Ok(deleted)
}

fn outcome_of(changed: bool) -> Revoked {
    if changed {
        Revoked::Revoked
    } else {
        Revoked::AlreadyGone
    }
}
