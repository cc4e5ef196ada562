//! Emptying the places where a secret was delivered.

use keyfall_sdk::ErrorKind;

use super::attempt::{Attempt, Ended, failed};
use crate::domain::workflow::{DeliveryPlan, StepOutput};

pub(super) async fn withdraw(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let places: Vec<&DeliveryPlan> = at.plan().deliveries.iter().collect();
    withdraw_from(at, &places).await?;
    Ok(StepOutput::Nothing)
}

pub(super) async fn withdraw_from(at: &mut Attempt<'_>, deliveries: &[&DeliveryPlan]) -> Ended<()> {
    for delivery in deliveries {
        let connector = at.destination(delivery)?;
        match connector
            .withdraw(at.ctx(&delivery.destination_name), delivery.target.clone())
            .await
        {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Unsupported => at.note(format!(
                "{} cannot be emptied and still holds a dead secret: {error}",
                delivery.destination_name
            )),
            Err(error) => return Err(failed(&error)),
        }
    }
    Ok(())
}
