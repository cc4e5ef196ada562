//! What issue calls of this run left on the account beside the credential that is recorded: a call that arrived twice, or one whose answer was
//! lost. It is found by the run's own mark, or by comparing the account with what it was; recorded, taken away by its id, and seen gone. What may
//! be somebody else's is named and left alone (P5).

use std::collections::BTreeSet;

use jiff::Timestamp;
use keyfall_sdk::{ErrorKind, Issued, KeyId, PrincipalRef, PrincipalState, ProbePurpose};

use super::super::guard::GuardedConnector;
use super::super::report::StepEnd;
use super::accounts::new_principal;
use super::attempt::{Attempt, Ended, fail};
use super::probes::{self, Candidate};
use super::revoke;
use crate::domain::workflow::{NewCredential, Observation, Step};

/// Twins of one run that are taken away without asking. A system that goes on making them is looked at by a person.
const MOST: usize = 3;

/// What the account holds that this run cannot have found there.
#[derive(Debug)]
pub(super) enum Beside {
    Nothing,
    /// Made by this run for certain, the oldest first.
    Ours(Vec<Issued>),
    /// Made by nobody knows whom.
    Unclear(Vec<KeyId>),
}

/// The moment behind which no call of this run can arrive any more and every list shows what did; `None` when nothing is in doubt.
pub(super) fn settled_at(at: &Attempt<'_>, sent_at: Option<Timestamp>) -> Option<Timestamp> {
    let wait = at.steps.settings.issue_grace.max(at.plan().proof.settling);
    sent_at.map(|sent_at| sent_at.saturating_add(wait).unwrap_or(Timestamp::MAX))
}

/// Looks for everything that this run made and that is not recorded as its credential.
pub(super) async fn look(at: &mut Attempt<'_>, connector: &GuardedConnector, new: &NewCredential) -> Ended<Beside> {
    let principal = new_principal(at.run).unwrap_or_else(|| new.principal.clone());
    if !connector.keeps_markers() {
        return compare(at, connector, new, principal).await;
    }
    let marker = at.run.id().to_string();
    let mut made = connector.marked(at.ctx(&principal.name), principal, marker).await?;
    made.retain(|one| at.run.issued().is_none_or(|issued| issued.key_id != one.key_id));
    Ok(match made.is_empty() {
        true => Beside::Nothing,
        false => Beside::Ours(made),
    })
}

/// Without marks the account is compared with what it was before the first change.
async fn compare(
    at: &mut Attempt<'_>,
    connector: &GuardedConnector,
    new: &NewCredential,
    principal: PrincipalRef,
) -> Ended<Beside> {
    let reading = connector.read(at.ctx(&principal.name), principal.clone()).await?;
    let recorded = principal.immutable_id.as_ref();
    let is_it = |state: &&PrincipalState| recorded.is_none_or(|id| *id == state.immutable_id);
    let states: Vec<&PrincipalState> = reading.states().filter(is_it).collect();
    let more: BTreeSet<&KeyId> = states
        .iter()
        .flat_map(|state| &state.key_ids)
        .filter(|key| !was_there(at, key))
        .collect();
    let (Some(key_id), Some(state)) = (more.first().copied(), states.first()) else {
        return Ok(Beside::Nothing);
    };
    let made = Issued {
        principal: PrincipalRef {
            name: principal.name.clone(),
            immutable_id: Some(state.immutable_id.clone()),
        },
        key_id: key_id.clone(),
        created_principal: new.principal.immutable_id.is_none(),
    };
    let is_ours = more.len() == 1 && at.run.issued().is_none() && lets_in(at, connector, new, &made.principal).await?;
    Ok(match is_ours {
        true => Beside::Ours(vec![made]),
        false => Beside::Unclear(more.into_iter().cloned().collect()),
    })
}

fn was_there(at: &Attempt<'_>, key: &KeyId) -> bool {
    at.run.before().is_some_and(|before| before.shows_key(key))
        || at.run.issued().is_some_and(|issued| issued.key_id == *key)
        || at.plan().old.iter().any(|old| old.key_id.as_ref() == Some(key))
}

/// Nobody else knows the bytes that were drawn for this run: where they are let in, the only credential that appeared since is the one that holds
/// them. A list that may still be late proves nothing, whatever is let in.
async fn lets_in(
    at: &mut Attempt<'_>,
    connector: &GuardedConnector,
    new: &NewCredential,
    principal: &PrincipalRef,
) -> Ended<bool> {
    // The attempt that looks has sent nothing yet.
    let sent_at = match at.step {
        Step::IssueNew => at.run.issue_in_doubt_since(),
        _ => at.run.issue_may_have_been_sent_at(),
    };
    if settled_at(at, sent_at).is_some_and(|settled_at| at.now() < settled_at) {
        return Ok(false);
    }
    let Some(secret) = at.secret_if_kept(new.secret).await? else {
        return Ok(false);
    };
    let candidate = Candidate {
        credential: new.id,
        principal: principal.clone(),
        secret,
    };
    let vantages = at.plan().proof.vantages.clone();
    let tried = probes::try_within_budget(at, connector, &candidate, &vantages, ProbePurpose::Baseline).await;
    Ok(tried.verdicts.iter().any(|(_, verdict)| verdict.is_accepted()))
}

/// Takes away what was recorded, and looks for more: answers only when nothing of this run that is certain to be its own is left beside its credential.
/// Nothing is taken away in the attempt that finds it.
pub(super) async fn clear(
    at: &mut Attempt<'_>,
    connector: &GuardedConnector,
    new: &NewCredential,
) -> Ended<Vec<KeyId>> {
    for (key_id, principal) in at.run.twins() {
        revoke::revoke(at, connector, principal.clone(), key_id.clone()).await?;
    }
    let (found, unclear) = match look(at, connector, new).await? {
        Beside::Nothing => (Vec::new(), Vec::new()),
        Beside::Ours(found) => (found, Vec::new()),
        Beside::Unclear(keys) => (Vec::new(), keys),
    };
    let is_shown = |key: &KeyId| found.iter().any(|one| one.key_id == *key) || unclear.contains(key);
    for key_id in at.run.twins().keys() {
        if is_shown(key_id) {
            return Err(fail(
                ErrorKind::Transient,
                format!("the account still shows {}, which was taken away", key_id.0),
            ));
        }
        at.see(Observation::TwinGone { key_id: key_id.clone() });
    }
    if found.is_empty() {
        return Ok(unclear);
    }
    Err(recorded_first(at, found))
}

fn recorded_first(at: &mut Attempt<'_>, found: Vec<Issued>) -> StepEnd {
    if at.run.twins_found().saturating_add(found.len()) > MOST {
        let names: Vec<&str> = found.iter().map(|one| one.key_id.0.as_str()).collect();
        return at.ask(
            format!(
                "issue calls of this run go on leaving credentials that nobody uses: {}",
                names.join(", ")
            ),
            &at.or_cancel(
                "find out why the system does not answer, and remove them from the account by hand",
                "which takes away what this run made",
            ),
        );
    }
    for one in found {
        at.see(Observation::TwinFound {
            principal: one.principal,
            key_id: one.key_id,
        });
    }
    StepEnd::Wait {
        until: at.now(),
        why: "an issue call left a credential that is not used; this is recorded before it is taken away".to_owned(),
    }
}

/// What appeared while an issue call was unanswered may be what it made, and may be somebody else's.
pub(super) fn ask_whose(at: &Attempt<'_>, account: &str, keys: &[KeyId], why: &str) -> StepEnd {
    let names: Vec<&str> = keys.iter().map(|key| key.0.as_str()).collect();
    let names = names.join(", ");
    at.ask(
        format!("{why}; {account} holds what it did not hold before this run, and nobody recorded it: {names}"),
        &format!("find out whose that is, and remove {names} from {account} by hand unless somebody else put it there"),
    )
}
