//! Until when the secrets of credentials that were ended are kept: sealed, for probing only, and always with a deadline. A run that
//! needs one for a proof holds its deadline back, and sets one again at its end.

use jiff::{SignedDuration, Timestamp};

use super::super::identity::IdentityState;
use super::super::ids::SecretId;
use super::changes::RegisterChange;
use super::event::Death;
use super::plan::RunPlan;
use super::run::Run;
use super::state::Path;
use super::steps::Step;

/// How long the secret of a credential whose death could not be proven is kept for another try, when its policy does not keep dead ones longer.
const KEEP_UNPROVEN: SignedDuration = SignedDuration::from_hours(24 * 90);

/// What a run that opens needs for its proofs, and an earlier one gave a deadline.
pub(super) fn needed(plan: &RunPlan) -> Vec<RegisterChange> {
    let old = plan.old.iter().filter(|old| old.ended_before);
    old.filter_map(|old| old.secret)
        .map(|id| RegisterChange::SecretKept { id })
        .collect()
}

/// The tombstone keeps no secret: those whose death was not proven go when the dead ones do.
pub(super) fn buried(run: &Run, at: Timestamp) -> Vec<RegisterChange> {
    let plan = run.plan();
    let is_proven = |id| matches!(run.deaths().get(&id), Some(Death::Proven { .. }));
    let unproven = plan.old.iter().filter(|old| !is_proven(old.id));
    unproven
        .filter_map(|old| old.secret)
        .map(|id| destroy_at(id, at, plan.timing.keep_dead_secret))
        .collect()
}

pub(super) fn destroy_at(id: SecretId, at: Timestamp, behind: SignedDuration) -> RegisterChange {
    let at = at.saturating_add(behind).unwrap_or(Timestamp::MAX);
    RegisterChange::SecretDestroyAt { id, at }
}

/// How long the secret of a credential is kept whose death could not be proven. A tombstone has none for longer than it must.
pub(super) fn unproven(plan: &RunPlan) -> SignedDuration {
    let keep = plan.timing.keep_dead_secret;
    if plan.from == Some(IdentityState::Decommissioned) {
        return keep;
    }
    keep.max(KEEP_UNPROVEN)
}

/// Secrets of credentials that were to end and have no judgement: a person sent the run past its proof, or a second try was taken back.
pub(super) fn unjudged(run: &Run, at: Timestamp) -> Vec<RegisterChange> {
    let plan = run.plan();
    let is_judged = |id| run.deaths().contains_key(&id);
    let forward = run.path() == Path::Forward;
    let to_end = forward && run.steps().contains(&Step::ProveDead);
    let old = plan.old.iter().filter(|old| to_end || old.ended_before);
    let old = old.filter(|old| !is_judged(old.id)).filter_map(|old| old.secret);
    let issued = !forward && run.steps().contains(&Step::ProveNewDead) && !run.was_never_issued();
    let new = plan.new.iter().filter(|new| issued && !is_judged(new.id));
    let secrets = old.chain(new.map(|new| new.secret));
    secrets.map(|id| destroy_at(id, at, unproven(plan))).collect()
}
