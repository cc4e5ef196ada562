//! The real servers that the cells of PostgreSQL and Redis run on: those of `KEYFALL_TEST_SERVERS`, or a private set that ends with this process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tokio_postgres::NoTls;

pub(crate) struct Servers {
    values: BTreeMap<String, String>,
    /// Its standard input ends with this process, and then it takes the servers down.
    _keeper: Option<Child>,
}

impl Servers {
    pub(crate) fn get() -> &'static Self {
        static SERVERS: OnceLock<Servers> = OnceLock::new();
        SERVERS.get_or_init(|| match std::env::var_os("KEYFALL_TEST_SERVERS") {
            Some(directory) => Self::read(&PathBuf::from(directory), None),
            None => Self::start(),
        })
    }

    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/servers");
        let directory = tempfile::Builder::new()
            .prefix("keyfall-matrix-")
            .tempdir()
            .unwrap()
            .keep();
        let status = Command::new(&script)
            .arg("up")
            .arg(&directory)
            .stdout(Stdio::null())
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "`deploy/servers up` failed"
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
        Self::read(&directory, Some(keeper))
    }

    fn read(directory: &Path, keeper: Option<Child>) -> Self {
        let text = std::fs::read_to_string(directory.join("servers.env")).unwrap();
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let values = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self {
            values,
            _keeper: keeper,
        }
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        &self.values[name]
    }

    pub(crate) fn port(&self, name: &str) -> u16 {
        self.text(name).parse().unwrap()
    }

    /// The content of the file that a variable names.
    pub(crate) fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.text(name)).unwrap().trim_end().to_owned()
    }

    pub(crate) async fn postgres(&self) -> tokio_postgres::Client {
        let connected = tokio_postgres::Config::new()
            .host(self.text("KEYFALL_PG_HOST"))
            .port(self.port("KEYFALL_PG_PRIMARY_PORT"))
            .user(self.text("KEYFALL_PG_ADMIN_USER"))
            .password(self.file("KEYFALL_PG_ADMIN_PASSWORD_FILE"))
            .dbname("postgres")
            .connect(NoTls)
            .await;
        let (client, connection) = connected.unwrap();
        tokio::spawn(connection);
        client
    }

    pub(crate) async fn redis(&self, port: &str) -> redis::aio::MultiplexedConnection {
        let url = format!(
            "redis://{}:{}@{}:{}",
            self.text("KEYFALL_REDIS_ADMIN_USER"),
            self.file("KEYFALL_REDIS_ADMIN_PASSWORD_FILE"),
            self.text("KEYFALL_REDIS_HOST"),
            self.text(port)
        );
        let client = redis::Client::open(url).unwrap();
        // The clock of a cell jumps, which says nothing of the server.
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .unwrap()
    }
}
