//! Finds the real servers that connector tests talk to. It knows how to read and start them, and nothing of what is tested.
//!
//! `KEYFALL_TEST_SERVERS` names a directory that `deploy/servers up DIR` filled. Without it a private set is started once
//! for the whole test process, and taken down when the process ends, however it ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use keyfall_sdk::{AdminCredential, SecretValue};

/// Every server that some test talks to.
const SERVERS: [&str; 5] = ["postgres", "replica", "pgbouncer", "redis", "redis2"];

/// What `servers.env` says.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) directory: PathBuf,
    values: BTreeMap<String, String>,
    /// Its standard input ends with this process, and then it takes the servers down.
    _keeper: Option<Child>,
}

/// The servers, started when the first test asks.
pub(crate) fn servers() -> &'static Servers {
    static SHARED: OnceLock<Servers> = OnceLock::new();
    SHARED.get_or_init(|| match std::env::var_os("KEYFALL_TEST_SERVERS") {
        Some(directory) => Servers::read(PathBuf::from(directory), None),
        None => Servers::start(&SERVERS),
    })
}

impl Servers {
    /// Servers that are nobody else's, for a test that sets them up in its own way.
    pub(crate) fn start(names: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/servers");
        let directory = tempfile::Builder::new()
            .prefix("keyfall-test-")
            .tempdir()
            .unwrap()
            .keep();
        let status = Command::new(&script)
            .arg("up")
            .arg(&directory)
            .args(names)
            .stdout(Stdio::null())
            .status();
        assert!(
            status.as_ref().is_ok_and(std::process::ExitStatus::success),
            "`deploy/servers up` failed ({status:?}); start servers by hand and name their directory in KEYFALL_TEST_SERVERS"
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
        Self::read(directory, Some(keeper))
    }

    fn read(directory: PathBuf, keeper: Option<Child>) -> Self {
        let file = directory.join("servers.env");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let values = text
            .lines()
            .filter_map(|line| line.trim_start_matches("export ").split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
            .collect();
        Self {
            directory,
            values,
            _keeper: keeper,
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name)
            .unwrap_or_else(|| panic!("{name} is not in {}", self.directory.join("servers.env").display()))
    }

    pub(crate) fn port(&self, name: &str) -> u16 {
        self.text(name).parse().unwrap()
    }

    /// The content of the file that a variable names, without the line's end.
    pub(crate) fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.text(name)).unwrap().trim_end().to_owned()
    }

    pub(crate) fn admin(&self, user: &str, password_file: &str) -> AdminCredential {
        AdminCredential {
            username: self.text(user).to_owned(),
            secret: SecretValue::from(self.file(password_file)),
        }
    }
}

/// This machine's clock as `date` tells it, in microseconds since the Unix epoch.
pub(crate) fn machine_micros() -> i64 {
    let told = Command::new("date").arg("+%s%6N").output().unwrap();
    String::from_utf8(told.stdout).unwrap().trim().parse().unwrap()
}
