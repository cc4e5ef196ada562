//! What a changed manifest of a living identity asks for downstream: whatever its account holds comes with a rotation, so the plan opens one.
//! Pure; it knows no store and no connector.

use std::collections::BTreeSet;

use crate::domain::identity::{Identity, IdentityState};
use crate::domain::plan::Action;
use crate::domain::resource::IdentitySpec;

/// What goes into the plan beside the change itself.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Following {
    pub(super) action: Option<Action>,
    pub(super) consequences: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// `busy`: a run of it is under way, which goes on by the manifest that it began with.
pub(super) fn following(before: &Identity, after: &IdentitySpec, busy: bool) -> Following {
    let mut found = Following::default();
    if before.state != IdentityState::Active || before.current.is_none() {
        return found;
    }
    let (name, spec) = (&before.name, &before.spec);
    let has_other_access = spec.access != after.access;
    if has_other_access {
        found.consequences.push(format!(
            "{}: what the accounts of {name} may do follows `access`, and is read back",
            spec.system
        ));
        found.warnings.push(format!(
            "identity {name}: a right that `access` names no more may stay where the system only adds (PostgreSQL memberships); \
             the run's record lists what its accounts may do afterwards"
        ));
    }
    let has_other_places = spec.deliver_to != after.deliver_to;
    if has_other_places {
        found.consequences.extend(places(name, spec, after));
        found.warnings.extend(left_behind(name, spec, after));
    }
    if spec.consumers != after.consumers {
        found.consequences.push(format!(
            "{name}: from its next rotation on, the consumers of the changed list are waited for"
        ));
    }
    if !(has_other_access || has_other_places) {
        return found;
    }
    if busy {
        found.warnings.push(format!(
            "identity {name}: a run of it is under way and keeps to the former manifest; run `keyfall rotate {name}` when it has closed"
        ));
        return found;
    }
    found.consequences.push(format!(
        "{name}: is rotated at once, which brings the change downstream"
    ));
    found.action = Some(Action::Rotate {
        identity: before.id,
        name: name.clone(),
        exception: None,
    });
    found
}

fn names(spec: &IdentitySpec) -> BTreeSet<&str> {
    spec.deliver_to.iter().map(|one| one.destination.as_str()).collect()
}

fn places(name: &str, before: &IdentitySpec, after: &IdentitySpec) -> Option<String> {
    let kept = names(before);
    let added: Vec<_> = after
        .deliver_to
        .iter()
        .filter(|one| !before.deliver_to.contains(one))
        .map(|one| match kept.contains(one.destination.as_str()) {
            true => format!("{} (at another place)", one.destination),
            false => one.destination.clone(),
        })
        .collect();
    (!added.is_empty()).then(|| format!("{name}: its secret is delivered to {}", added.join(", ")))
}

fn left_behind(name: &str, before: &IdentitySpec, after: &IdentitySpec) -> Option<String> {
    let gone: Vec<_> = before
        .deliver_to
        .iter()
        .filter(|one| !after.deliver_to.contains(one))
        .map(|one| one.destination.as_str())
        .collect();
    (!gone.is_empty()).then(|| {
        format!(
            "identity {name}: what was delivered to {} before stays there and is not updated any more; its credential dies with \
             the rotation, so whoever still reads it there loses access. Remove it by hand",
            gone.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::{Action, Identity, IdentitySpec, IdentityState, following};
    use crate::domain::ids::{CredentialId, IdentityId};

    fn spec(part: &Value) -> IdentitySpec {
        let mut all = json!({
            "kind": "database_user", "system": "db", "environment": "test", "owner": "team",
            "expires": "2099-01-01T00:00:00Z", "account": "app",
            "deliverTo": [{ "destination": "files", "target": { "path": "a" } }],
        });
        for (key, value) in part.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        serde_json::from_value(all).unwrap()
    }

    fn living(state: IdentityState) -> Identity {
        Identity {
            id: IdentityId::from_uuid(Uuid::from_u128(1)),
            name: "app".to_owned(),
            version: 1,
            labels: BTreeMap::new(),
            spec: spec(&json!({})),
            state,
            current: Some(CredentialId::from_uuid(Uuid::from_u128(2))),
            due: None,
            is_control: false,
            approved: None,
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_an_account_holds_follows_by_a_rotation() {
        let changes = [
            json!({ "access": { "memberOf": ["reader"] } }),
            json!({ "deliverTo": [] }),
            json!({ "deliverTo": [{ "destination": "files", "target": { "path": "b" } }] }),
        ];
        for change in changes {
            let found = following(&living(IdentityState::Active), &spec(&change), false);
            assert!(
                matches!(found.action, Some(Action::Rotate { .. })),
                "{change}: {found:?}"
            );
            assert_eq!(found.warnings.len(), 1, "{found:?}");
            let busy = following(&living(IdentityState::Active), &spec(&change), true);
            assert_eq!(busy.action, None);
            assert!(
                busy.warnings.iter().any(|text| text.contains("keyfall rotate app")),
                "{busy:?}"
            );
            let unborn = following(&living(IdentityState::Requested), &spec(&change), false);
            assert_eq!(unborn.action, None);
        }
    }

    #[test]
    fn what_is_only_written_down_opens_no_run() {
        for change in [json!({ "owner": "others" }), json!({ "purpose": "sells" })] {
            let found = following(&living(IdentityState::Active), &spec(&change), false);
            assert_eq!(found, super::Following::default(), "{change}");
        }
    }
}
