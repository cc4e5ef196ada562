//! The whole engine on the demo provider: the driver, these steps, the real store on SQLite and real seals. What the register says at the end
//! is held against the provider's truth.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use keyfall_sdk::{BoxFuture, PrincipalReading, PrincipalRef, Strategy};
use serde_json::json;
use tempfile::TempDir;

use super::{Bench, Live, VANTAGES, fresh};
use crate::clock::Environment;
use crate::domain::actor::Approval;
use crate::domain::identity::{Credential, CredentialState, Identity, IdentityState};
use crate::domain::ids::{CredentialId, SecretId};
use crate::domain::planner::ConnectorFacts;
use crate::domain::resource::Resource;
use crate::domain::workflow::{Run, RunKind, RunPlan};
use crate::engine::controls::LiveControls;
use crate::engine::report::PrepareRuns;
use crate::engine::secrets::{OpenSecrets, SealAs, StoredSecrets, seal};
use crate::engine::steps::{StepSettings, Steps, StoredRefusals};
use crate::engine::systems::{Catalog, Systems};
use crate::engine::{Engine, EngineHandle, EngineSettings, opening};
use crate::evidence::audit::decode_event;
use crate::evidence::receipt::{ReceiptBody, proof_holds};
use crate::sealing::{Kek, Keyring};
use crate::store::{
    Commit, Committed, Fact, FindingFilter, Page, ReceiptFilter, SecretRow, Store, StoreOptions, StoredRun, open_sqlite,
};

/// Nothing is due in these tests: every run is opened by hand.
struct NothingToPrepare;

impl PrepareRuns for NothingToPrepare {
    fn connector_facts<'a>(&'a self, _system: &'a Resource) -> BoxFuture<'a, Result<ConnectorFacts, String>> {
        Box::pin(async { Err("nothing is planned here".to_owned()) })
    }
    fn seal_new(&self, _plan: &RunPlan) -> Result<SecretRow, String> {
        Err("nothing is planned here".to_owned())
    }
    fn reading<'a>(&'a self, _: &'a str, _: &'a PrincipalRef) -> BoxFuture<'a, Result<PrincipalReading, String>> {
        Box::pin(async { Err("nothing is read here".to_owned()) })
    }
    fn check_approval<'a>(&'a self, _approval: &'a Approval) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}

struct Whole {
    bench: Bench,
    store: Arc<dyn Store>,
    keys: Arc<Keyring>,
    env: Environment,
    engine: EngineHandle,
    _folder: TempDir,
}

impl Whole {
    async fn new(strategy: Strategy) -> Self {
        let bench = Bench::new(strategy, json!({})).await;
        let folder = tempfile::tempdir().unwrap();
        let env = Environment::of_this_machine();
        let path = folder.path().join("keyfall.db");
        let store = open_sqlite(&path, StoreOptions::new(decode_event), env.clone())
            .await
            .unwrap();
        let keys = Arc::new(Keyring::new(Kek::from_bytes(&[7; 32]).unwrap(), Vec::new()));
        let secrets: Arc<dyn OpenSecrets> = Arc::new(StoredSecrets::new(Arc::clone(&store), Arc::clone(&keys)));
        let systems = Systems::new(
            keyfall_connectors::registry(),
            keyfall_sdk::ServerGrants::default(),
            Arc::clone(&bench.catalog) as Arc<dyn Catalog>,
            Arc::clone(&secrets),
        );
        let steps = Steps::new(
            Arc::new(systems),
            secrets,
            Arc::clone(&bench.controls) as Arc<dyn LiveControls>,
            Arc::new(StoredRefusals(Arc::clone(&store))),
            env.clone(),
            StepSettings::default(),
        );
        let engine = Engine {
            store: Arc::clone(&store),
            steps: Arc::new(steps),
            prepare: Arc::new(NothingToPrepare),
            env: env.clone(),
            settings: EngineSettings::new("node-a"),
        };
        let engine = engine.start().await.unwrap();
        let whole = Self {
            bench,
            store,
            keys,
            env,
            engine,
            _folder: folder,
        };
        let control = whole.bench.controls.held().unwrap().secret;
        whole
            .put(vec![
                Fact::Secret(whole.sealed(control)),
                Fact::Identity(whole.identity()),
            ])
            .await;
        whole
    }

    fn identity(&self) -> Identity {
        let spec = json!({
            "kind": "database_user", "system": "demo", "environment": "test", "owner": "team",
            "expires": "2099-01-01T00:00:00Z", "account": "app",
        });
        Identity {
            id: self.bench.identity,
            name: "app".to_owned(),
            version: 1,
            labels: std::collections::BTreeMap::new(),
            spec: serde_json::from_value(spec).unwrap(),
            state: IdentityState::Requested,
            current: None,
            due: None,
            is_control: false,
            approved: None,
            created_at: self.env.now(),
        }
    }

    fn sealed(&self, id: SecretId) -> SecretRow {
        let seal_as = SealAs {
            id,
            name: None,
            kind: "credential".to_owned(),
            version: 1,
            endpoints: self.bench.endpoints,
            at: self.env.now(),
        };
        seal(&self.keys, seal_as, &self.bench.secret(id), &*self.env.random).unwrap()
    }

    async fn put(&self, facts: Vec<Fact>) {
        let commit = Commit {
            facts,
            ..Commit::default()
        };
        let committed = self.store.commit(commit).await.unwrap();
        assert!(matches!(committed, Committed::Stored), "{committed:?}");
    }

    /// With times that a test can wait for.
    fn plan(&self, kind: RunKind, old: &[Live], account: Option<PrincipalRef>) -> RunPlan {
        let mut plan = self.bench.plan(kind, old, account);
        plan.timing.overlap = SignedDuration::from_millis(20);
        plan.timing.listen = SignedDuration::from_millis(20);
        plan.timing.uptake_interval = SignedDuration::from_millis(10);
        plan.timing.opened_at = self.env.now();
        plan.proof.interval = SignedDuration::from_millis(5);
        plan.proof.settling = SignedDuration::from_millis(30);
        plan
    }

    async fn run(&self, plan: RunPlan) -> StoredRun {
        let id = plan.run;
        let secret = plan.new.as_ref().map(|new| self.sealed(new.secret));
        let commit = opening(plan, secret).unwrap();
        let committed = self.store.commit(commit).await.unwrap();
        assert!(matches!(committed, Committed::Stored), "{committed:?}");
        self.engine.ring();
        let ended = async {
            let mut beat = tokio::time::interval(Duration::from_millis(5));
            loop {
                beat.tick().await;
                let stored = self.store.run(id).await.unwrap().unwrap();
                if stored.row.closed_at.is_some() || stored.row.status == "needs_operator" {
                    return stored;
                }
            }
        };
        match tokio::time::timeout(Duration::from_secs(30), ended).await {
            Ok(stored) => stored,
            Err(_) => panic!("{:?}", self.store.run(id).await.unwrap()),
        }
    }

    async fn completed(&self, plan: RunPlan) -> Run {
        let stored = self.run(plan).await;
        assert_eq!(stored.row.status, "completed", "{:?}", stored.events);
        let run = Run::replay(&stored.events).unwrap();
        for row in self.receipts(&run).await {
            assert_eq!(proof_holds(&row), Ok(()));
        }
        run
    }

    async fn receipts(&self, run: &Run) -> Vec<ReceiptBody> {
        let filter = ReceiptFilter {
            run: Some(run.id()),
            ..ReceiptFilter::default()
        };
        let rows = self.store.receipts(&filter, Page::first(9)).await.unwrap();
        rows.iter()
            .map(|row| serde_json::from_slice(&row.body).unwrap())
            .collect()
    }

    async fn state(&self, id: CredentialId) -> &'static str {
        self.store.credential(id).await.unwrap().unwrap().state.name()
    }

    async fn identity_state(&self) -> IdentityState {
        self.store.identity(self.bench.identity).await.unwrap().unwrap().state
    }

    async fn provision(&self, account: &str) -> Live {
        let run = self
            .completed(self.plan(RunKind::Provision, &[], Some(fresh(account))))
            .await;
        let live = live_of(&run);
        assert_eq!(self.identity_state().await, IdentityState::Active);
        assert_eq!(self.state(live.id).await, "active");
        live
    }

    fn accepts(&self, live: &Live) -> bool {
        let secret = self.bench.secret(live.secret);
        let accepts = |vantage: &&str| self.bench.provider.accepts(&live.principal.name, &secret, vantage);
        VANTAGES.iter().any(accepts)
    }
}

fn live_of(run: &Run) -> Live {
    let new = run.plan().new.as_ref().unwrap();
    let issued = run.issued().unwrap();
    Live {
        id: new.id,
        secret: new.secret,
        principal: issued.principal.clone(),
        key_id: issued.key_id.clone(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_strategy_and_kind_of_rotation_ends_with_the_old_one_dead_on_record() {
    for strategy in [Strategy::DualSlot, Strategy::AlternatingAccounts, Strategy::InPlace] {
        for kind in [RunKind::Rotate, RunKind::EmergencyRotate] {
            let whole = Whole::new(strategy).await;
            let old = whole.provision("app_a").await;
            let account = match strategy {
                Strategy::AlternatingAccounts => fresh("app_b"),
                _ => old.principal.clone(),
            };
            let run = whole
                .completed(whole.plan(kind, std::slice::from_ref(&old), Some(account)))
                .await;
            let new = live_of(&run);
            assert!(!whole.accepts(&old) && whole.accepts(&new), "{strategy:?} {kind:?}");
            assert_eq!(whole.state(old.id).await, "dead");
            assert_eq!(whole.state(new.id).await, "active");
            assert_eq!(whole.receipts(&run).await.len(), 1);
            let secret = whole.store.secret(old.secret).await.unwrap().unwrap();
            assert!(secret.destroy_at.is_some(), "the dead secret has a deadline");
            let measured = whole.store.settling("demo", 9).await.unwrap();
            assert_eq!(measured, vec![], "it refused at once, so nothing was seen to settle");
            whole.engine.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_and_a_decommission_leave_nothing_live() {
    let whole = Whole::new(Strategy::DualSlot).await;
    let live = whole.provision("app").await;
    whole
        .completed(whole.plan(RunKind::Revoke, std::slice::from_ref(&live), None))
        .await;
    assert_eq!(whole.state(live.id).await, "dead");
    assert!(!whole.accepts(&live));
    whole.engine.shutdown().await;

    let whole = Whole::new(Strategy::DualSlot).await;
    let live = whole.provision("app").await;
    let run = whole
        .completed(whole.plan(RunKind::Decommission, std::slice::from_ref(&live), None))
        .await;
    assert_eq!(whole.state(live.id).await, "dead");
    assert_eq!(whole.identity_state().await, IdentityState::Decommissioned);
    assert!(whole.bench.provider.account("app").is_none());
    assert_eq!(whole.receipts(&run).await.len(), 1);
    whole.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_adopted_as_it_is_and_then_taken_over() {
    let whole = Whole::new(Strategy::DualSlot).await;
    let secret = whole.bench.draw();
    let planted = whole
        .bench
        .provider
        .plant_account("legacy", &whole.bench.secret(secret), &["read"]);
    let mut live = Live {
        id: CredentialId::from_uuid(super::uuid()),
        secret,
        principal: PrincipalRef {
            name: "legacy".to_owned(),
            immutable_id: Some(planted.immutable_id.clone()),
        },
        key_id: planted.live_keys().next().unwrap().id.clone(),
    };
    let mut identity = whole.identity();
    identity.id = crate::domain::ids::IdentityId::from_uuid(super::uuid());
    identity.name = "legacy".to_owned();
    identity.state = IdentityState::Discovered;
    whole
        .put(vec![
            Fact::Secret(whole.sealed(secret)),
            Fact::Identity(identity.clone()),
        ])
        .await;
    let mut plan = whole.plan(RunKind::Adopt, std::slice::from_ref(&live), None);
    plan.identity = identity.id;
    plan.old[0].secret = None;
    whole.completed(plan).await;
    assert_eq!(whole.state(live.id).await, "foreign");

    live.id = CredentialId::from_uuid(super::uuid());
    let mut plan = whole.plan(RunKind::TakeOver, std::slice::from_ref(&live), None);
    plan.identity = identity.id;
    whole.completed(plan).await;
    assert_eq!(whole.state(live.id).await, "active");
    let stored: Credential = whole.store.credential(live.id).await.unwrap().unwrap();
    assert_eq!((stored.secret, stored.key_id), (Some(secret), Some(live.key_id)));
    assert_eq!(planted.live_keys().count(), 1);
    whole.engine.shutdown().await;
}

/// Who holds a leaked credential makes another one with it, and an emergency takes the leaked one away.
/// Row 36.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_names_the_keys_that_were_made_since_the_leak() {
    // Beside the two keys of a full account there is no room for a new one, and a person is asked.
    for (strategy, ends) in [
        (Strategy::AlternatingAccounts, "completed"),
        (Strategy::DualSlot, "needs_operator"),
    ] {
        let whole = Whole::new(strategy).await;
        let old = whole.provision("app_a").await;
        let (provider, stolen) = (&whole.bench.provider, whole.bench.draw());
        let made_by_thief = provider.plant_key("app_a", &whole.bench.secret(stolen)).unwrap();
        let account = match strategy {
            Strategy::AlternatingAccounts => fresh("app_b"),
            _ => old.principal.clone(),
        };
        let plan = whole.plan(RunKind::EmergencyRotate, std::slice::from_ref(&old), Some(account));
        let stored = whole.run(plan).await;
        assert_eq!(stored.row.status, ends, "{:?}", stored.events);
        let open = whole
            .store
            .findings(&FindingFilter::default(), Page::first(9))
            .await
            .unwrap();
        let foreign: Vec<_> = open.iter().filter(|one| one.kind == "foreign").collect();
        assert_eq!(foreign.len(), 1, "{open:?}");
        assert_eq!((foreign[0].severity.as_str(), foreign[0].resolved_at), ("high", None));
        assert!(foreign[0].text.contains(&made_by_thief.0), "{}", foreign[0].text);
        assert!(!foreign[0].text.contains(&old.key_id.0), "{}", foreign[0].text);
        whole.engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_to_a_secret_that_does_not_work_is_taken_back() {
    let whole = Whole::new(Strategy::AlternatingAccounts).await;
    let old = whole.provision("app_a").await;
    let plan = whole.plan(RunKind::Rotate, std::slice::from_ref(&old), Some(fresh("app_b")));
    whole.bench.provider.change_faults(|faults| faults.issue_lies = true);
    let new = plan.new.as_ref().unwrap().id;
    let stored = whole.run(plan).await;
    assert_eq!(stored.row.status, "unprovable", "{:?}", stored.events);
    assert!(whole.accepts(&old));
    assert!(whole.bench.provider.account("app_b").is_none());
    assert_eq!(whole.state(new).await, "unprovable");
    assert!(matches!(
        whole.store.credential(old.id).await.unwrap().unwrap().state,
        CredentialState::Active
    ));
    whole.engine.shutdown().await;
}
