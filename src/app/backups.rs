//! Consistent copies of the store. Secrets in a copy are sealed as they are in the store; the KEK and the signing key are in neither.

use serde_json::json;

use super::{App, AppError, BackupView, Caller, Deed, Verb, allow};
use crate::engine::LAST_BACKUP;
use crate::store::{Commit, Fact};

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
        self.store.backup(&path).await?;
        let now = self.env.now();
        let state = self.store.log_state().await?;
        let details = json!({ "name": name, "log_size": state.size });
        let facts = vec![Fact::Setting {
            key: LAST_BACKUP,
            value: Some(format!("{name} at {now}")),
        }];
        let log = vec![self.entry(caller, now, Deed::new("backed_up", details))];
        self.store(
            Commit {
                guards: Vec::new(),
                facts,
                log,
            },
            "the backup could not be recorded",
        )
        .await?;
        Ok(BackupView {
            path: path.display().to_string(),
            at: now,
            log_size: state.size,
        })
    }
}
