//! Disabling the accounts of an identity in a way that can be undone, and undoing it.

use keyfall_sdk::{ErrorKind, PrincipalRef, PrincipalStatus};

use super::super::guard::GuardedConnector;
use super::accounts::all_principals;
use super::attempt::{Attempt, Ended, failed};
use crate::domain::workflow::StepOutput;

pub(super) async fn quarantine(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let connector = at.system().await?;
    if !connector.can_suspend() {
        at.note("this system cannot disable an account; listening goes on with the account enabled");
        return Ok(StepOutput::Nothing);
    }
    for principal in all_principals(at.run) {
        match connector.suspend(at.ctx(&principal.name), principal.clone()).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => at.note(error.to_string()),
            Err(error) if error.kind() == ErrorKind::Unsupported => at.note(error.to_string()),
            Err(error) => return Err(at.conflict_asks(&error, "find out who replaced the account")),
        }
    }
    Ok(StepOutput::Nothing)
}

/// Enables what was disabled before this run too, if the run disabled it: a decommission that is taken back leaves a working account.
pub(super) async fn lift(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let connector = at.system().await?;
    if !connector.can_suspend() {
        return Ok(StepOutput::Nothing);
    }
    let idle_before = disabled_before(at);
    for principal in all_principals(at.run) {
        if idle_before.contains(&principal.name) {
            continue;
        }
        match connector.resume(at.ctx(&principal.name), principal.clone()).await {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => {
                // Believed only where there is nothing to enable: a run must not close as taken back over an account that is shut.
                if is_disabled(at, &connector, principal).await? {
                    return Err(failed(&error));
                }
                at.note(error.to_string());
            }
            Err(error) => return Err(failed(&error)),
        }
    }
    Ok(StepOutput::Nothing)
}

async fn is_disabled(at: &Attempt<'_>, connector: &GuardedConnector, principal: PrincipalRef) -> Ended<bool> {
    let reading = connector.read(at.ctx(&principal.name), principal).await?;
    let mut states = reading.states();
    Ok(states.any(|state| state.status == PrincipalStatus::Disabled))
}

/// The idle one of two alternating accounts was disabled already, and stays so.
fn disabled_before(at: &Attempt<'_>) -> Vec<String> {
    let before = at.run.before();
    let states = before.into_iter().flat_map(keyfall_sdk::PrincipalReading::states);
    states
        .filter(|state| state.status != PrincipalStatus::Enabled)
        .map(|state| state.name.clone())
        .collect()
}
