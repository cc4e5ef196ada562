//! When a credential is due, and why: a chain of pure rules over facts, the first of which that holds gives the reason.
//!
//! The due time is computed once, when a credential becomes current or a policy changes, and stored with its reason. Both are also the memory of
//! what a person asked for, of a compromise and of an owner who left: they stand until a rotation gives the identity a fresh due time. Nothing
//! is drawn at evaluation: the spread comes from the identity's id, so that the same facts always give the same instant.

use std::str::FromStr;

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::identity::{Credential, Identity};
use super::ids::IdentityId;
use super::proof::ProofTerms;
use super::resource::RotationRule;

/// Why an identity's credential is to be replaced or taken away, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DueReason {
    Compromised,
    Expiring,
    MaxAge,
    OwnerLeft,
    PolicyChanged,
    Requested,
}

impl DueReason {
    pub const ALL: [Self; 6] = [
        Self::Compromised,
        Self::Expiring,
        Self::MaxAge,
        Self::OwnerLeft,
        Self::PolicyChanged,
        Self::Requested,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Compromised => "compromised",
            Self::Expiring => "expiring",
            Self::MaxAge => "max_age",
            Self::OwnerLeft => "owner_left",
            Self::PolicyChanged => "policy_changed",
            Self::Requested => "requested",
        }
    }
}

/// Due for longer than this is overdue.
pub const GRACE: SignedDuration = SignedDuration::from_hours(1);

/// A rotation rule that cannot be followed. Found when a manifest is planned, never in the night.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRule {
    #[error("give exactly one of `every` and `cron`")]
    PeriodAndCron,
    #[error("`every` must be longer than zero")]
    NotPositive,
    #[error("`cron` is not a schedule of 5 or 6 fields: {why}")]
    Cron { why: String },
    #[error("`zone` is not a time zone known here: {zone}; use an IANA name such as Europe/Berlin")]
    Zone { zone: String },
    #[error("`spreadPercent` must be 0 to 50")]
    Spread,
    #[error("`zone` is only of use with `cron`")]
    ZoneWithoutCron,
}

/// When, and why.
pub type Due = (Timestamp, DueReason);

/// A policy's rule with the length of what it sets off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueTerms<'a> {
    pub rotation: &'a RotationRule,
    /// Overlap, settling and probing: how long a rotation takes until the old credential is proven dead.
    pub takes: SignedDuration,
    /// What a change of the rule makes due for many at once is spread over this.
    pub window: SignedDuration,
}

impl<'a> DueTerms<'a> {
    #[must_use]
    pub fn new(rotation: &'a RotationRule, overlap: SignedDuration, proof: &ProofTerms) -> Self {
        Self {
            rotation,
            takes: proof.takes(overlap),
            window: SignedDuration::ZERO,
        }
    }

    #[must_use]
    pub fn spread_over(self, window: SignedDuration) -> Self {
        Self { window, ..self }
    }
}

/// What the rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueFacts {
    pub identity: IdentityId,
    /// When the current credential became current.
    pub current_since: Timestamp,
    pub compromised_at: Option<Timestamp>,
    pub owner_left_at: Option<Timestamp>,
    /// A change of policy brought the age's due time forward; it is not due before the change.
    pub policy_changed_at: Option<Timestamp>,
    pub requested_at: Option<Timestamp>,
    /// The end of the credential's own validity downstream, if it has one.
    pub credential_expires: Option<Timestamp>,
    /// The end of the identity's registration; a rotation does not move it.
    pub identity_expires: Option<Timestamp>,
}

impl DueFacts {
    /// Of a credential that has just become current: whatever was to be done about the one before it is done.
    #[must_use]
    pub fn fresh(identity: IdentityId, current_since: Timestamp) -> Self {
        Self {
            identity,
            current_since,
            compromised_at: None,
            owner_left_at: None,
            policy_changed_at: None,
            requested_at: None,
            credential_expires: None,
            identity_expires: None,
        }
    }

    /// Of an identity as it is registered, with what still stands of the due time that is stored.
    #[must_use]
    pub fn standing(identity: &Identity, current: &Credential) -> Self {
        let mut facts = Self::fresh(identity.id, current.proven_at.unwrap_or(current.created_at));
        facts.credential_expires = current.expires_at;
        facts.identity_expires = own_end(identity);
        if let Some((at, reason)) = identity.due {
            match reason {
                DueReason::Compromised => facts.compromised_at = Some(at),
                DueReason::OwnerLeft => facts.owner_left_at = Some(at),
                DueReason::Requested => facts.requested_at = Some(at),
                // These follow from the rule and from what is known of the credential, whatever was stored.
                DueReason::Expiring | DueReason::MaxAge | DueReason::PolicyChanged => {}
            }
        }
        facts
    }
}

/// When the identity's registration ends; the engine itself renews Keyfall's own control identities.
#[must_use]
pub fn own_end(identity: &Identity) -> Option<Timestamp> {
    (!identity.is_control).then_some(identity.spec.expires)
}

/// Checks a rule without any facts.
///
/// # Errors
/// When it can never be followed.
pub fn check_rule(rule: &RotationRule) -> Result<(), BadRule> {
    if rule.spread_percent > 50 {
        return Err(BadRule::Spread);
    }
    match (&rule.every, &rule.cron) {
        (Some(every), None) if !every.is_positive() => Err(BadRule::NotPositive),
        (Some(_), None) if rule.zone.is_some() => Err(BadRule::ZoneWithoutCron),
        (Some(_), None) => Ok(()),
        (None, Some(cron)) => {
            let zone = zone_of(rule)?;
            let parsed = parse_cron(cron)?;
            let start = Timestamp::UNIX_EPOCH.to_zoned(zone);
            parsed
                .find_next_occurrence(&start, false)
                .map(drop)
                .map_err(|error| BadRule::Cron { why: error.to_string() })
        }
        _ => Err(BadRule::PeriodAndCron),
    }
}

/// When and why. Without terms no policy rotates the identity, and only what a person asked for stands.
///
/// # Errors
/// When the rule cannot be followed.
pub fn due_of(terms: Option<DueTerms<'_>>, facts: &DueFacts) -> Result<Option<Due>, BadRule> {
    match terms {
        Some(terms) => next_due(terms, facts).map(Some),
        None => Ok(earliest(&[
            (facts.compromised_at, DueReason::Compromised),
            (facts.requested_at, DueReason::Requested),
        ])),
    }
}

/// The earliest instant of all rules, and whose it is; the strongest reason wins a tie. A compromise is never hidden behind a rule that happens
/// to come earlier.
fn next_due(terms: DueTerms<'_>, facts: &DueFacts) -> Result<Due, BadRule> {
    let age = age_due(terms, facts)?;
    let by_age = match facts.policy_changed_at {
        Some(changed_at) => (age.max(changed_at), DueReason::PolicyChanged),
        None => (age, DueReason::MaxAge),
    };
    let others = earliest(&[
        (facts.compromised_at, DueReason::Compromised),
        (expiring_due(terms.takes, facts), DueReason::Expiring),
        (facts.identity_expires, DueReason::Expiring),
        (facts.owner_left_at, DueReason::OwnerLeft),
        (facts.requested_at, DueReason::Requested),
    ]);
    let (at, reason) = others.map_or(by_age, |other| other.min(by_age));
    let is_compromised = facts.compromised_at.is_some();
    Ok((at, if is_compromised { DueReason::Compromised } else { reason }))
}

fn earliest(chain: &[(Option<Timestamp>, DueReason)]) -> Option<Due> {
    chain.iter().filter_map(|(at, reason)| at.map(|at| (at, *reason))).min()
}

fn age_due(terms: DueTerms<'_>, facts: &DueFacts) -> Result<Timestamp, BadRule> {
    let periodic = periodic_due(terms.rotation, facts)?;
    let Some(age) = terms.rotation.max_effective_age else {
        return Ok(periodic);
    };
    let until = facts.current_since.saturating_add(age).unwrap_or(Timestamp::MAX);
    let oldest = until.saturating_sub(terms.takes).unwrap_or(facts.current_since);
    Ok(oldest.max(facts.current_since).min(periodic))
}

/// Early enough for the rotation to end before the credential does. A life too short for that is left to its end: where a rotation does not
/// move the end, trying again and again would not either.
fn expiring_due(takes: SignedDuration, facts: &DueFacts) -> Option<Timestamp> {
    let end = facts.credential_expires.filter(|end| *end > facts.current_since)?;
    let early = end.saturating_sub(takes).unwrap_or(facts.current_since);
    let first = facts.current_since.saturating_add(takes).unwrap_or(Timestamp::MAX);
    Some(if early >= first { early } else { end })
}

/// The due time under the rule that holds from `now` on, given the rule that held before. What did not change keeps the stored time, and with
/// it the back-off after a rotation that was taken back.
///
/// # Errors
/// When the rule cannot be followed.
pub fn rescheduled(
    stored: Option<Due>,
    before: (Option<DueTerms<'_>>, &DueFacts),
    after: (Option<DueTerms<'_>>, &DueFacts),
    now: Timestamp,
) -> Result<Option<Due>, BadRule> {
    // A rule that could not be followed made nothing due.
    let old = due_of(before.0, before.1).unwrap_or(None);
    let new = due_of(after.0, after.1)?;
    if old == new && stored.is_some() {
        return Ok(stored);
    }
    let Some((at, DueReason::MaxAge)) = new else {
        return Ok(new);
    };
    let brought_forward = stored.filter(|(_, reason)| *reason == DueReason::PolicyChanged);
    let is_earlier = old.map_or(at <= now, |(old, _)| at < old);
    if is_earlier || brought_forward.is_some_and(|(stored, _)| at <= stored) {
        // What is over at once is over for all identities of the policy: each has a place of its own, which a further change never moves back.
        let window = after.0.map_or(SignedDuration::ZERO, |terms| terms.window);
        let first = if at > now {
            now
        } else {
            place_in(window, now, after.1.identity)
        };
        let changed_at = brought_forward.map_or(first, |(stored, _)| stored.min(first));
        let facts = DueFacts {
            policy_changed_at: Some(changed_at),
            ..*after.1
        };
        return due_of(after.0, &facts);
    }
    Ok(new)
}

/// Due by `at` for another reason. What is due earlier stays so, and a compromise keeps its name.
#[must_use]
pub fn sooner(stored: Option<Due>, at: Timestamp, reason: DueReason) -> Due {
    let Some((stored_at, stored_reason)) = stored else {
        return (at, reason);
    };
    let is_compromised = stored_reason == DueReason::Compromised;
    let (at, reason) = (stored_at, stored_reason).min((at, reason));
    (at, if is_compromised { DueReason::Compromised } else { reason })
}

/// When a rotation that was taken back comes again, and why: at `at`, and with the stronger reason where it was due for another one as well.
#[must_use]
pub fn returning(stored: Option<Due>, at: Timestamp, reason: DueReason) -> Due {
    let stronger = stored.filter(|(stored, why)| *stored <= at || *why == DueReason::Compromised);
    (at, stronger.map_or(reason, |(_, why)| why.min(reason)))
}

fn periodic_due(rule: &RotationRule, facts: &DueFacts) -> Result<Timestamp, BadRule> {
    check_spread(rule)?;
    match (&rule.every, &rule.cron) {
        (Some(every), None) => {
            let spread = share_of(*every, rule.spread_percent, facts.identity);
            // Earlier, never later: a spread must not make a credential older than its policy allows.
            Ok(facts
                .current_since
                .saturating_add(every.saturating_sub(spread))
                .unwrap_or(Timestamp::MAX))
        }
        (None, Some(cron)) => {
            let cron = parse_cron(cron)?;
            let unmet = |error: croner::errors::CronError| BadRule::Cron { why: error.to_string() };
            let since = facts.current_since.to_zoned(zone_of(rule)?);
            let first = cron.find_next_occurrence(&since, false).map_err(unmet)?;
            if rule.spread_percent == 0 {
                return Ok(first.timestamp());
            }
            let second = cron.find_next_occurrence(&first, false).map_err(unmet)?;
            let spread = share_of(
                second.timestamp().duration_since(first.timestamp()),
                rule.spread_percent,
                facts.identity,
            );
            Ok(first.timestamp().saturating_add(spread).unwrap_or(Timestamp::MAX))
        }
        _ => Err(BadRule::PeriodAndCron),
    }
}

fn check_spread(rule: &RotationRule) -> Result<(), BadRule> {
    if rule.spread_percent > 50 {
        Err(BadRule::Spread)
    } else {
        Ok(())
    }
}

fn zone_of(rule: &RotationRule) -> Result<TimeZone, BadRule> {
    match &rule.zone {
        None => Ok(TimeZone::UTC),
        Some(zone) => TimeZone::get(zone).map_err(|_| BadRule::Zone { zone: zone.clone() }),
    }
}

fn parse_cron(text: &str) -> Result<Cron, BadRule> {
    Cron::from_str(text).map_err(|error| BadRule::Cron { why: error.to_string() })
}

/// The identity's own instant in the window that begins at `from`: never before it, even over identities, the same for ever.
#[must_use]
pub fn place_in(window: SignedDuration, from: Timestamp, identity: IdentityId) -> Timestamp {
    let place = share_of(window.max(SignedDuration::ZERO), 100, identity);
    // The store keeps microseconds.
    let place = SignedDuration::from_micros_i128(place.as_micros());
    from.saturating_add(place).unwrap_or(from)
}

/// The identity's own place inside `percent` of a length, even over identities and the same for ever.
fn share_of(length: SignedDuration, percent: u8, identity: IdentityId) -> SignedDuration {
    let digest = Digest::of(identity.as_uuid().as_bytes());
    let [a, b, c, d, ..] = digest.0;
    let place = i128::from(u32::from_be_bytes([a, b, c, d]));
    let nanos = length
        .as_nanos()
        .saturating_mul(i128::from(percent))
        .saturating_mul(place)
        / 100
        / i128::from(u32::MAX);
    SignedDuration::from_nanos_i128(nanos)
}

#[cfg(test)]
#[path = "due_tests.rs"]
mod tests;
