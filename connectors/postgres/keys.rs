//! Salted keys of recent logins, kept a short while. It knows neither accounts nor connections.
//!
//! A proof tries the same secret many times, at several places, and each login costs 4096 rounds of HMAC on a blocking
//! thread. The stored salt stays the same until the password changes, so the key of one login serves the next. A key is
//! worth as much as its password: few are kept, briefly, and each is overwritten when it leaves.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use keyfall_sdk::SecretValue;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::scram::SaltedKey;

const KEPT: usize = 32;
const KEPT_FOR: Duration = Duration::from_secs(60);

struct Entry {
    secret: SecretValue,
    salt: Vec<u8>,
    iterations: NonZeroU32,
    /// Empty while its first login computes it.
    key: Arc<OnceCell<SaltedKey>>,
    until: Instant,
}

#[derive(Default)]
struct Shelf {
    entries: VecDeque<Entry>,
    /// A task is waiting to clear what has run out.
    swept: bool,
}

#[derive(Default)]
pub(super) struct SaltedKeys(Arc<Mutex<Shelf>>);

impl std::fmt::Debug for SaltedKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SaltedKeys")
    }
}

impl SaltedKeys {
    /// The salted key, computed off the async threads unless a recent login left it here. Logins at several vantages at once compute it once.
    pub(super) async fn derive(&self, secret: &SecretValue, salt: &[u8], iterations: NonZeroU32) -> SaltedKey {
        let place = self.place(secret, salt, iterations);
        let key = place.get_or_init(async || {
            let (owned_secret, owned_salt) = (secret.clone(), salt.to_vec());
            let derived = tokio::task::spawn_blocking(move || {
                SaltedKey::derive(owned_secret.expose_secret(), &owned_salt, iterations)
            });
            // The blocking pool only fails when the runtime is being shut down; then the time on this thread is nobody's.
            derived
                .await
                .unwrap_or_else(|_| SaltedKey::derive(secret.expose_secret(), salt, iterations))
        });
        key.await.clone()
    }

    /// Where the key is, or is to be put by whoever comes first.
    fn place(&self, secret: &SecretValue, salt: &[u8], iterations: NonZeroU32) -> Arc<OnceCell<SaltedKey>> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.clear_old();
        let is_it =
            |entry: &&Entry| entry.iterations == iterations && entry.salt == salt && entry.secret.matches(secret);
        if let Some(known) = shelf.entries.iter().find(is_it) {
            return Arc::clone(&known.key);
        }
        let key = Arc::default();
        if shelf.entries.len() >= KEPT {
            shelf.entries.pop_front();
        }
        shelf.entries.push_back(Entry {
            secret: secret.clone(),
            salt: salt.to_vec(),
            iterations,
            key: Arc::clone(&key),
            until: Instant::now() + KEPT_FOR,
        });
        if !shelf.swept {
            shelf.swept = true;
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
        key
    }
}

impl Shelf {
    fn clear_old(&mut self) {
        let now = Instant::now();
        self.entries.retain(|entry| entry.until > now);
    }
}

/// Clears the shelf even when nobody logs in any more, and ends when it is empty.
async fn sweep(shelf: Weak<Mutex<Shelf>>) {
    loop {
        tokio::time::sleep(KEPT_FOR).await;
        let Some(shelf) = shelf.upgrade() else { return };
        let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.clear_old();
        if shelf.entries.is_empty() {
            shelf.swept = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use keyfall_sdk::SecretValue;

    use super::{KEPT, KEPT_FOR, SaltedKeys};

    #[tokio::test(start_paused = true)]
    async fn keys_are_few_and_leave_in_time() {
        let keys = SaltedKeys::default();
        let one = NonZeroU32::MIN;
        let secret = |number: usize| SecretValue::from(format!("secret {number}"));
        for number in 0..KEPT + 5 {
            keys.derive(&secret(number), b"salt", one).await;
        }
        let same = [
            keys.place(&secret(KEPT), b"salt", one),
            keys.place(&secret(KEPT), b"salt", one),
        ];
        assert!(Arc::ptr_eq(&same[0], &same[1]), "logins at once compute it once");
        let is_kept = |secret, salt: &[u8]| keys.place(&secret, salt, one).initialized();
        assert!(is_kept(secret(KEPT), b"salt"));
        assert!(!is_kept(secret(KEPT), b"other"));
        assert!(!is_kept(secret(0), b"salt"));
        assert_eq!(keys.0.lock().unwrap().entries.len(), KEPT);
        // The sweeper waits for its own moment, so the clock is moved twice.
        for _ in 0..2 {
            tokio::task::yield_now().await;
            tokio::time::advance(KEPT_FOR).await;
            tokio::task::yield_now().await;
        }
        assert!(keys.0.lock().unwrap().entries.is_empty(), "the sweep needs no login");
    }
}
