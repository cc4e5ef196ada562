//! How long things take and are waited for: what a policy says, over the defaults.

use jiff::{SignedDuration, Timestamp};

use super::super::proof::ProofTerms;
use super::super::resource::{DecommissionRule, IdentitySpec, PolicySpec, ProofRule, SystemManifest, UptakeRule};
use super::super::workflow::Timing;
use super::ConnectorFacts;

pub(super) fn timing(identity: &IdentitySpec, policy: Option<&PolicySpec>, now: Timestamp) -> Timing {
    let uptake = policy.map_or_else(UptakeRule::default, |policy| policy.uptake.clone());
    let proof = policy.map_or_else(ProofRule::default, |policy| policy.proof.clone());
    Timing {
        overlap: overlap(identity, policy),
        uptake_interval: uptake.interval,
        uptake_timeout: uptake.timeout,
        listen: policy
            .map_or_else(DecommissionRule::default, |policy| policy.decommission.clone())
            .listen,
        keep_dead_secret: proof.keep_dead_secret,
        objective: policy.map_or(SignedDuration::from_mins(15), |policy| policy.objective),
        opened_at: now,
    }
}

/// How long both credentials of a rotation stay usable: as long as the policy says, and as the slowest consumer's cache holds the old one.
#[must_use]
pub fn overlap(identity: &IdentitySpec, policy: Option<&PolicySpec>) -> SignedDuration {
    let caches = identity.consumers.iter().filter_map(|consumer| consumer.caches_for);
    let policy = policy.map(|policy| policy.overlap);
    caches.chain(policy).max().unwrap_or(SignedDuration::ZERO)
}

/// What a proof of death on this system takes. The documented window is only ever widened: by the system's manifest, by the policy, by what
/// was measured.
#[must_use]
pub fn proof_terms(system: &SystemManifest, policy: Option<&PolicySpec>, facts: &ConnectorFacts) -> ProofTerms {
    let rule = policy.map_or_else(ProofRule::default, |policy| policy.proof.clone());
    let candidates = [
        (Some(facts.settling), facts.settling_source.as_str()),
        (system.settling, "the system's manifest"),
        (rule.settling, "the policy"),
        (facts.measured, "measured here"),
    ];
    let widest = candidates
        .into_iter()
        .filter_map(|(window, source)| window.map(|window| (window, source)));
    let (settling, source) = widest
        .max_by_key(|(window, _)| *window)
        .unwrap_or((facts.settling, &facts.settling_source));
    ProofTerms {
        vantages: system.vantages.iter().map(|one| one.name.clone()).collect(),
        refusals: rule.refusals.max(1),
        interval: rule.interval,
        settling,
        settling_source: source.to_owned(),
        give_up_after: rule.give_up_after,
    }
}
