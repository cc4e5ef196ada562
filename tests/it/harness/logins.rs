//! Logins and questions behind Keyfall's back, by plain drivers: the servers' own word on who is let in.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::servers::Servers;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Service {
    Postgres,
    Redis,
}

impl Service {
    /// The settings that name the ports of its servers, the one that workloads use first.
    pub(crate) fn ports(self) -> [&'static str; 2] {
        match self {
            Self::Postgres => ["KEYFALL_PG_PRIMARY_PORT", "KEYFALL_PG_REPLICA_PORT"],
            Self::Redis => ["KEYFALL_REDIS_PORT", "KEYFALL_REDIS2_PORT"],
        }
    }

    pub(crate) fn first_port(self) -> &'static str {
        self.ports()[0]
    }
}

/// One login on a fresh connection; the server's answer when it is not let in.
pub(crate) fn login(servers: &Servers, service: Service, port: &str, user: &str, secret: &str) -> Result<(), String> {
    match service {
        Service::Postgres => in_runtime(async {
            let connected = postgres(servers, port).user(user).password(secret).connect(NoTls).await;
            // That the login was accepted is all that is asked: the session may be ended at any moment behind it.
            connected.map(drop).map_err(|error| match error.code() {
                Some(code) => code.code().to_owned(),
                None => format!("{error:?}"),
            })
        }),
        Service::Redis => redis_login(servers, port, user, secret),
    }
}

/// Refused as a wrong password is, at every server.
pub(crate) fn refused(servers: &Servers, service: Service, user: &str, secret: &str) -> bool {
    service.ports().iter().all(|port| {
        let answer = login(servers, service, port, user, secret);
        answer.is_err_and(|code| code.contains("28P01") || code.starts_with("-WRONGPASS"))
    })
}

fn redis_login(servers: &Servers, port: &str, user: &str, secret: &str) -> Result<(), String> {
    let port: u16 = servers.text(port).parse().unwrap();
    let failed = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect((servers.text("KEYFALL_REDIS_HOST"), port)).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    write!(stream, "AUTH {user} {secret}\r\n").map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(failed)?;
    if answer == "+OK\r\n" { Ok(()) } else { Err(answer) }
}

/// What a statement answers to the administrator, row by row, as text.
pub(crate) fn sql(servers: &Servers, port: &str, statement: &str) -> Vec<Vec<String>> {
    sql_in(servers, port, "postgres", statement)
}

/// The same in another database than the administrator's own.
pub(crate) fn sql_in(servers: &Servers, port: &str, database: &str, statement: &str) -> Vec<Vec<String>> {
    in_runtime(async {
        let (client, connection) = postgres(servers, port)
            .dbname(database)
            .user(servers.text("KEYFALL_PG_ADMIN_USER"))
            .password(servers.file("KEYFALL_PG_ADMIN_PASSWORD_FILE"))
            .connect(NoTls)
            .await
            .unwrap();
        let serving = tokio::spawn(connection);
        let messages = client.simple_query(statement).await.unwrap();
        drop(client);
        let _ = serving.await;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|column| row.get(column).unwrap_or("null").to_owned())
                    .collect(),
            ),
            _ => None,
        });
        rows.collect()
    })
}

fn postgres(servers: &Servers, port: &str) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config
        .host(servers.text("KEYFALL_PG_HOST"))
        .port(servers.text(port).parse().unwrap())
        .dbname("postgres");
    config
}

/// What a command answers to the administrator of one node.
pub(crate) fn redis_admin(servers: &Servers, port: &str, command: &[&str]) -> redis::Value {
    let url = format!(
        "redis://{}:{}@{}:{}",
        servers.text("KEYFALL_REDIS_ADMIN_USER"),
        servers.file("KEYFALL_REDIS_ADMIN_PASSWORD_FILE"),
        servers.text("KEYFALL_REDIS_HOST"),
        servers.text(port)
    );
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    let (name, args) = command.split_first().unwrap();
    redis::cmd(name).arg(args).query(&mut connection).unwrap()
}

fn in_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}
