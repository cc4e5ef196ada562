//! Consistent copies of the store. Secrets in a copy are sealed as they are in the store; the KEK and the signing key are in neither.

use jiff::Timestamp;
use serde_json::json;

use super::{App, AppError, BackupView, Caller, Deed, Verb, allow};
use crate::engine::LAST_BACKUP;
use crate::store::{Commit, Fact, Guard, StoreError};

impl App {
    /// Writes a copy into the server's backup directory, under a name that is not taken.
    ///
    /// # Errors
    /// When the name is taken or unfit, or the disk is full; nothing half-written is left under the name.
    pub async fn backup(&self, caller: &Caller, name: &str) -> Result<BackupView, AppError> {
        allow(caller, Verb::Backup)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.starts_with('.') || name.len() > 120 || !name.chars().all(plain) {
            return Err(AppError::invalid(
                "a backup's name is letters, digits, `-`, `_` and `.`, not starting with a dot",
            ));
        }
        let path = self.settings.backup_directory.join(name);
        if path.exists() {
            return Err(AppError::Conflict {
                why: format!("{} exists already; choose another name", path.display()),
            });
        }
        // Named before it is written: a copy that nobody finished to record may hold secrets all the same.
        let last = |value| Fact::Setting {
            key: LAST_BACKUP,
            value,
        };
        let earlier = self.store.setting(LAST_BACKUP).await?;
        let begun = self.env.now();
        let deed = Deed::new("backup_begun", json!({ "name": name }));
        let mine = Some(format!("{name} at {begun}"));
        self.record(caller, begun, deed, vec![last(mine.clone())]).await?;
        let written = self.store.backup(&path).await;
        let now = self.env.now();
        if let Err(error) = written {
            let why = error.to_string();
            let deed = Deed::new("backup_failed", json!({ "name": name, "why": &why }));
            self.record(caller, now, deed, Vec::new()).await?;
            // Another backup may have been begun meanwhile, and is then the last one.
            let still_mine = Guard::SettingIs {
                key: LAST_BACKUP,
                value: mine,
            };
            let commit = Commit {
                guards: vec![still_mine],
                facts: vec![last(earlier)],
                log: Vec::new(),
            };
            self.store.commit(commit).await?;
            return Err(match error {
                StoreError::NotOffered { .. } => AppError::Conflict { why },
                error => error.into(),
            });
        }
        let state = self.store.log_state().await?;
        let deed = Deed::new("backed_up", json!({ "name": name, "log_size": state.size }));
        self.record(caller, now, deed, Vec::new()).await?;
        Ok(BackupView {
            path: path.display().to_string(),
            at: now,
            log_size: state.size,
        })
    }

    async fn record(&self, caller: &Caller, at: Timestamp, deed: Deed<'_>, facts: Vec<Fact>) -> Result<(), AppError> {
        let commit = Commit {
            guards: Vec::new(),
            facts,
            log: vec![self.entry(caller, at, deed)],
        };
        self.store(commit, "the backup could not be recorded").await
    }
}
