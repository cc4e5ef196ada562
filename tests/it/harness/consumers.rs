//! Workloads: each logs in every 50 ms with what its file holds at that moment, and tells which version it uses. They never stop while the
//! server dies and comes back, and none of their logins may fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::logins::{Service, login};
use super::servers::Servers;

const BETWEEN: Duration = Duration::from_millis(50);

/// What stands in the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Delivered {
    pub(crate) user: String,
    pub(crate) secret: String,
    pub(crate) version: String,
}

/// How it went.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) logins: usize,
    pub(crate) failures: Vec<String>,
    pub(crate) versions: Vec<String>,
    pub(crate) secrets: Vec<String>,
}

pub(crate) struct Consumer {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Seen>,
}

impl Consumer {
    /// `folder` holds its file. `forgiving` is for an emergency rotation, whose approved plan names the workloads that it breaks: a login
    /// that was refused while the file already held something newer is none of its failures.
    pub(crate) fn start(service: Service, folder: &Path, forgiving: bool) -> Self {
        let (stop, stopped) = mpsc::channel();
        let folder = folder.to_owned();
        let thread = std::thread::spawn(move || live(service, &folder, forgiving, &stopped));
        Self { stop, thread }
    }

    pub(crate) fn stop(self) -> Seen {
        let _ = self.stop.send(());
        self.thread.join().unwrap()
    }
}

fn live(service: Service, folder: &Path, forgiving: bool, stopped: &mpsc::Receiver<()>) -> Seen {
    let mut seen = Seen::default();
    let mut pause = BETWEEN;
    while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let began = Instant::now();
        if let Some(found) = delivered(folder) {
            let answer = login(
                Servers::get(),
                service,
                service.first_port(),
                &found.user,
                &found.secret,
            );
            let excused = forgiving && delivered(folder).as_ref() != Some(&found);
            note(&mut seen, folder, found, answer, excused);
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

pub(crate) fn delivered(folder: &Path) -> Option<Delivered> {
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

pub(crate) fn acknowledge(folder: &Path, version: &str) {
    let part: PathBuf = folder.join(".app.version.part");
    fs::write(&part, version).unwrap();
    fs::rename(part, folder.join("app.version")).unwrap();
}
