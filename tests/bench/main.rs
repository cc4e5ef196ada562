//! Keyfall's own figures, one module each, as `key=value` lines. They are read by people and by `run`; nothing is asserted here, because a
//! figure depends on the machine and on who shares it.
#![expect(clippy::print_stdout, reason = "a figure is printed, that is all a bench does")]

mod approval;
mod cpu;
mod cut_over;
mod demo;
mod disk;
mod libpq;
mod meter;
mod nodes;
mod postgres;
mod register;
mod rest;
mod rotation;
mod servers;
mod watch;

use anyhow::{Result, bail};

use register::Place;

const WHAT: &str = "demo, demo-one, demo-pg, demo-pg-one, nodes, rotation, cut-over, cut-overs, rest";

/// How much of each figure is measured.
#[derive(Debug, Clone, Copy)]
struct Size {
    runs: usize,
    rounds: usize,
}

fn main() -> Result<()> {
    // Cargo adds `--bench`; the rest is `WHAT…`, `runs=N`, `rounds=N`.
    let mut wanted = Vec::new();
    let (mut runs, mut rounds) = (None, 1);
    for argument in std::env::args().skip(1).filter(|argument| argument != "--bench") {
        match argument.split_once('=') {
            Some(("runs", value)) => runs = Some(value.parse()?),
            Some(("rounds", value)) => rounds = value.parse()?,
            Some(_) => bail!("`{argument}` is neither `runs=N` nor `rounds=N`"),
            None => wanted.push(argument),
        }
    }
    if wanted.is_empty() {
        bail!("say what to measure: {WHAT}");
    }
    // Silent unless RUST_LOG asks: what a figure costs must not hold the cost of a log.
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for what in &wanted {
        let size = |default| Size {
            runs: runs.unwrap_or(default),
            rounds,
        };
        match what.as_str() {
            "demo" => runtime.block_on(demo::rotations(size(10_000), 64, Place::Sqlite))?,
            "demo-one" => runtime.block_on(demo::rotations(size(1_000), 1, Place::Sqlite))?,
            "demo-pg" => runtime.block_on(demo::rotations(size(5_000), 64, Place::Postgres))?,
            "demo-pg-one" => runtime.block_on(demo::rotations(size(500), 1, Place::Postgres))?,
            "nodes" => runtime.block_on(nodes::three_beside_one(runs.unwrap_or(400)))?,
            "rotation" => runtime.block_on(rotation::one_beside_by_hand(size(10)))?,
            "cut-over" => runtime.block_on(cut_over::own_share(size(30)))?,
            "cut-overs" => runtime.block_on(cut_over::many(size(64)))?,
            "rest" => runtime.block_on(rest::at_rest(runs.unwrap_or(0)))?,
            other => bail!("`{other}` is not measured here; there are: {WHAT}"),
        }
    }
    Ok(())
}

/// The middle one; of an even number, the lower of the two.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len().saturating_sub(1) / 2;
    figures.get(middle).copied().unwrap_or(f64::NAN)
}
