//! Registering an account as it is. Reading only: adopting never changes anything at first contact.

use super::accounts::{all_principals, merged, read_each};
use super::attempt::{Attempt, Ended};
use super::probes;
use crate::domain::workflow::{RunKind, StepOutput};

pub(super) async fn record(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    if at.plan().kind == RunKind::TakeOver {
        for old in &at.plan().old {
            let missing = probes::untried(at, old.id);
            if !missing.is_empty() {
                return Err(at.ask(
                    format!(
                        "the given secret of {} was not accepted at {}",
                        old.principal.name,
                        missing.join(", ")
                    ),
                    "give the right secret with a new `keyfall adopt --take-over`, and cancel this run",
                ));
            }
        }
    }
    let connector = at.system().await?;
    let principals = all_principals(at.run);
    let readings = read_each(at, &connector, principals).await?;
    let reading = merged(&readings);
    if reading.is_absent() {
        return Err(at.ask(
            "there is no such account to adopt",
            "cancel this run and adopt one that `keyfall review` shows",
        ));
    }
    Ok(StepOutput::Adopted { reading })
}
