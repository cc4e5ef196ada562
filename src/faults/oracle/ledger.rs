//! I2 and I3: everything that lives downstream is one registered credential whose bytes we hold, and nothing that is called over lives.

use keyfall_sdk::{KeyId, SecretValue};

use super::{Case, TrueAccount, is_over, secrets_of};
use crate::domain::identity::{Credential, CredentialState};
use crate::store::{FindingFilter, Page};

pub(super) async fn differences(case: &Case<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let accounts = case.truth.accounts().await;
    let ledger = secrets_of(case).await;
    for (name, account) in &accounts {
        for key in &account.keys {
            wrong.extend(explained(case, (name, account), key, &ledger).await);
        }
    }
    for (credential, secret) in &ledger {
        let name = &credential.principal.name;
        let lives = credential
            .key_id
            .as_ref()
            .is_some_and(|key| accounts.get(name).is_some_and(|account| account.keys.contains(key)));
        if credential.state == CredentialState::Active && credential.key_id.is_some() && !lives {
            wrong.push(format!(
                "I2: {} is called active, and {name} does not hold it",
                credential.id
            ));
        }
        if !is_over(&credential.state) {
            continue;
        }
        if lives {
            wrong.push(format!(
                "I2: {} is {}, and {name} holds it",
                credential.id,
                credential.state.name()
            ));
        }
        if let Some(secret) = secret {
            let accepting = case.truth.accepted_at(name, secret).await;
            if !accepting.is_empty() {
                wrong.push(format!(
                    "I2: {} is {}, and its secret is let in at {accepting:?}",
                    credential.id,
                    credential.state.name()
                ));
            }
        }
    }
    wrong
}

/// A live key is exactly one row that may be live, and its bytes are ours.
async fn explained(
    case: &Case<'_>,
    (name, account): (&str, &TrueAccount),
    key: &KeyId,
    ledger: &[(Credential, Option<SecretValue>)],
) -> Option<String> {
    let on_account = |one: &&(Credential, Option<SecretValue>)| one.0.principal.name == name && !is_over(&one.0.state);
    let there: Vec<_> = ledger.iter().filter(on_account).collect();
    let mut rows = there.clone();
    rows.retain(|(one, _)| one.key_id.as_ref() == Some(key));
    if rows.is_empty() {
        // Intended and unanswered, or found and never told apart.
        rows = there;
        rows.retain(|(one, _)| one.key_id.is_none());
    }
    if rows.is_empty() && is_reported(case, key).await {
        return None;
    }
    let [(row, secret)] = rows.as_slice() else {
        let states: Vec<_> = rows.iter().map(|(row, _)| row.state.name()).collect();
        return Some(format!(
            "I2: {} of {name} lives, and is {} rows of the ledger: {states:?}",
            key.0,
            rows.len()
        ));
    };
    if matches!(row.state, CredentialState::Foreign) || (row.secret.is_none() && row.proven_at.is_none()) {
        return None;
    }
    let Some(secret) = secret else {
        return Some(format!(
            "I3: {} of {name} lives, and its bytes are not in the store",
            key.0
        ));
    };
    let accepting = case.truth.accepted_at(name, secret).await;
    (account.is_enabled && accepting.len() != case.truth.vantages().len()).then(|| {
        format!(
            "I3: {} of {name} lives, and the stored bytes are let in at {accepting:?} only",
            key.0
        )
    })
}

/// What nobody registered is a finding that names it, and is left alone.
async fn is_reported(case: &Case<'_>, key: &KeyId) -> bool {
    let filter = FindingFilter {
        open_only: true,
        ..FindingFilter::default()
    };
    let open = case.store.findings(&filter, Page::first(1000)).await.unwrap();
    open.iter().any(|finding| finding.text.contains(&key.0))
}
