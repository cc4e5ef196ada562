//! The look around behind a standstill: what this ledger says lives is held against what the systems show, account by account, so that two people
//! who say that it is the newest one know what it does not know. It only reads. What differs is a finding; how far the look came is a stored
//! setting, so that servers share it and none begins anew.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use keyfall_sdk::{KeyId, PrincipalReading, PrincipalRef};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::findings::{self, NOT_AS_RECORDED, Severity, about_identity};
use super::standstill::STANDSTILL;
use super::telling::commit_news;
use super::{Shared, record};
use crate::domain::identity::{Credential, CredentialState, Identity};
use crate::store::{Commit, Fact, Guard, IdentityFilter, Page, StoreError};

/// The setting that says how far the look came: a [`Reconciled`] as JSON.
pub const RECONCILED: &str = "reconciled";

const BATCH: u32 = 100;
/// Accounts that are read side by side; what a system allows bounds it further.
const AT_ONCE: usize = 8;
/// So long a pass looks around before it does anything else.
const TURN: Duration = Duration::from_secs(4);

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
    pub is_done: bool,
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
            is_done: false,
        }
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

/// Goes on with the look for a while, where everything stands still and it is not done.
///
/// # Errors
/// When the store does not answer.
pub(super) async fn go_on(shared: &Shared) -> Result<(), StoreError> {
    let until = Instant::now() + TURN;
    while Instant::now() < until && !shared.is_stopping() {
        let Some(because) = shared.store.setting(STANDSTILL).await? else {
            return Ok(());
        };
        let stored = shared.store.setting(RECONCILED).await?;
        let so_far = Reconciled::of_setting(stored.as_deref(), &because).unwrap_or_else(|| Reconciled::begun(&because));
        if so_far.is_done {
            return Ok(());
        }
        let next = batch(shared, so_far).await?;
        let value = serde_json::to_string(&next).map_err(|source| StoreError::Failed {
            doing: "looking around",
            source: Box::new(source),
        })?;
        // Refused: another server was quicker, or it is over. What was found stands either way.
        let commit = Commit {
            guards: vec![
                Guard::SettingIs {
                    key: STANDSTILL,
                    value: Some(because),
                },
                Guard::SettingIs {
                    key: RECONCILED,
                    value: stored,
                },
            ],
            facts: vec![Fact::Setting {
                key: RECONCILED,
                value: Some(value),
            }],
            log: Vec::new(),
        };
        shared.store.commit(commit).await?;
    }
    Ok(())
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
    let recorded = |identity: &Identity| -> Vec<Credential> {
        let of_it = credentials.iter().filter(|one| one.identity == identity.id);
        of_it.cloned().collect()
    };
    let mut seen: Vec<Seen> = Vec::with_capacity(identities.len());
    for some in identities.chunks(AT_ONCE) {
        let looks: Vec<_> = some
            .iter()
            .map(|identity| look(shared, identity, recorded(identity)))
            .collect();
        seen.extend(futures_util::future::join_all(looks).await);
    }
    let at = record::to_micros(shared.env.now());
    let facts = identities.iter().zip(&seen).filter_map(|(identity, seen)| {
        let text = seen.text(identity)?;
        let wrong = about_identity(identity, NOT_AS_RECORDED, Severity::High, text);
        Some(findings::raised(&shared.env, at, wrong))
    });
    commit_news(shared, facts.collect(), at, None).await?;
    let count = |is: fn(&Seen) -> bool| u64::try_from(seen.iter().filter(|seen| is(seen)).count()).unwrap_or(0);
    Ok(Reconciled {
        looked_at: so_far.looked_at + count(|_| true),
        differ: so_far.differ + count(|seen| !seen.differs.is_empty()),
        unread: so_far.unread + count(|seen| !seen.unread.is_empty()),
        is_done: identities.len() < BATCH as usize,
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
            "what lives on `{system}` could not be held against this store: {}",
            self.unread.join("; ")
        );
        match (self.differs.is_empty(), self.unread.is_empty()) {
            (false, _) => Some(differs),
            (true, false) => Some(unread),
            (true, true) => None,
        }
    }
}

async fn look(shared: &Shared, identity: &Identity, recorded: Vec<Credential>) -> Seen {
    let mut seen = Seen::default();
    let accounts: BTreeSet<&str> = recorded.iter().map(|one| one.principal.name.as_str()).collect();
    for account in accounts {
        let of_it: Vec<&Credential> = recorded.iter().filter(|one| one.principal.name == account).collect();
        let known = of_it.iter().find(|one| one.principal.immutable_id.is_some());
        let Some(principal) = known.or(of_it.first()).map(|one| &one.principal) else {
            continue;
        };
        match shared.prepare.reading(&identity.spec.system, principal).await {
            Ok(reading) => seen
                .differs
                .extend(differences(principal, &of_it, &reading, shared.env.now())),
            Err(why) => seen.unread.push(format!("{account}: {why}")),
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
