//! Workloads: each logs in every 50 ms with what its file holds at that moment, and tells which version it uses. They never stop while the
//! server dies and comes back, and none of their logins may fail.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::Servers;

const BETWEEN: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Service {
    Postgres,
    Redis,
}

/// What stands in the file.
#[derive(Clone, PartialEq)]
struct Delivered {
    user: String,
    secret: String,
    version: String,
}

/// How it went.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) logins: usize,
    pub(super) failures: Vec<String>,
    pub(super) versions: Vec<String>,
    pub(super) secrets: Vec<String>,
}

pub(super) struct Consumer {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Seen>,
}

impl Consumer {
    /// `folder` holds its file. `forgiving` is for an emergency rotation, whose approved plan names the workloads that it breaks: a login
    /// that was refused while the file already held something newer is none of its failures.
    pub(super) fn start(service: Service, folder: &Path, forgiving: bool) -> Self {
        let (stop, stopped) = mpsc::channel();
        let folder = folder.to_owned();
        let thread = std::thread::spawn(move || live(service, &folder, forgiving, &stopped));
        Self { stop, thread }
    }

    pub(super) fn stop(self) -> Seen {
        let _ = self.stop.send(());
        self.thread.join().unwrap()
    }
}

fn live(service: Service, folder: &Path, forgiving: bool, stopped: &mpsc::Receiver<()>) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut seen = Seen::default();
    let mut pause = BETWEEN;
    while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let began = Instant::now();
        if let Some(delivered) = read(folder) {
            let answer = match service {
                Service::Postgres => runtime.block_on(postgres(&delivered)),
                Service::Redis => redis(&delivered),
            };
            let excused = forgiving && read(folder).as_ref() != Some(&delivered);
            note(&mut seen, folder, delivered, answer, excused);
        }
        pause = BETWEEN.saturating_sub(began.elapsed());
    }
    seen
}

fn note(seen: &mut Seen, folder: &Path, delivered: Delivered, answer: Result<(), String>, excused: bool) {
    match answer {
        Ok(()) => {
            seen.logins += 1;
            if seen.versions.last() != Some(&delivered.version) {
                acknowledge(folder, &delivered.version);
                seen.versions.push(delivered.version);
                seen.secrets.push(delivered.secret);
            }
        }
        Err(_) if excused => {}
        Err(error) => seen
            .failures
            .push(format!("{} with {}: {error}", delivered.user, delivered.version)),
    }
}

fn read(folder: &Path) -> Option<Delivered> {
    let text = fs::read_to_string(folder.join("env")).ok()?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {name} in {}", folder.display()))
            .trim_matches('\'')
            .to_owned()
    };
    Some(Delivered {
        user: value("USER"),
        secret: value("SECRET"),
        version: value("VERSION"),
    })
}

fn acknowledge(folder: &Path, version: &str) {
    let part: PathBuf = folder.join(".app.version.part");
    fs::write(&part, version).unwrap();
    fs::rename(part, folder.join("app.version")).unwrap();
}

async fn postgres(delivered: &Delivered) -> Result<(), String> {
    let servers = Servers::get();
    let connected = tokio_postgres::Config::new()
        .host(servers.text("KEYFALL_PG_HOST"))
        .port(servers.text("KEYFALL_PG_PRIMARY_PORT").parse().unwrap())
        .user(&delivered.user)
        .password(&delivered.secret)
        .dbname("postgres")
        .connect(tokio_postgres::NoTls)
        .await;
    // That the login was accepted is all that is asked: the session may be ended at any moment behind it.
    connected.map(drop).map_err(|error| format!("{error:?}"))
}

fn redis(delivered: &Delivered) -> Result<(), String> {
    let servers = Servers::get();
    let port: u16 = servers.text("KEYFALL_REDIS_PORT").parse().unwrap();
    let failed = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect((servers.text("KEYFALL_REDIS_HOST"), port)).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    write!(stream, "AUTH {} {}\r\n", delivered.user, delivered.secret).map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(failed)?;
    if answer == "+OK\r\n" { Ok(()) } else { Err(answer) }
}
