//! What a step with an effect must pass, as guards of the very commit that holds its intent: the standstill, and for a destructive step also
//! freeze, breaker and budget. Taking back what a run issued is destructive as soon as it was given out; a freeze holds it before that too.
//! Nothing is read before: what a guard would refuse is found out by asking.

use jiff::{SignedDuration, Timestamp};

use super::outbox::Extra;
use super::{breaker, budget, freeze, standstill};
use crate::domain::resource::Budget;
use crate::domain::workflow::{Run, Step, Trigger};

/// Which guard held a run back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Barrier {
    Standstill,
    Frozen,
    Breaker,
    Budget {
        scope: String,
        per: SignedDuration,
        limit: u32,
    },
}

impl Barrier {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Standstill => "standstill",
            Self::Frozen => "frozen",
            Self::Breaker => "breaker",
            Self::Budget { .. } => "budget",
        }
    }

    /// When it is worth asking again. A budget frees itself little by little; the others end when a person ends them.
    pub(super) fn ask_again(&self, now: Timestamp, recheck: SignedDuration) -> Timestamp {
        let wait = match self {
            Self::Standstill | Self::Frozen | Self::Breaker => recheck,
            Self::Budget { per, limit, .. } => {
                let share = per.checked_div(i32::try_from(*limit).unwrap_or(i32::MAX).max(1));
                share.unwrap_or(*per).max(recheck)
            }
        };
        now.saturating_add(wait).unwrap_or(Timestamp::MAX)
    }
}

/// What is added to the commit of the intent, and what each guard means.
#[derive(Default)]
pub(super) struct Toll {
    pub(super) extra: Extra,
    pub(super) barriers: Vec<Barrier>,
}

/// The toll of a step that has an effect. One that takes nothing away and nothing back passes everything but the standstill.
pub(super) fn toll(run: &Run, step: Step, policy: Option<(&str, &Budget)>, now: Timestamp) -> Toll {
    let mut toll = Toll::default();
    toll.extra.guards.push(standstill::not_standing());
    toll.barriers.push(Barrier::Standstill);
    let takes_away = budget::takes_away(run, step);
    if takes_away || run.takes_back(step) {
        toll.extra.guards.push(freeze::not_frozen());
        toll.barriers.push(Barrier::Frozen);
    }
    if !takes_away {
        return toll;
    }
    // What two people made an emergency of is the schedule's no more.
    if run.plan().trigger == Trigger::Schedule && run.hastened().is_none() {
        toll.extra.guards.push(breaker::not_open());
        toll.barriers.push(Barrier::Breaker);
    }
    if !budget::has_spent(run) {
        let fallback = Budget::default();
        let (name, budget) = policy.map_or((None, &fallback), |(name, budget)| (Some(name), budget));
        let scope = budget::scope(run, name);
        let (guard, spent) = budget::spend(scope.clone(), budget, now);
        toll.extra.guards.push(guard);
        toll.extra.facts.push(spent);
        toll.barriers.push(Barrier::Budget {
            scope,
            per: budget.per,
            limit: budget.destructive,
        });
    }
    toll
}
