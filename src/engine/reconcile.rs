//! The look around behind a standstill: what this ledger says lives is held against what the systems show, account by account, so that two people
//! who say that it is the newest one know what it does not know. It only reads. What differs is a finding; how far the look came is a stored
//! setting, so that servers share it and none begins anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{KeyId, PrincipalReading, PrincipalRef};
use serde::{Deserialize, Serialize};

use super::findings::{self, NOT_AS_RECORDED, Severity, about_identity};
use super::standstill::STANDSTILL;
use super::telling::commit_news;
use super::{Shared, record};
use crate::domain::identity::{Credential, CredentialState, Identity};
use crate::store::{Commit, Committed, Fact, Guard, IdentityFilter, Page, StoreError};

/// The setting that says how far the look came: a [`Reconciled`] as JSON.
pub const RECONCILED: &str = "reconciled";

/// Identities that are looked at between two notes of how far it came.
const BATCH: u32 = 100;
/// Between two questions whether there is a standstill.
const EVERY: Duration = Duration::from_secs(5);
/// So long a server has a batch to itself; then another one takes it.
const TURN: SignedDuration = SignedDuration::from_mins(5);
/// What could not be read is tried again after so long, with everything else.
const AGAIN: SignedDuration = SignedDuration::from_mins(2);

/// How far the look came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciled {
    /// Why everything stands still: the look belongs to this standstill.
    because: String,
    /// The name of the last identity that was looked at.
    after: Option<String>,
    pub looked_at: u64,
    /// The accounts of so many identities are not as the ledger says.
    pub differ: u64,
    /// So many identities have an account that could not be read.
    pub unread: u64,
    /// When everything had been looked at.
    pub done_at: Option<Timestamp>,
    /// The server that looks on from there, and until when it is believed to.
    by: Option<(String, Timestamp)>,
}

impl Reconciled {
    /// Of the standstill that stands for this reason. None: nothing was looked at yet.
    #[must_use]
    pub fn of_setting(value: Option<&str>, because: &str) -> Option<Self> {
        let stored: Self = serde_json::from_str(value?).ok()?;
        (stored.because == because).then_some(stored)
    }

    fn begun(because: &str) -> Self {
        Self {
            because: because.to_owned(),
            after: None,
            looked_at: 0,
            differ: 0,
            unread: 0,
            done_at: None,
            by: None,
        }
    }

    fn is_anothers(&self, shared: &Shared, now: Timestamp) -> bool {
        let other = |(by, until): &(String, Timestamp)| *by != shared.holder && *until > now;
        self.by.as_ref().is_some_and(other)
    }

    /// Some could not be read, and that is a while ago.
    fn is_owed_again(&self, now: Timestamp) -> bool {
        self.unread > 0 && self.done_at.is_some_and(|at| now.duration_since(at) > AGAIN)
    }
}

/// The standstill is over, and with it what was seen during it.
#[must_use]
pub fn forgotten() -> Fact {
    Fact::Setting {
        key: RECONCILED,
        value: None,
    }
}

/// Looks around where everything stands still, until the engine stops.
pub(super) async fn run(shared: Arc<Shared>) {
    let looking = async {
        loop {
            if let Err(error) = go_on(&shared).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the systems could not be held against this store; it is tried again"
                );
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    // It only reads: nobody waits for an answer that nobody needs.
    shared.stopping.run_until_cancelled(looking).await;
}

/// Goes on with the look until it is done, or another server has it in hand.
async fn go_on(shared: &Shared) -> Result<(), StoreError> {
    while let Some(because) = shared.store.setting(STANDSTILL).await? {
        let stored = shared.store.setting(RECONCILED).await?;
        let now = shared.env.now();
        let known = Reconciled::of_setting(stored.as_deref(), &because);
        let mut so_far = known
            .filter(|so_far| !so_far.is_owed_again(now))
            .unwrap_or_else(|| Reconciled::begun(&because));
        if so_far.done_at.is_some() || so_far.is_anothers(shared, now) {
            return Ok(());
        }
        let until = now.saturating_add(TURN).unwrap_or(Timestamp::MAX);
        so_far.by = Some((shared.holder.clone(), until));
        let Some(taken) = keep(shared, &because, stored, &so_far).await? else {
            continue;
        };
        let next = batch(shared, so_far).await?;
        keep(shared, &because, Some(taken), &next).await?;
    }
    Ok(())
}

/// What is stored then. None: another server was quicker, or it is over; what was found stands either way.
async fn keep(
    shared: &Shared,
    because: &str,
    before: Option<String>,
    next: &Reconciled,
) -> Result<Option<String>, StoreError> {
    let value = serde_json::to_string(next).map_err(|source| StoreError::Failed {
        doing: "looking around",
        source: Box::new(source),
    })?;
    let is = |key, value| Guard::SettingIs { key, value };
    let commit = Commit {
        guards: vec![is(STANDSTILL, Some(because.to_owned())), is(RECONCILED, before)],
        facts: vec![Fact::Setting {
            key: RECONCILED,
            value: Some(value.clone()),
        }],
        log: Vec::new(),
    };
    let committed = shared.store.commit(commit).await?;
    Ok((committed == Committed::Stored).then_some(value))
}

async fn batch(shared: &Shared, so_far: Reconciled) -> Result<Reconciled, StoreError> {
    let filter = IdentityFilter {
        with_control: true,
        ..IdentityFilter::default()
    };
    let page = Page {
        after: so_far.after.clone(),
        limit: BATCH,
    };
    let identities = shared.store.identities(&filter, page).await?;
    let ids: Vec<_> = identities.iter().map(|identity| identity.id).collect();
    let credentials = shared.store.credentials_in_play_of_many(&ids).await?;
    // One account after the other of each system, and none behind one that failed: who may not log in any more must not be locked out by trying.
    let mut systems: BTreeMap<&str, Vec<(usize, &Identity)>> = BTreeMap::new();
    for one in identities.iter().enumerate() {
        systems.entry(&one.1.spec.system).or_default().push(one);
    }
    let looks: Vec<_> = systems
        .into_values()
        .map(|all| look_at_system(shared, all, &credentials))
        .collect();
    let looked = futures_util::future::join_all(looks).await;
    let mut seen: Vec<_> = looked.into_iter().flatten().collect();
    seen.sort_by_key(|(place, _)| *place);
    let seen: Vec<_> = seen.into_iter().map(|(_, seen)| seen).collect();
    let at = record::to_micros(shared.env.now());
    let facts = identities.iter().zip(&seen).map(|(identity, seen)| {
        let Some(text) = seen.text(identity) else {
            return findings::resolved(NOT_AS_RECORDED, identity.name.clone(), at);
        };
        let wrong = about_identity(identity, NOT_AS_RECORDED, Severity::High, text);
        findings::raised(&shared.env, at, wrong)
    });
    commit_news(shared, facts.collect(), at, None).await?;
    let count = |is: fn(&Seen) -> bool| u64::try_from(seen.iter().filter(|seen| is(seen)).count()).unwrap_or(0);
    Ok(Reconciled {
        looked_at: so_far.looked_at + count(|_| true),
        differ: so_far.differ + count(|seen| !seen.differs.is_empty()),
        unread: so_far.unread + count(|seen| !seen.unread.is_empty()),
        done_at: (identities.len() < BATCH as usize).then_some(at),
        by: so_far.by,
        after: identities.last().map(|last| last.name.clone()).or(so_far.after),
        because: so_far.because,
    })
}

/// What the accounts of one identity showed.
#[derive(Default)]
struct Seen {
    differs: Vec<String>,
    unread: Vec<String>,
}

impl Seen {
    fn text(&self, identity: &Identity) -> Option<String> {
        let (name, system) = (&identity.name, &identity.spec.system);
        let differs = format!(
            "`{system}` is not as this store says: {}. The store may be older than that: find out whether it is the newest one before two people lift the standstill; then `keyfall rotate {name} --emergency --reason …` replaces what is there",
            self.differs.join("; ")
        );
        let unread = format!(
            "what lives on `{system}` could not be held against this store, because it could not be read: {}. `keyfall doctor` says what is wrong with the system; it is tried again every few minutes",
            self.unread.join("; ")
        );
        match (self.differs.is_empty(), self.unread.is_empty()) {
            (false, _) => Some(differs),
            (true, false) => Some(unread),
            (true, true) => None,
        }
    }
}

async fn look_at_system(
    shared: &Shared,
    identities: Vec<(usize, &Identity)>,
    credentials: &[Credential],
) -> Vec<(usize, Seen)> {
    let (mut all, mut is_shut) = (Vec::with_capacity(identities.len()), false);
    for (place, identity) in identities {
        let recorded = credentials.iter().filter(|one| one.identity == identity.id);
        let seen = look(shared, identity, recorded.collect(), is_shut).await;
        is_shut |= !seen.unread.is_empty();
        all.push((place, seen));
    }
    all
}

async fn look(shared: &Shared, identity: &Identity, recorded: Vec<&Credential>, is_shut: bool) -> Seen {
    let mut seen = Seen::default();
    let accounts: BTreeSet<&str> = recorded.iter().map(|one| one.principal.name.as_str()).collect();
    for account in accounts {
        let of_it: Vec<&Credential> = recorded
            .iter()
            .copied()
            .filter(|one| one.principal.name == account)
            .collect();
        let known = of_it.iter().find(|one| one.principal.immutable_id.is_some());
        let Some(principal) = known.or(of_it.first()).map(|one| &one.principal) else {
            continue;
        };
        if is_shut || !seen.unread.is_empty() {
            seen.unread.push(account.to_owned());
            continue;
        }
        match shared.prepare.reading(&identity.spec.system, principal).await {
            Ok(reading) => seen
                .differs
                .extend(differences(principal, &of_it, &reading, shared.env.now())),
            Err(why) => {
                tracing::warn!(
                    system = identity.spec.system,
                    account,
                    why,
                    "an account could not be read"
                );
                seen.unread.push(account.to_owned());
            }
        }
    }
    seen
}

/// Where the account is not as it is recorded. Pure.
fn differences(
    principal: &PrincipalRef,
    recorded: &[&Credential],
    reading: &PrincipalReading,
    now: Timestamp,
) -> Vec<String> {
    let name = &principal.name;
    if let Some(other) = principal.immutable_id.as_ref().and_then(|id| {
        let mut states = reading.states();
        states
            .find(|state| state.immutable_id != *id)
            .map(|state| &state.immutable_id)
    }) {
        return vec![format!("{name} is another account ({other})")];
    }
    let living = recorded.iter().filter(|one| one.state.may_be_live());
    let known: BTreeSet<&KeyId> = living.filter_map(|one| one.key_id.as_ref()).collect();
    let shown: BTreeSet<&KeyId> = reading.states().flat_map(|state| &state.key_ids).collect();
    let foreign = shown
        .difference(&known)
        .map(|key| format!("{name} shows {}, which is not recorded as alive", key.0));
    let missing = recorded
        .iter()
        .filter(|one| is_to_be_there(one, now))
        .filter_map(|one| {
            let key = one.key_id.as_ref()?;
            (!shown.contains(key)).then(|| {
                format!(
                    "{name} does not show {}, which is recorded as {}",
                    key.0,
                    one.state.name()
                )
            })
        });
    foreign.chain(missing).collect()
}

fn is_to_be_there(one: &Credential, now: Timestamp) -> bool {
    let is_wanted = matches!(
        one.state,
        CredentialState::Issued | CredentialState::Active | CredentialState::Superseded { .. }
    );
    is_wanted && one.expires_at.is_none_or(|end| end > now)
}
