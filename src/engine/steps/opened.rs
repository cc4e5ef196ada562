//! Secrets that a run has opened, kept in memory as long as the run is in our hands: every step asks for the same few. They are overwritten when
//! the run is let go. It knows neither where secrets come from nor what they are for.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use keyfall_sdk::SecretValue;

use crate::domain::ids::{RunId, SecretId};

/// Opened for the endpoints of the run's own plan, which never change (P11): so a run sees none but its own.
#[derive(Default)]
pub(super) struct Opened(Mutex<HashMap<RunId, Vec<(SecretId, SecretValue)>>>);

impl Opened {
    pub(super) fn get(&self, run: RunId, id: SecretId) -> Option<SecretValue> {
        let opened = self.lock();
        let (_, secret) = opened.get(&run)?.iter().find(|(known, _)| *known == id)?;
        Some(secret.clone())
    }

    pub(super) fn keep(&self, run: RunId, id: SecretId, secret: SecretValue) {
        let mut opened = self.lock();
        let kept = opened.entry(run).or_default();
        if !kept.iter().any(|(known, _)| *known == id) {
            kept.push((id, secret));
        }
    }

    pub(super) fn forget(&self, run: RunId) {
        let gone = self.lock().remove(&run);
        // Overwritten outside of the lock.
        drop(gone);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Vec<(SecretId, SecretValue)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_run_sees_its_own_secrets_until_it_is_let_go() {
        let run = |number| RunId::from_uuid(Uuid::from_u128(number));
        let id = SecretId::from_uuid(Uuid::from_u128(9));
        let opened = Opened::default();
        opened.keep(run(1), id, SecretValue::from("bytes".to_owned()));
        assert!(opened.get(run(1), id).is_some());
        assert!(opened.get(run(2), id).is_none());
        opened.forget(run(1));
        assert!(opened.get(run(1), id).is_none());
        assert!(opened.lock().is_empty());
    }
}
