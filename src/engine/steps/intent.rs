//! What is committed before a step's effect: targets by immutable id, the key lists as they were, names of places. Never a secret.

use serde_json::{Value, json};

use super::accounts::{all_principals, idle_principals, new_principal, old_principals};
use crate::domain::workflow::{Run, Step};

pub(super) fn intent(run: &Run, step: Step) -> Value {
    let plan = run.plan();
    let deliveries = || -> Vec<Value> {
        plan.deliveries
            .iter()
            .map(|delivery| json!({ "destination": delivery.destination_name, "target": delivery.target }))
            .collect()
    };
    let new = || plan.new.as_ref().map(|new| new.id);
    let about = match step {
        Step::IssueNew => json!({
            "principal": new_principal(run),
            "credential": new(),
            "secret": plan.new.as_ref().map(|new| new.secret),
            "placement": plan.new.as_ref().map(|new| new.placement),
            "marker": run.id(),
            "keys_before": keys_before(run),
            "twins": run.twins().keys().collect::<Vec<_>>(),
        }),
        Step::Deliver => json!({ "credential": new(), "deliveries": deliveries() }),
        Step::RestoreDelivery => json!({
            "credential": plan.old.first().map(|old| old.id),
            "deliveries": deliveries(),
        }),
        Step::Withdraw => json!({ "deliveries": deliveries() }),
        Step::RevokeOld => json!({
            "credentials": plan.old.iter().map(|old| json!({
                "credential": old.id, "principal": old.principal, "key_id": old.key_id,
            })).collect::<Vec<_>>(),
            "keys_before": keys_before(run),
            "twins": run.twins().keys().collect::<Vec<_>>(),
        }),
        Step::RevokeNew | Step::EndNewSessions | Step::DeleteNewAccount => json!({
            "credential": new(),
            "principal": new_principal(run),
            "key_id": run.issued().map(|issued| &issued.key_id),
            "created_principal": run.issued().map(|issued| issued.created_principal),
            "twins": run.twins().keys().collect::<Vec<_>>(),
        }),
        Step::EndSessions => json!({ "principals": old_principals(run) }),
        Step::DisableIdle => json!({ "principals": idle_principals(run) }),
        Step::Quarantine | Step::LiftQuarantine | Step::StripGrants | Step::DeleteAccount => {
            json!({ "principals": all_principals(run) })
        }
        _ => Value::Null,
    };
    json!({
        "step": step.name(),
        "system": plan.system_name,
        "endpoints": plan.endpoint_digest,
        "vantages": plan.proof.vantages,
        "about": about,
    })
}

/// The pre-image: every credential that the accounts showed before the first change.
fn keys_before(run: &Run) -> Vec<Value> {
    let Some(before) = run.before() else { return Vec::new() };
    before
        .places
        .iter()
        .filter_map(|place| {
            let state = place.state.as_ref()?;
            Some(json!({ "place": place.vantage, "account": state.name, "id": state.immutable_id, "keys": state.key_ids }))
        })
        .collect()
}
