//! Rotating the key that seals: each row's data key is wrapped under the new one, row by row, so that a kill anywhere leaves every row under
//! exactly one of the two keys, and running it again goes on.

use serde_json::json;

use super::{App, AppError, Caller, Deed, KekView, Verb, allow};
use crate::sealing::{KekId, Sealed};
use crate::store::{Commit, Committed, Fact, Guard, SecretRow};

/// The settings by which a start with the wrong key is noticed.
pub const KEK_ID: &str = "kek_id";
pub const KEK_CHECK: &str = "kek_check";

const AT_ONCE: u32 = 500;

impl App {
    /// Brings every secret under the active key. The earlier key must still be on the server's key ring, and may be taken off when this is done.
    ///
    /// # Errors
    /// When a row cannot be opened: it is named, and nothing of it is lost.
    pub async fn rotate_kek(&self, caller: &Caller) -> Result<KekView, AppError> {
        allow(caller, Verb::RotateKek)?;
        let active = self.keys.active_id().clone();
        let mut rewrapped = 0_u64;
        loop {
            let rows = self.store.secrets_not_under(&active.0, AT_ONCE).await?;
            if rows.is_empty() {
                break;
            }
            let now = self.env.now();
            let facts = rows
                .iter()
                .map(|row| self.rewrapped(row))
                .collect::<Result<Vec<_>, _>>()?;
            let count = facts.len();
            let details = json!({ "kek": active.0, "rows": count });
            let log = vec![self.entry(caller, now, Deed::new("secrets_rewrapped", details))];
            // A key that wraps what was sealed anew meanwhile would open nothing.
            let as_read = |row: SecretRow| Guard::SecretWrapped {
                id: row.id,
                wrapped_key: row.wrapped_key,
            };
            let guards = rows.into_iter().map(as_read).collect();
            let committed = self.store.commit(Commit { guards, facts, log }).await?;
            if matches!(committed, Committed::Stored) {
                rewrapped = rewrapped.saturating_add(u64::try_from(count).unwrap_or(0));
            }
        }
        let now = self.env.now();
        let check = crate::domain::digest::Digest(self.keys.check_value()).to_string();
        let facts = vec![
            Fact::Setting {
                key: KEK_ID,
                value: Some(active.0.clone()),
            },
            Fact::Setting {
                key: KEK_CHECK,
                value: Some(check),
            },
        ];
        let log = vec![self.entry(
            caller,
            now,
            Deed::new("kek_rotated", json!({ "kek": active.0, "rows": rewrapped })),
        )];
        self.store(
            Commit {
                guards: Vec::new(),
                facts,
                log,
            },
            "the key's check value could not be stored",
        )
        .await?;
        Ok(KekView {
            kek: active.0,
            rewrapped,
        })
    }

    fn rewrapped(&self, row: &SecretRow) -> Result<Fact, AppError> {
        let sealed = Sealed {
            kek_id: KekId(row.kek_id.clone()),
            wrapped_key: row.wrapped_key.clone(),
            wrap_nonce: row.wrap_nonce.clone(),
            nonce: row.nonce.clone(),
            ciphertext: row.ciphertext.clone(),
            algorithm: row.algorithm.clone(),
        };
        let moved = self.keys.rewrap(&sealed, &*self.env.random);
        let moved =
            moved.map_err(|error| AppError::internal(&format!("{} could not be wrapped anew", row.id), &error))?;
        Ok(Fact::SecretRewrapped {
            id: row.id,
            kek_id: moved.kek_id.0,
            wrapped_key: moved.wrapped_key,
            wrap_nonce: moved.wrap_nonce,
        })
    }
}
