//! Putting a secret where workloads read it, and on the way back the one that was there before. Every delivery is read back.

use jiff::Timestamp;
use keyfall_sdk::{Confirmation, DeliverCall, ErrorKind, PrincipalRef, SecretValue};

use super::super::report::StepEnd;
use super::accounts::new_principal;
use super::attempt::{Attempt, Ended, fail};
use super::withdraw;
use crate::domain::ids::CredentialId;
use crate::domain::workflow::{DeliveryPlan, OldCredential, StepOutput};

pub(super) async fn deliver_new(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let (Some(new), Some(principal)) = (&at.plan().new, new_principal(at.run)) else {
        return Err(fail(
            ErrorKind::Conflict,
            "the plan of this run names no new credential",
        ));
    };
    let secret = at.minted_secret(new).await?;
    let places: Vec<&DeliveryPlan> = at.plan().deliveries.iter().collect();
    deliver_to(at, &places, new.id, &principal, &secret).await
}

/// Consumers get back what they had; where they had nothing, the place is emptied again. What stands there is looked at first: only what this
/// run delivered is taken away.
pub(super) async fn restore_delivery(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    nothing_on_its_way(at)?;
    let Some(old) = at.plan().old.first() else {
        let places = places_of_ours(at, None).await?;
        withdraw::withdraw_from(at, &places).await?;
        return Ok(StepOutput::Nothing);
    };
    let secret = match old.secret {
        Some(id) => at.secret_if_kept(id).await?,
        None => None,
    };
    let Some(secret) = secret else {
        return Err(at.ask_to_resume(
            format!(
                "the destinations cannot get back the credential {}: its secret is not ours",
                old.id
            ),
            "put the earlier secret back where the workload reads it",
        ));
    };
    let places = places_of_ours(at, Some((old, &secret))).await?;
    deliver_to(at, &places, old.id, &old.principal, &secret).await
}

/// A delivery that got no answer is waited out: behind the way back it would leave a secret there that is dead.
pub(super) fn nothing_on_its_way(at: &Attempt<'_>) -> Ended<()> {
    let Some(sent_at) = at.run.delivery_in_doubt_since() else {
        return Ok(());
    };
    let grace = at.steps.settings.issue_grace;
    let until = sent_at.saturating_add(grace).unwrap_or(Timestamp::MAX);
    if at.now() >= until {
        return Ok(());
    }
    Err(StepEnd::Wait {
        until,
        why: "a delivery that got no answer may still arrive; what it would write over is put back behind that"
            .to_owned(),
    })
}

/// The places that hold what this run delivered, or what they are to get back, or nothing. What somebody else put there behind our delivery is a
/// person's to decide about; a place that our delivery never came to is left as it is.
async fn places_of_ours<'a>(
    at: &mut Attempt<'a>,
    before: Option<(&OldCredential, &SecretValue)>,
) -> Ended<Vec<&'a DeliveryPlan>> {
    let mut known = Vec::new();
    if let Some((old, secret)) = before {
        known.push((old.id.to_string(), old.principal.clone(), secret.clone()));
    }
    if let (Some(new), Some(principal)) = (&at.plan().new, new_principal(at.run)) {
        let kept = at.secret_if_kept(new.secret).await?;
        known.extend(kept.map(|secret| (new.id.to_string(), principal, secret)));
    }
    let mut ours = Vec::new();
    for delivery in &at.plan().deliveries {
        let connector = at.destination(delivery)?;
        let name = &delivery.destination_name;
        let mut is_known = false;
        // A delivery of ours that was on its way may land between two comparisons, so what is known to neither is compared once more.
        for (version, principal, secret) in known.iter().chain(&known) {
            if !is_known {
                let call = call_of(delivery, principal, secret, version);
                is_known = connector.confirm(at.ctx(name), call).await? != Confirmation::Differs;
            }
        }
        if is_known {
            ours.push(delivery);
        } else if at.run.was_delivered() {
            return Err(at.ask(
                format!("{name} does not hold what this run delivered there, so it is not written over"),
                &format!(
                    "find out who wrote there, and empty the place (or put the right secret there, and run `keyfall resume {} --reason …` instead)",
                    at.run.id()
                ),
            ));
        } else {
            at.note(format!("{name} was never written by this run and is left as it is"));
        }
    }
    Ok(ours)
}

async fn deliver_to(
    at: &mut Attempt<'_>,
    deliveries: &[&DeliveryPlan],
    credential: CredentialId,
    principal: &PrincipalRef,
    secret: &SecretValue,
) -> Ended<StepOutput> {
    let version = credential.to_string();
    let mut places = Vec::new();
    for delivery in deliveries {
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
