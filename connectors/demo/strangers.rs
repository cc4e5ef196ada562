//! What others do to a demo provider behind Keyfall's back: accounts, keys and rights that nobody recorded, and keys that come back. For tests;
//! the connector never calls it.

use keyfall_sdk::{KeyId, SecretValue};

use super::account::{Account, hash_of};
use super::provider::{Provider, remember};

impl Provider {
    /// Puts an account there as somebody else would, for adoption and for findings. A namesake that is alive is deleted first.
    pub fn plant_account(&self, name: &str, secret: &SecretValue, grants: &[&str]) -> Account {
        self.changed(name, || {
            let now = self.now();
            let mut shard = self.shard(name);
            let namesakes = shard.entry(name.to_owned()).or_default();
            for account in namesakes.iter_mut().filter(|account| account.is_live()) {
                account.delete(now, 0);
            }
            let mut account = self.new_account(name, "", now);
            account.grants = grants.iter().map(|&grant| grant.to_owned()).collect();
            account.grants.sort();
            account.keys.push(self.new_key(hash_of(secret), "", now));
            remember(namesakes, account.clone());
            account
        })
    }

    /// Puts one more key on an account, as somebody else would. `None` when the account is absent.
    pub fn plant_key(&self, name: &str, secret: &SecretValue) -> Option<KeyId> {
        self.changed(name, || {
            let key = self.new_key(hash_of(secret), "", self.now());
            let id = key.id.clone();
            self.with_account(name, |account| account.keys.push(key))?;
            Some(id)
        })
    }

    /// Takes a key off an account, as somebody else would. False when the account does not hold it.
    pub fn take_key(&self, name: &str, id: &KeyId) -> bool {
        self.changed(name, || {
            let now = self.now();
            self.with_account(name, |account| account.remove_key(id, now, 0))
                .unwrap_or(false)
        })
    }

    /// Deletes an account, as somebody else would. False when it is absent.
    pub fn take_account(&self, name: &str) -> bool {
        let now = self.now();
        self.with_account(name, |account| account.delete(now, 0)).is_some()
    }

    /// Changes what an account may do, as somebody else would. False when the account is absent.
    pub fn plant_grants(&self, name: &str, grants: &[&str]) -> bool {
        let grants = grants.iter().map(|&grant| grant.to_owned()).collect();
        self.changed(name, || {
            self.with_account(name, |account| account.grants = grants).is_some()
        })
    }

    /// Brings a removed key back, as a restored backup does. False when the account does not remember it.
    pub fn resurrect(&self, name: &str, id: &KeyId) -> bool {
        let back = |account: &mut Account| {
            let key = account.keys.iter_mut().find(|key| key.id == *id);
            key.map(|key| key.removed_at = None).is_some()
        };
        self.changed(name, || self.with_account(name, back).unwrap_or(false))
    }
}
