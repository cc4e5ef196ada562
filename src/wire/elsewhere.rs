//! A store whose database is another one than it was last run on: a standby that was promoted, a backup that was restored into a database, an
//! address that leads elsewhere. It may know less than the one before did, so it is taken for an old copy: it comes to a standstill that two
//! people lift, and only then does the store say that this is its database. Until it says so nothing of it is read or stored by any node.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use keyfall::clock::Environment;
use keyfall::config::Config;
use keyfall::engine::standstill::{Cause, StandstillError, stand_still_while};
use keyfall::sealing::Keyring;
use keyfall::store::{Commit, Creation, DATABASE, Fact, Guard, Purpose, Store, StoreError};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::anchor::Anchor;
use super::keys::{self, Keys};
use super::open_store;

/// Between two looks while serving; every other use of the store is refused from the first instant on.
const EVERY: Duration = Duration::from_secs(1);
/// Several nodes may see it at once, and each tries until one of them has done it.
const TRIES: u32 = 8;

/// What it takes to bring a store to a standstill where it is found.
pub(super) struct Elsewhere {
    config: Config,
    ring: Arc<Keyring>,
    anchor: Arc<Anchor>,
    env: Environment,
}

/// A database that is not the store's.
struct Found {
    why: String,
    was: String,
    is: String,
}

impl Found {
    fn of(error: &StoreError) -> Option<Self> {
        match error {
            StoreError::AnotherDatabase { why, was, is } => Some(Self {
                why: why.clone(),
                was: was.clone(),
                is: is.clone(),
            }),
            _ => None,
        }
    }
}

impl Elsewhere {
    pub(super) fn new(config: &Config, keys: &Keys, anchor: &Arc<Anchor>, env: &Environment) -> Self {
        Self {
            config: config.clone(),
            ring: Arc::clone(&keys.ring),
            anchor: Arc::clone(anchor),
            env: env.clone(),
        }
    }

    /// Opens the store for work, at a standstill when it is found elsewhere.
    pub(super) async fn open(&self) -> anyhow::Result<Arc<dyn Store>> {
        loop {
            let error = match self.opened(Purpose::Work).await {
                Ok(store) => return Ok(store),
                Err(error) => error,
            };
            match error.downcast_ref().and_then(Found::of) {
                Some(found) => self.settle(&found, "start").await?,
                None => return Err(error),
            }
        }
    }

    async fn opened(&self, purpose: Purpose) -> anyhow::Result<Arc<dyn Store>> {
        let (config, env) = (&self.config, &self.env);
        open_store(&config.store, &config.node, Creation::Never, purpose, env).await
    }

    async fn settle(&self, found: &Found, trigger: &'static str) -> anyhow::Result<()> {
        tracing::error!(
            reason = found.why,
            "the store's database is another one; nothing is changed in any system until two people lift the standstill"
        );
        let store = self.opened(Purpose::Accept).await?;
        let settled = self.settle_in(&*store, found, trigger).await;
        store.close().await.context("the store could not be closed")?;
        settled
    }

    async fn settle_in(&self, store: &dyn Store, found: &Found, trigger: &'static str) -> anyhow::Result<()> {
        keys::check(&self.ring, store, &self.config).await?;
        for _ in 0..TRIES {
            if store.setting(DATABASE).await?.as_deref() != Some(&*found.was) {
                // Another node has done it.
                return Ok(());
            }
            let cause = Cause {
                reason: format!("{}: what was done since then must be looked at first", found.why),
                action: "frozen",
                trigger,
                details: json!({ "database": found.is, "before": found.was }),
            };
            match stand_still_while(store, &self.env, cause, vec![is_still(found)]).await {
                Ok(()) => {
                    self.anchor.check(store, &self.env).await?;
                    return taken(store, found).await;
                }
                Err(StandstillError::Store(_) | StandstillError::Moved) => {}
                Err(error) => return Err(error).context("the standstill could not be stored"),
            }
        }
        anyhow::bail!("the standstill could not be stored: {}", found.why)
    }

    /// Looks at the store until it is told to stop. A file is the only one of its name.
    pub(super) async fn watch(&self, store: &dyn Store, stopping: &CancellationToken) {
        if self.config.store.file().is_some() {
            return;
        }
        while stopping.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            let Err(error) = store.setting(DATABASE).await else {
                continue;
            };
            if let Some(found) = Found::of(&error)
                && let Err(error) = self.settle(&found, "watch").await
            {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the store did not come to a standstill yet"
                );
            }
        }
    }
}

/// No node has told the store yet that this is its database.
fn is_still(found: &Found) -> Guard {
    Guard::SettingIs {
        key: DATABASE,
        value: Some(found.was.clone()),
    }
}

/// From here on the store is this one, and every node may open it.
async fn taken(store: &dyn Store, found: &Found) -> anyhow::Result<()> {
    let commit = Commit {
        guards: vec![is_still(found)],
        facts: vec![Fact::Setting {
            key: DATABASE,
            value: Some(found.is.clone()),
        }],
        log: Vec::new(),
    };
    // Refused: another node was quicker, to the same end.
    let stored = store.commit(commit).await;
    stored.map(drop).context("the store could not be told its database")
}
