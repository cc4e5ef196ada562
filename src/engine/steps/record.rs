//! Registering an account as it is. Reading only: adopting never changes anything at first contact.

use std::collections::{BTreeMap, BTreeSet};

use keyfall_sdk::{KeyId, PrincipalReading, PrincipalRef};

use super::super::guard::GuardedConnector;
use super::accounts::{all_principals, merged, read_each};
use super::attempt::{Attempt, Ended};
use super::probes;
use super::revoke::{self, Held};
use crate::domain::workflow::{OldCredential, RunKind, StepOutput};

pub(super) async fn record(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    if at.plan().kind == RunKind::TakeOver {
        for old in at.plan().old.iter().filter(|old| old.secret.is_some()) {
            let missing = probes::untried(at, old.id);
            if !missing.is_empty() {
                return Err(at.ask_to_cancel(
                    format!(
                        "the given secret of {} was not accepted at {}",
                        old.principal.name,
                        missing.join(", ")
                    ),
                    "give the right secret with a new `keyfall adopt NAME --take-over …`",
                ));
            }
        }
    }
    let connector = at.system().await?;
    let principals = all_principals(at.run);
    let readings = read_each(at, &connector, principals).await?;
    let reading = merged(&readings);
    if reading.is_absent() {
        return Err(at.ask_to_cancel(
            "there is no such account to adopt",
            "adopt one that `keyfall review` shows",
        ));
    }
    let mut keys = BTreeMap::new();
    for old in &at.plan().old {
        let own = readings
            .iter()
            .find(|(principal, _)| principal.name == old.principal.name);
        let Some((_, reading)) = own else { continue };
        if let Some(key) = key_of(at, &connector, old, reading).await? {
            keys.insert(old.id, key);
        }
    }
    Ok(StepOutput::Adopted { reading, keys })
}

/// The key id that the secret is found under; without a secret the one that the account shows, if it is the only one. Never the first of several.
async fn key_of(
    at: &mut Attempt<'_>,
    connector: &GuardedConnector,
    old: &OldCredential,
    reading: &PrincipalReading,
) -> Ended<Option<KeyId>> {
    let shown: BTreeSet<KeyId> = reading
        .states()
        .flat_map(|state| state.key_ids.iter().cloned())
        .collect();
    let name = &old.principal.name;
    if at.plan().kind == RunKind::TakeOver && old.secret.is_some() {
        let principal = PrincipalRef {
            name: name.clone(),
            immutable_id: reading.states().next().map(|state| state.immutable_id.clone()),
        };
        match revoke::held(at, connector, old, principal).await? {
            Held::Key(key) => return Ok(Some(key)),
            Held::Nothing => {
                return Err(at.ask_to_cancel(
                    format!("the given secret logs in as {name}, and is none of the credentials that the account shows"),
                    "find out what accepts it; then give the right secret with a new `keyfall adopt NAME --take-over …`",
                ));
            }
            Held::Unknown { .. } if shown.len() == 1 => {}
            Held::Unknown { why } => {
                return Err(at.ask(
                    format!(
                        "which of the {} credentials of {name} the given secret is cannot be told: {why}",
                        shown.len()
                    ),
                    &at.or_cancel("leave one of them on the account", "and leave it as it is"),
                ));
            }
        }
    }
    if shown.len() > 1 {
        at.note(format!(
            "the account {name} holds {} credentials; which of them is recorded here cannot be told without its secret",
            shown.len()
        ));
        return Ok(None);
    }
    Ok(shown.into_iter().next())
}
