//! Disabling the account that is idle until the next rotation, on top of its dead credential. It comes behind the proof, because a disabled
//! account refuses the right secret too. The next issue enables it again.

use keyfall_sdk::ErrorKind;

use super::accounts::idle_principals;
use super::attempt::{Attempt, Ended};
use crate::domain::workflow::StepOutput;

pub(super) async fn disable_idle(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let connector = at.system().await?;
    for principal in idle_principals(at.run) {
        match connector.suspend(at.ctx(&principal.name), principal.clone()).await {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => {
                at.note(error.to_string());
            }
            Err(error) => return Err(at.conflict_asks(&error, "find out who replaced the account")),
        }
    }
    Ok(StepOutput::Nothing)
}
