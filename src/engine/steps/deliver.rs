//! Putting a secret where workloads read it, and on the way back the one that was there before. Every delivery is read back.

use keyfall_sdk::{Confirmation, DeliverCall, ErrorKind, PrincipalRef, SecretValue};

use super::accounts::new_principal;
use super::attempt::{Attempt, Ended, fail};
use super::withdraw;
use crate::domain::ids::CredentialId;
use crate::domain::workflow::{DeliveryPlan, StepOutput};

pub(super) async fn deliver_new(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let (Some(new), Some(principal)) = (&at.plan().new, new_principal(at.run)) else {
        return Err(fail(
            ErrorKind::Conflict,
            "the plan of this run names no new credential",
        ));
    };
    let secret = at.secret(new.secret).await?;
    deliver_all(at, new.id, &principal, &secret).await
}

/// Consumers get back what they had; where they had nothing, the place is emptied again.
pub(super) async fn restore_delivery(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let Some(old) = at.plan().old.first() else {
        withdraw::withdraw_all(at).await?;
        return Ok(StepOutput::Nothing);
    };
    let secret = match old.secret {
        Some(id) => at.secret_if_kept(id).await?,
        None => None,
    };
    let Some(secret) = secret else {
        return Err(at.ask(
            format!(
                "the destinations cannot get back the credential {}: its secret is not ours",
                old.id
            ),
            "put the earlier secret back where the workload reads it, and use `keyfall resume` instead of `retry`",
        ));
    };
    deliver_all(at, old.id, &old.principal, &secret).await
}

async fn deliver_all(
    at: &mut Attempt<'_>,
    credential: CredentialId,
    principal: &PrincipalRef,
    secret: &SecretValue,
) -> Ended<StepOutput> {
    let version = credential.to_string();
    let mut places = Vec::new();
    for delivery in &at.plan().deliveries {
        let call = call_of(delivery, principal, secret, &version);
        let connector = at.destination(delivery)?;
        let delivered = connector
            .deliver(at.ctx(&delivery.destination_name), call.clone())
            .await?;
        match connector.confirm(at.ctx(&delivery.destination_name), call).await? {
            Confirmation::Matches => places.push(delivered.place),
            Confirmation::Differs | Confirmation::Absent => {
                return Err(fail(
                    ErrorKind::Protocol,
                    format!(
                        "{} does not hold what was just delivered; somebody else writes there",
                        delivered.place
                    ),
                ));
            }
        }
    }
    Ok(StepOutput::Delivered {
        version,
        places,
        confirmed: Confirmation::Matches,
    })
}

fn call_of(delivery: &DeliveryPlan, principal: &PrincipalRef, secret: &SecretValue, version: &str) -> DeliverCall {
    let mut fields = delivery.fields.clone();
    fields.insert("username".to_owned(), principal.name.clone());
    DeliverCall {
        target: delivery.target.clone(),
        secret: secret.clone(),
        fields,
        version: version.to_owned(),
    }
}
