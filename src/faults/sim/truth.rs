//! What is true downstream, apart from what is said of it: the accounts of the providers, what lies at the destinations, which version each
//! consumer uses. It also judges, at the instant of each effect, what must never be so even for a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyfall_connectors::demo;
use keyfall_sdk::{DeliverCall, KeyId, PrincipalStatus, SecretValue};
use tokio::time::Instant;

use crate::domain::digest::Digest;

/// What was put into a place, and when.
#[derive(Clone)]
pub(super) struct Delivery {
    pub(super) version: String,
    pub(super) username: String,
    pub(super) secret: SecretValue,
    at: Instant,
}

#[derive(Default)]
struct Slot {
    /// The oldest first; the last one lies there now.
    history: Vec<Delivery>,
    /// The consumer uses the oldest.
    is_read: bool,
    is_empty: bool,
}

#[derive(Default)]
struct Held {
    slots: BTreeMap<String, Slot>,
    /// How long after a delivery a consumer of the slot uses it; `None`: it is stuck on what it has.
    uptake: BTreeMap<String, Option<Duration>>,
    /// Slots whose consumers may be without access now, and why.
    excused: BTreeMap<String, String>,
    /// With the system.
    planted: BTreeSet<(String, KeyId)>,
    /// Calls that nobody may send twice at once, by what they do and for which run.
    on_their_way: BTreeMap<(String, String), u32>,
    violations: Vec<String>,
    trace: Vec<String>,
}

pub(super) struct Truth {
    held: Mutex<Held>,
    /// By the name of the system.
    pub(super) providers: BTreeMap<String, Arc<demo::Provider>>,
    began: Instant,
    is_traced: bool,
}

/// A call between its sending and the last moment at which it may have an effect.
pub(super) struct OnItsWay {
    truth: Arc<Truth>,
    key: (String, String),
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        if let Some(count) = self.truth.held().on_their_way.get_mut(&self.key) {
            *count -= 1;
        }
    }
}

/// What a slot's consumer stands on.
pub(super) struct Used {
    pub(super) slot: String,
    pub(super) delivery: Delivery,
}

/// Whether a login would succeed where everybody is honest and on time. Unlike a login it leaves no trace.
pub(super) fn works(provider: &demo::Provider, account: &str, secret: &SecretValue) -> bool {
    let hash = Digest::of(secret.expose_secret()).0;
    provider.account(account).is_some_and(|account| {
        let holds_it = account.live_keys().any(|key| key.hash == hash);
        holds_it && account.status() == PrincipalStatus::Enabled
    })
}

impl Truth {
    pub(super) fn new(providers: BTreeMap<String, Arc<demo::Provider>>, is_traced: bool) -> Self {
        Self {
            held: Mutex::default(),
            providers,
            began: Instant::now(),
            is_traced,
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, text: impl FnOnce() -> String) {
        if self.is_traced {
            let line = format!("{:9.3} {}", self.began.elapsed().as_secs_f64(), text());
            self.held().trace.push(line);
        }
    }

    pub(super) fn violated(&self, what: String) {
        let line = format!("at {:.3} s: {what}", self.began.elapsed().as_secs_f64());
        self.note(|| format!("VIOLATED: {what}"));
        let mut held = self.held();
        if held.violations.len() < 20 && !held.violations.iter().any(|one| one.ends_with(&what)) {
            held.violations.push(line);
        }
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.held().violations.clone()
    }

    pub(super) fn trace(&self) -> Vec<String> {
        self.held().trace.clone()
    }

    // What lies at the destinations.

    pub(super) fn put(&self, slot: &str, call: &DeliverCall) -> bool {
        let mut held = self.held();
        let slot = held.slots.entry(slot.to_owned()).or_default();
        let same = slot
            .history
            .last()
            .is_some_and(|last| !slot.is_empty && last.version == call.version && last.secret.matches(&call.secret));
        if same {
            return false;
        }
        slot.is_empty = false;
        slot.history.push(Delivery {
            version: call.version.clone(),
            username: call.fields.get("username").cloned().unwrap_or_default(),
            secret: call.secret.clone(),
            at: Instant::now(),
        });
        true
    }

    /// What lies there now.
    pub(super) fn lies_in(&self, slot: &str) -> Option<Delivery> {
        let held = self.held();
        let slot = held.slots.get(slot).filter(|slot| !slot.is_empty)?;
        slot.history.last().cloned()
    }

    pub(super) fn empty(&self, slot: &str) -> bool {
        let mut held = self.held();
        let Some(slot) = held.slots.get_mut(slot) else {
            return false;
        };
        !std::mem::replace(&mut slot.is_empty, true)
    }

    /// What the consumer of the slot uses now. Some time after something new lies there it reads the place, and uses what it finds then.
    pub(super) fn used_in(&self, slot: &str) -> Option<Delivery> {
        let mut held = self.held();
        let wait = held.uptake.get(slot).copied().unwrap_or(Some(Duration::ZERO));
        // Where nothing lies any more, nobody is told to use anything.
        let there = held.slots.get_mut(slot).filter(|there| !there.is_empty)?;
        let now = Instant::now();
        // The first of the history is in use, unless nothing was read so far.
        loop {
            let next = usize::from(there.is_read);
            let reads_at = wait.and_then(|wait| Some(there.history.get(next)?.at + wait));
            let Some(reads_at) = reads_at.filter(|reads_at| *reads_at <= now) else {
                break;
            };
            let found = there.history.iter().rposition(|one| one.at <= reads_at)?;
            there.history.drain(..found);
            there.is_read = true;
        }
        there.history.first().filter(|_| there.is_read).cloned()
    }

    pub(super) fn set_uptake(&self, slot: &str, wait: Option<Duration>) {
        self.held().uptake.insert(slot.to_owned(), wait);
    }

    /// Answers whether it was not excused before.
    pub(super) fn excuse(&self, slot: &str, why: &str) -> bool {
        self.held().excused.insert(slot.to_owned(), why.to_owned()).is_none()
    }

    pub(super) fn excuse_no_more(&self, slot: &str) {
        self.held().excused.remove(slot);
    }

    // Calls on their way.

    /// Such a call is sent for this run: none of its kind may be on its way.
    pub(super) fn is_on_its_way(self: &Arc<Self>, operation: &str, run: &str) -> OnItsWay {
        let key = (operation.to_owned(), run.to_owned());
        let others = {
            let mut held = self.held();
            let count = held.on_their_way.entry(key.clone()).or_default();
            *count += 1;
            *count - 1
        };
        if others > 0 {
            self.violated(format!(
                "{operation} was sent for {run} while another one of it was still on its way"
            ));
        }
        OnItsWay {
            truth: Arc::clone(self),
            key,
        }
    }

    // Keys that somebody else made.

    pub(super) fn planted(&self, system: &str, key: KeyId) {
        self.held().planted.insert((system.to_owned(), key));
    }

    pub(super) fn is_planted(&self, system: &str, key: &KeyId) -> bool {
        self.held().planted.contains(&(system.to_owned(), key.clone()))
    }

    /// The consumers whose credential is not accepted where it is honest and on time, by the slot they read.
    pub(super) fn broken_consumers(&self, with_excused: bool) -> Vec<Used> {
        let slots: Vec<String> = {
            let held = self.held();
            let wanted = |slot: &&String| with_excused || !held.excused.contains_key(*slot);
            held.slots.keys().filter(wanted).cloned().collect()
        };
        let mut broken = Vec::new();
        for slot in slots {
            let Some(delivery) = self.used_in(&slot) else { continue };
            // The name of a slot begins with that of its system.
            let provider = self.providers.iter().find(|(name, _)| slot.starts_with(name.as_str()));
            let Some((_, provider)) = provider else { continue };
            if !works(provider, &delivery.username, &delivery.secret) {
                broken.push(Used { slot, delivery });
            }
        }
        broken
    }

    /// Called behind every effect: no consumer may be without access that nobody agreed to.
    pub(super) fn look_at_consumers(&self, after: &str) {
        for used in self.broken_consumers(false) {
            self.violated(format!(
                "the consumer of {} is broken by {after}: {} of {} is not accepted",
                used.slot, used.delivery.version, used.delivery.username
            ));
        }
    }
}
