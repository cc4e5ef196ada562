//! Which accounts a run is about, and reading several of them as one picture. Pure, but for the reading.

use keyfall_sdk::{KeyId, PrincipalReading, PrincipalRef};

use super::super::guard::GuardedConnector;
use super::super::report::StepEnd;
use super::attempt::{Attempt, Ended};
use crate::domain::workflow::Run;

/// The account of the new credential, with its immutable id as soon as that is known.
pub(super) fn new_principal(run: &Run) -> Option<PrincipalRef> {
    let issued = run.issued().map(|issued| issued.principal.clone());
    issued.or_else(|| run.plan().new.as_ref().map(|new| new.principal.clone()))
}

/// The accounts of the credentials that the run ends, each once.
pub(super) fn old_principals(run: &Run) -> Vec<PrincipalRef> {
    distinct(run.plan().old.iter().map(|old| &old.principal))
}

/// Old accounts that do not carry the new credential.
pub(super) fn idle_principals(run: &Run) -> Vec<PrincipalRef> {
    let new = new_principal(run);
    let mut idle = old_principals(run);
    idle.retain(|old| new.as_ref().is_none_or(|new| new.name != old.name));
    idle
}

/// Every account of the identity that the plan knows.
pub(super) fn all_principals(run: &Run) -> Vec<PrincipalRef> {
    let plan = run.plan();
    distinct(plan.old.iter().map(|old| &old.principal).chain(&plan.accounts))
}

/// By name; of two entries of one name the one with an immutable id is kept.
fn distinct<'a>(principals: impl Iterator<Item = &'a PrincipalRef>) -> Vec<PrincipalRef> {
    let mut all: Vec<PrincipalRef> = Vec::new();
    for principal in principals {
        match all.iter_mut().find(|known| known.name == principal.name) {
            Some(known) if known.immutable_id.is_none() => *known = principal.clone(),
            Some(_) => {}
            None => all.push(principal.clone()),
        }
    }
    all
}

/// Reads accounts side by side: each with its own reading.
pub(super) async fn read_each(
    at: &Attempt<'_>,
    connector: &GuardedConnector,
    principals: Vec<PrincipalRef>,
) -> Ended<Vec<(PrincipalRef, PrincipalReading)>> {
    let reads = principals.into_iter().map(|principal| async move {
        let reading = connector.read(at.ctx(&principal.name), principal.clone()).await?;
        if reading.places.is_empty() {
            return Err(keyfall_sdk::ConnectorError::protocol(format!(
                "reading {} answered for no place at all",
                principal.name
            )));
        }
        Ok((principal, reading))
    });
    let all = futures_util::future::join_all(reads).await;
    Ok(all.into_iter().collect::<keyfall_sdk::Result<_>>()?)
}

/// Several accounts as one reading: every place of each of them.
pub(super) fn merged(readings: &[(PrincipalRef, PrincipalReading)]) -> PrincipalReading {
    let places = readings.iter().flat_map(|(_, reading)| reading.places.iter().cloned());
    PrincipalReading {
        places: places.collect(),
    }
}

/// Places where another account has taken the recorded one's name.
pub(super) fn is_another(principal: &PrincipalRef, reading: &PrincipalReading) -> Option<String> {
    let recorded = principal.immutable_id.as_deref()?;
    reading
        .states()
        .find(|state| state.immutable_id != recorded)
        .map(|state| state.immutable_id.clone())
}

/// Deleting an account ends every credential on it, also those that nobody recorded: these are findings, never garbage (P5). `covered` is what
/// the accounts showed when the run began. Where an old credential was registered without its key id it cannot be told from a foreign one, and
/// the approved plan covers what was there then.
pub(super) fn nothing_foreign(
    at: &Attempt<'_>,
    (principal, reading): &(PrincipalRef, PrincipalReading),
    covered: Option<&PrincipalReading>,
) -> Ended<()> {
    let foreign = unrecorded(at.run, reading, covered);
    if foreign.is_empty() {
        return Ok(());
    }
    Err(goes_with_it(at, &principal.name, &foreign))
}

fn unrecorded(run: &Run, reading: &PrincipalReading, covered: Option<&PrincipalReading>) -> Vec<KeyId> {
    let old = &run.plan().old;
    let covered = covered.filter(|_| old.iter().any(|old| old.key_id.is_none()));
    let recorded = |key: &KeyId| {
        old.iter().any(|old| old.key_id.as_ref() == Some(key))
            || run.issued().is_some_and(|issued| issued.key_id == *key)
            || covered.is_some_and(|covered| covered.shows_key(key))
    };
    let mut foreign: Vec<KeyId> = reading.states().flat_map(|state| state.key_ids.clone()).collect();
    foreign.retain(|key| !recorded(key));
    foreign.sort();
    foreign.dedup();
    foreign
}

fn goes_with_it(at: &Attempt<'_>, account: &str, foreign: &[KeyId]) -> StepEnd {
    let foreign: Vec<_> = foreign.iter().map(|key| key.0.as_str()).collect();
    at.ask(
        format!(
            "the account {account} holds a credential that nobody recorded, and would be deleted with it: {}",
            foreign.join(", ")
        ),
        &at.or_cancel(
            "find out who uses it; remove it by hand, or give its user an account of its own",
            "which leaves the account to its users",
        ),
    )
}
