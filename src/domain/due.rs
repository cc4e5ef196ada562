//! When a credential is due, and why: a chain of pure rules over facts, the first of which that holds gives the reason.
//!
//! The due time is computed once, when a credential becomes current or a policy changes, and stored. Nothing is drawn at evaluation: the
//! spread comes from the identity's id, so that the same facts always give the same instant.

use std::str::FromStr;

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::ids::IdentityId;
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

/// What the rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueFacts {
    pub identity: IdentityId,
    /// When the current credential became current.
    pub current_since: Timestamp,
    pub compromised_at: Option<Timestamp>,
    pub owner_left_at: Option<Timestamp>,
    pub policy_changed_at: Option<Timestamp>,
    pub requested_at: Option<Timestamp>,
    /// The end of the credential's own validity downstream, if it has one.
    pub credential_expires: Option<Timestamp>,
    /// Overlap, settling and probing: how long a rotation takes until the old credential is proven dead.
    pub takes: SignedDuration,
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

/// When and why, the first rule that gives an instant not later than the period's. The strongest reason wins a tie.
///
/// # Errors
/// When the rule cannot be followed.
pub fn next_due(rule: &RotationRule, facts: &DueFacts) -> Result<(Timestamp, DueReason), BadRule> {
    let periodic = periodic_due(rule, facts)?;
    let oldest = rule.max_effective_age.map(|age| {
        let until = facts.current_since.saturating_add(age).unwrap_or(Timestamp::MAX);
        until
            .saturating_sub(facts.takes)
            .unwrap_or(facts.current_since)
            .max(facts.current_since)
    });
    let expiring = facts
        .credential_expires
        .map(|at| at.saturating_sub(facts.takes).unwrap_or(facts.current_since));
    let chain = [
        (facts.compromised_at, DueReason::Compromised),
        (expiring, DueReason::Expiring),
        (
            Some(oldest.map_or(periodic, |oldest| oldest.min(periodic))),
            DueReason::MaxAge,
        ),
        (facts.owner_left_at, DueReason::OwnerLeft),
        (facts.policy_changed_at, DueReason::PolicyChanged),
        (facts.requested_at, DueReason::Requested),
    ];
    let first = chain
        .into_iter()
        .filter_map(|(at, reason)| at.map(|at| (at, reason)))
        .min();
    Ok(first.unwrap_or((periodic, DueReason::MaxAge)))
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
mod tests {
    use super::{BadRule, DueFacts, DueReason, check_rule, next_due};
    use crate::domain::ids::IdentityId;
    use crate::domain::resource::RotationRule;
    use jiff::{SignedDuration, Timestamp};
    use uuid::Uuid;

    fn rule(every: Option<&str>, cron: Option<&str>) -> RotationRule {
        RotationRule {
            every: every.map(|text| text.parse().unwrap()),
            cron: cron.map(str::to_owned),
            zone: None,
            spread_percent: 0,
            max_effective_age: None,
        }
    }

    fn facts(since: &str) -> DueFacts {
        DueFacts {
            identity: IdentityId::from_uuid(Uuid::from_u128(1)),
            current_since: since.parse().unwrap(),
            compromised_at: None,
            owner_left_at: None,
            policy_changed_at: None,
            requested_at: None,
            credential_expires: None,
            takes: SignedDuration::from_mins(10),
        }
    }

    #[track_caller]
    fn check(rule: &RotationRule, facts: &DueFacts, at: &str, reason: DueReason) {
        assert_eq!(next_due(rule, facts), Ok((at.parse().unwrap(), reason)));
    }

    #[test]
    fn a_period_counts_from_when_the_credential_became_current() {
        check(
            &rule(Some("24h"), None),
            &facts("2026-01-01T00:00:00Z"),
            "2026-01-02T00:00:00Z",
            DueReason::MaxAge,
        );
    }

    #[test]
    fn a_cron_rule_is_read_in_its_zone() {
        let mut berlin = rule(None, Some("10 3 * * *"));
        berlin.zone = Some("Europe/Berlin".to_owned());
        check(
            &berlin,
            &facts("2026-07-01T00:00:00Z"),
            "2026-07-01T01:10:00Z",
            DueReason::MaxAge,
        );
        check(
            &berlin,
            &facts("2026-12-01T00:00:00Z"),
            "2026-12-01T02:10:00Z",
            DueReason::MaxAge,
        );
    }

    #[test]
    fn the_effective_age_bound_leaves_time_for_the_proof() {
        let mut bounded = rule(Some("24h"), None);
        bounded.max_effective_age = Some(SignedDuration::from_hours(12));
        check(
            &bounded,
            &facts("2026-01-01T00:00:00Z"),
            "2026-01-01T11:50:00Z",
            DueReason::MaxAge,
        );
    }

    #[test]
    fn the_earliest_rule_wins_and_names_itself() {
        let mut leaked = facts("2026-01-01T00:00:00Z");
        leaked.requested_at = Some("2026-01-01T02:00:00Z".parse().unwrap());
        leaked.compromised_at = Some("2026-01-01T01:00:00Z".parse().unwrap());
        check(
            &rule(Some("24h"), None),
            &leaked,
            "2026-01-01T01:00:00Z",
            DueReason::Compromised,
        );
    }

    #[test]
    fn a_spread_is_earlier_never_later_and_the_same_each_time() {
        let mut spread = rule(Some("100h"), None);
        spread.spread_percent = 50;
        let since: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..64 {
            let mut one = facts("2026-01-01T00:00:00Z");
            one.identity = IdentityId::from_uuid(Uuid::from_u128(number));
            let (at, _) = next_due(&spread, &one).unwrap();
            assert_eq!(next_due(&spread, &one).unwrap().0, at);
            let age = at.duration_since(since);
            assert!(
                age >= SignedDuration::from_hours(50) && age <= SignedDuration::from_hours(100),
                "{age}"
            );
            seen.insert(at);
        }
        assert!(seen.len() > 60);
    }

    #[test]
    fn rules_that_cannot_be_followed_are_refused() {
        assert_eq!(check_rule(&rule(None, None)), Err(BadRule::PeriodAndCron));
        assert_eq!(
            check_rule(&rule(Some("1h"), Some("* * * * *"))),
            Err(BadRule::PeriodAndCron)
        );
        assert_eq!(check_rule(&rule(Some("0s"), None)), Err(BadRule::NotPositive));
        assert!(matches!(
            check_rule(&rule(None, Some("61 * * * *"))),
            Err(BadRule::Cron { .. })
        ));
        assert!(matches!(
            check_rule(&rule(None, Some("0 0 30 2 *"))),
            Err(BadRule::Cron { .. })
        ));
        let mut nowhere = rule(None, Some("0 3 * * *"));
        nowhere.zone = Some("Mars/Olympus".to_owned());
        assert!(matches!(check_rule(&nowhere), Err(BadRule::Zone { .. })));
    }
}
