//! Which policy holds for an identity. Pure, and the same everywhere: what is planned, what is due and what is budgeted ask here.

use super::identity::Identity;
use super::resource::{PolicySpec, Selector};

/// All given conditions hold. An empty selector holds for nothing.
#[must_use]
pub fn selects(selector: &Selector, identity: &Identity) -> bool {
    let spec = &identity.spec;
    let named = |wanted: &[String], is: &str| wanted.is_empty() || wanted.iter().any(|one| one == is);
    conditions(selector) > 0
        && named(&selector.environments, &spec.environment)
        && named(&selector.systems, &spec.system)
        && named(&selector.identities, &identity.name)
        && (selector.kinds.is_empty() || selector.kinds.contains(&spec.kind))
        && selector
            .labels
            .iter()
            .all(|(key, value)| identity.labels.get(key) == Some(value))
}

/// The policy that holds: of those that select the identity, one that names it; then the one with the most conditions; then the first by
/// name. So adding a policy for one identity overrules the policy of its environment, and the order of files decides nothing.
#[must_use]
pub fn policy_for<'a>(
    policies: impl IntoIterator<Item = (&'a str, &'a PolicySpec)>,
    identity: &Identity,
) -> Option<(&'a str, &'a PolicySpec)> {
    policies
        .into_iter()
        .filter(|(_, policy)| selects(&policy.selector, identity))
        .min_by_key(|(name, policy)| (rank(policy), *name))
}

/// Two policies that select the identity with equal right and ask for different things: the one that holds, by nothing but its name, and the
/// other. Such an identity is not rotated without a person.
#[must_use]
pub fn conflict_for<'a>(
    policies: impl IntoIterator<Item = (&'a str, &'a PolicySpec)> + Clone,
    identity: &Identity,
) -> Option<(&'a str, &'a str)> {
    let (name, holding) = policy_for(policies.clone(), identity)?;
    let contradicts = |(_, other): &(&str, &PolicySpec)| {
        selects(&other.selector, identity) && rank(other) == rank(holding) && demands(other) != demands(holding)
    };
    let (other, _) = policies.into_iter().find(contradicts)?;
    Some((name, other))
}

/// The lowest holds.
fn rank(policy: &PolicySpec) -> (bool, std::cmp::Reverse<usize>) {
    let by_name = policy.selector.identities.is_empty();
    (by_name, std::cmp::Reverse(conditions(&policy.selector)))
}

/// What a policy asks for: whose it is, whom it selects and what it rests on are not that.
fn demands(policy: &PolicySpec) -> PolicySpec {
    PolicySpec {
        owner: String::new(),
        selector: Selector::default(),
        risk_analysis: None,
        ..policy.clone()
    }
}

fn conditions(selector: &Selector) -> usize {
    let lists = [
        selector.environments.is_empty(),
        selector.systems.is_empty(),
        selector.kinds.is_empty(),
        selector.identities.is_empty(),
    ];
    lists.into_iter().filter(|is_empty| !is_empty).count() + selector.labels.len()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::{SignedDuration, Timestamp};
    use uuid::Uuid;

    use super::{conflict_for, policy_for, selects};
    use crate::domain::identity::{Identity, IdentityState};
    use crate::domain::ids::IdentityId;
    use crate::domain::resource::{IdentityKind, PolicySpec, Selector};

    fn identity() -> Identity {
        let spec = serde_json::json!({
            "kind": "database_user", "system": "orders-db", "environment": "prod", "owner": "team-a",
            "expires": "2030-01-01T00:00:00Z", "account": "app",
        });
        Identity {
            id: IdentityId::from_uuid(Uuid::from_u128(1)),
            name: "orders-app".to_owned(),
            version: 1,
            labels: BTreeMap::from([("tier".to_owned(), "one".to_owned())]),
            spec: serde_json::from_value(spec).unwrap(),
            state: IdentityState::Active,
            current: None,
            due: None,
            is_control: false,
            approved: None,
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn policy(selector: Selector) -> PolicySpec {
        let mut policy: PolicySpec =
            serde_json::from_value(serde_json::json!({"owner": "team-a", "rotation": {}})).unwrap();
        policy.overlap = SignedDuration::ZERO;
        policy.selector = selector;
        policy
    }

    #[test]
    fn an_empty_selector_holds_for_nothing_and_one_wrong_condition_is_enough() {
        assert!(!selects(&Selector::default(), &identity()));
        let mut selector = Selector {
            environments: vec!["prod".to_owned()],
            ..Selector::default()
        };
        assert!(selects(&selector, &identity()));
        selector.kinds = vec![IdentityKind::Bot];
        assert!(!selects(&selector, &identity()));
    }

    #[test]
    fn the_policy_that_names_the_identity_beats_the_one_with_more_conditions() {
        let broad = policy(Selector {
            environments: vec!["prod".to_owned()],
            systems: vec!["orders-db".to_owned()],
            labels: BTreeMap::from([("tier".to_owned(), "one".to_owned())]),
            ..Selector::default()
        });
        let narrow = policy(Selector {
            environments: vec!["prod".to_owned()],
            ..Selector::default()
        });
        let own = policy(Selector {
            identities: vec!["orders-app".to_owned()],
            ..Selector::default()
        });
        let all = [("b-narrow", &narrow), ("a-broad", &broad), ("z-own", &own)];
        assert_eq!(policy_for(all, &identity()).map(|(name, _)| name), Some("z-own"));
        let some = [("a-narrow", &narrow), ("b-broad", &broad)];
        assert_eq!(policy_for(some, &identity()).map(|(name, _)| name), Some("b-broad"));
    }

    #[test]
    fn equal_right_and_other_demands_are_a_conflict() {
        let one = policy(Selector {
            environments: vec!["prod".to_owned()],
            ..Selector::default()
        });
        let mut two = policy(Selector {
            systems: vec!["orders-db".to_owned()],
            ..Selector::default()
        });
        assert_eq!(
            conflict_for([("one", &one), ("two", &two)], &identity()),
            None,
            "they agree"
        );
        two.overlap = SignedDuration::from_hours(1);
        let both = [("two", &two), ("one", &one)];
        assert_eq!(conflict_for(both, &identity()), Some(("one", "two")));
        let own = policy(Selector {
            identities: vec!["orders-app".to_owned()],
            ..Selector::default()
        });
        let settled = [("one", &one), ("two", &two), ("own", &own)];
        assert_eq!(conflict_for(settled, &identity()), None, "a policy of its own decides");
    }
}
