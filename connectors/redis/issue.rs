//! Putting a password on an ACL user, on every control node. `ACL SETUSER` with the same password is the same state, so
//! the call may be repeated until every node has it.

use keyfall_sdk::{
    BoxFuture, CallContext, ConnectorError, ErrorKind, Issue, IssueCall, IssueObservation, Issued, Placement,
    PrincipalRef, PrincipalState, Result,
};
use redis::Cmd;
use serde_json::Value;

use super::access::{self, Access};
use super::acl::AclUser;
use super::key::StoredHash;
use super::node::{Deadline, Session};
use super::{RedisConnector, check_recorded};

impl Issue for RedisConnector {
    fn check_access(&self, access: &Value) -> Vec<String> {
        access::parse(access).err().unwrap_or_default()
    }

    /// Redis writes commands in words of its own, so that keys and channels are compared.
    fn lacking(&self, access: &Value, state: &PrincipalState) -> Vec<String> {
        let rules = access::parse(access).ok().and_then(|access| access.rules);
        let places = rules.into_iter().flatten().filter(|rule| access::is_place(rule));
        let missing = places.filter(|place| !state.grants.iter().any(|grant| access::is_same_place(grant, place)));
        missing.map(|place| format!("it may not use {place}")).collect()
    }

    fn issue<'a>(&'a self, ctx: &'a CallContext, call: &'a IssueCall) -> BoxFuture<'a, Result<Issued>> {
        Box::pin(self.issue_everywhere(ctx, call))
    }

    fn observe<'a>(&'a self, ctx: &'a CallContext, call: &'a IssueCall) -> BoxFuture<'a, Result<IssueObservation>> {
        Box::pin(self.observe_everywhere(ctx, call))
    }
}

impl RedisConnector {
    async fn issue_everywhere(&self, ctx: &CallContext, call: &IssueCall) -> Result<Issued> {
        let access =
            access::parse(&call.access).map_err(|problems| ConnectorError::unsupported(problems.join("; ")))?;
        check_name(&call.principal.name)?;
        let hash = StoredHash::of(&call.secret);
        let mut sessions = self.open_all(Deadline::of(ctx)).await?;
        let found = read_everywhere(&mut sessions, &call.principal.name).await?;
        let created_principal = judge(call, &access, &hash, &found)?;
        self.nothing_strange(call, &hash, &found)?;
        let mut done = Vec::new();
        for (session, user) in sessions.iter_mut().zip(&found) {
            let cmd = set_user(call, &access, &hash, user.as_ref());
            let cuts = call.placement == Placement::Replace;
            if cuts {
                session.forget_cut(&call.principal.name);
            }
            let outcome = match apply(session, &cmd).await {
                Err(error) if cuts => Err(overtaken(session, user.as_ref(), &call.principal.name, error).await),
                outcome => outcome,
            };
            outcome.map_err(|error| partial(&done, session.vantage_name(), error))?;
            if cuts {
                session.keep_cut(&call.principal.name).await;
            }
            done.push(session.vantage_name());
        }
        Ok(self.issued(call, &hash, created_principal))
    }

    async fn observe_everywhere(&self, ctx: &CallContext, call: &IssueCall) -> Result<IssueObservation> {
        let hash = StoredHash::of(&call.secret);
        let mut sessions = self.open_all(Deadline::of(ctx)).await?;
        let found = read_everywhere(&mut sessions, &call.principal.name).await?;
        let (with, without): (Vec<_>, Vec<_>) = sessions
            .iter()
            .map(Session::vantage_name)
            .zip(&found)
            .partition(|(_, user)| user.as_ref().is_some_and(|user| user.holds(&hash)));
        if with.is_empty() {
            return Ok(IssueObservation::NotApplied);
        }
        if without.is_empty() {
            let created = call.principal.immutable_id.is_none() && holds_nothing_else(&found, &hash);
            return Ok(IssueObservation::Applied(self.issued(call, &hash, created)));
        }
        let names =
            |nodes: &[(&str, &Option<AclUser>)]| nodes.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        Ok(IssueObservation::Unknown {
            why: format!(
                "The password is on {} and not on {}; repeat the call to bring every node to it.",
                names(&with),
                names(&without)
            ),
        })
    }

    /// Only what was recorded makes room.
    fn nothing_strange(&self, call: &IssueCall, hash: &StoredHash, found: &[Option<AclUser>]) -> Result<()> {
        if call.placement != Placement::Replace {
            return Ok(());
        }
        for user in found.iter().flatten() {
            let held = user.hashes.iter().filter(|held| *held != hash);
            let mut ids = held.map(|held| self.key_ids.of(&user.name, held));
            if let Some(strange) = ids.find(|id| !call.replaces.contains(id)) {
                return Err(ConnectorError::conflict(format!(
                    "Redis user `{}` holds the password {}, which nobody recorded: somebody else put it there. Nothing was \
                     touched.",
                    user.name, strange.0
                )));
            }
        }
        Ok(())
    }

    fn issued(&self, call: &IssueCall, hash: &StoredHash, created_principal: bool) -> Issued {
        Issued {
            principal: PrincipalRef {
                name: call.principal.name.clone(),
                immutable_id: Some(call.principal.name.clone()),
            },
            key_id: self.key_ids.of(&call.principal.name, hash),
            created_principal,
        }
    }
}

pub(super) async fn read_everywhere(sessions: &mut [Session<'_>], name: &str) -> Result<Vec<Option<AclUser>>> {
    let mut found = Vec::new();
    for session in sessions {
        found.push(session.user(name).await?);
    }
    Ok(found)
}

/// Sends one change and saves it.
pub(super) async fn apply(session: &mut Session<'_>, cmd: &Cmd) -> Result<()> {
    session.write::<()>(cmd, "ACL SETUSER").await?;
    session.persist().await?;
    Ok(())
}

/// Redis refuses a change whole when a password that it shall take away is gone: somebody was quicker between the look and the change.
async fn overtaken(
    session: &mut Session<'_>,
    before: Option<&AclUser>,
    name: &str,
    error: ConnectorError,
) -> ConnectorError {
    if error.kind() != ErrorKind::Unsupported {
        return error;
    }
    let hashes = |user: Option<&AclUser>| user.map(|user| user.hashes.clone());
    match session.user(name).await {
        Ok(after) if hashes(after.as_ref()) != hashes(before) => ConnectorError::transient(format!(
            "Redis user `{name}` was changed on {} in this very moment, and keeps what it was given; look again.",
            session.vantage_name()
        )),
        _ => error,
    }
}

/// A failure after some node was changed leaves the nodes unequal, which only a repetition can heal.
pub(super) fn partial(done: &[&str], at: &str, error: ConnectorError) -> ConnectorError {
    if done.is_empty() {
        return error;
    }
    let code = error.code().map(str::to_owned);
    let made = ConnectorError::ambiguous(format!(
        "The change was made on {} but failed on {at}; repeat it to bring every node to the same state: {}",
        done.join(", "),
        error.message()
    ));
    match code {
        Some(code) => made.with_code(code),
        None => made,
    }
}

/// Decides from what the nodes show whether the call may go on. Answers whether the account is of this call's making.
///
/// Redis has no room for a marker. What marks an account as ours instead is that it holds this call's own secret, which
/// nobody else ever saw.
fn judge(call: &IssueCall, access: &Access, hash: &StoredHash, found: &[Option<AclUser>]) -> Result<bool> {
    let name = &call.principal.name;
    if found.iter().flatten().any(|user| user.nopass) {
        return Err(ConnectorError::conflict(format!(
            "Redis user `{name}` is `nopass`: it takes any password, and giving it one would lock out whoever uses it. \
             Give it a password by hand first."
        )));
    }
    if call.principal.immutable_id.is_none() {
        if found.iter().flatten().any(|user| !user.holds(hash)) {
            return Err(ConnectorError::conflict(format!(
                "Redis user `{name}` exists already and was not made by this call; adopt it or choose another name."
            )));
        }
        return Ok(holds_nothing_else(found, hash));
    }
    check_recorded(&call.principal)?;
    if found.iter().all(Option::is_none) {
        return Err(ConnectorError::not_found(format!(
            "Redis user `{name}` is recorded but exists on no node any more."
        )));
    }
    if access.rules.is_none() && found.iter().any(Option::is_none) {
        return Err(ConnectorError::conflict(format!(
            "Redis user `{name}` is missing on some nodes, and its `access` has no `rules` to make it there with; state \
             them, or create it by hand."
        )));
    }
    Ok(false)
}

fn holds_nothing_else(found: &[Option<AclUser>], hash: &StoredHash) -> bool {
    found
        .iter()
        .flatten()
        .all(|user| user.hashes == std::slice::from_ref(hash))
}

/// One `ACL SETUSER`, which Redis applies whole or not at all. Stated rules replace what the account may do; without rules
/// an existing account keeps its rights. What makes room is named: `resetpass` would take along what was added since the look.
fn set_user(call: &IssueCall, access: &Access, hash: &StoredHash, existing: Option<&AclUser>) -> Cmd {
    let mut cmd = redis::cmd("ACL");
    cmd.arg("SETUSER").arg(&call.principal.name).arg("on");
    cmd.arg(format!("#{}", hash.0));
    if call.placement == Placement::Replace {
        let held = existing.into_iter().flat_map(|user| &user.hashes);
        for old in held.filter(|held| *held != hash) {
            cmd.arg(format!("!{}", old.0));
        }
    }
    if access.rules.is_some() || existing.is_none() {
        cmd.arg("resetkeys").arg("resetchannels").arg("-@all");
        if existing.is_some_and(|user| !user.selectors.is_empty()) {
            cmd.arg("clearselectors");
        }
    }
    cmd.arg(access.rules.as_deref().unwrap_or_default());
    cmd
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(ConnectorError::unsupported(format!(
            "{name:?} cannot be the name of a Redis user: it must not be empty or hold spaces or control characters."
        )));
    }
    Ok(())
}
