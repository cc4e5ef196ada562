//! Trying a password on one node: a fresh connection, one `AUTH`, no retry, and the question who we are.

use keyfall_sdk::{BoxFuture, CallContext, InconclusiveWhy, Probe, ProbeCall, ProbeReading, Verdict};
use redis::RedisError;

use super::RedisConnector;
use super::node::{Deadline, Node, login, within};

/// What those who watch the server see in `CLIENT LIST`.
pub(super) const CLIENT_NAME: &str = "keyfall-probe";

impl Probe for RedisConnector {
    fn probe<'a>(&'a self, ctx: &'a CallContext, call: &'a ProbeCall) -> BoxFuture<'a, ProbeReading> {
        Box::pin(async move {
            let Some(node) = self.nodes.iter().find(|node| node.vantage().name == call.vantage) else {
                return ProbeReading {
                    verdict: Verdict::Untestable {
                        why: format!("This system has no vantage `{}`.", call.vantage),
                    },
                    endpoint: String::new(),
                };
            };
            ProbeReading {
                verdict: attempt(node, Deadline::of(ctx), call).await,
                endpoint: node.endpoint(),
            }
        })
    }
}

async fn attempt(node: &Node, deadline: Deadline, call: &ProbeCall) -> Verdict {
    let mut connection = match node.connect(deadline.left()).await {
        Ok(connection) => connection,
        Err(error) => return unreachable_verdict(&error),
    };
    let user = &call.principal.name;
    let auth = login(user, &call.secret);
    if let Err(error) = within(deadline.left(), auth.query_async::<()>(&mut connection)).await {
        return classify(&error);
    }
    // Naming the connection is a courtesy; a user may lack the right to.
    let mut name = redis::cmd("CLIENT");
    name.arg("SETNAME").arg(CLIENT_NAME);
    let _ = within(deadline.left(), name.query_async::<()>(&mut connection)).await;

    let mut whoami = redis::cmd("ACL");
    whoami.arg("WHOAMI");
    match within(deadline.left(), whoami.query_async::<String>(&mut connection)).await {
        Ok(name) if name == *user => accepted(user),
        Ok(name) => inconclusive(
            InconclusiveWhy::Protocol,
            format!("The login as `{user}` was accepted, but the server says that we are `{name}`."),
        ),
        // AUTH was accepted under this very name; the user merely may not ask.
        Err(error) if error.code() == Some("NOPERM") => accepted(user),
        Err(error) => classify_after_login(&error),
    }
}

fn accepted(user: &str) -> Verdict {
    Verdict::Accepted {
        principal: user.to_owned(),
    }
}

fn inconclusive(why: InconclusiveWhy, detail: impl Into<String>) -> Verdict {
    Verdict::Inconclusive {
        why,
        detail: detail.into(),
    }
}

/// The answer to `AUTH`. Only `WRONGPASS` refuses the credential; what is not listed says nothing about it.
fn classify(error: &RedisError) -> Verdict {
    let detail = error.detail().unwrap_or_default();
    match error.code() {
        Some("WRONGPASS") => Verdict::Refused {
            code: "WRONGPASS".to_owned(),
        },
        Some(code @ ("NOAUTH" | "LOADING" | "BUSY" | "MASTERDOWN" | "TRYAGAIN" | "CLUSTERDOWN")) => inconclusive(
            InconclusiveWhy::ServerFault,
            format!("The server is not ready: {code}."),
        ),
        Some("ERR") if detail.starts_with("max number of clients") => {
            inconclusive(InconclusiveWhy::ServerFault, "The server takes no more connections.")
        }
        Some("DENIED") => inconclusive(
            InconclusiveWhy::Policy,
            "The server is in protected mode and refuses this host.",
        ),
        Some(code) => inconclusive(
            InconclusiveWhy::Protocol,
            format!("The answer to AUTH is not one that the connector knows: {code}."),
        ),
        None => unreachable_verdict(error),
    }
}

/// The login itself was accepted, so nothing that follows can be a refusal.
fn classify_after_login(error: &RedisError) -> Verdict {
    match classify(error) {
        Verdict::Refused { code } => inconclusive(
            InconclusiveWhy::Protocol,
            format!("The login was accepted, and then the server answered {code}."),
        ),
        other => other,
    }
}

fn unreachable_verdict(error: &RedisError) -> Verdict {
    if error.is_timeout() {
        return inconclusive(InconclusiveWhy::Timeout, "No answer in time.");
    }
    let kind = error.kind();
    let why = match kind {
        redis::ErrorKind::Parse | redis::ErrorKind::UnexpectedReturnType => InconclusiveWhy::Protocol,
        _ => InconclusiveWhy::Unreachable,
    };
    inconclusive(why, format!("No usable connection or answer ({kind:?})."))
}
