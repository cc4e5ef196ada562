//! The real servers that scenarios talk to, as `deploy/servers` publishes them: those that `KEYFALL_TEST_SERVERS` names, else a set of this
//! process's own, taken down when it ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

pub(crate) struct Servers {
    values: BTreeMap<String, String>,
    /// Its standard input ends with this process, and then it takes the servers down.
    _keeper: Option<Child>,
}

impl Servers {
    /// Started when the first test asks.
    pub(crate) fn get() -> &'static Self {
        static SERVERS: OnceLock<Servers> = OnceLock::new();
        SERVERS.get_or_init(|| match std::env::var_os("KEYFALL_TEST_SERVERS") {
            Some(directory) => Self::read(&PathBuf::from(directory), None),
            None => Self::start(&["postgres", "replica", "redis", "redis2"]),
        })
    }

    /// A set that one scenario has to itself, because it stops or fills one of them. Down when this process ends.
    pub(crate) fn own(servers: &[&str]) -> &'static Self {
        Box::leak(Box::new(Self::start(servers)))
    }

    /// Stops a server of an own set, or starts it again on the same port and data.
    pub(crate) fn order(&self, verb: &str, server: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/servers");
        let done = Command::new(script)
            .args([verb, self.text("KEYFALL_SERVERS_DIR"), server])
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(done.success(), "deploy/servers {verb} {server}");
    }

    fn start(servers: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/servers");
        let directory = tempfile::Builder::new().prefix("keyfall-it-").tempdir().unwrap().keep();
        let up = Command::new(&script)
            .arg("up")
            .arg(&directory)
            .args(servers)
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
        Self::read(&directory, Some(keeper))
    }

    fn read(directory: &Path, keeper: Option<Child>) -> Self {
        let file = directory.join("servers.env");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let values = text.lines().filter_map(|line| line.split_once('='));
        Self {
            values: values
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            _keeper: keeper,
        }
    }

    /// A setting of `servers.env` (`deploy/README.md` lists them).
    pub(crate) fn text(&self, name: &str) -> &str {
        self.values
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not in servers.env"))
    }

    /// As `text`, when such a server is up.
    pub(crate) fn get_text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// What the file holds that a setting names: a password.
    pub(crate) fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.text(name)).unwrap().trim_end().to_owned()
    }
}
