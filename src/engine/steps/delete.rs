//! Deleting the accounts of an identity, each by the immutable id that was recorded, and with nothing on it that nobody recorded.

use keyfall_sdk::{ErrorKind, PrincipalRef};

use super::super::guard::GuardedConnector;
use super::accounts::{all_principals, is_another, nothing_foreign};
use super::attempt::{Attempt, Ended, fail};
use crate::domain::workflow::StepOutput;

pub(super) async fn delete_accounts(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let connector = at.system().await?;
    for principal in all_principals(at.run) {
        delete_account(at, &connector, principal).await?;
    }
    Ok(StepOutput::Nothing)
}

pub(super) async fn delete_account(
    at: &mut Attempt<'_>,
    connector: &GuardedConnector,
    principal: PrincipalRef,
) -> Ended<()> {
    let name = principal.name.clone();
    let reading = connector.read(at.ctx(&name), principal.clone()).await?;
    if principal.immutable_id.is_none() {
        if reading.is_absent() {
            return Ok(());
        }
        return Err(at.ask(
            format!("the account {name} exists, and no immutable id of it was recorded, so it may be somebody else's"),
            "delete it by hand if it belongs to this identity",
        ));
    }
    let read = (principal, reading);
    // Another account of the same name is the connector's to refuse.
    if is_another(&read.0, &read.1).is_none() {
        nothing_foreign(at, &read, at.run.before())?;
    }
    let (principal, reading) = read;
    match connector.delete_principal(at.ctx(&name), principal).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound && reading.is_absent() => Ok(()),
        // It was shown a moment ago, so "not found" alone says nothing: it is looked at again.
        Err(error) if error.kind() == ErrorKind::NotFound => Err(fail(ErrorKind::Transient, error.to_string())),
        Err(error) => Err(at.conflict_asks(
            &error,
            "delete the account by hand, or move away what still depends on it",
        )),
    }
}
