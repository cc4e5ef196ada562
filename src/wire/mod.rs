//! The wiring: brings settings, keys, store, engine, use cases and interfaces together for `init`, `serve`, `restore` and
//! `migrate-store`. Nothing is decided here that could be decided in one of the parts.

mod anchor;
mod elsewhere;
mod init;
mod keys;
mod migrate;
mod process;
mod reread;
mod restore;
mod serve;
mod unfinished;
mod vitals;

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use keyfall::cli::{ConfigCommand, ConfigFlag, Output, ServeFlags};
use keyfall::clock::Environment as World;
use keyfall::config::{Config, Environment, StoreAddress, load};
use keyfall::domain::workflow::Event;
use keyfall::evidence::audit::event_of;
use keyfall::owner_only;
use keyfall::store::{
    Creation, End, PostgresOptions, Purpose, Store, StoreOptions, open_postgres, open_postgres_end, open_sqlite,
    open_sqlite_end,
};
use keyfall_sdk::SecretValue;
use serde_json::json;

pub(crate) use init::init;
pub(crate) use migrate::migrate_store;
pub(crate) use restore::restore;
pub(crate) use serve::serve;

pub(crate) fn show_config(command: &ConfigCommand, output: Output) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check(flag) => {
            let (config, file) = settings(flag, &ServeFlags::default())?;
            keys::load(&config)?;
            let text = format!("{} is in order", file.display());
            output.say(&json!({ "settings": file, "in_order": true }), &text)?;
        }
        ConfigCommand::Print(flag) => {
            let (config, _) = settings(flag, &ServeFlags::default())?;
            output.say(&serde_json::to_value(&config)?, config.to_toml()?.trim_end())?;
        }
    }
    Ok(())
}

fn settings(flag: &ConfigFlag, flags: &ServeFlags) -> anyhow::Result<(Config, std::path::PathBuf)> {
    Ok(load(flag.config.as_deref(), &Environment::of_this_process(), flags)?)
}

/// Of the disk, for results of calls that were made: those of all runs of a node that are under way when it runs full.
const RESERVE: u64 = 16 << 20;

/// The one place that says what kind of store this is.
async fn open_store(
    address: &StoreAddress,
    node: &str,
    creation: Creation,
    purpose: Purpose,
    world: &World,
) -> anyhow::Result<Arc<dyn Store>> {
    let store = match address.file() {
        Some(path) => open_sqlite(path, in_file(creation, purpose), world.clone()).await,
        None => open_postgres(in_database(address, node, creation, purpose)?, world.clone()).await,
    };
    store.with_context(|| format!("the store {address} was not opened"))
}

/// The same, for a move.
async fn open_end(address: &StoreAddress, purpose: Purpose, world: &World) -> anyhow::Result<End> {
    let creation = match purpose {
        Purpose::MoveTo => Creation::IfMissing,
        _ => Creation::Never,
    };
    let end = match address.file() {
        Some(path) => open_sqlite_end(path, in_file(creation, purpose), world.clone()).await,
        None => open_postgres_end(in_database(address, "move", creation, purpose)?, world.clone()).await,
    };
    end.with_context(|| format!("the store {address} was not opened"))
}

fn in_file(creation: Creation, purpose: Purpose) -> StoreOptions {
    StoreOptions {
        creation,
        purpose,
        reserve: RESERVE,
        ..StoreOptions::new(decode)
    }
}

fn in_database(
    address: &StoreAddress,
    node: &str,
    creation: Creation,
    purpose: Purpose,
) -> anyhow::Result<PostgresOptions> {
    usable(address)?;
    let url = match address {
        StoreAddress::PostgresIn(path) => SecretValue::from(written(path)?),
        other => SecretValue::from(other.to_string()),
    };
    let mut options = PostgresOptions::new(url, node, decode);
    (options.creation, options.purpose) = (creation, purpose);
    Ok(options)
}

/// Refused before anything is opened, written down or shown.
fn usable(address: &StoreAddress) -> anyhow::Result<()> {
    match address.problem() {
        Some(problem) => bail!("the store: {problem}"),
        None => Ok(()),
    }
}

/// The address in a file that only its owner can read.
fn written(path: &Path) -> anyhow::Result<String> {
    let said = || format!("the address of the store in {}", path.display());
    let mut text = String::new();
    owner_only::open(path)
        .with_context(said)?
        .read_to_string(&mut text)
        .with_context(said)?;
    Ok(text)
}

fn decode(bytes: &[u8]) -> Result<Event, String> {
    match event_of(bytes) {
        Ok(Some(event)) => Ok(event),
        Ok(None) => Err("it is no event of a run".to_owned()),
        Err(error) => Err(format!("{:#}", anyhow::Error::new(error))),
    }
}
