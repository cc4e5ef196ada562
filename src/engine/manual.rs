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
    let _ = write!(
        text,
        "Remove the cause and run `keyfall retry {id} --reason …`{}{}.",
        or_cancel(run),
        or_resume(run, step)
    );
    text
}

/// Only while the run can be taken back.
fn or_cancel(run: &Run) -> String {
    if !run.may_be_cancelled() {
        return String::new();
    }
    format!("; or take the run back with `keyfall cancel {} --reason …`", run.id())
}

/// Only where a person's word is taken for the step.
fn or_resume(run: &Run, step: Step) -> String {
    if !run.may_be_resumed() {
        return String::new();
    }
    format!(
        "; or reach the goal of {} by hand and run `keyfall resume {} --reason …`",
        step.name(),
        run.id()
    )
}

/// Behind a store that is not the newest one.
pub(super) fn standstill_step(run: &Run, step: Step) -> String {
    let (id, system) = (run.id(), &run.plan().system_name);
    format!(
        "Compare {system} with what this run did last (`keyfall describe run {id}`, `keyfall review`) before it goes on: newer credentials may be in use there that this store does not know. Then lift the standstill with `keyfall unfreeze --reason …`, and run `keyfall retry {id} --reason …` if {system} is as this run left it{}{}.",
        or_cancel(run),
        or_resume(run, step)
    )
}

/// Where what came of a step contradicts what is stored.
pub(super) fn defect_step(run: &Run, step: Step) -> String {
    let id = run.id();
    format!(
        "This is a defect of Keyfall. Compare what is downstream with `keyfall describe run {id}`, put right what differs, then run `keyfall retry {id} --reason …`{}{}",
        or_cancel(run),
        or_resume(run, step)
    )
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
    let ask_anew = if run.hastened().is_some() {
        format!("run `keyfall rotate {name} --emergency --reason …` when it is taken back, and have the plan approved")
    } else if plan.approval.standing {
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
        "This run cannot be taken back any more. When it is allowed again (whoever signed may sign), run `keyfall retry {id} --reason …`{}.",
        run.step().map_or_else(String::new, |step| or_resume(run, step))
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
