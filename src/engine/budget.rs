//! How many destructive actions a policy may see in a window. The spending is a row that is committed together with the destructive intent,
//! under a guard that counts the rows: so the bound holds across nodes and restarts, and is never exceeded by one (P9).
//!
//! One run spends one, before the first of its steps that takes something away; what follows in that run belongs to the same action, and
//! stopping between revoking a credential and ending its sessions would help nobody.
//!
//! Emergency runs have a budget of the same size to themselves, so that scheduled work can never use up the room that a leaked key needs,
//! and a flood of emergencies is bounded too.

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::Strategy;

use crate::domain::resource::Budget;
use crate::domain::workflow::{Run, Step, Trigger};
use crate::store::{BudgetSpend, Fact, Guard};

/// Nodes that share a store go by its clock, each as well as it knows it: what another one spent may be told so much too early.
const CLOCKS_WITHIN: SignedDuration = SignedDuration::from_secs(1);

/// The step takes something away from somebody. Replacing the only value of a system does so when it is issued; taking back does so when
/// somebody may be on the new credential already.
pub(super) fn takes_away(run: &Run, step: Step) -> bool {
    let replaces = step == Step::IssueNew && run.plan().strategy == Strategy::InPlace && !run.plan().old.is_empty();
    let was_given_out = run.was_begun(Step::Deliver) || run.promoted_at().is_some();
    step.is_destructive() || replaces || (step.takes_back() && was_given_out)
}

/// The run has taken something away before.
pub(super) fn has_spent(run: &Run) -> bool {
    run.steps()
        .iter()
        .any(|step| takes_away(run, *step) && run.was_begun(*step))
}

/// What the spending is counted under.
pub(super) fn scope(run: &Run, policy: Option<&str>) -> String {
    let plan = run.plan();
    let is_emergency = run.is_emergency() || plan.trigger == Trigger::BreakGlass;
    let class = if is_emergency { "emergency" } else { "destructive" };
    match policy {
        Some(policy) => format!("{class}:{policy}"),
        // Without a policy the system is the scope, with the default budget.
        None => format!("{class}:system/{}", plan.system_name),
    }
}

/// The policy of a scope. What a system without one is counted under is the name of none.
pub(super) fn policy_of(scope: &str) -> &str {
    scope.split_once(':').map_or(scope, |(_, policy)| policy)
}

/// The guard and the spending of one destructive action.
pub(super) fn spend(scope: String, budget: &Budget, now: Timestamp) -> (Guard, Fact) {
    let window = budget.per.saturating_add(CLOCKS_WITHIN);
    let since = now.saturating_sub(window).unwrap_or(Timestamp::MIN);
    let guard = Guard::SpentBelow {
        scope: scope.clone(),
        since,
        limit: budget.destructive,
    };
    let fact = Fact::Spent(BudgetSpend {
        scope,
        at: now,
        amount: 1,
        keep: budget.per,
    });
    (guard, fact)
}
