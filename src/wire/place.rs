//! The one place that says what kind of store this is, and opens it.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use keyfall::clock::Environment;
use keyfall::config::{Config, StorePlace};
use keyfall::domain::workflow::Event;
use keyfall::evidence::audit::event_of;
use keyfall::owner_only;
use keyfall::store::{
    Creation, End, PostgresOptions, Purpose, Store, StoreOptions, has_password, is_postgres, open_postgres,
    open_postgres_end, open_sqlite, open_sqlite_end,
};
use keyfall_sdk::SecretValue;

/// Longer than any address is.
const LONGEST_ADDRESS: u64 = 64 * 1024;

/// Where a store is, with everything that opening it takes.
pub(super) enum Place {
    File(std::path::PathBuf),
    Database {
        url: SecretValue,
        /// Without a password.
        shown: String,
    },
}

impl Place {
    /// The store of the settings.
    pub(super) fn of(config: &Config) -> anyhow::Result<Self> {
        match &config.store_file {
            Some(file) => Self::in_file(file),
            None => Self::named(&config.store),
        }
    }

    /// # Errors
    /// A password stands where others can see it.
    pub(super) fn named(place: &StorePlace) -> anyhow::Result<Self> {
        match place {
            StorePlace::File(path) => Ok(Self::File(path.clone())),
            StorePlace::Postgres(address) if has_password(address) => bail!(
                "the store's address holds a password, which does not belong on a command line or into settings: write the whole address into a file of mode 0600, and name that with store_file (--store-file, --from-file, --to-file)"
            ),
            StorePlace::Postgres(address) => Ok(Self::Database {
                url: SecretValue::from(address.clone()),
                shown: address.clone(),
            }),
        }
    }

    /// The address that stands in a file of its owner's alone.
    pub(super) fn in_file(file: &Path) -> anyhow::Result<Self> {
        let name = || format!("the file {} with the store's address", file.display());
        let mut text = String::new();
        owner_only::open(file)
            .with_context(name)?
            .take(LONGEST_ADDRESS)
            .read_to_string(&mut text)
            .with_context(name)?;
        let url = SecretValue::from(std::mem::take(&mut text));
        let address = url.expose_secret_str().unwrap_or_default().trim();
        if !is_postgres(address) {
            bail!("{} does not hold `postgres://USER@HOST/DATABASE`", name());
        }
        let url = SecretValue::from(address.to_owned());
        let shown = format!("that {} names", file.display());
        Ok(Self::Database { url, shown })
    }

    /// Whether several servers may work on it at once.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Self::Database { .. })
    }

    pub(super) async fn open(
        &self,
        node: &str,
        creation: Creation,
        purpose: Purpose,
        env: &Environment,
    ) -> anyhow::Result<Arc<dyn Store>> {
        let store = match self {
            Self::File(path) => open_sqlite(path, file_options(creation, purpose), env.clone()).await,
            Self::Database { url, .. } => open_postgres(options(url, node, creation, purpose), env.clone()).await,
        };
        store.with_context(|| format!("the store {self} was not opened"))
    }

    /// The same, for a move.
    pub(super) async fn open_end(&self, purpose: Purpose, env: &Environment) -> anyhow::Result<End> {
        let creation = match purpose {
            Purpose::MoveTo => Creation::IfMissing,
            _ => Creation::Never,
        };
        let end = match self {
            Self::File(path) => open_sqlite_end(path, file_options(creation, purpose), env.clone()).await,
            Self::Database { url, .. } => {
                open_postgres_end(options(url, "migrate-store", creation, purpose), env.clone()).await
            }
        };
        end.with_context(|| format!("the store {self} was not opened"))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Database { shown, .. } => f.write_str(shown),
        }
    }
}

fn file_options(creation: Creation, purpose: Purpose) -> StoreOptions {
    StoreOptions {
        creation,
        purpose,
        ..StoreOptions::new(decode)
    }
}

fn options(url: &SecretValue, node: &str, creation: Creation, purpose: Purpose) -> PostgresOptions {
    let mut options = PostgresOptions::new(url.clone(), node, decode);
    options.creation = creation;
    options.purpose = purpose;
    options
}

fn decode(bytes: &[u8]) -> Result<Event, String> {
    match event_of(bytes) {
        Ok(Some(event)) => Ok(event),
        Ok(None) => Err("it is no event of a run".to_owned()),
        Err(error) => Err(format!("{:#}", anyhow::Error::new(error))),
    }
}
