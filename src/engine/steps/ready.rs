//! The last look before the point of no return: what would stop a run behind it is found in front of it, where the run can still be taken back.
//! Of the systems it reads accounts and nothing else, and it leaves no event but the one that says what is missing.

use keyfall_sdk::{KeyId, PlaceReading, PrincipalReading, PrincipalState, PrincipalStatus};

use super::super::guard::GuardedConnector;
use super::accounts::new_principal;
use super::attempt::{Attempt, Ended};
use super::{precheck, probes};
use crate::domain::workflow::{RunKind, Step};

pub(super) async fn ready(at: &mut Attempt<'_>) -> Ended<()> {
    match at.step {
        Step::RevokeOld => {
            new_is_proven(at)?;
            new_is_still_there(at).await?;
        }
        // Only where issuing replaces the one value, it is the point of no return.
        Step::IssueNew | Step::StripGrants => precheck::look_again(at).await?,
        _ => {}
    }
    at.system().await?;
    for old in &at.plan().old {
        if let Some(secret) = old.secret {
            at.secret_if_kept(secret).await?;
        }
    }
    if let Some(new) = &at.plan().new {
        at.secret(new.secret).await?;
    }
    Ok(())
}

/// P3: nothing is taken away from consumers before its successor was let in everywhere.
pub(super) fn new_is_proven(at: &Attempt<'_>) -> Ended<()> {
    let plan = at.plan();
    let Some(new) = plan
        .new
        .as_ref()
        .filter(|_| matches!(plan.kind, RunKind::Rotate | RunKind::EmergencyRotate))
    else {
        return Ok(());
    };
    let missing = probes::untried(at, new.id);
    if missing.is_empty() {
        return Ok(());
    }
    Err(at.ask(
        format!(
            "the new credential was never accepted at {}, so the old one is kept",
            missing.join(", ")
        ),
        &at.or_cancel("find out why it is not let in", "which takes the new credential back"),
    ))
}

/// P3: what was proven a while ago may have been changed by somebody since. An emergency does not wait for that.
async fn new_is_still_there(at: &Attempt<'_>) -> Ended<()> {
    let (Some(issued), Some(principal)) = (at.run.issued(), new_principal(at.run)) else {
        return Ok(());
    };
    if at.plan().kind != RunKind::Rotate || at.run.is_emergency() {
        return Ok(());
    }
    let connector = at.system().await?;
    let name = principal.name.clone();
    let reading = connector.read(at.ctx(&name), principal).await?;
    alone(at, &connector, &reading, &issued.key_id).await?;
    let works =
        |state: &PrincipalState| state.status == PrincipalStatus::Enabled && state.key_ids.contains(&issued.key_id);
    let changed = |place: &&PlaceReading| !place.state.as_ref().is_some_and(works);
    let Some(place) = reading.places.iter().find(changed) else {
        return Ok(());
    };
    Err(at.ask(
        format!(
            "somebody changed the account {name} at {} after its new credential {} was proven, so the old one is kept",
            place.vantage, issued.key_id.0
        ),
        &at.or_cancel("put the account back as it was", "which takes the new credential back"),
    ))
}

/// One issue call makes one credential. What else appeared on the account since this run began was made by the same call that reached the system
/// twice, which its mark tells and the revocation takes away, or by somebody else: then the old credential is kept until a person has looked.
async fn alone(
    at: &Attempt<'_>,
    connector: &GuardedConnector,
    reading: &PrincipalReading,
    issued: &KeyId,
) -> Ended<()> {
    let known = |key: &KeyId| {
        let mut old = at.plan().old.iter().filter_map(|old| old.key_id.as_ref());
        key == issued || old.any(|old| old == key) || at.run.before().is_some_and(|before| before.shows_key(key))
    };
    let mut strange: Vec<&KeyId> = reading.states().flat_map(|state| &state.key_ids).collect();
    strange.retain(|key| !known(key));
    if !strange.is_empty()
        && connector.keeps_markers()
        && let Some(principal) = new_principal(at.run)
    {
        let marker = at.run.id().to_string();
        let ours = connector.marked(at.ctx(&principal.name), principal, marker).await?;
        strange.retain(|key| ours.iter().all(|one| one.key_id != **key));
    }
    let Some(twin) = strange.first() else {
        return Ok(());
    };
    Err(at.ask(
        format!(
            "beside the new credential {} another one appeared during this run, which nobody recorded: {}",
            issued.0, twin.0
        ),
        &at.or_cancel(
            "find out who made it, and remove it from the account by hand",
            "which takes the new credential back",
        ),
    ))
}
