//! A real server in a directory of its own, and the people who use it. It knows the command line and the files that `init` makes, and nothing
//! of what is inside.

mod consumers;
mod database;
mod logins;
mod person;
mod poll;
mod servers;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::Mutex;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) use consumers::{Consumer, Delivered, Seen, acknowledge, delivered};
pub(crate) use database::Database;
pub(crate) use logins::{Service, login, redis_admin, refused, sql};
pub(crate) use person::{Person, Ran, keyfall, ran, strings};
pub(crate) use poll::{LIMIT, wait_for};
pub(crate) use servers::Servers;

/// A directory that `init` made, and the server on it while one runs.
pub(crate) struct Keyfall {
    folder: TempDir,
    server: Mutex<Option<Child>>,
}

impl Keyfall {
    /// Only what `keyfall init` does: `with` are more of its arguments.
    pub(crate) fn init(with: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ran = ran(
            keyfall()
                .arg("init")
                .arg(folder.path().join("kf"))
                .args(["--listen", "127.0.0.1:0"])
                .args(with),
            b"",
        );
        assert_eq!(ran.code, 0, "{ran:?}");
        Self {
            folder,
            server: Mutex::new(None),
        }
    }

    /// Nothing yet: whoever asks runs `init` on [`Keyfall::dir`].
    pub(crate) fn nowhere() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            server: Mutex::new(None),
        }
    }

    /// A running server.
    pub(crate) fn start() -> Self {
        let made = Self::init(&[]);
        made.resume();
        made
    }

    /// A running server with more settings: TOML, behind what `init` wrote. `DIR` is replaced by [`Keyfall::dir`].
    pub(crate) fn start_with(settings: &str) -> Self {
        let made = Self::init(&[]);
        made.add_settings(settings);
        made.resume();
        made
    }

    pub(crate) fn add_settings(&self, settings: &str) {
        let file = self.dir().join("keyfall.toml");
        let text = fs::read_to_string(&file).unwrap();
        let settings = settings.replace("DIR", &self.dir().display().to_string());
        fs::write(&file, format!("{text}\n{settings}\n")).unwrap();
    }

    /// Starts the server on what is there, and waits until it answers.
    pub(crate) fn resume(&self) {
        self.spawn();
        let ready = self.ready_file();
        wait_for("the server is ready", LIMIT, || {
            let ended = self.server.lock().unwrap().as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the server ended ({ended:?}):\n{}", self.log());
            fs::read_to_string(&ready).ok().filter(|url| url.ends_with('\n'))
        });
    }

    /// Starts the server on what is there, and does not wait for anything.
    pub(crate) fn spawn(&self) {
        let ready = self.ready_file();
        let _ = fs::remove_file(&ready);
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let child = self
            .serve_command()
            .arg("--ready-file")
            .arg(&ready)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.server.lock().unwrap() = Some(child);
    }

    fn ready_file(&self) -> PathBuf {
        self.dir().join("ready")
    }

    /// `keyfall serve` on this directory, to be run by the caller.
    pub(crate) fn serve_command(&self) -> std::process::Command {
        let mut command = keyfall();
        command.arg("serve").arg("--config").arg(self.config());
        command
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.path().join("kf")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir().join("keyfall.toml")
    }

    /// The file with the server's verifier key.
    pub(crate) fn public_key(&self) -> String {
        self.dir().join("keyfall.pub").display().to_string()
    }

    /// A path beside the server's own directory, for what a test writes.
    pub(crate) fn scratch(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub(crate) fn url(&self) -> String {
        fs::read_to_string(self.dir().join("ready"))
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("serve.log")
    }

    /// What the server wrote to standard output and error, over all its starts.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub(crate) fn person(&self, name: &str) -> Person {
        Person {
            context: Some(self.dir().join(format!("people/{name}.toml"))),
            url: self.url(),
        }
    }

    pub(crate) fn alice(&self) -> Person {
        self.person("alice")
    }

    pub(crate) fn bob(&self) -> Person {
        self.person("bob")
    }

    /// Somebody without a token.
    pub(crate) fn stranger(&self) -> Person {
        Person {
            context: None,
            url: self.url(),
        }
    }

    /// Alice applies manifests, bob approves. The runs that it opened; none when there was nothing to change.
    pub(crate) fn apply(&self, manifests: &str) -> Vec<String> {
        let file = self.scratch("manifests.yaml");
        fs::write(&file, manifests).unwrap();
        let plan = self.alice().json(&["apply", "-f", &file, "--reason", "in a test"]);
        if plan["empty"] == Value::Bool(true) {
            return Vec::new();
        }
        self.bob().approve(plan["id"].as_str().unwrap())
    }

    /// Follows a run to its end, which must be the one of this exit code (0 completed, 1 unwound, 4 not proven).
    pub(crate) fn follow(&self, run: &str, code: i32) -> String {
        let ran = self.alice().run(&["watch", run]);
        assert_eq!(ran.code, code, "{}{}", ran.stdout, ran.stderr);
        ran.stdout
    }

    /// Waits on a value with a bound.
    pub(crate) fn wait<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        wait_for(what, LIMIT, look)
    }

    /// The process of the running server.
    pub(crate) fn pid(&self) -> u32 {
        self.server.lock().unwrap().as_ref().unwrap().id()
    }

    /// SIGTERM; how it ended.
    pub(crate) fn stop(&self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
        self.ended();
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn ended(&self) -> ExitStatus {
        let mut child = self.server.lock().unwrap().take().unwrap();
        wait_for("the server ends", LIMIT, || child.try_wait().unwrap())
    }
}

impl Drop for Keyfall {
    fn drop(&mut self) {
        if let Some(mut child) = self
            .server
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
        {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the server in {} ---\n{}", self.dir().display(), self.log());
        }
    }
}

/// Clients in this process need to know by what they encrypt, once.
pub(crate) fn tls_provider() {
    static PROVIDER: std::sync::Once = std::sync::Once::new();
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

/// One request; status and body.
pub(crate) fn http(
    method: &str,
    url: &str,
    token: Option<&str>,
    body: &str,
) -> (u16, reqwest::header::HeaderMap, String) {
    tls_provider();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .timeout(LIMIT)
            .build()
            .unwrap();
        let mut request = client.request(method.parse().unwrap(), url).body(body.to_owned());
        if body.starts_with('{') {
            request = request.header("content-type", "application/json");
        }
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        (
            response.status().as_u16(),
            response.headers().clone(),
            response.text().await.unwrap(),
        )
    })
}

/// What is true at a demo provider, in the folder of its `stateFolder` (`connectors/demo/state_folder.rs`): every account that ever was, by name.
pub(crate) fn demo_accounts(folder: &Path) -> Vec<Value> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder.join("accounts"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    let read = |file: PathBuf| -> Vec<Value> {
        let saved: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        saved["accounts"].as_array().unwrap().clone()
    };
    files.into_iter().flat_map(read).collect()
}

/// The token of one of the people.
pub(crate) fn token(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(format!("people/{name}.token")))
        .unwrap()
        .trim()
        .to_owned()
}
