//! Taking the rights of an identity's accounts away before the accounts themselves go.

use keyfall_sdk::ErrorKind;

use super::accounts::all_principals;
use super::attempt::{Attempt, Ended};
use crate::domain::workflow::StepOutput;

pub(super) async fn strip_grants(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let connector = at.system().await?;
    let mut grants = Vec::new();
    for principal in all_principals(at.run) {
        match connector.strip(at.ctx(&principal.name), principal.clone()).await {
            Ok(taken) => grants.extend(taken),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => {
                at.note(error.to_string());
            }
            Err(error) => return Err(at.conflict_asks(&error, "take the account's rights away by hand")),
        }
    }
    grants.sort();
    grants.dedup();
    Ok(StepOutput::Stripped { grants })
}
