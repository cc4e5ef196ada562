//! The command line as one of the people whom `init` enrolled, or as a stranger.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// How a command ended.
#[derive(Debug, Clone)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) struct Person {
    /// Made by `init`; `None` for a stranger without token or key.
    pub(crate) context: Option<PathBuf>,
    pub(crate) url: String,
}

/// A command without anything of this process's environment that could speak for another server.
pub(crate) fn keyfall() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyfall"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KEYFALL_") {
            command.env_remove(name);
        }
    }
    command.env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME");
    command
}

/// Runs it to its end.
pub(crate) fn ran(command: &mut Command, input: &[u8]) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read it may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Person {
    pub(crate) fn command(&self) -> Command {
        let mut command = keyfall();
        command.args(["--server", &self.url]);
        if let Some(context) = &self.context {
            command.arg("--context").arg(context);
        }
        command
    }

    /// However it ends.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        ran(self.command().args(args), b"")
    }

    /// Its standard output; it must succeed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "keyfall {args:?}: {ran:?}");
        ran.stdout
    }

    /// What it prints as JSON; it must succeed.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[args, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("keyfall {args:?}: {error}: {text}"))
    }

    /// Its standard error; it must fail with this exit code.
    pub(crate) fn fails(&self, args: &[&str], code: i32) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, code, "keyfall {args:?}: {ran:?}");
        ran.stderr
    }

    /// `keyfall secret set` on a server that may be away: whether it was stored.
    pub(crate) fn try_secret(&self, name: &str, secret: &str) -> bool {
        ran(self.command().args(["secret", "set", name]), secret.as_bytes()).code == 0
    }

    /// `keyfall secret set`.
    pub(crate) fn secret(&self, name: &str, secret: &str) {
        let ran = ran(self.command().args(["secret", "set", name]), secret.as_bytes());
        assert_eq!(ran.code, 0, "keyfall secret set {name}: {ran:?}");
    }

    /// Signs a plan; the runs that it opened.
    pub(crate) fn approve(&self, plan: &str) -> Vec<String> {
        let view = self.json(&["approve", plan, "--yes", "--reason", "in a test"]);
        strings(&view["runs"])
    }
}

pub(crate) fn strings(list: &Value) -> Vec<String> {
    let items = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    items.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}
