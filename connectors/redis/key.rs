//! The immutable id of one password of one Redis user.
//!
//! Redis lists the bare SHA-256 of each password. That hash must not travel into events and receipts: for a weak adopted
//! password it would let anybody who reads them try a dictionary at full speed. So the id is derived from it, slowly and
//! salted with the user's name. For our own 256-bit secrets no guessing helps in any case.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use keyfall_sdk::{KeyId, SecretValue};
use ring::digest;
use ring::pbkdf2;

/// Changing any of these changes every recorded id: they stay as they are for good.
const ROUNDS: NonZeroU32 = NonZeroU32::new(10_000).unwrap();
const SALT_PREFIX: &str = "keyfall-redis-key-id:";
const ID_BYTES: usize = 8;

/// Past this many entries the memory of derived ids is emptied; it only saves time.
const REMEMBERED: usize = 20_000;

/// The password as Redis stores and lists it: SHA-256 in lower-case hex.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct StoredHash(pub(super) String);

impl StoredHash {
    pub(super) fn of(secret: &SecretValue) -> Self {
        Self(hex(digest::digest(&digest::SHA256, secret.expose_secret()).as_ref()))
    }
}

/// Derives key ids, each once.
#[derive(Default)]
pub(super) struct KeyIds {
    derived: Mutex<HashMap<(String, StoredHash), KeyId>>,
}

impl KeyIds {
    pub(super) fn of(&self, user: &str, hash: &StoredHash) -> KeyId {
        let place = (user.to_owned(), hash.clone());
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = derived.get(&place) {
            return known.clone();
        }
        if derived.len() >= REMEMBERED {
            derived.clear();
        }
        let id = derive(user, hash);
        derived.insert(place, id.clone());
        id
    }
}

fn derive(user: &str, hash: &StoredHash) -> KeyId {
    let salt = format!("{SALT_PREFIX}{user}");
    let mut id = [0_u8; ID_BYTES];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        ROUNDS,
        salt.as_bytes(),
        hash.0.as_bytes(),
        &mut id,
    );
    KeyId(format!("{user}/{}", hex(&id)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use keyfall_sdk::SecretValue;

    use super::{KeyIds, StoredHash};

    #[test]
    fn the_derivation_never_changes() {
        let hash = StoredHash::of(&SecretValue::from("one".to_owned()));
        assert_eq!(
            hash.0,
            "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
        );
        assert_eq!(KeyIds::default().of("app", &hash).0, "app/ae2037e84469ac28");
    }

    #[test]
    fn an_id_shows_no_part_of_the_hash_and_differs_between_users() {
        let ids = KeyIds::default();
        let hash = StoredHash::of(&SecretValue::from("one".to_owned()));
        let of_app = ids.of("app", &hash);
        let shown = of_app.0.strip_prefix("app/").expect("the id begins with the user");
        assert!(!hash.0.contains(shown));
        assert_ne!(ids.of("web", &hash).0.strip_prefix("web/"), Some(shown));
        assert_eq!(ids.of("app", &hash), of_app);
    }
}
