//! Processor time: what a figure costs whoever else shares the machine.

use std::path::Path;

use anyhow::{Context, Result};

/// This very process.
pub(crate) const OWN: &str = "/proc/self";

/// Kernel and user time of all threads, from the nanoseconds that the scheduler counted: the ticks of `stat` are too coarse for a process
/// at rest.
pub(crate) fn seconds(process: &str) -> Result<f64> {
    let mut nanos = 0.0;
    for thread in std::fs::read_dir(Path::new(process).join("task"))? {
        // A thread that ended meanwhile has nothing more to say.
        let Ok(text) = std::fs::read_to_string(thread?.path().join("schedstat")) else {
            continue;
        };
        let ran: f64 = text
            .split(' ')
            .next()
            .context("schedstat begins with the time that ran")?
            .parse()?;
        nanos += ran;
    }
    Ok(nanos / 1e9)
}
