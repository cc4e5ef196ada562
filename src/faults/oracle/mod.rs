//! What must be true of an identity, whatever happened to it: asked of the store and of the provider's own truth, never of what a connector or
//! a step reported. It knows no fault.

mod ended;
mod ledger;
mod logged;

use std::collections::{BTreeMap, BTreeSet};

use keyfall_sdk::{BoxFuture, KeyId, SecretValue};

use crate::domain::identity::{Credential, CredentialState, Identity};
use crate::domain::ids::{IdentityId, RunId, SecretId};
use crate::engine::secrets::OpenSecrets;
use crate::store::Store;

/// One account as it truly is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrueAccount {
    pub(crate) immutable_id: String,
    /// What a login could be made with, by the ids that the connector gives them.
    pub(crate) keys: BTreeSet<KeyId>,
    pub(crate) is_enabled: bool,
    pub(crate) grants: Vec<String>,
}

/// What is true downstream of one identity, apart from what a connector says of it.
pub(crate) trait Truth: Send + Sync {
    /// The identity's accounts that exist, by name.
    fn accounts(&self) -> BoxFuture<'_, BTreeMap<String, TrueAccount>>;

    /// The vantages at which a login with these bytes is let in.
    fn accepted_at<'a>(&'a self, account: &'a str, secret: &'a SecretValue) -> BoxFuture<'a, Vec<String>>;

    fn vantages(&self) -> Vec<String>;

    /// Waits until every vantage knows what the first one knows, where that takes time of its own.
    fn settled(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// What a workload reads at the identity's destination.
    fn delivered(&self) -> Option<SecretValue>;
}

/// How everything stood at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Slate {
    pub(crate) accounts: BTreeMap<String, TrueAccount>,
    pub(crate) delivered: Option<SecretValue>,
    pub(crate) identity: Option<Identity>,
    /// What was spent of the budget of `scope`, by schedules and by emergencies.
    pub(crate) spent: u32,
    /// Entries of the log.
    pub(crate) logged: u64,
}

impl Slate {
    /// `scope`: the policy, or `system/NAME`, that the identity's budget is counted under.
    pub(crate) async fn read(store: &dyn Store, truth: &dyn Truth, identity: IdentityId, scope: &str) -> Self {
        Self {
            spent: logged::spent(store, scope).await,
            accounts: truth.accounts().await,
            delivered: truth.delivered(),
            identity: store.identity(identity).await.unwrap(),
            logged: store.log_state().await.unwrap().size,
        }
    }
}

/// What the oracle is asked about.
pub(crate) struct Case<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) secrets: &'a dyn OpenSecrets,
    pub(crate) truth: &'a dyn Truth,
    pub(crate) identity: IdentityId,
}

/// Everything that is wrong with how a run ended or came to rest. `before`: how all stood when it was opened. Whether the store is whole is asked
/// of the store itself, once for many runs.
pub(crate) async fn run_at_rest(case: &Case<'_>, run: RunId, before: &Slate) -> Vec<String> {
    let mut wrong = ledger::differences(case).await;
    wrong.extend(ended::goals(case, run, before).await);
    wrong.extend(logged::faults(case, run, before).await);
    wrong
}

/// Every secret of the identity that still exists, by credential.
pub(super) async fn secrets_of(case: &Case<'_>) -> Vec<(Credential, Option<SecretValue>)> {
    let mut all = Vec::new();
    for credential in case.store.credentials_of(case.identity).await.unwrap() {
        let secret = match credential.secret {
            Some(id) => opened(case, id).await,
            None => None,
        };
        all.push((credential, secret));
    }
    all
}

pub(super) async fn opened(case: &Case<'_>, id: SecretId) -> Option<SecretValue> {
    let row = case.store.secret(id).await.unwrap()?;
    case.secrets.open(id, row.endpoint_digest).await.ok()
}

pub(super) fn is_over(state: &CredentialState) -> bool {
    matches!(state, CredentialState::Dead { .. } | CredentialState::NeverIssued)
}
