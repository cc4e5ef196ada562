//! Databases on a real PostgreSQL server, each gone with the test that made it. The server is that of `KEYFALL_TEST_SERVERS`; without it this
//! process starts one of its own, which ends with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{Client, Config, NoTls};

struct Server {
    admin: Config,
    /// As text, for addresses.
    login: String,
    /// Its standard input ends with this process, and then it takes the server down.
    _keeper: Option<Child>,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| match std::env::var_os("KEYFALL_TEST_SERVERS") {
        Some(directory) => read(&PathBuf::from(directory), None),
        None => {
            let (directory, keeper) = start(&["postgres"], "session");
            read(&directory, Some(keeper))
        }
    })
}

/// A server of this process's own, and a pooler before it that pools in this mode. Answers the address of a database there by way of the pooler.
pub(crate) fn behind_a_pooler(mode: &str) -> (Pooled, String) {
    let (directory, keeper) = start(&["postgres", "pgbouncer"], mode);
    let server = read(&directory, None);
    let (before, _) = server.login.rsplit_once(':').unwrap();
    let url = format!("{before}:{}/postgres", value_in(&directory, "KEYFALL_PGBOUNCER_PORT"));
    (Pooled(keeper), url)
}

/// Gone with the test.
pub(crate) struct Pooled(Child);

impl Drop for Pooled {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn start(servers: &[&str], pool_mode: &str) -> (PathBuf, Child) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/servers");
    let directory = tempfile::Builder::new()
        .prefix("keyfall-store-")
        .tempdir()
        .unwrap()
        .keep();
    let up = Command::new(&script)
        .arg("up")
        .arg(&directory)
        .args(servers)
        .env("KEYFALL_PGBOUNCER_POOL_MODE", pool_mode)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(
        up.success(),
        "`deploy/servers up` failed; run `deploy/servers install` once"
    );
    let keeper = Command::new("sh")
        .args([
            "-c",
            "trap '' INT TERM HUP; read -r _; \"$0\" down \"$1\"; rm -rf \"$1\"",
        ])
        .args([script.as_os_str(), directory.as_os_str()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    (directory, keeper)
}

fn value_in(directory: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(directory.join("servers.env")).unwrap();
    let mut lines = text.lines().filter_map(|line| line.split_once('='));
    let found = lines.find(|(key, _)| *key == name);
    found
        .unwrap_or_else(|| panic!("{name} is not there: {text}"))
        .1
        .to_owned()
}

fn read(directory: &Path, keeper: Option<Child>) -> Server {
    let value = |name: &str| value_in(directory, name);
    let password = std::fs::read_to_string(value("KEYFALL_PG_ADMIN_PASSWORD_FILE")).unwrap();
    let (user, password) = (value("KEYFALL_PG_ADMIN_USER"), password.trim());
    let (host, port) = (value("KEYFALL_PG_HOST"), value("KEYFALL_PG_PRIMARY_PORT"));
    let mut admin = Config::new();
    admin
        .host(&host)
        .port(port.parse().unwrap())
        .user(&user)
        .password(password)
        .dbname("postgres");
    Server {
        admin,
        login: format!("postgres://{user}:{password}@{host}:{port}"),
        _keeper: keeper,
    }
}

async fn connected(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub(crate) struct Database {
    name: String,
}

impl Database {
    pub(crate) async fn create() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("store_{}_{number}", std::process::id());
        let admin = connected(&server().admin).await;
        admin.batch_execute(&format!("create database {name}")).await.unwrap();
        Self { name }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/{}", server().login, self.name)
    }

    /// The same by way of somebody on this machine who passes everything on.
    pub(crate) fn url_by_way_of(&self, port: u16) -> String {
        let (before, _) = server().login.rsplit_once(':').unwrap();
        format!("{before}:{port}/{}", self.name)
    }

    /// The same, as another role than the administrator. There is one of this name behind this call.
    pub(crate) async fn url_of(&self, role: &str) -> String {
        let make = format!(
            "do $$ begin create role {role} login password 'not-secret'; \
             exception when duplicate_object or unique_violation then null; end $$"
        );
        self.client().await.batch_execute(&make).await.unwrap();
        let (_, place) = server().login.rsplit_once('@').unwrap();
        format!("postgres://{role}:not-secret@{place}/{}", self.name)
    }

    /// Where the server itself listens.
    pub(crate) fn port(&self) -> u16 {
        server().login.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// A bare connection, beside the store.
    pub(crate) async fn client(&self) -> Client {
        let mut config = server().admin.clone();
        connected(config.dbname(&self.name)).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop_it = format!("drop database if exists {} with (force)", self.name);
        let work = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let _ = connected(&server().admin).await.batch_execute(&drop_it).await;
            });
        });
        let _ = work.join();
    }
}
