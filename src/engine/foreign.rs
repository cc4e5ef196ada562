//! Credentials on an account of ours that nobody recorded. They are findings, and never taken away: what was not made here may be in use (P5).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use keyfall_sdk::{KeyId, PrincipalReading};

use super::report::{StepEnd, StepReport};
use super::{Shared, findings};
use crate::domain::identity::{Credential, CredentialState};
use crate::domain::ids::CredentialId;
use crate::domain::workflow::{Observation, Run, RunKind, StepOutput};
use crate::store::{Fact, StoreError};

/// The key ids that credentials are told under by what is to be stored with the finding.
type Keys = BTreeMap<CredentialId, KeyId>;

/// What a step saw of foreign credentials. An emergency names them before anything is changed too: who holds a leaked credential can make
/// others with it, and with no room beside them the run does not come to its end.
pub(super) async fn seen_in(
    shared: &Shared,
    run: &Run,
    report: &StepReport,
    at: Timestamp,
) -> Result<Vec<Fact>, StoreError> {
    let mut facts = Vec::new();
    for observation in &report.observations {
        if let Observation::Before { reading } = observation
            && run.is_emergency()
        {
            let fact = found(shared, run, reading, &Keys::new(), at).await?;
            facts.extend(Some(fact).filter(|fact| matches!(fact, Fact::Finding(_))));
        }
    }
    // What a take-over makes ours is told with its last step, and is foreign before.
    let is_taken_over = run.plan().kind == RunKind::TakeOver;
    match &report.end {
        StepEnd::Done(StepOutput::Read { reading }) if !is_taken_over => {
            facts.push(found(shared, run, reading, &Keys::new(), at).await?);
        }
        StepEnd::Done(StepOutput::Adopted { reading, keys }) if is_taken_over => {
            facts.push(found(shared, run, reading, keys, at).await?);
        }
        _ => {}
    }
    Ok(facts)
}

/// What a reading of the run's accounts says about foreign credentials: a finding, or that there is none any more.
async fn found(
    shared: &Shared,
    run: &Run,
    reading: &PrincipalReading,
    adopted: &Keys,
    at: Timestamp,
) -> Result<Fact, StoreError> {
    let plan = run.plan();
    let mut unrecorded = unrecorded(run, reading, adopted, &[]);
    // Nearly always the account shows what the run itself made, and nobody needs to be asked. A key that was proven dead and is there again is
    // as foreign as one that nobody knows.
    if !unrecorded.is_empty() {
        let recorded = shared.store.credentials_in_play(plan.identity).await?;
        unrecorded = self::unrecorded(run, reading, adopted, &recorded);
    }
    if unrecorded.is_empty() {
        return Ok(findings::resolved(findings::FOREIGN, plan.identity_name.clone(), at));
    }
    Ok(findings::foreign(&shared.env, run, &unrecorded, at))
}

fn unrecorded(run: &Run, reading: &PrincipalReading, adopted: &Keys, recorded: &[Credential]) -> Vec<String> {
    let known: BTreeSet<&KeyId> = recorded
        .iter()
        .filter_map(|one| one.key_id.as_ref())
        .chain(adopted.values())
        .chain(run.issued().map(|issued| &issued.key_id))
        .chain(run.plan().old.iter().filter_map(|old| old.key_id.as_ref()))
        .collect();
    let there: BTreeSet<&KeyId> = reading.states().flat_map(|state| &state.key_ids).collect();
    let unrecorded: Vec<_> = there.difference(&known).map(|key| key.0.clone()).collect();
    // An adopted credential whose key id could not be told is one of these, until it is revoked: what is there behind that is another.
    let untold = recorded
        .iter()
        .filter(|one| run.revocations().all(|(revoked, _)| revoked != one.id))
        .filter(|one| {
            one.key_id.is_none()
                && !adopted.contains_key(&one.id)
                && one.state.may_be_live()
                && one.state != CredentialState::Intended
        })
        .count();
    if unrecorded.len() <= untold {
        return Vec::new();
    }
    unrecorded
}
