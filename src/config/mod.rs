//! The server's own settings: flags over `KEYFALL_*` environment over the file over defaults. Manifests cannot change any of them; what a
//! manifest may only choose by name (file roots, reload commands) is named here.
//!
//! It reads one file and the environment that it is given. It opens nothing that the settings name.

mod load;
mod store;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use keyfall_sdk::ServerGrants;
use serde::{Deserialize, Serialize};

use crate::domain::length;

pub use load::{ConfigError, Environment, load};
pub use store::StoreAddress;

/// The name of the file that `init` writes and `serve` looks for.
pub const FILE_NAME: &str = "keyfall.toml";

/// Everything that `serve` needs to know. Paths are absolute once loaded: those of file and environment are taken from the file's directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A SQLite file, `postgres://USER@HOST/DATABASE`, or `file:PATH` of a file that holds such an address with its password.
    pub store: StoreAddress,
    /// Where the API listens. Anything but a loopback address needs `tls_cert` and `tls_key`. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// PEM: the certificate with its chain.
    pub tls_cert: Option<PathBuf>,
    /// PEM: the certificate's private key.
    pub tls_key: Option<PathBuf>,
    /// The key that seals secrets. Without it `$CREDENTIALS_DIRECTORY/kek` (systemd `LoadCredential=kek:…`), else `kek` beside the file.
    pub kek_file: Option<PathBuf>,
    /// Keys that may still open while `keyfall kek rotate` moves rows to the one above.
    pub previous_kek_files: Vec<PathBuf>,
    /// Signs receipts and checkpoints. It lies outside of store and backups.
    pub signing_key_file: PathBuf,
    /// The log's name in its checkpoints, for ever.
    pub origin: String,
    /// The last checkpoint, outside of the store: a store that does not go on from it starts frozen.
    pub anchor_file: PathBuf,
    /// `keyfall backup NAME` writes here and nowhere else.
    pub backup_directory: PathBuf,
    /// This server's name in leases and in the log.
    pub node: String,
    /// Directories under which file destinations may write, by the name that manifests use.
    pub file_roots: BTreeMap<String, PathBuf>,
    /// Programs with their arguments that a file destination may run after an update. Never given to a shell.
    pub reload_commands: BTreeMap<String, Vec<String>>,
    /// Hosts other than loopback that systems may be spoken to without TLS.
    pub plaintext_hosts: Vec<String>,
    pub engine: EngineConfig,
    pub log: LogConfig,
}

/// How hard the engine works, and what it finds suspicious.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Runs that are worked on at the same time.
    pub max_runs: u32,
    /// How long a claim on a run lasts without being renewed. After a crash of another node a run rests for as long.
    #[serde(with = "length")]
    pub lease: SignedDuration,
    /// How long the answer of a system to one call is waited for. A lease outlasts three of them.
    #[serde(with = "length")]
    pub call_time: SignedDuration,
    /// How far the machine's clock may jump, or be from the database's, before everything destructive is frozen.
    #[serde(with = "length")]
    pub clock_tolerance: SignedDuration,
    /// A due set of this size or less is never suspicious.
    pub breaker_at_least: u32,
    /// Above that: more than this share of the active identities, in percent.
    pub breaker_percent: u8,
    /// Fewer runs than this that failed within a day are never suspicious; 0: however many.
    pub breaker_failed: u32,
    /// From there on: more than this share of the runs that were opened within that day, in percent.
    pub breaker_failed_percent: u8,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    pub format: LogFormat,
    /// As `tracing` reads it: `info`, `warn,keyfall=debug`.
    pub filter: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            store: StoreAddress::File("keyfall.db".into()),
            listen: SocketAddr::from(([127, 0, 0, 1], 7411)),
            tls_cert: None,
            tls_key: None,
            kek_file: None,
            previous_kek_files: Vec::new(),
            signing_key_file: "signing.key".into(),
            origin: "keyfall".to_owned(),
            anchor_file: "anchor".into(),
            backup_directory: "backups".into(),
            node: "main".to_owned(),
            file_roots: BTreeMap::new(),
            reload_commands: BTreeMap::new(),
            plaintext_hosts: Vec::new(),
            engine: EngineConfig::default(),
            log: LogConfig::default(),
        }
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_runs: 64,
            lease: SignedDuration::from_secs(90),
            call_time: SignedDuration::from_secs(10),
            clock_tolerance: SignedDuration::from_mins(5),
            breaker_at_least: 500,
            breaker_percent: 20,
            breaker_failed: 10,
            breaker_failed_percent: 20,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            // What these two say of themselves at each start is of no use to who reads the log.
            filter: "info,refinery_core=warn,tokio_cron_scheduler=warn".to_owned(),
        }
    }
}

impl Config {
    /// What manifests may choose among.
    #[must_use]
    pub fn grants(&self) -> ServerGrants {
        ServerGrants {
            file_roots: self.file_roots.clone(),
            reload_commands: self.reload_commands.clone(),
            plaintext_hosts: self.plaintext_hosts.clone(),
        }
    }

    /// Certificate and key, when both are given.
    #[must_use]
    pub fn tls(&self) -> Option<(&Path, &Path)> {
        self.tls_cert.as_deref().zip(self.tls_key.as_deref())
    }

    /// Everything about the values that can be known to be wrong, each with what to write instead.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut need = |holds: bool, text: &str| {
            if !holds {
                problems.push(text.to_owned());
            }
        };
        need(
            self.tls_cert.is_some() == self.tls_key.is_some(),
            "tls_cert and tls_key belong together: give both, or neither",
        );
        need(
            self.listen.ip().is_loopback() || self.tls().is_some(),
            "listen: an address other than loopback needs TLS: give tls_cert and tls_key, or listen on 127.0.0.1",
        );
        if let Some(problem) = self.store.problem() {
            need(false, &format!("store: {problem}"));
        }
        let plain = |name: &str| !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control());
        need(
            plain(&self.node),
            "node: give a name without spaces, such as the machine's",
        );
        need(
            plain(&self.origin) && !self.origin.contains('+'),
            "origin: give a name without spaces and plus signs, such as keyfall.example.com",
        );
        need(self.engine.max_runs > 0, "engine.max_runs: must be at least 1");
        need(
            self.engine.call_time >= SignedDuration::from_secs(1),
            "engine.call_time: must be at least 1s, or no system answers in time",
        );
        need(
            self.engine.lease >= self.engine.call_time.saturating_mul(3),
            "engine.lease: must be at least three times `engine.call_time`, or it does not outlive a call to a slow system",
        );
        need(
            self.engine.breaker_percent <= 100,
            "engine.breaker_percent: must be 0 to 100",
        );
        need(
            (1..=100).contains(&self.engine.breaker_failed_percent),
            "engine.breaker_failed_percent: must be 1 to 100",
        );
        for (name, command) in &self.reload_commands {
            let absolute = command.first().is_some_and(|program| Path::new(program).is_absolute());
            need(
                absolute,
                &format!("reload_commands.{name}: the first item must be the absolute path of a program"),
            );
        }
        problems
    }

    /// The file's text with every setting, as it holds after all sources were read. Nothing in it is secret.
    ///
    /// # Errors
    /// When a path is not text.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    fn resolve(&mut self, base: &Path) {
        let Self {
            store,
            tls_cert,
            tls_key,
            kek_file,
            previous_kek_files,
            signing_key_file,
            anchor_file,
            backup_directory,
            file_roots,
            ..
        } = self;
        *store = store.clone().from_here(base);
        let required = [signing_key_file, anchor_file, backup_directory];
        let optional = [tls_cert, tls_key, kek_file].into_iter().flatten();
        for path in required
            .into_iter()
            .chain(optional)
            .chain(previous_kek_files)
            .chain(file_roots.values_mut())
        {
            *path = base.join(&*path);
        }
    }
}

#[cfg(test)]
mod tests;
