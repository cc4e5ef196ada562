//! What is asked around every change that reaches a provider: that its intent was committed before (I4), that it is about what was recorded
//! (P5), that whoever sends it has the run (P10), that no two are
//! under way at once (I5), and behind it that the consumer is let in with what it reads (I1, I10).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use keyfall_sdk::{BoxFuture, Strategy};

use super::fault::{Call, Site};
use super::hand::{About, Watch};
use crate::domain::ids::RunId;
use crate::domain::workflow::{EventBody, RunKind, RunPlan, Step};
use crate::engine::secrets::{OpenSecrets, StoredSecrets};
use crate::faults::oracle::Truth;
use crate::store::Store;

/// Whoever works with what is delivered.
pub(crate) struct Watcher {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) truth: Arc<dyn Truth>,
    pub(crate) secrets: StoredSecrets,
    pub(crate) plan: RunPlan,
    /// Told the version when a delivery has come.
    pub(crate) take_up: Box<dyn Fn(&str) + Send + Sync>,
    under_way: Mutex<Vec<Step>>,
    /// The approved gap of a system that holds one value, between its issue and the delivery.
    gap: AtomicBool,
    /// A decommission has begun to disable the account.
    ended: AtomicBool,
    wrong: Mutex<Vec<String>>,
}

impl Watcher {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        truth: Arc<dyn Truth>,
        secrets: StoredSecrets,
        plan: RunPlan,
        take_up: Box<dyn Fn(&str) + Send + Sync>,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            truth,
            secrets,
            plan,
            take_up,
            under_way: Mutex::default(),
            gap: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            wrong: Mutex::default(),
        })
    }

    pub(crate) fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }

    fn found(&self, wrong: String) {
        self.wrong.lock().unwrap().push(wrong);
    }

    /// I4: the intent of it stands in the store. Who got in while a death was being proven is sent away under the intent that ended the
    /// sessions of the same accounts.
    async fn is_intended(&self, site: Site, run: &str) -> bool {
        let step = match (site.step, site.call) {
            (Step::ProveDead, Some(Call::EndSessions)) => Step::EndSessions,
            (Step::ProveNewDead, Some(Call::EndSessions)) => Step::EndNewSessions,
            (step, _) => step,
        };
        let Ok(id) = run.parse::<RunId>() else { return false };
        let Some(stored) = self.store.run(id).await.unwrap() else {
            return false;
        };
        let is_start = |body: &EventBody| matches!(body, EventBody::Started { step: of, .. } if *of == step);
        stored.events.iter().any(|event| is_start(&event.body))
    }

    async fn is_held_by(&self, node: &str) -> bool {
        let stored = self.store.run(self.plan.run).await.unwrap();
        stored.is_some_and(|stored| stored.row.node.as_deref() == Some(node))
    }

    /// The account and the key are of the plan, or what the run itself issued.
    fn is_recorded(&self, site: Site, about: &About) -> bool {
        let plan = &self.plan;
        let accounts = plan.accounts.iter().map(|one| &one.name);
        let accounts = accounts.chain(plan.old.iter().map(|old| &old.principal.name));
        let mut accounts = accounts.chain(plan.new.iter().map(|new| &new.principal.name));
        let is_ours = accounts.any(|name| *name == about.what);
        let old = || plan.old.iter().filter_map(|old| old.key_id.as_ref());
        match (site.call, &about.key) {
            (Some(Call::Deliver | Call::Withdraw), _) => true,
            (Some(Call::Revoke), Some(key)) if site.step == Step::RevokeOld => {
                is_ours && old().any(|recorded| recorded.0 == *key)
            }
            (Some(Call::Revoke), Some(key)) => is_ours && old().all(|recorded| recorded.0 != *key),
            _ => is_ours,
        }
    }

    /// I1 and I10: what the consumer reads at this moment lets it in everywhere.
    async fn consumer_is_served(&self) -> bool {
        let Some(delivered) = self.truth.delivered() else {
            // Nothing was delivered yet, or it was withdrawn.
            return true;
        };
        for credential in self.store.credentials_of(self.plan.identity).await.unwrap() {
            let Some(id) = credential.secret else { continue };
            let Some(row) = self.store.secret(id).await.unwrap() else {
                continue;
            };
            let Ok(secret) = self.secrets.open(id, row.endpoint_digest).await else {
                continue;
            };
            if secret.matches(&delivered) {
                let accepting = self.truth.accepted_at(&credential.principal.name, &secret).await;
                return accepting.len() == self.truth.vantages().len();
            }
        }
        false
    }

    fn mark(&self, site: Site) {
        let is_one_value = self.plan.strategy == Strategy::InPlace && !self.plan.old.is_empty();
        match site.call {
            Some(Call::Issue) if is_one_value => self.gap.store(true, Ordering::SeqCst),
            Some(Call::Deliver) => self.gap.store(false, Ordering::SeqCst),
            Some(Call::Resume) => self.ended.store(false, Ordering::SeqCst),
            Some(_) if self.plan.kind == RunKind::Decommission => self.ended.store(true, Ordering::SeqCst),
            _ => {}
        }
    }
}

impl Watch for Watcher {
    fn before<'a>(&'a self, site: Site, about: &'a About) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let call = site.call.map_or("step", Call::name);
            let step = site.step.name();
            if !self.is_intended(site, &about.run).await {
                self.found(format!("I4: `{call}` of {step} was sent, and no intent was committed"));
            }
            if !self.is_recorded(site, about) {
                self.found(format!(
                    "P5: `{call}` of {step} is about {about:?}, which nobody recorded"
                ));
            }
            if let Some(sender) = &about.sender
                && !self.is_held_by(sender).await
            {
                self.found(format!(
                    "P10: `{call}` of {step} was sent by {sender}, which has lost the run"
                ));
            }
            // An attempt that nobody waits for any more may still be under way when it is repeated: the same change, made again.
            let mut under_way = self.under_way.lock().unwrap();
            let is_overlap = under_way.iter().any(|other| *other != site.step);
            under_way.push(site.step);
            drop(under_way);
            if is_overlap {
                self.found(format!(
                    "I5: `{call}` of {step} was sent while another change was under way"
                ));
            }
        })
    }

    fn after<'a>(&'a self, site: Site, about: &'a About) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            {
                let mut under_way = self.under_way.lock().unwrap();
                let ended = under_way.iter().position(|step| *step == site.step);
                under_way.swap_remove(ended.unwrap());
            }
            self.truth.settled().await;
            self.mark(site);
            if site.call == Some(Call::Deliver) {
                (self.take_up)(&about.what);
            }
            let is_excused = self.gap.load(Ordering::SeqCst) || self.ended.load(Ordering::SeqCst);
            if !is_excused && !self.consumer_is_served().await {
                let call = site.call.map_or("step", Call::name);
                self.found(format!(
                    "I1: behind `{call}` of {} its consumer is not let in",
                    site.step.name()
                ));
            }
        })
    }
}
