//! What a server costs while it has nothing to do: resident memory and processor time of `keyfall serve` on an empty store.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::cpu;
use super::register::scratch;

const PROGRAM: &str = env!("CARGO_BIN_EXE_keyfall");
/// What a start does is over by then.
const WARM: Duration = Duration::from_secs(3);
const WATCHED: Duration = Duration::from_secs(20);

/// Stopped when it is dropped, however the figure ends.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status();
        if !asked.is_ok_and(|status| status.success()) {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

pub(crate) async fn at_rest() -> Result<()> {
    let folder = scratch()?;
    let home = folder.path().join("kf");
    let ready = folder.path().join("ready");
    let made = Command::new(PROGRAM)
        .arg("init")
        .arg(&home)
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    ensure!(made.success(), "`keyfall init DIR` failed: {made}");
    let began = Instant::now();
    let served = Command::new(PROGRAM)
        .arg("serve")
        .arg("--config")
        .arg(home.join("keyfall.toml"))
        .arg("--ready-file")
        .arg(&ready)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let served = Served(served);
    while !ready.exists() {
        ensure!(began.elapsed() < Duration::from_secs(30), "the server does not answer");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let start = began.elapsed();
    let process = format!("/proc/{}", served.0.id());
    tokio::time::sleep(WARM).await;
    let before = cpu::seconds(&process)?;
    let began = Instant::now();
    tokio::time::sleep(WATCHED).await;
    let spent = cpu::seconds(&process)? - before;
    println!(
        "rest rss_mb={:.1} cpu_percent={:.2} seconds={:.0} start_ms={}",
        resident_megabytes(&process)?,
        spent / began.elapsed().as_secs_f64() * 100.0,
        WATCHED.as_secs_f64(),
        start.as_millis()
    );
    Ok(())
}

fn resident_megabytes(process: &str) -> Result<f64> {
    let status = std::fs::read_to_string(Path::new(process).join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: f64 = line
        .and_then(|line| line.split_whitespace().next())
        .context("VmRSS stands in the status of a process")?
        .parse()?;
    Ok(kibibytes * 1024.0 / 1e6)
}
