//! How a run ends: what the ends of its credentials and the steps that a person declared done come to. One rule, which the engine closes runs by and
//! a verifier holds receipts against.

use super::event::{Death, Outcome};
use super::run::Run;
use super::state::Path;
use super::steps::Step;

/// How much is known of an end, the best first: of one credential, or of a run as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Proven dead, or never issued.
    Over,
    /// Counts as not dead.
    Unprovable,
    Alive,
}

/// A run comes to the worst end of its credentials, and to no better than unprovable when something was taken on a person's word.
#[must_use]
pub fn comes_to(ends: impl IntoIterator<Item = End>, by_hand: impl IntoIterator<Item = Step>) -> End {
    let on_trust = by_hand.into_iter().any(is_taken_on_trust).then_some(End::Unprovable);
    ends.into_iter().chain(on_trust).max().unwrap_or(End::Over)
}

/// A step that, declared done, is looked at by nothing behind it. Revocations are looked at by the proof, deleted accounts by the reading behind
/// it; consumers that are not waited for, or are still heard, are an exception of a second person, which the receipt names.
#[must_use]
pub fn is_taken_on_trust(step: Step) -> bool {
    !matches!(
        step,
        Step::RevokeOld
            | Step::RevokeNew
            | Step::DeleteAccount
            | Step::AwaitUptake
            | Step::AwaitReturn
            | Step::Listen
            | Step::RestoreDelivery
    )
}

impl Outcome {
    /// What the ends of the run's credentials must have come to for it.
    #[must_use]
    pub fn end(&self) -> End {
        match self {
            Self::Completed | Self::Unwound { .. } => End::Over,
            Self::Unprovable { .. } => End::Unprovable,
            Self::AliveAfterRevoke { .. } => End::Alive,
        }
    }
}

impl Run {
    /// How it ends when no step is left. Unknown never reads as done.
    pub(super) fn outcome(&self) -> Outcome {
        let ends = self.deaths().values().map(Death::end);
        // A person may send a run past its proof; what was to be proven then is not.
        let unproven = self.is_unproven().then_some(End::Unprovable);
        let by_hand = self.skipped().iter().map(|skipped| skipped.step);
        match comes_to(ends.chain(unproven), by_hand) {
            End::Over => match self.path() {
                Path::Forward => Outcome::Completed,
                Path::Unwinding => Outcome::Unwound {
                    cause: self.unwind_cause().unwrap_or("unknown").to_owned(),
                },
            },
            End::Unprovable => self.unprovable(),
            End::Alive => Outcome::AliveAfterRevoke {
                since: self.alive_since().unwrap_or_else(|| self.last_event_at()),
            },
        }
    }

    fn alive_since(&self) -> Option<jiff::Timestamp> {
        self.deaths().values().find_map(|death| match death {
            Death::Alive { since } => Some(*since),
            _ => None,
        })
    }

    fn unprovable(&self) -> Outcome {
        let of_a_death = self.deaths().values().find_map(|death| match death {
            Death::Unprovable { best, why } => Some((*best, why.clone())),
            _ => None,
        });
        let (best, why) = of_a_death.unwrap_or_else(|| {
            let why = match self.taken_on_trust() {
                Some(why) if !self.is_unproven() => why,
                _ => "a person sent the run past its proof".to_owned(),
            };
            (None, why)
        });
        Outcome::Unprovable { best, why }
    }

    /// What a person declared done and nothing looked at since; `None` when there is nothing of the kind.
    #[must_use]
    pub fn taken_on_trust(&self) -> Option<String> {
        let skipped = self.skipped().iter().find(|skipped| is_taken_on_trust(skipped.step))?;
        Some(format!(
            "{} declared {} done by hand",
            skipped.by.label(),
            skipped.step.name()
        ))
    }

    /// Something that this run was to prove dead has no judgement.
    fn is_unproven(&self) -> bool {
        let plan = self.plan();
        let judged = |id| self.deaths().contains_key(&id);
        match self.path() {
            Path::Forward => self.steps().contains(&Step::ProveDead) && plan.old.iter().any(|old| !judged(old.id)),
            Path::Unwinding => {
                self.steps().contains(&Step::ProveNewDead)
                    && !self.was_never_issued()
                    && plan.new.iter().any(|new| !judged(new.id))
            }
        }
    }
}

impl Death {
    #[must_use]
    pub fn end(&self) -> End {
        match self {
            Self::Proven { .. } => End::Over,
            Self::Unprovable { .. } => End::Unprovable,
            Self::Alive { .. } => End::Alive,
        }
    }
}
