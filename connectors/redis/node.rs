//! One Redis server: how it is reached, and an admin session on it with a time limit. Knows the wire, not the ACL.

use std::future::Future;
use std::time::Duration;

use keyfall_sdk::{AdminCredential, CallContext, ConnectorError, Result, SecretValue, TlsMode, Vantage};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo, Pipeline,
    ProtocolVersion, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::sessions::Cuts;

/// A connection that is not there after this long is not there.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// When a call must have its answer: a little before the engine stops waiting.
#[derive(Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn of(ctx: &CallContext) -> Self {
        Self(Instant::now() + ctx.answer_within())
    }

    pub(super) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// What a failure after sending means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Read,
    Write,
}

/// A node of the deployment. Holds one admin connection and replaces it when it has gone stale.
pub(super) struct Node {
    vantage: Vantage,
    tls: TlsMode,
    tls_ca: Option<String>,
    admin: Option<AdminCredential>,
    idle: Mutex<Option<MultiplexedConnection>>,
    pub(super) cuts: Cuts,
}

impl Node {
    pub(super) fn new(vantage: Vantage, tls: TlsMode, tls_ca: Option<String>, admin: Option<AdminCredential>) -> Self {
        Self {
            vantage,
            tls,
            tls_ca,
            admin,
            idle: Mutex::new(None),
            cuts: Cuts::default(),
        }
    }

    pub(super) fn vantage(&self) -> &Vantage {
        &self.vantage
    }

    pub(super) fn endpoint(&self) -> String {
        format!("{}:{}", self.vantage.host, self.vantage.port)
    }

    /// A fresh connection that nobody has logged in on yet.
    pub(super) async fn connect(&self, limit: Duration) -> RedisResult<MultiplexedConnection> {
        let limit = limit.min(CONNECT_LIMIT);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limit))
            .set_response_timeout(None);
        self.client()?
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    fn client(&self) -> RedisResult<Client> {
        let host = self.vantage.host.clone();
        let port = self.vantage.port;
        let address = match self.tls {
            TlsMode::Off => ConnectionAddr::Tcp(host, port),
            TlsMode::Verify => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            },
        };
        // RESP2 and no library name: nothing may travel before AUTH, or a locked-down server would answer that instead.
        let settings = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP2)
            .set_skip_set_lib_name();
        let info: ConnectionInfo = address.into_connection_info()?.set_redis_settings(settings);
        match (self.tls, &self.tls_ca) {
            (TlsMode::Verify, Some(pem)) => Client::build_with_tls(
                info,
                TlsCertificates {
                    client_tls: None,
                    root_cert: Some(pem.clone().into_bytes()),
                },
            ),
            _ => Client::open(info),
        }
    }

    /// An admin session. Answers `Transient` when the node cannot be reached and `Denied` when it refuses our account.
    pub(super) async fn open(&self, deadline: Deadline) -> Result<Session<'_>> {
        let mut idle = self.idle.lock().await;
        if let Some(connection) = idle.take() {
            let mut session = self.session(connection, deadline);
            if session.read::<String>(&redis::cmd("PING"), "PING").await.is_ok() {
                *idle = Some(session.connection.clone());
                return Ok(session);
            }
        }
        let session = self.enter(deadline).await?;
        *idle = Some(session.connection.clone());
        Ok(session)
    }

    /// An admin session on a connection of its own, made at this moment.
    pub(super) async fn enter(&self, deadline: Deadline) -> Result<Session<'_>> {
        let Some(admin) = &self.admin else {
            return Err(ConnectorError::denied(
                "A Redis system needs an admin credential; store one with `keyfall secret set NAME`.",
            ));
        };
        let connection = self
            .connect(deadline.left())
            .await
            .map_err(|error| self.error(&error, Effect::Read, "connecting"))?;
        let mut session = self.session(connection, deadline);
        session
            .read::<()>(&login(&admin.username, &admin.secret), "logging in as admin")
            .await?;
        Ok(session)
    }

    fn session(&self, connection: MultiplexedConnection, deadline: Deadline) -> Session<'_> {
        Session {
            node: self,
            connection,
            deadline,
        }
    }

    /// Classifies a failure by the server's error code. The text of a reply is repeated only where it cannot hold a hash.
    fn error(&self, error: &RedisError, effect: Effect, what: &str) -> ConnectorError {
        let place = format!("Redis node `{}` ({})", self.vantage.name, self.endpoint());
        let Some(code) = error.code() else {
            return self.transport_error(error, effect, what, &place);
        };
        let detail = error.detail().unwrap_or_default();
        let made = match code {
            "NOPERM" | "NOAUTH" | "WRONGPASS" => ConnectorError::denied(format!(
                "{place} refused Keyfall's own account while {what}; correct its password or its rights"
            )),
            "LOADING" | "BUSY" | "MASTERDOWN" | "TRYAGAIN" | "CLUSTERDOWN" | "MISCONF" | "OOM" => {
                ConnectorError::transient(format!("{place} is not ready ({what})"))
            }
            "ERR" if detail.starts_with("max number of clients") => {
                ConnectorError::transient(format!("{place} takes no more connections ({what})"))
            }
            _ => ConnectorError::unsupported(format!("{place} refused {what}: {}", harmless(detail))),
        };
        made.with_code(code)
    }

    fn transport_error(&self, error: &RedisError, effect: Effect, what: &str, place: &str) -> ConnectorError {
        let kind = error.kind();
        if matches!(kind, redis::ErrorKind::Parse | redis::ErrorKind::UnexpectedReturnType) {
            return ConnectorError::protocol(format!("{place} gave an answer to {what} that could not be understood"));
        }
        match effect {
            Effect::Read => ConnectorError::transient(format!("{place} could not be reached ({what}): {kind:?}")),
            Effect::Write => ConnectorError::ambiguous(format!(
                "{place} was sent {what} and the answer was lost ({kind:?}); it may have taken effect"
            )),
        }
    }
}

/// `AUTH user password`: the only command that carries a password, and one that Redis keeps out of its slow log.
pub(super) fn login(user: &str, secret: &SecretValue) -> Cmd {
    let mut cmd = redis::cmd("AUTH");
    cmd.arg(user).arg(secret.expose_secret());
    cmd
}

/// An error text that quotes a password hash is replaced whole.
fn harmless(detail: &str) -> &str {
    let longest_hex = detail
        .split(|c: char| !c.is_ascii_hexdigit())
        .map(str::len)
        .max()
        .unwrap_or(0);
    if longest_hex >= 32 { "(text withheld)" } else { detail }
}

/// Admin commands on one node, each with the time that the call has left.
pub(super) struct Session<'a> {
    pub(super) node: &'a Node,
    connection: MultiplexedConnection,
    pub(super) deadline: Deadline,
}

impl<'a> Session<'a> {
    pub(super) fn vantage_name(&self) -> &'a str {
        &self.node.vantage.name
    }

    pub(super) async fn read<T: FromRedisValue>(&mut self, cmd: &Cmd, what: &str) -> Result<T> {
        self.run(cmd, Effect::Read, what).await
    }

    pub(super) async fn write<T: FromRedisValue>(&mut self, cmd: &Cmd, what: &str) -> Result<T> {
        self.run(cmd, Effect::Write, what).await
    }

    /// Several reads in one round trip.
    pub(super) async fn read_all<T: FromRedisValue>(&mut self, pipeline: &Pipeline, what: &str) -> Result<T> {
        let limit = self.deadline.left();
        let answer = within(limit, pipeline.query_async::<T>(&mut self.connection)).await;
        answer.map_err(|error| self.node.error(&error, Effect::Read, what))
    }

    async fn run<T: FromRedisValue>(&mut self, cmd: &Cmd, effect: Effect, what: &str) -> Result<T> {
        let limit = self.deadline.left();
        if limit.is_zero() {
            return Err(ConnectorError::transient(format!(
                "No time was left for {what} on Redis node `{}`; it was not sent",
                self.vantage_name()
            )));
        }
        let answer = within(limit, cmd.query_async::<T>(&mut self.connection)).await;
        answer.map_err(|error| self.node.error(&error, effect, what))
    }
}

/// Bounds one exchange. A time limit that ran out looks like any other lost answer.
pub(super) async fn within<T>(limit: Duration, exchange: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    match tokio::time::timeout(limit, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn a_reply_that_quotes_a_hash_is_withheld() {
        let hash = "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3";
        assert_eq!(
            harmless(&format!("Error in ACL SETUSER modifier '!{hash}'")),
            "(text withheld)"
        );
        assert_eq!(
            harmless("Unknown command or category name in ACL"),
            "Unknown command or category name in ACL"
        );
    }
}
