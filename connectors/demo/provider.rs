//! The truth of one demo provider, apart from what its connector says: accounts in sharded maps, a clock that tests may
//! move, the faults, and how often each operation was called. Systems of the same provider name share one in a process, and
//! processes share what a folder holds. It does not know the contract's calls: `control.rs` and `life.rs` do.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use keyfall_sdk::{KeyId, Result, SecretValue};
use tokio::time::Instant;

use super::account::{Account, Key, Login, Session, hash_of};
use super::faults::{Fault, Faults, Lie, Operation};
use super::state_folder::{Folder, Turn};

const SHARDS: usize = 16;

/// Deleted accounts that are remembered for each name, for vantages that are late.
const REMEMBERED_ACCOUNTS: usize = 4;

/// Accounts by name, each name with its deleted predecessors before the one that may be alive.
pub(super) type Shard = HashMap<String, Vec<Account>>;

/// One provider and everything that is true of it, in memory or in a folder.
///
/// What looks at the truth and changes it behind Keyfall's back reads a folder anew each time. Where the folder cannot be read or
/// written, that is logged, and what this process last knew is answered.
#[derive(Debug)]
pub struct Provider {
    pub(super) name: String,
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    faults: RwLock<Arc<Faults>>,
    /// The faults that a system's options last asked for: connecting again with the same ones changes nothing.
    configured: Mutex<Option<Faults>>,
    /// When each vantage stopped learning.
    pub(super) frozen: Mutex<BTreeMap<String, u64>>,
    began: Instant,
    /// Microseconds added to the clock, by tests and by a folder that others have written to.
    pub(super) offset: AtomicU64,
    pub(super) next_id: AtomicU64,
    calls: [AtomicU64; Operation::COUNT],
    pub(super) folder: OnceLock<Folder>,
}

static PROVIDERS: LazyLock<Mutex<BTreeMap<String, Arc<Provider>>>> = LazyLock::new(Mutex::default);

/// The provider of this name in this process, made at first use.
#[must_use]
pub fn provider(name: &str) -> Arc<Provider> {
    let mut providers = held(&PROVIDERS);
    if let Some(provider) = providers.get(name) {
        return Arc::clone(provider);
    }
    let provider = Arc::new(Provider::new(name));
    providers.insert(name.to_owned(), Arc::clone(&provider));
    provider
}

/// The same, with its truth kept in a folder, as `options.stateFolder` of a system keeps it: what other processes make of it is seen here.
///
/// # Errors
/// `Conflict` when this process already keeps the provider elsewhere.
pub fn provider_in(name: &str, folder: &Path) -> Result<Arc<Provider>> {
    let provider = provider(name);
    provider.keep_in(folder.to_path_buf())?;
    Ok(provider)
}

/// The next provider of this name begins anew. Who holds this one keeps it.
pub fn forget_provider(name: &str) {
    held(&PROVIDERS).remove(name);
}

/// A panic elsewhere leaves a demo map that is still the best truth there is.
pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Provider {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            faults: RwLock::default(),
            configured: Mutex::default(),
            frozen: Mutex::default(),
            began: Instant::now(),
            offset: AtomicU64::new(0),
            next_id: AtomicU64::new(1),
            calls: std::array::from_fn(|_| AtomicU64::new(0)),
            folder: OnceLock::new(),
        }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Microseconds since the provider began. It stops and jumps with tokio's clock.
    #[must_use]
    pub fn now(&self) -> u64 {
        let elapsed = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        elapsed.saturating_add(self.offset.load(Ordering::Relaxed))
    }

    /// Moves the provider's clock on, so that what is late arrives without anybody waiting.
    pub fn advance(&self, by: Duration) {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX / 4);
        self.offset.fetch_add(micros, Ordering::Relaxed);
    }

    #[must_use]
    pub fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces all faults, from the next call on.
    pub fn set_faults(&self, faults: Faults) {
        let now = self.now();
        let mut frozen = held(&self.frozen);
        frozen.retain(|name, _| faults.vantages.get(name).is_some_and(|vantage| vantage.stops_learning));
        for (name, _) in faults.vantages.iter().filter(|(_, vantage)| vantage.stops_learning) {
            frozen.entry(name.clone()).or_insert(now);
        }
        drop(frozen);
        *self.faults.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(faults);
    }

    /// Changes the faults that are set.
    pub fn change_faults(&self, change: impl FnOnce(&mut Faults)) {
        let mut faults = (*self.faults()).clone();
        change(&mut faults);
        self.set_faults(faults);
    }

    /// Faults that a system's options ask for. Faults set at run time survive a reconnect with the same options.
    pub(super) fn configure(&self, faults: &Faults) {
        let mut configured = held(&self.configured);
        if configured.as_ref() != Some(faults) {
            *configured = Some(faults.clone());
            drop(configured);
            self.set_faults(faults.clone());
        }
    }

    /// How often an operation was called, failed calls included. `Any` counts all.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        let count = |index: usize| self.calls.get(index).map_or(0, |calls| calls.load(Ordering::Relaxed));
        match operation {
            Operation::Any => (0..Operation::COUNT).map(count).sum(),
            one => count(one as usize),
        }
    }

    /// Counts a call and says what happens to it.
    pub(super) fn arrive(
        &self,
        faults: &Faults,
        operation: Operation,
        principal: &str,
        vantage: Option<&str>,
    ) -> (u64, Option<Fault>) {
        let number = self
            .calls
            .get(operation as usize)
            .map_or(0, |calls| calls.fetch_add(1, Ordering::Relaxed) + 1);
        (number, faults.decide(operation, number, principal, vantage))
    }

    /// The account of this name that is alive, as it truly is.
    #[must_use]
    pub fn account(&self, name: &str) -> Option<Account> {
        let _turn = self.looked_at(name);
        self.with_account(name, |account| account.clone())
    }

    /// Every account that is alive, sorted by name.
    #[must_use]
    pub fn accounts(&self) -> Vec<Account> {
        self.looked_at("");
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(
                held(shard)
                    .values()
                    .flatten()
                    .filter(|account| account.is_live())
                    .cloned(),
            );
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Whether a login with this secret would succeed at this vantage now, lies and lag included. Counts as no call.
    #[must_use]
    pub fn accepts(&self, name: &str, secret: &SecretValue, vantage: &str) -> bool {
        let _turn = self.looked_at(name);
        matches!(self.login(name, &hash_of(secret), vantage, 1), Login::Accepted(_))
    }

    /// Keys of all accounts that a login would still be accepted with at some vantage that is on time: what is live in
    /// truth, whatever was answered.
    #[must_use]
    pub fn honoured_keys(&self) -> Vec<(String, KeyId)> {
        self.looked_at("");
        let now = self.now();
        let mut keys = Vec::new();
        for shard in &self.shards {
            for account in held(shard).values().flatten() {
                let honoured = |key: &&Key| (account.is_live() && key.is_live()) || now < key.honoured_until;
                keys.extend(
                    account
                        .keys
                        .iter()
                        .filter(honoured)
                        .map(|key| (account.name.clone(), key.id.clone())),
                );
            }
        }
        keys.sort();
        keys
    }

    /// Logs in as a workload does: the session stays open until it is ended.
    pub fn open_session(&self, name: &str, secret: &SecretValue, vantage: &str) -> Option<u64> {
        self.changed(name, || {
            let Login::Accepted(key_id) = self.login(name, &hash_of(secret), vantage, 1) else {
                return None;
            };
            let id = self.new_number();
            let opened_at = self.now();
            self.with_account(name, |account| account.sessions.push(Session { id, key_id, opened_at }))?;
            Some(id)
        })
    }

    #[must_use]
    pub fn session_is_open(&self, name: &str, session: u64) -> bool {
        let _turn = self.looked_at(name);
        self.with_account(name, |account| account.sessions.iter().any(|open| open.id == session))
            .unwrap_or(false)
    }

    /// The account as the folder has it, for as long as the turn is held.
    pub(super) fn looked_at(&self, name: &str) -> Option<Turn> {
        self.blocking_turn(name).unwrap_or_else(|error| {
            tracing::error!(provider = self.name, account = name, %error, "the truth was not read");
            None
        })
    }

    /// Changes an account behind Keyfall's back.
    pub(super) fn changed<T>(&self, name: &str, change: impl FnOnce() -> T) -> T {
        let turn = self.looked_at(name);
        let changed = change();
        if let Some(Err(error)) = turn.map(|turn| self.keep(&turn, name)) {
            tracing::error!(provider = self.name, account = name, %error, "the truth was not written");
        }
        changed
    }

    /// The instant that lists and reads show.
    pub(super) fn listed_as_of(&self, faults: &Faults) -> u64 {
        self.now().saturating_sub(faults.list_lag_ms.saturating_mul(1000))
    }

    /// Until when a key removed now is honoured: not at all, unless the provider lies.
    pub(super) fn honoured_until(&self, faults: &Faults) -> u64 {
        match faults.revoke_lies {
            None => 0,
            Some(Lie::Forever) => u64::MAX,
            Some(Lie::ForMs(millis)) => self.now().saturating_add(millis.saturating_mul(1000)),
        }
    }

    pub(super) fn shard(&self, name: &str) -> MutexGuard<'_, Shard> {
        let index = usize::try_from(self.hasher.hash_one(name) % (SHARDS as u64)).unwrap_or(0);
        let [first, ..] = &self.shards;
        held(self.shards.get(index).unwrap_or(first))
    }

    pub(super) fn each_shard(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.shards.iter().map(held)
    }

    /// Does something with the account of this name that is alive.
    pub(super) fn with_account<T>(&self, name: &str, act: impl FnOnce(&mut Account) -> T) -> Option<T> {
        let mut shard = self.shard(name);
        shard
            .get_mut(name)?
            .iter_mut()
            .find(|account| account.is_live())
            .map(act)
    }

    pub(super) fn new_account(&self, name: &str, marker: &str, now: u64) -> Account {
        Account {
            name: name.to_owned(),
            immutable_id: format!("account-{}", self.new_number()),
            marker: marker.to_owned(),
            created_at: now,
            deleted_at: None,
            statuses: Vec::new(),
            grants: Vec::new(),
            privileged: false,
            keys: Vec::new(),
            removed_keys: 0,
            sessions: Vec::new(),
            failures: Vec::new(),
        }
    }

    pub(super) fn new_key(&self, hash: [u8; 32], marker: &str, now: u64) -> Key {
        Key {
            id: KeyId(format!("key-{}", self.new_number())),
            hash,
            marker: marker.to_owned(),
            added_at: now,
            removed_at: None,
            honoured_until: 0,
        }
    }

    fn new_number(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

/// Adds an account to its namesakes and forgets the oldest that is deleted.
pub(super) fn remember(namesakes: &mut Vec<Account>, account: Account) {
    namesakes.push(account);
    let surplus = namesakes.len().saturating_sub(REMEMBERED_ACCOUNTS);
    namesakes.drain(..surplus);
}
