//! What a run's end says is wrong, or right again. Pure. A finding has one kind and one subject, and is raised once while it is open.

use jiff::Timestamp;

use crate::clock::Environment;
use crate::domain::identity::Identity;
use crate::domain::ids::{CredentialId, FindingId};
use crate::domain::workflow::{Death, Outcome, Path, Run, RunKind, RunPlan, Step};
use crate::store::{Fact, FindingRow};

pub const NEEDS_OPERATOR: &str = "needs_operator";
pub const ALIVE_AFTER_REVOKE: &str = "alive_after_revoke";
pub const UNPROVABLE: &str = "unprovable";
pub const RUN_UNWOUND: &str = "run_unwound";
pub const OVERDUE: &str = "overdue";
pub const EXPIRED: &str = "expired";
pub const EXPIRING: &str = "expiring";
pub const APPROVAL_WANTED: &str = "approval_wanted";
pub const CANNOT_PLAN: &str = "cannot_plan";
pub const BREAKER_OPEN: &str = "breaker_open";
pub const CLOCK_JUMP: &str = "clock_jump";
pub const BUDGET_SPENT: &str = "budget_spent";
pub const UNOWNED: &str = "unowned";
pub const CONSUMER_NOT_SEEN: &str = "consumer_not_seen";
pub const SETTLING_OUTSIDE_WINDOW: &str = "settling_outside_window";
pub const FOREIGN: &str = "foreign";
/// During a standstill a system shows something else than this store says.
pub const NOT_AS_RECORDED: &str = "not_as_recorded";
pub const POLICY_CONFLICT: &str = "policy_conflict";
/// A death was proven later than its policy's objective, or not at all.
pub const OBJECTIVE_MISSED: &str = "objective_missed";

/// A credential ends by itself while nothing may be opened.
pub const ENDS_MEANWHILE: &str = "ends_meanwhile";
/// A run asks for a list of steps that no living server knows.
pub const UNKNOWN_STEPS: &str = "unknown_steps";

/// The log of a run cannot be read, or says what cannot be.
pub const UNREADABLE_RUN: &str = "unreadable_run";

/// Every kind there is, the gravest first: lists that may not lose a grave one among many light ones ask kind by kind.
pub const KINDS: [&str; 22] = [
    ALIVE_AFTER_REVOKE,
    UNPROVABLE,
    FOREIGN,
    NOT_AS_RECORDED,
    NEEDS_OPERATOR,
    UNKNOWN_STEPS,
    UNREADABLE_RUN,
    OBJECTIVE_MISSED,
    CLOCK_JUMP,
    BREAKER_OPEN,
    SETTLING_OUTSIDE_WINDOW,
    CONSUMER_NOT_SEEN,
    ENDS_MEANWHILE,
    EXPIRED,
    OVERDUE,
    UNOWNED,
    POLICY_CONFLICT,
    CANNOT_PLAN,
    RUN_UNWOUND,
    APPROVAL_WANTED,
    BUDGET_SPENT,
    EXPIRING,
];

/// How much it matters, in the words of the review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Critical,
    High,
    Medium,
    Low,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// Something wrong, to be stored.
pub(super) struct Wrong<'a> {
    pub(super) kind: &'static str,
    pub(super) subject: String,
    pub(super) severity: Severity,
    pub(super) owner: &'a str,
    pub(super) text: String,
}

pub(super) fn raised(env: &Environment, at: Timestamp, wrong: Wrong<'_>) -> Fact {
    Fact::Finding(FindingRow {
        id: FindingId::from_uuid(env.draw_uuid()),
        kind: wrong.kind.to_owned(),
        subject: wrong.subject,
        severity: wrong.severity.name().to_owned(),
        text: wrong.text,
        owner: wrong.owner.to_owned(),
        raised_at: at,
        resolved_at: None,
    })
}

pub(super) fn resolved(kind: &'static str, subject: impl Into<String>, at: Timestamp) -> Fact {
    Fact::FindingResolved {
        kind,
        subject: subject.into(),
        at,
    }
}

/// The subject of a finding about one credential: two lives of one identity are two subjects.
#[must_use]
pub fn credential_subject(identity: &str, credential: CredentialId) -> String {
    format!("{identity}/{credential}")
}

pub(super) fn needs_operator(
    env: &Environment,
    run: &Run,
    step: Step,
    reason: &str,
    manual: &str,
    at: Timestamp,
) -> Fact {
    let plan = run.plan();
    let wrong = Wrong {
        kind: NEEDS_OPERATOR,
        subject: run.id().to_string(),
        severity: Severity::High,
        owner: &plan.owner,
        text: format!(
            "{} of {} stands at {}: {reason}. {manual}",
            plan.kind.name(),
            plan.identity_name,
            step.name()
        ),
    };
    raised(env, at, wrong)
}

/// A run that waits for its consumers and was given to a person says so of the identity as well: its owner can do something about that.
pub(super) fn consumer_not_seen(env: &Environment, run: &Run, step: Step, reason: &str, at: Timestamp) -> Option<Fact> {
    let plan = run.plan();
    let wrong = Wrong {
        kind: CONSUMER_NOT_SEEN,
        subject: plan.identity_name.clone(),
        severity: Severity::High,
        owner: &plan.owner,
        text: format!("{}: {reason}", plan.identity_name),
    };
    matches!(step, Step::AwaitUptake | Step::AwaitReturn).then(|| raised(env, at, wrong))
}

/// Credentials on an account of ours that nobody recorded: found, told, and never removed by itself (P5).
pub(super) fn foreign(env: &Environment, run: &Run, keys: &[String], at: Timestamp) -> Fact {
    let plan = run.plan();
    let wrong = Wrong {
        kind: FOREIGN,
        subject: plan.identity_name.clone(),
        severity: Severity::High,
        owner: &plan.owner,
        text: format!(
            "the account of {} on `{}` holds credentials that nobody recorded as alive: {}. Find out who made them; Keyfall does not remove what it did not make",
            plan.identity_name,
            plan.system_name,
            keys.join(", ")
        ),
    };
    raised(env, at, wrong)
}

/// What is stored with the closing event.
pub(super) fn at_close(env: &Environment, run: &Run, outcome: &Outcome, at: Timestamp) -> Vec<Fact> {
    let plan = run.plan();
    let mut facts = vec![resolved(NEEDS_OPERATOR, run.id().to_string(), at)];
    for (credential, death) in run.deaths() {
        let subject = credential_subject(&plan.identity_name, *credential);
        match death {
            Death::Proven { .. } => {
                facts.push(resolved(ALIVE_AFTER_REVOKE, subject.clone(), at));
                facts.push(resolved(UNPROVABLE, subject, at));
            }
            Death::Alive { since } => facts.push(raised(env, at, alive(plan, *credential, *since))),
            Death::Unprovable { why, .. } => facts.push(raised(env, at, unprovable(plan, *credential, why))),
        }
    }
    facts.extend(on_trust(env, run, outcome, at));
    facts.extend(objective(env, run, at));
    if run.path() == Path::Unwinding {
        facts.push(raised(env, at, unwound(run)));
    } else {
        for kind in [RUN_UNWOUND, OVERDUE, APPROVAL_WANTED, CANNOT_PLAN, CONSUMER_NOT_SEEN] {
            facts.push(resolved(kind, plan.identity_name.clone(), at));
        }
    }
    // Its last look saw what was approved. What is adopted is left as it is.
    if *outcome == Outcome::Completed && plan.kind != RunKind::Adopt {
        facts.push(resolved(NOT_AS_RECORDED, plan.identity_name.clone(), at));
    }
    if plan.kind == RunKind::Decommission && *outcome == Outcome::Completed {
        for kind in [EXPIRED, EXPIRING, UNOWNED, FOREIGN, POLICY_CONFLICT] {
            facts.push(resolved(kind, plan.identity_name.clone(), at));
        }
    }
    facts
}

/// What a person declared done and nothing looked at is told of the identity, until a run does it and sees it done. A revocation does not do what
/// those steps are for.
fn on_trust(env: &Environment, run: &Run, outcome: &Outcome, at: Timestamp) -> Option<Fact> {
    let plan = run.plan();
    let name = &plan.identity_name;
    let Some(declared) = run.taken_on_trust() else {
        let has_done_it = *outcome == Outcome::Completed && !matches!(plan.kind, RunKind::Revoke | RunKind::Adopt);
        return has_done_it.then(|| resolved(UNPROVABLE, name.clone(), at));
    };
    let again = match plan.kind {
        // It left no tombstone.
        RunKind::Decommission if run.path() == Path::Forward => {
            format!(
                "`keyfall decommission {name} --reason …` once more does it again, and buries {name} when it is seen to be done"
            )
        }
        RunKind::Provision if run.path() == Path::Unwinding => {
            "applying its manifest again provisions it, which clears this when it is completed".to_owned()
        }
        _ => format!("`keyfall rotate {name} --reason …` clears this when it is completed"),
    };
    let wrong = Wrong {
        kind: UNPROVABLE,
        subject: name.clone(),
        severity: Severity::High,
        owner: &plan.owner,
        text: format!(
            "in {} of {name} on `{}` {declared}, and nothing has looked at it since (`keyfall describe run {}` has the reason). Look whether it is so; {again}",
            plan.kind.name(),
            plan.system_name,
            plan.run
        ),
    };
    Some(raised(env, at, wrong))
}

/// Whether what this run ended was proven dead in time. A run that ended nothing says nothing about it.
fn objective(env: &Environment, run: &Run, at: Timestamp) -> Option<Fact> {
    let plan = run.plan();
    let mut ended: Vec<_> = run
        .revocations()
        .map(|(credential, revoked_at)| match run.deaths().get(&credential) {
            Some(Death::Proven { proven_at }) => (proven_at.duration_since(revoked_at), credential, true),
            _ => (at.duration_since(revoked_at), credential, false),
        })
        .collect();
    ended.sort();
    let (took, credential, is_proven) = *ended.last()?;
    if took <= plan.timing.objective {
        // What is not proven is no success, however early the run closed.
        let is_met = ended.iter().all(|(_, _, is_proven)| *is_proven);
        return is_met.then(|| resolved(OBJECTIVE_MISSED, plan.identity_name.clone(), at));
    }
    let came_to = if is_proven {
        "was proven dead"
    } else {
        "is not proven dead"
    };
    let wrong = Wrong {
        kind: OBJECTIVE_MISSED,
        subject: plan.identity_name.clone(),
        severity: Severity::Medium,
        owner: &plan.owner,
        text: format!(
            "{credential} of {} {came_to} on `{}` {took:#} after its revocation; the objective is {:#}. `keyfall describe run {}` shows which vantage was late",
            plan.identity_name, plan.system_name, plan.timing.objective, plan.run
        ),
    };
    Some(raised(env, at, wrong))
}

fn alive(plan: &RunPlan, credential: CredentialId, since: Timestamp) -> Wrong<'_> {
    let name = &plan.identity_name;
    let again = match plan.kind {
        // It left no tombstone, so that the same verb can end what is left.
        RunKind::Decommission => format!("`keyfall decommission {name} --reason …` once more"),
        _ => format!("`keyfall revoke {name} --credential {credential} --reason …`"),
    };
    let text = format!(
        "`{}` went on accepting the revoked {credential} of {name} after its settling window, first seen at {since}. Cut the account off there, then run {again}",
        plan.system_name
    );
    Wrong {
        kind: ALIVE_AFTER_REVOKE,
        subject: credential_subject(name, credential),
        severity: Severity::Critical,
        owner: &plan.owner,
        text,
    }
}

fn unprovable<'a>(plan: &'a RunPlan, credential: CredentialId, why: &str) -> Wrong<'a> {
    let name = &plan.identity_name;
    let text = format!(
        "the death of {credential} of {name} on `{}` could not be proven, so it counts as alive: {why}. When what stood in the way is gone, `keyfall revoke {name} --credential {credential} --reason …` tries again, as long as its secret is kept",
        plan.system_name
    );
    Wrong {
        kind: UNPROVABLE,
        subject: credential_subject(name, credential),
        severity: Severity::High,
        owner: &plan.owner,
        text,
    }
}

fn unwound(run: &Run) -> Wrong<'_> {
    let plan = run.plan();
    let cause = run.unwind_cause().unwrap_or("unknown");
    let left = match plan.kind {
        RunKind::Rotate | RunKind::EmergencyRotate if !plan.old.is_empty() && run.issued().is_some() => {
            " The old credential is in use."
        }
        RunKind::Provision => " Nothing of it is in use, and applying its manifest again provisions it.",
        _ => "",
    };
    Wrong {
        kind: RUN_UNWOUND,
        subject: plan.identity_name.clone(),
        severity: Severity::Medium,
        owner: &plan.owner,
        text: format!(
            "{} of {} was taken back: {cause}.{left} `keyfall describe run {}` shows what happened",
            plan.kind.name(),
            plan.identity_name,
            plan.run
        ),
    }
}

/// A due identity that the engine does not act on by itself.
pub(super) fn about_identity<'a>(
    identity: &'a Identity,
    kind: &'static str,
    severity: Severity,
    text: String,
) -> Wrong<'a> {
    Wrong {
        kind,
        subject: identity.name.clone(),
        severity,
        owner: &identity.spec.owner,
        text,
    }
}
