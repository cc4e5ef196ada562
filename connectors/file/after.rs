//! What makes a workload read its file again: a program that the server's configuration allows, or a signal. No shell, no
//! environment of ours, no input, and no secret on any of these ways.

use std::process::Stdio;
use std::time::Duration;

use keyfall_sdk::{ConnectorError, Result, SecretValue};
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::place::{Found, Place};
use super::target::{After, Target};

const LONGEST: Duration = Duration::from_secs(60);
const STDERR_KEPT: u64 = 16 * 1024;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The file is in place when this runs. A failure here is `Transient`, so that the delivery is repeated and with it this.
pub(super) async fn run(target: &Target, secret: &SecretValue, deadline: Instant) -> Result<()> {
    let limit = deadline.saturating_duration_since(Instant::now());
    match &target.after {
        None => Ok(()),
        Some(After::Command { name, argv }) => run_command(name, argv, secret, limit.min(LONGEST)).await,
        Some(After::Signal { pid_file, signal }) => {
            let (root, pid_file, signal) = (target.root.clone(), pid_file.clone(), *signal);
            super::blocking(limit, "signalling the workload", move || {
                signal_process(&Place::open(&root, &pid_file)?, signal)
            })
            .await
        }
    }
}

async fn run_command(name: &str, argv: &[String], secret: &SecretValue, limit: Duration) -> Result<()> {
    let mut child = spawn(name, argv)?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let stderr = child.stderr.take();
    let finished = tokio::time::timeout(limit, async { tokio::join!(child.wait(), last_line(stderr)) }).await;
    let Ok((status, last)) = finished else {
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        return Err(ConnectorError::transient(format!(
            "The file is in place, but the reload command `{name}` did not end in time ({} ms) and was killed.",
            limit.as_millis()
        )));
    };
    let status = status.map_err(|error| {
        ConnectorError::transient(format!("The end of the reload command `{name}` was not seen: {error}"))
    })?;
    if status.success() {
        return Ok(());
    }
    Err(ConnectorError::transient(format!(
        "The file is in place, but the reload command `{name}` failed ({status}): {}",
        if last.is_empty() { "it said nothing" } else { &last }
    ))
    .redacted(&[secret]))
}

fn spawn(name: &str, argv: &[String]) -> Result<Child> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(ConnectorError::unsupported(format!(
            "The reload command `{name}` is empty; correct it in the server's configuration."
        )));
    };
    Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            ConnectorError::conflict(format!(
                "The file is in place, but the reload command `{name}` could not be started ({program}: {error}). \
                 Correct it in the server's configuration and retry."
            ))
        })
}

/// The last line that the program wrote to its standard error. What goes beyond the limit is read and dropped, so that the
/// program never waits for a reader.
async fn last_line(stderr: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stderr) = stderr else {
        return String::new();
    };
    let mut kept = Vec::new();
    let _ = (&mut stderr).take(STDERR_KEPT).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    let text = String::from_utf8_lossy(&kept);
    let line = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).collect()
}

/// A pid file lies where a workload may write, so it must not aim us at anybody else's process: the process must belong to
/// whoever wrote the file, unless that is root or ourselves.
fn signal_process(place: &Place, signal: Signal) -> Result<()> {
    let shown = &place.shown;
    let Found::File(content) = place.read()? else {
        return Err(ConnectorError::transient(format!(
            "The file is in place, but there is no pid file {shown}; is the workload running?"
        )));
    };
    let text = String::from_utf8_lossy(&content.bytes);
    let pid = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse::<i32>().ok())
        .filter(|pid| *pid > 1)
        .and_then(Pid::from_raw)
        .filter(|pid| *pid != rustix::process::getpid())
        .ok_or_else(|| {
            ConnectorError::conflict(format!(
                "The pid file {shown} does not begin with the number of a process that may be signalled."
            ))
        })?;
    let gone = || {
        ConnectorError::transient(format!(
            "The file is in place, but process {pid} of the pid file {shown} is not running."
        ))
    };
    let process = rustix::fs::stat(format!("/proc/{pid}")).map_err(|_| gone())?;
    let trusted = content.uid == 0 || content.uid == rustix::process::geteuid().as_raw();
    if !trusted && content.uid != process.st_uid {
        return Err(ConnectorError::conflict(format!(
            "Process {pid} belongs to another user than the pid file {shown} that names it; it was not signalled."
        )));
    }
    rustix::process::kill_process(pid, signal).map_err(|errno| match errno {
        rustix::io::Errno::SRCH => gone(),
        errno => ConnectorError::denied(format!(
            "The file is in place, but process {pid} could not be signalled ({errno})."
        )),
    })
}
