//! The exact manual step that a stuck run asks a person for: targets by the ids that were recorded, never by description.

use std::fmt::Write;

use crate::domain::workflow::{Run, Step, StepError};

/// What a person does, and how the run goes on afterwards.
pub(super) fn manual_step(run: &Run, step: Step, error: &StepError) -> String {
    let plan = run.plan();
    let mut text = match error.code.as_deref() {
        Some(code) => format!(
            "Read the answer of `{}` ({code}): {}. ",
            plan.system_name, error.message
        ),
        None => format!("Read the answer of `{}`: {}. ", plan.system_name, error.message),
    };
    let _ = match step {
        Step::RevokeOld | Step::ProveDead | Step::DeleteAccount | Step::EndSessions | Step::StripGrants => {
            write!(text, "What must no longer work: {}. ", olds(run))
        }
        Step::RevokeNew | Step::ProveNewDead | Step::EndNewSessions | Step::DeleteNewAccount => {
            write!(text, "What must no longer work: {}. ", new(run))
        }
        Step::Deliver | Step::Withdraw | Step::RestoreDelivery => write!(text, "Places: {}. ", places(run)),
        Step::AwaitUptake | Step::AwaitReturn => write!(text, "Consumers: {}. ", consumers(run)),
        _ => write!(text, "Account: {}. ", new(run)),
    };
    let id = run.id();
    if run.may_be_cancelled() {
        let _ = write!(
            text,
            "Remove the cause and run `keyfall retry {id} --reason …`; or take the run back with `keyfall cancel {id} --reason …`."
        );
        return text;
    }
    let _ = write!(
        text,
        "Remove the cause and run `keyfall retry {id} --reason …`; or reach the goal of {} by hand and run `keyfall resume {id} --reason …`.",
        step.name()
    );
    text
}

/// Where who asked for a run is who allowed it.
pub(super) fn ask_by_another(run: &Run) -> String {
    let plan = run.plan();
    let ask_anew = format!(
        "let somebody else ask for {} of {}",
        plan.kind.name(),
        plan.identity_name
    );
    cancel_and(run, &ask_anew)
}

/// Where the people who allowed a run do not allow it any more.
pub(super) fn approve_again(run: &Run) -> String {
    let plan = run.plan();
    let name = &plan.identity_name;
    let ask_anew = if plan.approval.standing {
        format!("have the policy of {name} approved again (`keyfall apply -f MANIFEST`), and rotate it again")
    } else {
        format!(
            "ask for {} of {name} again, and have the plan approved",
            plan.kind.name()
        )
    };
    cancel_and(run, &ask_anew)
}

fn cancel_and(run: &Run, ask_anew: &str) -> String {
    let id = run.id();
    if run.may_be_cancelled() {
        return format!("Run `keyfall cancel {id} --reason …`, then {ask_anew}.");
    }
    format!(
        "This run cannot be taken back any more. Reach the goal of {} by hand and run `keyfall resume {id} --reason …`.",
        run.step().map_or("its last step", Step::name)
    )
}

fn olds(run: &Run) -> String {
    let one = |old: &crate::domain::workflow::OldCredential| {
        let key = old.key_id.as_ref().map_or("unknown", |key| key.0.as_str());
        format!(
            "key {key} of account {} ({})",
            old.principal.name,
            old.principal.immutable_id.as_deref().unwrap_or("id not recorded")
        )
    };
    listed(run.plan().old.iter().map(one))
}

fn new(run: &Run) -> String {
    let issued = run.issued();
    let principal = issued
        .map(|issued| &issued.principal)
        .or_else(|| run.plan().new.as_ref().map(|new| &new.principal));
    let key = issued.map_or("not recorded", |issued| issued.key_id.0.as_str());
    principal.map_or_else(
        || run.plan().identity_name.clone(),
        |principal| format!("key {key} of account {}", principal.name),
    )
}

fn places(run: &Run) -> String {
    listed(
        run.plan()
            .deliveries
            .iter()
            .map(|one| format!("{} {}", one.destination_name, one.target)),
    )
}

fn consumers(run: &Run) -> String {
    listed(run.plan().consumers.iter().map(|one| one.name.clone()))
}

fn listed(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() {
        "none recorded".to_owned()
    } else {
        parts.join("; ")
    }
}
