//! Each rule of a due time by its cases, and what a change of policy makes of it. Knows no store and no engine.

use super::{
    BadRule, Due, DueFacts, DueReason, DueTerms, check_rule, due_of, place_in, rescheduled, returning, sooner,
};
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

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn facts(since: &str) -> DueFacts {
    DueFacts::fresh(IdentityId::from_uuid(Uuid::from_u128(1)), at(since))
}

fn terms(rotation: &RotationRule) -> DueTerms<'_> {
    DueTerms {
        rotation,
        takes: SignedDuration::from_mins(10),
        window: SignedDuration::ZERO,
    }
}

fn due(rule: &RotationRule, facts: &DueFacts) -> Due {
    due_of(Some(terms(rule)), facts).unwrap().unwrap()
}

#[track_caller]
fn check(rule: &RotationRule, facts: &DueFacts, at: &str, reason: DueReason) {
    assert_eq!(due(rule, facts), (at.parse().unwrap(), reason));
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
        let (at, _) = due(&spread, &one);
        assert_eq!(due(&spread, &one).0, at);
        let age = at.duration_since(since);
        assert!(
            age >= SignedDuration::from_hours(50) && age <= SignedDuration::from_hours(100),
            "{age}"
        );
        seen.insert(at);
    }
    assert!(seen.len() > 60);
}

/// The facts from which each reason follows. A reason that nothing gives does not compile here.
fn reason_for(reason: DueReason) -> DueFacts {
    let mut facts = facts("2026-01-01T00:00:00Z");
    let early = Some(at("2026-01-01T03:00:00Z"));
    match reason {
        DueReason::Compromised => facts.compromised_at = early,
        DueReason::Expiring => facts.credential_expires = early,
        DueReason::MaxAge => {}
        DueReason::OwnerLeft => facts.owner_left_at = early,
        DueReason::PolicyChanged => facts.policy_changed_at = early,
        DueReason::Requested => facts.requested_at = early,
    }
    facts
}

#[test]
fn every_reason_is_given_by_a_fact() {
    for reason in DueReason::ALL {
        assert_eq!(due(&rule(Some("24h"), None), &reason_for(reason)).1, reason);
    }
}

#[test]
fn a_compromise_keeps_its_name_also_when_another_rule_comes_earlier() {
    let mut leaked = reason_for(DueReason::Compromised);
    leaked.owner_left_at = Some(at("2026-01-01T01:00:00Z"));
    check(
        &rule(Some("24h"), None),
        &leaked,
        "2026-01-01T01:00:00Z",
        DueReason::Compromised,
    );
}

#[test]
fn without_a_policy_only_what_a_person_asked_for_stands() {
    for reason in DueReason::ALL {
        let stands = matches!(reason, DueReason::Compromised | DueReason::Requested);
        let due = due_of(None, &reason_for(reason)).unwrap();
        assert_eq!(due.is_some_and(|(_, given)| given == reason), stands, "{reason:?}");
        assert_eq!(due.is_some(), stands, "{reason:?}");
    }
}

#[test]
fn a_credential_that_ends_by_itself_is_replaced_before_it_does() {
    let mut ending = facts("2026-01-01T00:00:00Z");
    ending.credential_expires = Some(at("2026-01-01T12:00:00Z"));
    let daily = rule(Some("24h"), None);
    check(&daily, &ending, "2026-01-01T11:50:00Z", DueReason::Expiring);
    // A rotation that did not move the end leaves too little of it for another one.
    ending.current_since = at("2026-01-01T11:51:00Z");
    check(&daily, &ending, "2026-01-01T12:00:00Z", DueReason::Expiring);
    ending.current_since = at("2026-01-01T12:01:00Z");
    check(&daily, &ending, "2026-01-02T12:01:00Z", DueReason::MaxAge);
}

#[test]
fn an_identity_is_looked_at_when_its_registration_ends() {
    let mut ending = facts("2026-01-01T00:00:00Z");
    ending.identity_expires = Some(at("2026-01-01T12:00:00Z"));
    check(
        &rule(Some("24h"), None),
        &ending,
        "2026-01-01T12:00:00Z",
        DueReason::Expiring,
    );
}

#[test]
fn a_change_of_policy_that_brings_the_due_time_forward_is_its_reason() {
    let current = facts("2026-01-01T00:00:00Z");
    let (monthly, daily) = (rule(Some("720h"), None), rule(Some("24h"), None));
    let change = |stored: Option<Due>, before: Option<&RotationRule>, after: Option<&RotationRule>, now: &str| {
        let (before, after) = (before.map(terms), after.map(terms));
        rescheduled(stored, (before, &current), (after, &current), at(now)).unwrap()
    };
    let aged = |text: &str| Some((at(text), DueReason::MaxAge));
    let changed = |text: &str| Some((at(text), DueReason::PolicyChanged));
    let month = aged("2026-01-31T00:00:00Z");
    let day = "2026-01-02T00:00:00Z";
    let early = change(month, Some(&monthly), Some(&daily), "2026-01-01T06:00:00Z");
    assert_eq!(early, changed(day));
    // Never due before the change was made, or it would be overdue at once.
    let late = change(month, Some(&monthly), Some(&daily), "2026-01-10T00:00:00Z");
    assert_eq!(late, changed("2026-01-10T00:00:00Z"));
    // The same again changes nothing, and neither does one that gives more time undo what it should not.
    assert_eq!(change(late, Some(&daily), Some(&daily), "2026-01-11T00:00:00Z"), late);
    assert_eq!(
        change(late, Some(&daily), Some(&monthly), "2026-01-11T00:00:00Z"),
        month
    );
    let half = rule(Some("12h"), None);
    assert_eq!(change(late, Some(&daily), Some(&half), "2026-01-11T00:00:00Z"), late);
    // Under its first policy, an identity is due by its age, unless that is over.
    assert_eq!(change(None, None, Some(&monthly), "2026-01-01T06:00:00Z"), month);
    assert_eq!(
        change(None, None, Some(&daily), "2026-01-10T00:00:00Z"),
        changed("2026-01-10T00:00:00Z")
    );
    assert_eq!(change(month, Some(&monthly), None, "2026-01-10T00:00:00Z"), None);
}

/// Row 35.
#[test]
fn what_a_change_of_policy_makes_due_at_once_is_spread_over_its_window() {
    let window = SignedDuration::from_hours(2);
    let (monthly, daily, hourly) = (
        rule(Some("720h"), None),
        rule(Some("24h"), None),
        rule(Some("1h"), None),
    );
    let now = at("2026-01-10T00:00:00Z");
    let month = Some((at("2026-01-31T00:00:00Z"), DueReason::MaxAge));
    let mut places = std::collections::BTreeSet::new();
    for number in 0..1_000 {
        let mut one = facts("2026-01-01T00:00:00Z");
        one.identity = IdentityId::from_uuid(Uuid::from_u128(number));
        let change = |stored: Option<Due>, before: &RotationRule, after: &RotationRule, now: Timestamp| {
            let [before, after] = [before, after].map(|rule| Some(terms(rule).spread_over(window)));
            rescheduled(stored, (before, &one), (after, &one), now)
                .unwrap()
                .unwrap()
        };
        let (first, reason) = change(month, &monthly, &daily, now);
        assert_eq!(reason, DueReason::PolicyChanged);
        assert!(first >= now && first <= now + window, "{first}");
        assert_eq!(first, place_in(window, now, one.identity));
        places.insert(first);
        // A further change never moves it back, however often there is one.
        let stored = Some((first, reason));
        let later = now + SignedDuration::from_mins(1);
        assert_eq!(change(stored, &daily, &hourly, later), (first, reason));
        // What is not over yet keeps the place that its age gives it.
        let early = at("2026-01-01T12:00:00Z");
        let by_age = (at("2026-01-02T00:00:00Z"), DueReason::PolicyChanged);
        assert_eq!(change(month, &monthly, &daily, early), by_age);
        // A compromise waits for nobody.
        one.compromised_at = Some(now);
        let [before, after] = [&monthly, &daily].map(|rule| Some(terms(rule).spread_over(window)));
        let leaked = rescheduled(month, (before, &one), (after, &one), now).unwrap();
        assert!(
            leaked.is_some_and(|(at, why)| at <= now && why == DueReason::Compromised),
            "{leaked:?}"
        );
    }
    assert!(places.len() > 990, "{}", places.len());
}

#[test]
fn a_change_that_changes_nothing_keeps_the_back_off() {
    let current = facts("2026-01-01T00:00:00Z");
    let daily = rule(Some("24h"), None);
    let stored = Some((at("2026-01-02T00:15:00Z"), DueReason::MaxAge));
    let kept = rescheduled(
        stored,
        (Some(terms(&daily)), &current),
        (Some(terms(&daily)), &current),
        at("2026-01-02T00:05:00Z"),
    );
    assert_eq!(kept, Ok(stored));
}

#[test]
fn what_is_due_for_two_reasons_is_due_for_the_earlier_and_returns_with_the_stronger() {
    let (one, two) = (at("2026-01-01T01:00:00Z"), at("2026-01-01T02:00:00Z"));
    let (left, age, leaked) = (DueReason::OwnerLeft, DueReason::MaxAge, DueReason::Compromised);
    assert_eq!(sooner(None, one, left), (one, left));
    assert_eq!(sooner(Some((two, age)), one, left), (one, left));
    assert_eq!(sooner(Some((one, age)), two, left), (one, age));
    assert_eq!(sooner(Some((two, leaked)), one, left), (one, leaked));
    assert_eq!(returning(None, two, DueReason::Requested), (two, DueReason::Requested));
    assert_eq!(returning(Some((one, age)), two, left), (two, age));
    assert_eq!(returning(Some((two, age)), one, left), (one, left));
    assert_eq!(returning(Some((two, leaked)), one, left), (one, leaked));
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
