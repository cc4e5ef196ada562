//! Accounts of the demo provider as they truly are: every change with its instant, so that a vantage that is late sees the
//! account as it was. Instants are microseconds of the provider's own clock. Secrets are held as SHA-256 only.

use keyfall_sdk::{KeyId, PrincipalState, PrincipalStatus, SecretValue};
use serde::{Deserialize, Serialize};

/// Removed keys that an account remembers, for vantages that are late. Older ones are forgotten everywhere.
const REMEMBERED_KEYS: usize = 16;

/// One account, alive or deleted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Account {
    pub name: String,
    /// Never given to another account of this provider.
    pub immutable_id: String,
    /// Of the issue call that created it; empty for accounts that Keyfall did not make.
    pub marker: String,
    pub created_at: u64,
    pub deleted_at: Option<u64>,
    /// Each change with its instant; the last one holds now.
    pub statuses: Vec<(u64, PrincipalStatus)>,
    /// Sorted.
    pub grants: Vec<String>,
    pub privileged: bool,
    pub keys: Vec<Key>,
    /// Keys that were ever taken away from it, each once; those that it does not remember any more with them.
    #[serde(default)]
    pub removed_keys: u64,
    pub sessions: Vec<Session>,
    /// Instants of refused logins inside the lockout window.
    pub failures: Vec<u64>,
}

/// One credential on an account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Key {
    pub id: KeyId,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// Of the issue call that put it there.
    pub marker: String,
    pub added_at: u64,
    pub removed_at: Option<u64>,
    /// A lie: logins succeed until this instant although the key was removed. 0 when the provider is honest.
    pub honoured_until: u64,
}

/// One open session. It outlives the key that it was opened with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub id: u64,
    pub key_id: KeyId,
    pub opened_at: u64,
}

/// How a login with a given secret ends, at one instant, as one vantage sees the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Login {
    Accepted(KeyId),
    BadCredential,
    Principal(PrincipalStatus),
}

/// Two instants of a look: what the looker knows of, and the true one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) as_of: u64,
    pub(super) now: u64,
}

impl Key {
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.removed_at.is_none()
    }

    fn existed_at(&self, at: u64) -> bool {
        self.added_at <= at && self.removed_at.is_none_or(|removed| at < removed)
    }
}

impl Account {
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.deleted_at.is_none()
    }

    /// Keys that have not been removed, oldest first. What the provider honours may be more: it may lie.
    pub fn live_keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|key| key.is_live())
    }

    #[must_use]
    pub fn status(&self) -> PrincipalStatus {
        self.statuses
            .last()
            .map_or(PrincipalStatus::Enabled, |(_, status)| *status)
    }

    pub(super) fn set_status(&mut self, now: u64, status: PrincipalStatus) {
        if self.status() != status {
            self.statuses.push((now, status));
        }
        let surplus = self.statuses.len().saturating_sub(REMEMBERED_KEYS);
        self.statuses.drain(..surplus);
    }

    pub(super) fn existed_at(&self, at: u64) -> bool {
        self.created_at <= at && self.deleted_at.is_none_or(|deleted| at < deleted)
    }

    fn status_at(&self, at: u64) -> PrincipalStatus {
        self.statuses
            .iter()
            .rev()
            .find(|(since, _)| *since <= at)
            .map_or(PrincipalStatus::Enabled, |(_, status)| *status)
    }

    /// Removes a live key; with a lie it is honoured until then.
    pub(super) fn remove_key(&mut self, id: &KeyId, now: u64, honoured_until: u64) -> bool {
        let Some(key) = self.keys.iter_mut().find(|key| key.is_live() && key.id == *id) else {
            return false;
        };
        key.removed_at = Some(now);
        key.honoured_until = honoured_until;
        self.removed_keys += 1;
        self.forget_old_keys(now);
        true
    }

    pub(super) fn remove_all_keys(&mut self, now: u64, honoured_until: u64) {
        for key in self.keys.iter_mut().filter(|key| key.is_live()) {
            key.removed_at = Some(now);
            key.honoured_until = honoured_until;
            self.removed_keys += 1;
        }
        self.forget_old_keys(now);
    }

    /// Nothing of a deleted account can be used, except what the provider lies about.
    pub(super) fn delete(&mut self, now: u64, honoured_until: u64) {
        self.remove_all_keys(now, honoured_until);
        self.sessions.clear();
        self.deleted_at = Some(now);
    }

    pub(super) fn login(&self, hash: &[u8; 32], look: Look) -> Login {
        let known = self.existed_at(look.as_of);
        let key = self
            .keys
            .iter()
            .find(|key| key.hash == *hash && ((known && key.existed_at(look.as_of)) || self.honours(key, look.now)));
        match (key, self.status_at(look.as_of)) {
            (Some(key), PrincipalStatus::Enabled) => Login::Accepted(key.id.clone()),
            (_, status) if known && status != PrincipalStatus::Enabled => Login::Principal(status),
            (Some(key), _) => Login::Accepted(key.id.clone()),
            (None, _) => Login::BadCredential,
        }
    }

    pub(super) fn state_at(&self, at: u64) -> PrincipalState {
        let mut key_ids: Vec<KeyId> = self
            .keys
            .iter()
            .filter(|key| key.existed_at(at))
            .map(|key| key.id.clone())
            .collect();
        key_ids.sort();
        PrincipalState {
            name: self.name.clone(),
            immutable_id: self.immutable_id.clone(),
            status: self.status_at(at),
            key_ids,
            grants: self.grants.clone(),
            expires_at: None,
            sessions: u32::try_from(self.sessions.len()).ok(),
            privileged: self.privileged,
        }
    }

    fn honours(&self, key: &Key, now: u64) -> bool {
        key.removed_at.is_some() && now < key.honoured_until
    }

    fn forget_old_keys(&mut self, now: u64) {
        let removed = self.keys.iter().filter(|key| !key.is_live()).count();
        let mut surplus = removed.saturating_sub(REMEMBERED_KEYS);
        self.keys.retain(|key| {
            let forget = surplus > 0 && !key.is_live() && key.honoured_until <= now;
            surplus -= usize::from(forget);
            !forget
        });
    }
}

pub(super) fn hash_of(secret: &SecretValue) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, secret.expose_secret());
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    hash
}
