//! Reading the ACL of every control node. Never changes anything.

use std::collections::{BTreeMap, HashMap};

use keyfall_sdk::{
    BoxFuture, CallContext, ClockReading, ErrorKind, Inventory, PlaceReading, PrincipalReading, PrincipalRef,
    PrincipalState, PrincipalStatus, Result,
};

use super::RedisConnector;
use super::node::{Deadline, Session};
use super::persist::Persistence;

/// The commands that the connector sends, with what each is needed for.
const NEEDED: [(&[&str], &str); 10] = [
    (&["ACL", "USERS"], "list users"),
    (&["ACL", "GETUSER", "u"], "read users"),
    (&["ACL", "SETUSER", "u"], "change users"),
    (&["ACL", "DELUSER", "u"], "delete users"),
    (&["ACL", "SAVE"], "save changes"),
    (&["CONFIG", "GET", "aclfile"], "see where users are kept"),
    (&["INFO", "server"], "see where users are kept"),
    (&["CLIENT", "LIST"], "see sessions"),
    (&["CLIENT", "ID"], "spare Keyfall's own session"),
    (&["CLIENT", "KILL", "ID", "1"], "end sessions"),
];

impl Inventory for RedisConnector {
    fn list<'a>(&'a self, ctx: &'a CallContext) -> BoxFuture<'a, Result<Vec<PrincipalState>>> {
        Box::pin(async move {
            let mut merged: BTreeMap<String, PrincipalState> = BTreeMap::new();
            for session in &mut self.open_all(Deadline::of(ctx)).await? {
                let sessions = session_counts(session).await?;
                for user in session.users().await? {
                    let state = user.state(&self.key_ids, count_of(sessions.as_ref(), &user.name));
                    match merged.get_mut(&state.name) {
                        Some(known) => merge(known, state),
                        None => {
                            merged.insert(state.name.clone(), state);
                        }
                    }
                }
            }
            Ok(merged.into_values().collect())
        })
    }

    fn read<'a>(
        &'a self,
        ctx: &'a CallContext,
        principal: &'a PrincipalRef,
    ) -> BoxFuture<'a, Result<PrincipalReading>> {
        Box::pin(async move {
            let mut places = Vec::new();
            for session in &mut self.open_all(Deadline::of(ctx)).await? {
                let state = match session.user(&principal.name).await? {
                    Some(user) => {
                        let sessions = session_counts(session).await?;
                        Some(user.state(&self.key_ids, count_of(sessions.as_ref(), &user.name)))
                    }
                    None => None,
                };
                places.push(PlaceReading {
                    vantage: session.vantage_name().to_owned(),
                    state,
                });
            }
            Ok(PrincipalReading { places })
        })
    }

    fn preflight<'a>(&'a self, ctx: &'a CallContext) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            let mut problems = Vec::new();
            let mut sessions = self.open_all(Deadline::of(ctx)).await?;
            let admin = self.admin.iter().map(|admin| &*admin.username);
            for (session, admin) in sessions.iter_mut().zip(admin.cycle()) {
                preflight(session, admin, &mut problems).await?;
            }
            Ok(problems)
        })
    }

    fn clocks<'a>(&'a self, ctx: &'a CallContext) -> BoxFuture<'a, Result<Vec<ClockReading>>> {
        Box::pin(async move {
            let mut clocks = Vec::new();
            for session in &mut self.open_all(Deadline::of(ctx)).await? {
                clocks.extend(clock(session).await?);
            }
            Ok(clocks)
        })
    }
}

/// `None` where our account may not run `TIME`, which nothing else needs.
async fn clock(session: &mut Session<'_>) -> Result<Option<ClockReading>> {
    let (seconds, micros) = match session.read::<(i64, i64)>(&redis::cmd("TIME"), "TIME").await {
        Ok(answer) => answer,
        Err(error) if error.kind() == ErrorKind::Denied => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(ClockReading {
        vantage: session.vantage_name().to_owned(),
        at: seconds.saturating_mul(1_000_000).saturating_add(micros),
    }))
}

/// Asks the server itself (`ACL DRYRUN`, Redis 7) whether our account may send each command. Redis 6 cannot be asked, so
/// there only the reads are known.
async fn preflight(session: &mut Session<'_>, admin: &str, problems: &mut Vec<String>) -> Result<()> {
    let node = session.vantage_name();
    let mut denied = false;
    for (command, purpose) in NEEDED {
        let mut cmd = redis::cmd("ACL");
        cmd.arg("DRYRUN").arg(admin).arg(command);
        match session.read::<String>(&cmd, "ACL DRYRUN").await {
            Ok(answer) if answer == "OK" => {}
            Ok(_) => {
                denied = true;
                problems.push(format!(
                    "Node `{node}`: `{admin}` may not run {} (to {purpose}).",
                    command.join(" ")
                ));
            }
            Err(error) if error.kind() == ErrorKind::Denied => {
                problems.push(format!(
                    "Node `{node}`: `{admin}` may not run ACL DRYRUN, so its other rights cannot be checked."
                ));
                break;
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => break,
            Err(error) => return Err(error),
        }
    }
    if denied {
        return Ok(());
    }
    match session.persistence().await {
        Ok(Persistence::Nowhere) => problems.push(format!(
            "Node `{node}` has neither an ACL file nor a configuration file: a restart loses every change."
        )),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::Denied => problems.push(format!(
            "Node `{node}`: `{admin}` may not see where users are kept (CONFIG GET aclfile, INFO server)."
        )),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Open connections by user; `None` where our account may not see them.
async fn session_counts(session: &mut Session<'_>) -> Result<Option<HashMap<String, u32>>> {
    let clients = match session.clients().await {
        Ok(clients) => clients,
        Err(error) if error.kind() == ErrorKind::Denied => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut counts = HashMap::new();
    for client in clients {
        *counts.entry(client.user).or_insert(0) += 1;
    }
    Ok(Some(counts))
}

fn count_of(counts: Option<&HashMap<String, u32>>, user: &str) -> Option<u32> {
    counts.map(|counts| counts.get(user).copied().unwrap_or(0))
}

/// One line for an account that several nodes know: whatever is possible on any of them is possible.
fn merge(known: &mut PrincipalState, other: PrincipalState) {
    if other.status == PrincipalStatus::Enabled {
        known.status = PrincipalStatus::Enabled;
    }
    known.key_ids.extend(other.key_ids);
    known.key_ids.sort();
    known.key_ids.dedup();
    known.grants.extend(other.grants);
    known.grants.sort();
    known.grants.dedup();
    known.privileged |= other.privileged;
    known.sessions = match (known.sessions, other.sessions) {
        (Some(one), Some(two)) => Some(one.saturating_add(two)),
        _ => None,
    };
}
