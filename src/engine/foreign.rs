//! Credentials on an account of ours that nobody recorded. They are findings, and never taken away: what was not made here may be in use (P5).

use std::collections::BTreeSet;

use jiff::Timestamp;
use keyfall_sdk::{KeyId, PrincipalReading};

use super::{Shared, findings};
use crate::domain::identity::{Credential, CredentialState};
use crate::domain::workflow::Run;
use crate::store::{Fact, StoreError};

/// What a reading of the run's accounts says about foreign credentials: a finding, or that there is none any more.
pub(super) async fn found(
    shared: &Shared,
    run: &Run,
    reading: &PrincipalReading,
    at: Timestamp,
) -> Result<Fact, StoreError> {
    let plan = run.plan();
    let mut unrecorded = unrecorded(run, reading, &[]);
    // Nearly always the account shows what the run itself made, and nobody needs to be asked.
    if !unrecorded.is_empty() {
        let recorded = shared.store.credentials_of(plan.identity).await?;
        unrecorded = self::unrecorded(run, reading, &recorded);
    }
    if unrecorded.is_empty() {
        return Ok(findings::resolved(findings::FOREIGN, plan.identity_name.clone(), at));
    }
    Ok(findings::foreign(&shared.env, run, &unrecorded, at))
}

fn unrecorded(run: &Run, reading: &PrincipalReading, recorded: &[Credential]) -> Vec<String> {
    let known: BTreeSet<&KeyId> = recorded
        .iter()
        .filter_map(|one| one.key_id.as_ref())
        .chain(run.issued().map(|issued| &issued.key_id))
        .chain(run.plan().old.iter().filter_map(|old| old.key_id.as_ref()))
        .collect();
    let there: BTreeSet<&KeyId> = reading.states().flat_map(|state| &state.key_ids).collect();
    let unrecorded: Vec<_> = there.difference(&known).map(|key| key.0.clone()).collect();
    // An adopted credential whose key id could not be told is one of these.
    let untold = recorded
        .iter()
        .filter(|one| one.key_id.is_none() && one.state.may_be_live() && one.state != CredentialState::Intended)
        .count();
    if unrecorded.len() <= untold {
        return Vec::new();
    }
    unrecorded
}
