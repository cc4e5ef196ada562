//! Three servers on one store, each with a directory, a line to the database and a process of its own. Whoever asks something asks any of them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Mutex;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::database::Database;
use super::proxy::Proxy;
use super::register::PATIENCE;
use crate::harness::{Person, keyfall, ran, wait_for};
use crate::kills::script::ask;

pub(super) const NODES: usize = 3;
/// Short, so that a dead node's runs are taken over while a test still waits.
pub(super) const LEASE_SECONDS: u64 = 6;

pub(super) struct Cluster {
    folder: TempDir,
    pub(super) nodes: Vec<Node>,
}

pub(super) struct Node {
    dir: PathBuf,
    name: String,
    address: PathBuf,
    pub(super) line: Proxy,
    child: Mutex<Option<Child>>,
}

impl Cluster {
    pub(super) fn start(database: &Database) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["apps", "state"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let nodes = (1..=NODES).map(|number| {
            let name = format!("node-{number}");
            let (line, address) = (
                Proxy::to(database.port()),
                folder.path().join(format!("{name}.address")),
            );
            Database::address(&address, line.port);
            Node {
                dir: folder.path().join(&name),
                name,
                address,
                line,
                child: Mutex::new(None),
            }
        });
        let cluster = Self {
            nodes: nodes.collect(),
            folder,
        };
        cluster.init();
        for node in &cluster.nodes {
            node.start();
        }
        cluster.wait_for_all();
        cluster
    }

    /// The first directory is made by `init`; the others are copies, as a person who adds a server makes them.
    fn init(&self) {
        let first = &self.nodes[0];
        let store = format!("file:{}", first.address.display());
        let made = ran(
            keyfall()
                .arg("init")
                .arg(&first.dir)
                .args(["--listen", "127.0.0.1:0", "--store", &store]),
            b"",
        );
        assert_eq!(made.code, 0, "{made:?}");
        let settings = first.dir.join("keyfall.toml");
        let text = fs::read_to_string(&settings).unwrap();
        let roots = ["apps", "state"].map(|name| format!("{name} = \"{}\"", self.path(name).display()));
        let more = format!(
            "[engine]\nlease = \"{LEASE_SECONDS}s\"\ncall_time = \"2s\"\n[file_roots]\n{}\n",
            roots.join("\n")
        );
        fs::write(&settings, format!("{text}\n{more}")).unwrap();
        for node in &self.nodes[1..] {
            let copied = Command::new("cp")
                .arg("-a")
                .args([&first.dir, &node.dir])
                .status()
                .unwrap();
            assert!(copied.success());
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn public_key(&self) -> String {
        self.nodes[0].dir.join("keyfall.pub").display().to_string()
    }

    pub(super) fn wait_for_all(&self) {
        for node in &self.nodes {
            wait_for(&format!("{} answers", node.name), PATIENCE, || {
                node.restart_if_it_ended();
                node.url()
            });
        }
    }

    /// At one of those that answer.
    pub(super) fn person(&self, name: &str) -> Vec<Person> {
        let context = self.nodes[0].dir.join(format!("people/{name}.toml"));
        let url = |node: &Node| {
            Some(Person {
                context: Some(context.clone()),
                url: node.url()?,
            })
        };
        self.nodes.iter().filter_map(url).collect()
    }

    /// What the first of them says that says anything.
    pub(super) fn ask(&self, name: &str, args: &[&str]) -> Option<Value> {
        self.person(name).iter().find_map(|person| ask(person, args))
    }

    pub(super) fn log(&self) -> String {
        let logs = self.nodes.iter().map(|node| {
            let text = fs::read_to_string(node.log_file()).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(60)..].join("\n");
            format!("--- {} ---\n{last}\n", node.name)
        });
        logs.collect()
    }
}

impl Node {
    pub(super) fn start(&self) {
        let _ = fs::remove_file(self.ready_file());
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let child = keyfall()
            .arg("serve")
            .arg("--config")
            .arg(self.dir.join("keyfall.toml"))
            .arg("--ready-file")
            .arg(self.ready_file())
            .env("KEYFALL_NODE", &self.name)
            .env("KEYFALL_STORE", format!("file:{}", self.address.display()))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.child.lock().unwrap() = Some(child);
    }

    /// As a supervisor does: a server that could not open its store at this moment is started again.
    pub(super) fn restart_if_it_ended(&self) {
        let has_ended = {
            let mut child = self.child.lock().unwrap();
            child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
        };
        if has_ended {
            self.start();
        }
    }

    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let _ = child.wait();
        }
        let _ = fs::remove_file(self.ready_file());
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(child) = self.child.lock().unwrap().as_ref() {
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
            // One that ended by itself is started again by who waits for it.
            let _ = kill_process(pid, signal);
        }
    }

    fn url(&self) -> Option<String> {
        let text = fs::read_to_string(self.ready_file()).ok()?;
        text.ends_with('\n').then(|| text.trim().to_owned())
    }

    fn ready_file(&self) -> PathBuf {
        self.dir.join("ready")
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("serve.log")
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &self.nodes {
            node.line.heal();
            node.signal(Signal::CONT);
            node.kill();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}
