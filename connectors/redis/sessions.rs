//! Connections that outlive the password they were opened with: removing a password or switching a user off closes none.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use keyfall_sdk::{BoxFuture, CallContext, EndSessionsCall, PrincipalRef, Result, Sessions, SessionsEnded};

use super::RedisConnector;
use super::node::{Deadline, Session};
use super::probe::CLIENT_NAME;

/// By user, the id of a connection that this node accepted behind our last removal of a password of that user.
///
/// A node counts its connections up, and gives the number when it accepts one. What has a greater number than that connection cannot have
/// logged in before the removal, so it is on a password that is left, however young it is. Only this process knows the number: after a
/// restart, and for a removal that somebody else made, the ages in whole seconds are all there is.
pub(super) type Cuts = Mutex<HashMap<String, u64>>;

/// One line of `CLIENT LIST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Client {
    id: u64,
    /// Whole seconds, rounded down.
    age_s: u64,
    pub(super) user: String,
    name: String,
}

impl Sessions for RedisConnector {
    fn count<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<u32>> {
        Box::pin(async move {
            let mut count = 0_u32;
            for session in &mut self.open_all(Deadline::of(ctx)).await? {
                // A probe that is not over yet is no workload.
                let clients = session.clients_of(&principal.name).await?;
                let open = clients.iter().filter(|client| client.name != CLIENT_NAME).count();
                count = count.saturating_add(u32::try_from(open).unwrap_or(u32::MAX));
            }
            Ok(count)
        })
    }

    fn end<'a>(&'a self, ctx: &'a CallContext, call: &'a EndSessionsCall) -> BoxFuture<'a, Result<SessionsEnded>> {
        Box::pin(async move {
            let mut total = SessionsEnded { ended: 0, left: 0 };
            for session in &mut self.open_all(Deadline::of(ctx)).await? {
                let here = end_on(session, call).await?;
                total.ended = total.ended.saturating_add(here.ended);
                total.left = total.left.saturating_add(here.left);
            }
            Ok(total)
        })
    }
}

async fn end_on(session: &mut Session<'_>, call: &EndSessionsCall) -> Result<SessionsEnded> {
    let cut = session.cut(&call.principal.name);
    let doomed: Vec<u64> = session
        .clients_of(&call.principal.name)
        .await?
        .into_iter()
        .filter(|client| !is_spared(client, cut, call.spare_younger_than))
        .map(|client| client.id)
        .collect();
    for id in &doomed {
        // An id that is gone by now answers 0, which is as good.
        session
            .write::<u32>(redis::cmd("CLIENT").arg("KILL").arg("ID").arg(*id), "CLIENT KILL")
            .await?;
    }
    let left = session
        .clients_of(&call.principal.name)
        .await?
        .iter()
        .filter(|client| doomed.contains(&client.id) || call.spare_younger_than.is_none())
        .count();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(SessionsEnded {
        ended: count(doomed.len()).saturating_sub(count(left)),
        left: count(left),
    })
}

/// A connection that was accepted behind the cut is spared. Of the others, and where the cut is not known, the age tells: it is rounded down
/// to whole seconds, so a connection may be almost a second older than it looks, and one that might be too old is not spared.
fn is_spared(client: &Client, cut: Option<u64>, spare_younger_than: Option<Duration>) -> bool {
    spare_younger_than.is_some_and(|limit| {
        cut.is_some_and(|cut| client.id > cut) || Duration::from_secs(client.age_s.saturating_add(1)) <= limit
    })
}

impl Session<'_> {
    fn cuts(&self) -> std::sync::MutexGuard<'_, HashMap<String, u64>> {
        self.node.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before a password is removed: who came behind an earlier removal may be on this one.
    pub(super) fn forget_cut(&self, user: &str) {
        self.cuts().remove(user);
    }

    /// Behind a removal. Without the number the ages decide, so a failure here fails nothing.
    pub(super) async fn keep_cut(&self, user: &str) {
        let Ok(mut fresh) = self.node.enter(self.deadline).await else {
            return;
        };
        if let Ok(id) = fresh.read(redis::cmd("CLIENT").arg("ID"), "CLIENT ID").await {
            self.cuts().insert(user.to_owned(), id);
        }
    }

    fn cut(&self, user: &str) -> Option<u64> {
        self.cuts().get(user).copied()
    }

    /// Every connection to this node but our own.
    pub(super) async fn clients(&mut self) -> Result<Vec<Client>> {
        let own: u64 = self.read(redis::cmd("CLIENT").arg("ID"), "CLIENT ID").await?;
        let listed: String = self.read(redis::cmd("CLIENT").arg("LIST"), "CLIENT LIST").await?;
        Ok(listed
            .lines()
            .filter_map(parse)
            .filter(|client| client.id != own)
            .collect())
    }

    async fn clients_of(&mut self, user: &str) -> Result<Vec<Client>> {
        let mut clients = self.clients().await?;
        clients.retain(|client| client.user == user);
        Ok(clients)
    }
}

/// A line without these fields is no client line. A connection that has not logged in yet runs as `default`.
fn parse(line: &str) -> Option<Client> {
    let field = |name: &str| {
        line.split(' ')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    };
    Some(Client {
        id: field("id")?.parse().ok()?,
        age_s: field("age")?.parse().ok()?,
        user: field("user")?.to_owned(),
        name: field("name").unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Client, is_spared, parse};

    #[test]
    fn a_line_of_redis_7_is_read() {
        let line = "id=15 addr=127.0.0.1:37990 laddr=127.0.0.1:27391 fd=7 name= age=3 idle=0 flags=N db=0 sub=0 events=r \
                    cmd=client|list user=app redir=-1 resp=2";
        let client = Client {
            id: 15,
            age_s: 3,
            user: "app".to_owned(),
            name: String::new(),
        };
        assert_eq!(parse(line), Some(client));
        assert_eq!(parse("rubbish"), None);
    }

    #[test]
    fn a_connection_that_may_be_too_old_is_not_spared() {
        let client = |age_s| Client {
            id: 7,
            age_s,
            user: "app".to_owned(),
            name: String::new(),
        };
        let limit = Some(Duration::from_secs(3));
        assert!(is_spared(&client(2), None, limit));
        assert!(!is_spared(&client(3), None, limit));
        assert!(!is_spared(&client(0), None, None));
        assert!(is_spared(&client(3), Some(6), limit));
        assert!(!is_spared(&client(3), Some(7), limit));
        assert!(!is_spared(&client(0), Some(6), None));
    }
}
