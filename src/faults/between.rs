//! A store between the engine and the real one: every call passes a rule, which may refuse it, hold it, or do it and say nothing. It knows the
//! words of the contract and not what is broken with them.

use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::BoxFuture;

use crate::domain::identity::{Credential, Identity};
use crate::domain::ids::{CredentialId, IdentityId, PersonId, PlanId, ReceiptId, RunId, SecretId};
use crate::domain::resource::{Kind, Resource};
use crate::store::{
    ApprovalRow, Claimed, Commit, Committed, DueIdentity, FindingFilter, FindingRow, Heard, IdentityFilter, LogPage,
    LogState, NodeRow, NodeSays, Overview, Page, PersonRow, PlanRow, PlanStatus, PlanTerms, ReceiptFilter, ReceiptRow,
    Result, RunFilter, RunRow, SecretRow, SettlingSample, Share, ShareAsk, Store, StoreError, StoredRun, TokenRow,
};

/// What becomes of the calls.
pub(crate) trait Rule: Send + Sync {
    /// A store that is not alive answers nothing but that it is closed.
    fn is_alive(&self) -> bool;

    /// Kept while a question is under way.
    fn question(&self) -> Option<Arc<()>> {
        None
    }

    /// Answers when the process is awake: one that sleeps asks nothing.
    fn awake(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn commit<'a>(&'a self, inner: &'a Arc<dyn Store>, commit: Commit) -> BoxFuture<'a, Result<Committed>>;

    /// Called when the whole histories of identities are read, which no run may need.
    fn history_is_read(&self) {}
}

pub(crate) struct Between<R> {
    inner: Arc<dyn Store>,
    pub(crate) rule: R,
}

impl<R: Rule> Between<R> {
    pub(crate) fn a_store(inner: Arc<dyn Store>, rule: R) -> Arc<Self> {
        Arc::new(Self { inner, rule })
    }

    async fn alive(&self) -> Result<&Arc<dyn Store>> {
        self.rule.awake().await;
        if self.rule.is_alive() {
            Ok(&self.inner)
        } else {
            Err(StoreError::Closed)
        }
    }
}

/// Methods that only ask: they answer while the process lives.
macro_rules! asked {
    ($(fn $name:ident<$life:lifetime>($($arg:ident: $type:ty),*) -> $out:ty;)*) => {$(
        fn $name<$life>(&$life self, $($arg: $type),*) -> BoxFuture<$life, Result<$out>> {
            Box::pin(async move {
                let _question = self.rule.question();
                self.alive().await?.$name($($arg),*).await
            })
        }
    )*};
}

impl<R: Rule> Store for Between<R> {
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed>> {
        Box::pin(async move {
            let _question = self.rule.question();
            self.rule.commit(self.alive().await?, commit).await
        })
    }

    fn credentials_of(&self, identity: IdentityId) -> BoxFuture<'_, Result<Vec<Credential>>> {
        self.rule.history_is_read();
        Box::pin(async move { self.alive().await?.credentials_of(identity).await })
    }

    fn credentials_of_many<'a>(&'a self, identities: &'a [IdentityId]) -> BoxFuture<'a, Result<Vec<Credential>>> {
        self.rule.history_is_read();
        Box::pin(async move { self.alive().await?.credentials_of_many(identities).await })
    }

    asked! {
        fn claim_runs<'a>(node: &'a str, lease: SignedDuration, limit: u32) -> Vec<Claimed>;
        fn renew_leases<'a>(node: &'a str, runs: &'a [(RunId, u64)], length: SignedDuration) -> Vec<RunId>;
        fn say<'a>(says: &'a NodeSays) -> Heard;
        fn nodes<'a>() -> Vec<NodeRow>;
        fn runs_in_hands<'a>(limit: u32) -> Vec<RunRow>;
        fn runs_of_later_workflows<'a>(limit: u32) -> Vec<RunRow>;
        fn draw_share<'a>(ask: &'a ShareAsk) -> Share;
        fn now<'a>() -> Timestamp;
        fn release_leases<'a>(node: &'a str) -> u32;
        fn next_wake<'a>() -> Option<Timestamp>;
        fn due_identities<'a>(now: Timestamp, after: Option<(Timestamp, IdentityId)>, limit: u32) -> Vec<DueIdentity>;
        fn count_due<'a>(now: Timestamp, up_to: u32) -> u32;
        fn expiring_identities<'a>(before: Timestamp, after: Option<(Timestamp, IdentityId)>, limit: u32) -> Vec<(Timestamp, IdentityId)>;
        fn runs_under_way_since<'a>(before: Timestamp, after: Option<(Timestamp, RunId)>, limit: u32) -> Vec<(Timestamp, RunId, IdentityId)>;
        fn next_owner<'a>(after: &'a str) -> Option<String>;
        fn run<'a>(id: RunId) -> Option<StoredRun>;
        fn runs<'a>(filter: &'a RunFilter, page: Page) -> Vec<RunRow>;
        fn last_run_before<'a>(identity: IdentityId, before: Timestamp) -> Option<RunRow>;
        fn open_run_of<'a>(identity: IdentityId) -> Option<RunId>;
        fn identity<'a>(id: IdentityId) -> Option<Identity>;
        fn identity_named<'a>(name: &'a str) -> Option<Identity>;
        fn identities_with<'a>(ids: &'a [IdentityId]) -> Vec<Identity>;
        fn identities_named<'a>(names: &'a [String]) -> Vec<Identity>;
        fn identities<'a>(filter: &'a IdentityFilter, page: Page) -> Vec<Identity>;
        fn control_identity<'a>(system: &'a str) -> Option<Identity>;
        fn credential<'a>(id: CredentialId) -> Option<Credential>;
        fn latest_credentials<'a>(identity: IdentityId, limit: u32) -> Vec<Credential>;
        fn credentials_in_play<'a>(identity: IdentityId) -> Vec<Credential>;
        fn credentials_in_play_of_many<'a>(identities: &'a [IdentityId]) -> Vec<Credential>;
        fn credentials_with<'a>(ids: &'a [CredentialId]) -> Vec<Credential>;
        fn resource<'a>(kind: Kind, name: &'a str) -> Option<Resource>;
        fn resources<'a>(kind: Kind) -> Vec<Resource>;
        fn secret<'a>(id: SecretId) -> Option<SecretRow>;
        fn secret_named<'a>(name: &'a str) -> Option<SecretRow>;
        fn secrets_to_destroy<'a>(now: Timestamp, limit: u32) -> Vec<SecretId>;
        fn secrets_not_under<'a>(kek_id: &'a str, limit: u32) -> Vec<SecretRow>;
        fn plan<'a>(id: PlanId) -> Option<PlanRow>;
        fn plan_terms<'a>(id: PlanId) -> Option<PlanTerms>;
        fn plans<'a>(status: Option<PlanStatus>, page: Page) -> Vec<PlanRow>;
        fn approvals<'a>(plan: PlanId) -> Vec<ApprovalRow>;
        fn findings<'a>(filter: &'a FindingFilter, page: Page) -> Vec<FindingRow>;
        fn open_among<'a>(kind: &'a str, subjects: &'a [&'a str]) -> std::collections::HashSet<String>;
        fn receipt<'a>(id: ReceiptId) -> Option<ReceiptRow>;
        fn receipts<'a>(filter: &'a ReceiptFilter, page: Page) -> Vec<ReceiptRow>;
        fn people<'a>() -> Vec<PersonRow>;
        fn person<'a>(id: PersonId) -> Option<PersonRow>;
        fn token<'a>(hash: [u8; 32]) -> Option<TokenRow>;
        fn setting<'a>(key: &'a str) -> Option<String>;
        fn spent<'a>(scope: &'a str, since: Timestamp) -> u32;
        fn settling<'a>(system: &'a str, limit: u32) -> Vec<SettlingSample>;
        fn log<'a>(from: u64, limit: u32) -> Vec<LogPage>;
        fn log_state<'a>() -> LogState;
        fn log_nodes<'a>(nodes: &'a [(u8, u64)]) -> Vec<[u8; 32]>;
        fn overview<'a>(now: Timestamp) -> Overview;
        fn backup<'a>(to: &'a Path) -> ();
        fn scrub<'a>() -> ();
        fn check<'a>() -> Vec<String>;
        fn close<'a>() -> ();
    }
}
