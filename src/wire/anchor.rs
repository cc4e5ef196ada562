//! The anchor: the last signed checkpoint in a file outside of the store. A store that does not go on from it was rewound or rewritten, and
//! the server starts at a standstill. While it runs, the file follows the log within a second.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use keyfall::clock::Environment;
use keyfall::config::Config;
use keyfall::engine::standstill::{Cause, STANDSTILL, stand_still};
use keyfall::evidence::checkpoint::Checkpoint;
use keyfall::evidence::keys::SigningKey;
use keyfall::evidence::merkle::{NodeId, consistency_needs, consistency_proof};
use keyfall::evidence::verify::verify_extends;
use keyfall::store::{LogState, Store};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(1);

pub(super) struct Anchor {
    file: PathBuf,
    origin: String,
    signing: Arc<SigningKey>,
    /// Why the file does not follow the log, while it does not.
    trouble: Mutex<Option<String>>,
}

impl Anchor {
    pub(super) fn new(config: &Config, signing: Arc<SigningKey>) -> Self {
        Self {
            file: config.anchor_file.clone(),
            origin: config.origin.clone(),
            signing,
            trouble: Mutex::new(None),
        }
    }

    /// # Errors
    /// Why the last write of the file failed.
    pub(super) fn follows(&self) -> Result<(), String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.clone().map_or(Ok(()), Err)
    }

    /// Compares the store with the file, and comes to a standstill when the store does not go on from it. The file that it did not go on
    /// from is kept under another name.
    pub(super) async fn check(&self, store: &dyn Store, env: &Environment) -> anyhow::Result<()> {
        let state = store.log_state().await?;
        let Err(why) = self.extends(store, &state).await? else {
            return Ok(());
        };
        tracing::error!(
            reason = why,
            "the store does not go on from its anchor; nothing is changed in any system until a person lifts the standstill"
        );
        if self.file.exists() {
            let mut kept = self.file.clone().into_os_string();
            kept.push(format!(".before-{}", state.size));
            fs::rename(&self.file, &kept).context("the anchor file that does not fit could not be kept")?;
        }
        if store.setting(STANDSTILL).await?.is_none() {
            let cause = Cause {
                reason: why,
                action: "frozen",
                trigger: "start",
                details: json!({ "log_size": state.size }),
            };
            stand_still(store, env, cause)
                .await
                .context("the standstill could not be stored")?;
        }
        self.write(store).await?;
        Ok(())
    }

    /// The inner result says why the store does not go on from the anchor.
    async fn extends(&self, store: &dyn Store, state: &LogState) -> anyhow::Result<Result<(), String>> {
        let name = self.file.display();
        let note = match fs::read_to_string(&self.file) {
            Ok(note) => note,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Err(format!(
                    "the anchor file {name} is missing, so nobody can say that this is the newest store"
                )));
            }
            Err(error) => return Err(error).with_context(|| format!("the anchor file {name} cannot be read")),
        };
        let trusted = [self.signing.verifier().clone()];
        let older = match Checkpoint::verify(&note, &self.origin, &trusted) {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                return Ok(Err(format!(
                    "the anchor file {name} does not hold a checkpoint of this server: {error}"
                )));
            }
        };
        let newer = self.checkpoint(state);
        let proof = if older.size <= newer.size && older.size > 0 {
            proof(store, older.size, newer.size).await?
        } else {
            Vec::new()
        };
        Ok(verify_extends(&older, &newer, &proof)
            .map_err(|error| format!("the store does not go on from the anchor file {name}: {error}")))
    }

    fn checkpoint(&self, state: &LogState) -> Checkpoint {
        Checkpoint {
            origin: self.origin.clone(),
            size: state.size,
            root: state.root,
        }
    }

    /// Signs the log as it is and replaces the file. Answers the size.
    pub(super) async fn write(&self, store: &dyn Store) -> anyhow::Result<u64> {
        let state = store.log_state().await?;
        let note = self.checkpoint(&state).sign(&[&self.signing])?;
        let failed = || format!("the anchor file {} cannot be written", self.file.display());
        replace(&self.file, &note, 0o644).with_context(failed)?;
        Ok(state.size)
    }

    fn remember(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Follows the log until it is told to stop. A store that did not answer for a while is looked at again before the file follows it: what
    /// answers then may have lost what this file knows.
    pub(super) async fn follow(self: Arc<Self>, store: Arc<dyn Store>, env: Environment, stopping: CancellationToken) {
        let mut written = None;
        let mut lost = false;
        while stopping.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            match store.log_state().await {
                Ok(_) if lost => match self.check(&*store, &env).await {
                    Ok(()) => (lost, written) = (false, None),
                    Err(error) => {
                        tracing::error!(
                            error = format!("{error:#}"),
                            "the store could not be compared with its anchor"
                        );
                        self.remember(Some(format!("{error:#}")));
                    }
                },
                Ok(state) if written == Some(state.size) => {}
                Ok(_) => match self.write(&*store).await {
                    Ok(size) => {
                        written = Some(size);
                        self.remember(None);
                    }
                    Err(error) => {
                        tracing::error!(error = format!("{error:#}"), "the anchor was not written");
                        self.remember(Some(format!("{error:#}")));
                    }
                },
                Err(error) => {
                    lost = true;
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the log's state could not be read"
                    );
                }
            }
        }
    }
}

async fn proof(store: &dyn Store, from: u64, to: u64) -> anyhow::Result<Vec<[u8; 32]>> {
    let needs = consistency_needs(from, to)?;
    let places: Vec<_> = needs.iter().map(|node| (node.level, node.index)).collect();
    let hashes = store.log_nodes(&places).await?;
    let fetch = |wanted: NodeId| {
        needs
            .iter()
            .zip(&hashes)
            .find(|(node, _)| **node == wanted)
            .map(|(_, hash)| *hash)
    };
    Ok(consistency_proof(from, to, &fetch)?)
}

/// Writes a file whole or not at all.
pub(super) fn replace(file: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let mut new = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&name)?;
    new.write_all(text.as_bytes())?;
    new.sync_all()?;
    fs::rename(&name, file)?;
    if let Some(folder) = file.parent() {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}
