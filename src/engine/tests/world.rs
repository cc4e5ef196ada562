//! A store on a file of its own with one system, one policy and as many active identities as a test wants, and an engine to start on it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tempfile::TempDir;

use super::looks::until;
use super::preparing::approval;
use super::rows::{credential, policy_spec, secret_row};
use super::script::Script;
use crate::clock::{Environment, ShiftedClock};
use crate::domain::actor::Actor;
use crate::domain::due::DueReason;
use crate::domain::identity::{CredentialState, Identity, IdentityState};
use crate::domain::ids::{ActId, CredentialId, IdentityId, ResourceId, RunId, SecretId};
use crate::domain::planner::{Drawn, Lives, Registered, RunRequest, plan_run};
use crate::domain::resource::{Kind, Resource, Spec};
use crate::domain::workflow::{RunKind, RunPlan, Trigger};
use crate::engine::report::{PerformSteps, PrepareRuns};
use crate::engine::{Engine, EngineHandle, EngineSettings, opening};
use crate::evidence::audit::{Act, decode_event};
use crate::evidence::record::{AuditRecord, ExceptionCause};
use crate::store::{
    Commit, Committed, Fact, LogEntry, Page, RunFilter, Store, StoreError, StoreOptions, StoredRun, open_sqlite,
};

pub(crate) struct World {
    /// Removed with the world.
    _folder: Option<TempDir>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) steps: Arc<Script>,
    pub(crate) env: Environment,
    pub(crate) clock: Arc<ShiftedClock>,
}

/// An active identity with one live credential.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) id: IdentityId,
    pub(crate) name: String,
    pub(crate) credential: CredentialId,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_policy(json!({})).await
    }

    /// `policy` goes over the spec of the one policy, which rotates daily, automatically.
    pub(crate) async fn with_policy(policy: serde_json::Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions::new(decode_event);
        let mut world = Self::in_folder(folder.path(), options).await.unwrap();
        world._folder = Some(folder);
        world.register(policy).await;
        world
    }

    /// The world of whoever brings a folder: the store that is in it, or a new one with nothing in it.
    pub(crate) async fn in_folder(folder: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let clock = Arc::new(ShiftedClock::default());
        let env = Environment::new(Arc::clone(&clock) as _, Arc::new(ring::rand::SystemRandom::new()));
        let store = open_sqlite(&folder.join("keyfall.db"), options, env.clone()).await?;
        Ok(Self::over(store, env, clock))
    }

    /// The world of whoever brings a store, with nothing registered.
    pub(crate) fn over(store: Arc<dyn Store>, env: Environment, clock: Arc<ShiftedClock>) -> Self {
        let steps = Script::new(env.clone(), Arc::clone(&store));
        Self {
            _folder: None,
            store,
            steps,
            env,
            clock,
        }
    }

    /// What the next process finds: the store in this folder, opened again, and everything else as it stands.
    pub(crate) async fn reopened(self, folder: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let Self {
            _folder,
            store,
            steps,
            env,
            clock,
        } = self;
        // A store that ended by itself has nothing left to close.
        let _ = store.close().await;
        drop(store);
        let store = open_sqlite(&folder.join("keyfall.db"), options, env.clone()).await?;
        let steps = steps.moved_to(Arc::clone(&store));
        Ok(Self {
            _folder,
            store,
            steps,
            env,
            clock,
        })
    }

    /// One owner, one system, one destination, one policy.
    pub(crate) async fn register(&self, policy: serde_json::Value) {
        let system = json!({
            "environment": "test", "owner": "team-a", "connector": "script", "vantages": [{ "name": "primary", "host": "h", "port": 1 }],
            "limits": { "concurrency": 64, "callsPerSecond": 100_000 },
        });
        let destination = json!({ "connector": "script", "environment": "test", "owner": "team-a" });
        self.put(vec![
            self.owner("team-a"),
            self.resource("sys", Spec::System(serde_json::from_value(system).unwrap())),
            self.resource("dst", Spec::Destination(serde_json::from_value(destination).unwrap())),
            self.resource("daily", policy_spec(policy)),
        ])
        .await;
    }

    /// One more policy; `policy` goes over what the first one says.
    pub(crate) async fn policy(&self, name: &str, policy: serde_json::Value) {
        let key = crate::engine::REGISTER_VERSION;
        let version = Some(self.env.draw_uuid().to_string());
        let changed = Fact::Setting { key, value: version };
        self.put(vec![self.resource(name, policy_spec(policy)), changed]).await;
    }

    /// The causes of the exceptions in the log, in its order.
    pub(crate) async fn causes(&self) -> Vec<ExceptionCause> {
        let log = self.store.log(0, 1000).await.unwrap();
        let records = log.iter().map(|entry| AuditRecord::decode(&entry.bytes).unwrap());
        records.filter_map(|record| Some(record.exception?.cause)).collect()
    }

    pub(crate) fn owner(&self, name: &str) -> Fact {
        let spec = json!({ "contact": "team@example.com" });
        self.resource(name, Spec::Owner(serde_json::from_value(spec).unwrap()))
    }

    pub(crate) async fn retire_owner(&self, name: &str) {
        let mut owner = self.store.resource(Kind::Owner, name).await.unwrap().unwrap();
        if let Spec::Owner(spec) = &mut owner.spec {
            spec.retired = true;
        }
        self.put(vec![Fact::Resource(owner)]).await;
    }

    /// Stores a record as it was written `ago`.
    pub(crate) async fn record(&self, ago: SignedDuration) {
        let at = self.env.now() - ago;
        let id = ActId::from_uuid(self.env.draw_uuid());
        let act = Act::of_engine(id, at, "secrets_destroyed", json!({}));
        let commit = Commit {
            log: vec![LogEntry::of_act(act)],
            ..Commit::default()
        };
        self.store.commit(commit).await.unwrap();
    }

    /// Changes what is registered of an identity.
    pub(crate) async fn change(&self, live: &Live, change: impl FnOnce(&mut Identity)) {
        let mut identity = self.store.identity(live.id).await.unwrap().unwrap();
        change(&mut identity);
        self.put(vec![Fact::Identity(identity)]).await;
    }

    pub(crate) async fn is_open(&self, kind: &str, subject: &str) -> bool {
        let open = self.open_findings().await;
        open.contains(&(kind.to_owned(), subject.to_owned()))
    }

    /// Waits until the finding is open, or until it is not.
    pub(crate) async fn until_open(&self, kind: &str, subject: &str, is_open: bool) {
        let what = format!("{kind} of {subject} is open: {is_open}");
        until(&what, || async {
            (self.is_open(kind, subject).await == is_open).then_some(())
        })
        .await;
    }

    fn resource(&self, name: &str, spec: Spec) -> Fact {
        Fact::Resource(Resource {
            id: ResourceId::from_uuid(self.env.draw_uuid()),
            name: name.to_owned(),
            version: 1,
            labels: BTreeMap::new(),
            spec,
            approved: Some(approval(&self.env)),
        })
    }

    pub(crate) async fn put(&self, facts: Vec<Fact>) {
        let commit = Commit {
            facts,
            ..Commit::default()
        };
        let committed = self.store.commit(commit).await.unwrap();
        assert!(matches!(committed, Committed::Stored), "{committed:?}");
    }

    /// Registers an active identity that has been due for `overdue`.
    pub(crate) async fn due(&self, name: &str, overdue: SignedDuration) -> Live {
        let now = self.env.now();
        let live = Live {
            id: IdentityId::from_uuid(self.env.draw_uuid()),
            name: name.to_owned(),
            credential: CredentialId::from_uuid(self.env.draw_uuid()),
        };
        let secret = SecretId::from_uuid(self.env.draw_uuid());
        self.put(vec![
            Fact::Secret(secret_row(secret, now)),
            Fact::Identity(self.identity(&live, now - overdue)),
            Fact::Credential(credential(&live, secret, now)),
        ])
        .await;
        self.steps.make_live(live.credential);
        live
    }

    fn identity(&self, live: &Live, due_at: Timestamp) -> Identity {
        let spec = json!({
            "kind": "database_user", "system": "sys", "environment": "test", "owner": "team-a", "expires": "2099-01-01T00:00:00Z",
            "account": "app", "deliverTo": [{ "destination": "dst", "target": { "path": "x" } }],
        });
        Identity {
            id: live.id,
            name: live.name.clone(),
            version: 1,
            labels: BTreeMap::new(),
            spec: serde_json::from_value(spec).unwrap(),
            state: IdentityState::Active,
            current: Some(live.credential),
            due: Some((due_at, DueReason::MaxAge)),
            is_control: false,
            approved: None,
            created_at: due_at,
        }
    }

    /// Opens a run that somebody asked for, with what `change` makes of its plan.
    pub(crate) async fn ask(&self, live: &Live, request: RunRequest, change: impl FnOnce(&mut RunPlan)) -> RunId {
        let resource = self.store.resource(Kind::System, "sys").await.unwrap().unwrap();
        let Spec::System(system) = &resource.spec else {
            panic!("{resource:?}")
        };
        let identity = self.store.identity(live.id).await.unwrap().unwrap();
        let credentials = self.store.credentials_of(live.id).await.unwrap();
        let connector = self.steps.connector_facts(&resource).await.unwrap();
        let destinations = self.store.resources(Kind::Destination).await.unwrap();
        let destinations = destinations.into_iter().filter_map(|one| match one.spec {
            Spec::Destination(spec) => Some((one.name, (one.id, spec))),
            _ => None,
        });
        let registered = Registered {
            identity: &identity,
            system_id: resource.id,
            system,
            policy: None,
            destinations: &destinations.collect(),
            credentials: &credentials,
            connector: &connector,
            lives: &Lives::new(),
        };
        let drawn = Drawn {
            run: RunId::from_uuid(self.env.draw_uuid()),
            credential: CredentialId::from_uuid(self.env.draw_uuid()),
            secret: SecretId::from_uuid(self.env.draw_uuid()),
            now: self.env.now(),
        };
        let mut plan = plan_run(&registered, request, drawn).unwrap();
        plan.proof.refusals = 1;
        plan.proof.interval = SignedDuration::from_millis(1);
        change(&mut plan);
        let secret = secret_row(drawn.secret, drawn.now);
        let opened = self.store.commit(opening(plan, Some(secret)).unwrap()).await.unwrap();
        assert!(matches!(opened, Committed::Stored), "{opened:?}");
        drawn.run
    }

    pub(crate) fn request(&self, kind: RunKind, reason: DueReason) -> RunRequest {
        RunRequest {
            kind,
            trigger: match kind {
                RunKind::EmergencyRotate => Trigger::BreakGlass,
                _ => Trigger::Request,
            },
            reason,
            initiator: Actor::Engine,
            approval: approval(&self.env),
            credential: None,
            exception: None,
        }
    }

    pub(crate) async fn due_of(&self, live: &Live) -> Option<(Timestamp, DueReason)> {
        self.store.identity(live.id).await.unwrap().unwrap().due
    }

    pub(crate) async fn start(&self) -> EngineHandle {
        self.start_on(Arc::clone(&self.store)).await
    }

    /// Starts the engine on a decorated store.
    pub(crate) async fn start_on(&self, store: Arc<dyn Store>) -> EngineHandle {
        self.start_with(store, settings()).await
    }

    pub(crate) async fn start_with(&self, store: Arc<dyn Store>, settings: EngineSettings) -> EngineHandle {
        self.start_doing(Arc::clone(&self.steps) as _, store, settings).await
    }

    /// Starts the engine with other steps.
    pub(crate) async fn start_doing(
        &self,
        steps: Arc<dyn PerformSteps>,
        store: Arc<dyn Store>,
        settings: EngineSettings,
    ) -> EngineHandle {
        let engine = Engine {
            store,
            steps,
            prepare: Arc::clone(&self.steps) as _,
            env: self.env.clone(),
            settings,
        };
        engine.start().await.unwrap()
    }

    /// The one run of an identity, when there is one.
    pub(crate) async fn run_of(&self, live: &Live) -> Option<StoredRun> {
        let filter = RunFilter {
            identity: Some(live.id),
            ..RunFilter::default()
        };
        let rows = self.store.runs(&filter, Page::first(2)).await.unwrap();
        assert!(rows.len() < 2, "one identity has several runs: {rows:?}");
        let id = rows.first()?.id;
        self.store.run(id).await.unwrap()
    }

    /// Waits until the identity's run has this status.
    pub(crate) async fn until_status(&self, live: &Live, status: &str) -> StoredRun {
        let what = format!("{} becomes {status}", live.name);
        until(&what, || async {
            let run = self.run_of(live).await?;
            (run.row.status == status).then_some(run)
        })
        .await
    }

    pub(crate) async fn state_of(&self, id: CredentialId) -> CredentialState {
        self.store.credential(id).await.unwrap().unwrap().state
    }

    pub(crate) async fn open_findings(&self) -> Vec<(String, String)> {
        let filter = crate::store::FindingFilter {
            open_only: true,
            ..Default::default()
        };
        let rows = self.store.findings(&filter, Page::first(100)).await.unwrap();
        rows.into_iter().map(|row| (row.kind, row.subject)).collect()
    }
}

/// Settings under which nothing is waited for longer than a test likes.
pub(crate) fn settings() -> EngineSettings {
    EngineSettings {
        take_over_at_start: true,
        recheck: SignedDuration::from_millis(50),
        sweep_every: Duration::ZERO,
        ..EngineSettings::new("node-a")
    }
}
