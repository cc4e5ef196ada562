//! The wiring: brings settings, keys, store, engine, use cases and interfaces together for `init`, `serve`, `restore` and
//! `migrate-store`. Nothing is decided here that could be decided in one of the parts.

mod anchor;
mod init;
mod keys;
mod migrate;
mod reread;
mod restore;
mod serve;
mod vitals;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use keyfall::cli::{ConfigCommand, ConfigFlag, Output, ServeFlags};
use keyfall::clock::Environment as World;
use keyfall::config::{Config, Environment, load};
use keyfall::domain::workflow::Event;
use keyfall::evidence::audit::event_of;
use keyfall::store::{Creation, End, Purpose, Store, StoreOptions, open_sqlite, open_sqlite_end};
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

/// The one place that says what kind of store this is.
async fn open_store(
    path: &Path,
    creation: Creation,
    purpose: Purpose,
    world: &World,
) -> anyhow::Result<Arc<dyn Store>> {
    let options = StoreOptions {
        creation,
        purpose,
        ..StoreOptions::new(decode)
    };
    let store = open_sqlite(path, options, world.clone()).await;
    store.with_context(|| format!("the store {} was not opened", path.display()))
}

/// The same, for a move.
async fn open_end(store: &str, purpose: Purpose, world: &World) -> anyhow::Result<End> {
    let options = StoreOptions {
        creation: match purpose {
            Purpose::MoveTo => Creation::IfMissing,
            _ => Creation::Never,
        },
        purpose,
        ..StoreOptions::new(decode)
    };
    let end = open_sqlite_end(Path::new(store), options, world.clone()).await;
    end.with_context(|| format!("the store {store} was not opened"))
}

fn decode(bytes: &[u8]) -> Result<Event, String> {
    match event_of(bytes) {
        Ok(Some(event)) => Ok(event),
        Ok(None) => Err("it is no event of a run".to_owned()),
        Err(error) => Err(format!("{:#}", anyhow::Error::new(error))),
    }
}
