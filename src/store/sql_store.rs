//! The store's verbs and questions, written once over a driver.

use std::collections::HashSet;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::BoxFuture;

use super::commit::Prepared;
use super::driver::{Driver, Execute, Reach, only_number, only_text};
use super::sharing::{Draw, Say};
use super::sql::Value;
use super::sql::{credential, finding, identity, ledger, log, node, person, plan, receipt, resource, run, secret};
use super::verbs::{Nodes, Renew};
use super::{
    ApprovalRow, Claimed, Commit, Committed, DecodeEvent, DueIdentity, FindingFilter, FindingRow, Heard,
    IdentityFilter, LogPage, LogState, NodeRow, NodeSays, Overview, Page, PersonRow, PlanRow, PlanStatus, PlanTerms,
    ReceiptFilter, ReceiptRow, Result, RunFilter, RunRow, SecretRow, SettlingSample, Share, ShareAsk, Store, StoredRun,
    TokenRow,
};
use crate::clock::Environment;
use crate::domain::identity::{Credential, Identity};
use crate::domain::ids::{CredentialId, IdentityId, PersonId, PlanId, ReceiptId, RunId, SecretId};
use crate::domain::resource::{Kind, Resource};

pub(super) struct SqlStore<D> {
    pub(super) driver: D,
    pub(super) decode: DecodeEvent,
    pub(super) environment: Environment,
}

impl<D: Driver> SqlStore<D> {
    pub(super) fn new(driver: D, decode: DecodeEvent, environment: Environment) -> Self {
        Self {
            driver,
            decode,
            environment,
        }
    }
}

impl<D: Driver> Store for SqlStore<D> {
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed>> {
        Box::pin(async move {
            let prepared = Prepared::of(commit, self.environment.now())?;
            self.driver.write(prepared).await
        })
    }

    fn record(&self, commit: Commit) -> BoxFuture<'_, Result<Committed>> {
        Box::pin(async move {
            let prepared = Prepared::of(commit, self.environment.now())?;
            self.driver.write(prepared.of_a_result()).await
        })
    }

    fn claim_runs<'a>(
        &'a self,
        node: &'a str,
        lease: SignedDuration,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Claimed>>> {
        Box::pin(self.claim(node, lease, limit))
    }

    fn renew_leases<'a>(
        &'a self,
        node: &'a str,
        runs: &'a [(RunId, u64)],
        length: SignedDuration,
    ) -> BoxFuture<'a, Result<Vec<RunId>>> {
        Box::pin(self.driver.write(Renew {
            node: node.to_owned(),
            runs: runs.to_vec(),
            length,
        }))
    }

    fn release_leases<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Result<u32>> {
        Box::pin(async move {
            let bound = run::RELEASE_NODE.with([("node", node.into())])?;
            let released = self.driver.write(Execute { bound }).await?;
            Ok(u32::try_from(released).unwrap_or(u32::MAX))
        })
    }

    fn say<'a>(&'a self, says: &'a NodeSays) -> BoxFuture<'a, Result<Heard>> {
        Box::pin(self.driver.write(Say(says.clone())))
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRow>>> {
        Box::pin(self.some(node::EVERY.with([]), node::read))
    }

    fn runs_in_hands(&self, limit: u32) -> BoxFuture<'_, Result<Vec<RunRow>>> {
        Box::pin(self.some(run::in_hands(limit), run::read))
    }

    fn runs_of_later_workflows(&self, limit: u32) -> BoxFuture<'_, Result<Vec<RunRow>>> {
        Box::pin(self.some(run::of_later_workflows(limit), run::read))
    }

    fn draw_share<'a>(&'a self, ask: &'a ShareAsk) -> BoxFuture<'a, Result<Share>> {
        Box::pin(self.driver.write(Draw(ask.clone())))
    }

    fn now(&self) -> BoxFuture<'_, Result<Timestamp>> {
        Box::pin(self.driver.now())
    }

    fn next_wake(&self) -> BoxFuture<'_, Result<Option<Timestamp>>> {
        Box::pin(self.first_wake())
    }

    fn due_identities(
        &self,
        now: Timestamp,
        after: Option<(Timestamp, IdentityId)>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<DueIdentity>>> {
        Box::pin(self.some(identity::due(now, after, limit), identity::read_due))
    }

    fn count_due(&self, now: Timestamp, up_to: u32) -> BoxFuture<'_, Result<u32>> {
        Box::pin(async move { Ok(u32::try_from(self.due_count(now, up_to).await?).unwrap_or(u32::MAX)) })
    }

    fn expiring_identities(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, IdentityId)>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, IdentityId)>>> {
        Box::pin(self.some(identity::expiring(before, after, limit), identity::read_expiring))
    }

    fn runs_under_way_since(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, RunId)>,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, RunId, IdentityId)>>> {
        Box::pin(self.some(run::under_way(before, after, limit), run::read_under_way))
    }

    fn next_owner<'a>(&'a self, after: &'a str) -> BoxFuture<'a, Result<Option<String>>> {
        Box::pin(self.one(identity::NEXT_OWNER.with([("after", after.into())]), only_text))
    }

    fn run(&self, id: RunId) -> BoxFuture<'_, Result<Option<StoredRun>>> {
        Box::pin(self.stored_run(id))
    }

    fn runs<'a>(&'a self, filter: &'a RunFilter, page: Page) -> BoxFuture<'a, Result<Vec<RunRow>>> {
        Box::pin(async move { self.some(run::list(filter, &page), run::read).await })
    }

    fn last_run_before(&self, identity: IdentityId, before: Timestamp) -> BoxFuture<'_, Result<Option<RunRow>>> {
        Box::pin(self.one(run::last_before(identity, before), run::read))
    }

    fn open_run_of(&self, identity: IdentityId) -> BoxFuture<'_, Result<Option<RunId>>> {
        Box::pin(self.one(run::open_of(identity), run::read_id))
    }

    fn identity(&self, id: IdentityId) -> BoxFuture<'_, Result<Option<Identity>>> {
        Box::pin(self.one(identity::BY_ID.with([("id", Value::shown(&id))]), identity::read))
    }

    fn identity_named<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Identity>>> {
        Box::pin(self.one(identity::BY_NAME.with([("name", name.into())]), identity::read))
    }

    fn identities_with<'a>(&'a self, ids: &'a [IdentityId]) -> BoxFuture<'a, Result<Vec<Identity>>> {
        let by_id = |id| identity::BY_ID.with([("id", Value::shown(id))]);
        Box::pin(self.each(ids.iter().map(by_id).collect(), identity::read))
    }

    fn identities_named<'a>(&'a self, names: &'a [String]) -> BoxFuture<'a, Result<Vec<Identity>>> {
        let by_name = |name: &String| identity::BY_NAME.with([("name", name.as_str().into())]);
        Box::pin(self.each(names.iter().map(by_name).collect(), identity::read))
    }

    fn identities<'a>(&'a self, filter: &'a IdentityFilter, page: Page) -> BoxFuture<'a, Result<Vec<Identity>>> {
        Box::pin(async move { self.some(identity::list(filter, &page), identity::read).await })
    }

    fn control_identity<'a>(&'a self, system: &'a str) -> BoxFuture<'a, Result<Option<Identity>>> {
        Box::pin(self.one(identity::CONTROL.with([("system", system.into())]), identity::read))
    }

    fn credential(&self, id: CredentialId) -> BoxFuture<'_, Result<Option<Credential>>> {
        Box::pin(self.one(credential::BY_ID.with([("id", Value::shown(&id))]), credential::read))
    }

    fn credentials_of(&self, identity: IdentityId) -> BoxFuture<'_, Result<Vec<Credential>>> {
        Box::pin(self.some(credential::of(identity), credential::read))
    }

    fn latest_credentials(&self, identity: IdentityId, limit: u32) -> BoxFuture<'_, Result<Vec<Credential>>> {
        Box::pin(self.some(credential::latest(identity, limit), credential::read))
    }

    fn credentials_in_play(&self, identity: IdentityId) -> BoxFuture<'_, Result<Vec<Credential>>> {
        Box::pin(self.in_play(vec![identity]))
    }

    fn credentials_in_play_of_many<'a>(
        &'a self,
        identities: &'a [IdentityId],
    ) -> BoxFuture<'a, Result<Vec<Credential>>> {
        Box::pin(self.in_play(identities.to_vec()))
    }

    fn credentials_with<'a>(&'a self, ids: &'a [CredentialId]) -> BoxFuture<'a, Result<Vec<Credential>>> {
        let by_id = |id| credential::BY_ID.with([("id", Value::shown(id))]);
        Box::pin(self.each(ids.iter().map(by_id).collect(), credential::read))
    }

    fn credentials_of_many<'a>(&'a self, identities: &'a [IdentityId]) -> BoxFuture<'a, Result<Vec<Credential>>> {
        Box::pin(async move {
            let bounds = identities.iter().map(|id| credential::of(*id)).collect();
            let mut found = self.each(bounds, credential::read).await?;
            found.sort_by_key(|credential| (credential.created_at, credential.id));
            Ok(found)
        })
    }

    fn resource<'a>(&'a self, kind: Kind, name: &'a str) -> BoxFuture<'a, Result<Option<Resource>>> {
        let bound = resource::BY_NAME.with([("kind", Value::Name(kind.name())), ("name", name.into())]);
        Box::pin(self.one(bound, resource::read))
    }

    fn resources(&self, kind: Kind) -> BoxFuture<'_, Result<Vec<Resource>>> {
        let bound = resource::BY_KIND.with([("kind", Value::Name(kind.name()))]);
        Box::pin(self.some(bound, resource::read))
    }

    fn secret(&self, id: SecretId) -> BoxFuture<'_, Result<Option<SecretRow>>> {
        Box::pin(self.one(secret::BY_ID.with([("id", Value::shown(&id))]), secret::read))
    }

    fn secret_named<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<SecretRow>>> {
        Box::pin(self.one(secret::BY_NAME.with([("name", name.into())]), secret::read))
    }

    fn secrets_to_destroy(&self, now: Timestamp, limit: u32) -> BoxFuture<'_, Result<Vec<SecretId>>> {
        let bound = secret::TO_DESTROY.with([("now", now.into()), ("limit", limit.into())]);
        Box::pin(self.some(bound, secret::read_id))
    }

    fn secrets_not_under<'a>(&'a self, kek_id: &'a str, limit: u32) -> BoxFuture<'a, Result<Vec<SecretRow>>> {
        Box::pin(self.under_other_keys(kek_id, limit))
    }

    fn plan(&self, id: PlanId) -> BoxFuture<'_, Result<Option<PlanRow>>> {
        Box::pin(self.one(plan::BY_ID.with([("id", Value::shown(&id))]), plan::read))
    }

    fn plan_terms(&self, id: PlanId) -> BoxFuture<'_, Result<Option<PlanTerms>>> {
        Box::pin(self.one(plan::TERMS.with([("id", Value::shown(&id))]), plan::read_terms))
    }

    fn plans(&self, status: Option<PlanStatus>, page: Page) -> BoxFuture<'_, Result<Vec<PlanRow>>> {
        Box::pin(async move { self.some(plan::list(status, &page), plan::read).await })
    }

    fn approvals(&self, plan: PlanId) -> BoxFuture<'_, Result<Vec<ApprovalRow>>> {
        let bound = plan::APPROVALS.with([("plan", Value::shown(&plan))]);
        Box::pin(self.some(bound, plan::read_approval))
    }

    fn findings<'a>(&'a self, filter: &'a FindingFilter, page: Page) -> BoxFuture<'a, Result<Vec<FindingRow>>> {
        Box::pin(async move { self.some(finding::list(filter, &page), finding::read).await })
    }

    fn open_among<'a>(&'a self, kind: &'a str, subjects: &'a [&'a str]) -> BoxFuture<'a, Result<HashSet<String>>> {
        Box::pin(async move {
            let bounds = subjects.iter().map(|subject| finding::open(kind, subject)).collect();
            Ok(self.each(bounds, only_text).await?.into_iter().collect())
        })
    }

    fn receipt(&self, id: ReceiptId) -> BoxFuture<'_, Result<Option<ReceiptRow>>> {
        Box::pin(async move {
            self.driver.give_positions().await?;
            let bound = receipt::BY_ID.with([("id", Value::shown(&id))]);
            self.one(bound, receipt::read).await
        })
    }

    fn receipts<'a>(&'a self, filter: &'a ReceiptFilter, page: Page) -> BoxFuture<'a, Result<Vec<ReceiptRow>>> {
        Box::pin(async move {
            self.driver.give_positions().await?;
            self.some(receipt::list(filter, &page), receipt::read).await
        })
    }

    fn people(&self) -> BoxFuture<'_, Result<Vec<PersonRow>>> {
        Box::pin(self.some(person::EVERYONE.with([]), person::read))
    }

    fn person(&self, id: PersonId) -> BoxFuture<'_, Result<Option<PersonRow>>> {
        Box::pin(self.one(person::BY_ID.with([("id", Value::shown(&id))]), person::read))
    }

    fn token(&self, hash: [u8; 32]) -> BoxFuture<'_, Result<Option<TokenRow>>> {
        let bound = person::TOKEN_BY_HASH.with([("hash", hash.to_vec().into())]);
        Box::pin(self.one(bound, person::read_token))
    }

    fn setting<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>>> {
        Box::pin(self.one(ledger::setting(key), only_text))
    }

    fn spent<'a>(&'a self, scope: &'a str, since: Timestamp) -> BoxFuture<'a, Result<u32>> {
        Box::pin(async move {
            let spent = self.one(ledger::spent(scope, since), only_number).await?.unwrap_or(0);
            Ok(u32::try_from(spent).unwrap_or(u32::MAX))
        })
    }

    fn settling<'a>(&'a self, system: &'a str, limit: u32) -> BoxFuture<'a, Result<Vec<SettlingSample>>> {
        let bound = ledger::SETTLING.with([("system", system.into()), ("limit", limit.into())]);
        Box::pin(self.some(bound, ledger::read_sample))
    }

    fn log(&self, from: u64, limit: u32) -> BoxFuture<'_, Result<Vec<LogPage>>> {
        Box::pin(async move {
            self.driver.give_positions().await?;
            self.some(log::from(from, limit), log::read).await
        })
    }

    fn log_state(&self) -> BoxFuture<'_, Result<LogState>> {
        Box::pin(async move {
            self.driver.give_positions().await?;
            let frontier = self.frontier().await?;
            Ok(LogState {
                size: frontier.size(),
                root: frontier.root(),
            })
        })
    }

    fn log_nodes<'a>(&'a self, nodes: &'a [(u8, u64)]) -> BoxFuture<'a, Result<Vec<[u8; 32]>>> {
        let wanted = nodes.to_vec();
        Box::pin(async move {
            self.driver.give_positions().await?;
            self.driver.read(Nodes { wanted }, Reach::Range).await
        })
    }

    fn overview(&self, now: Timestamp) -> BoxFuture<'_, Result<Overview>> {
        Box::pin(self.look_over(now))
    }

    fn backup<'a>(&'a self, to: &'a Path) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.write_backup(to))
    }

    fn scrub(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.scrub_files())
    }

    fn check(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(self.check_everything())
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.driver.close())
    }
}
