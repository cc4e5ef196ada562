//! A store on a file of its own with one system, one policy and as many active identities as a test wants, and an engine to start on it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{KeyId, PrincipalRef};
use serde_json::json;
use tempfile::TempDir;

use super::script::{Script, approval};
use crate::clock::{Environment, ShiftedClock};
use crate::domain::actor::Actor;
use crate::domain::digest::Digest;
use crate::domain::due::DueReason;
use crate::domain::identity::{Credential, CredentialState, Identity, IdentityState};
use crate::domain::ids::{CredentialId, IdentityId, ResourceId, RunId, SecretId};
use crate::domain::resource::{PolicySpec, Resource, Spec};
use crate::domain::workflow::{EventBody, Run};
use crate::engine::{Engine, EngineHandle, EngineSettings};
use crate::evidence::audit::{Act, decode_event, encode_act};
use crate::store::{
    Commit, Committed, Fact, LogEntry, Page, RunFilter, SecretRow, Store, StoreOptions, StoredRun, open_sqlite,
};

pub(super) struct World {
    _folder: TempDir,
    pub(super) store: Arc<dyn Store>,
    pub(super) steps: Arc<Script>,
    pub(super) env: Environment,
    pub(super) clock: Arc<ShiftedClock>,
}

/// An active identity with one live credential.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) id: IdentityId,
    pub(super) name: String,
    pub(super) credential: CredentialId,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with_policy(json!({})).await
    }

    /// `policy` goes over the spec of the one policy, which rotates daily, automatically.
    pub(super) async fn with_policy(policy: serde_json::Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ShiftedClock::default());
        let env = Environment::new(Arc::clone(&clock) as _, Arc::new(ring::rand::SystemRandom::new()));
        let options = StoreOptions::new(decode_event);
        let store = open_sqlite(&folder.path().join("keyfall.db"), options, env.clone())
            .await
            .unwrap();
        let steps = Script::new(env.clone(), Arc::clone(&store));
        let world = Self {
            _folder: folder,
            store,
            steps,
            env,
            clock,
        };
        world.register(policy).await;
        world
    }

    async fn register(&self, policy: serde_json::Value) {
        let mut spec = json!({
            "owner": "team-a", "selector": { "systems": ["sys"] }, "rotation": { "every": "24h" }, "autonomy": "automatic",
            "proof": { "refusals": 1, "interval": "1ms", "giveUpAfter": "1m", "keepDeadSecret": "1h" },
        });
        spec.as_object_mut()
            .unwrap()
            .extend(policy.as_object().unwrap().clone());
        let policy: PolicySpec = serde_json::from_value(spec).unwrap();
        let system = json!({
            "environment": "test", "owner": "team-a", "connector": "script", "vantages": [{ "name": "primary", "host": "h", "port": 1 }],
            "limits": { "concurrency": 64, "callsPerSecond": 100_000 },
        });
        let destination = json!({ "connector": "script", "environment": "test", "owner": "team-a" });
        self.put(vec![
            self.owner("team-a"),
            self.resource("sys", Spec::System(serde_json::from_value(system).unwrap())),
            self.resource("dst", Spec::Destination(serde_json::from_value(destination).unwrap())),
            self.resource("daily", Spec::Policy(policy)),
        ])
        .await;
    }

    pub(super) fn owner(&self, name: &str) -> Fact {
        let spec = json!({ "contact": "team@example.com" });
        self.resource(name, Spec::Owner(serde_json::from_value(spec).unwrap()))
    }

    /// Stores a record as it was written `ago`.
    pub(super) async fn record(&self, ago: SignedDuration) {
        let at = self.env.now() - ago;
        let act = Act {
            id: format!("act_{}", self.env.draw_uuid().simple()),
            at,
            action: "secret_set",
            by: &Actor::Engine,
            trigger: "request",
            identity: None,
            system: None,
            approval: None,
            exception: None,
            outcome: "done",
            details: json!({}),
        };
        let commit = Commit {
            log: vec![LogEntry {
                run: None,
                at,
                bytes: encode_act(act),
            }],
            ..Commit::default()
        };
        self.store.commit(commit).await.unwrap();
    }

    /// Changes what is registered of an identity.
    pub(super) async fn change(&self, live: &Live, change: impl FnOnce(&mut Identity)) {
        let mut identity = self.store.identity(live.id).await.unwrap().unwrap();
        change(&mut identity);
        self.put(vec![Fact::Identity(identity)]).await;
    }

    pub(super) async fn is_open(&self, kind: &str, subject: &str) -> bool {
        let open = self.open_findings().await;
        open.contains(&(kind.to_owned(), subject.to_owned()))
    }

    /// Waits until the finding is open, or until it is not.
    pub(super) async fn until_open(&self, kind: &str, subject: &str, is_open: bool) {
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

    pub(super) async fn put(&self, facts: Vec<Fact>) {
        let commit = Commit {
            facts,
            ..Commit::default()
        };
        let committed = self.store.commit(commit).await.unwrap();
        assert!(matches!(committed, Committed::Stored { .. }), "{committed:?}");
    }

    /// Registers an active identity that has been due for `overdue`.
    pub(super) async fn due(&self, name: &str, overdue: SignedDuration) -> Live {
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

    pub(super) async fn start(&self) -> EngineHandle {
        self.start_on(Arc::clone(&self.store)).await
    }

    /// Starts the engine on a decorated store.
    pub(super) async fn start_on(&self, store: Arc<dyn Store>) -> EngineHandle {
        self.start_with(store, settings()).await
    }

    pub(super) async fn start_with(&self, store: Arc<dyn Store>, settings: EngineSettings) -> EngineHandle {
        let engine = Engine {
            store,
            steps: Arc::clone(&self.steps) as _,
            prepare: Arc::clone(&self.steps) as _,
            env: self.env.clone(),
            settings,
        };
        engine.start().await.unwrap()
    }

    /// The one run of an identity, when there is one.
    pub(super) async fn run_of(&self, live: &Live) -> Option<StoredRun> {
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
    pub(super) async fn until_status(&self, live: &Live, status: &str) -> StoredRun {
        let what = format!("{} becomes {status}", live.name);
        until(&what, || async {
            let run = self.run_of(live).await?;
            (run.row.status == status).then_some(run)
        })
        .await
    }

    pub(super) async fn state_of(&self, id: CredentialId) -> CredentialState {
        self.store.credential(id).await.unwrap().unwrap().state
    }

    pub(super) async fn open_findings(&self) -> Vec<(String, String)> {
        let filter = crate::store::FindingFilter {
            open_only: true,
            ..Default::default()
        };
        let rows = self.store.findings(&filter, Page::first(100)).await.unwrap();
        rows.into_iter().map(|row| (row.kind, row.subject)).collect()
    }
}

/// Settings under which nothing is waited for longer than a test likes.
pub(super) fn settings() -> EngineSettings {
    EngineSettings {
        take_over_at_start: true,
        recheck: SignedDuration::from_millis(50),
        sweep_every: Duration::ZERO,
        ..EngineSettings::new("node-a")
    }
}

pub(super) fn secret_row(id: SecretId, at: Timestamp) -> SecretRow {
    SecretRow {
        id,
        name: None,
        kind: "credential".to_owned(),
        version: 1,
        endpoint_digest: Digest::of(b"endpoints"),
        algorithm: "test".to_owned(),
        kek_id: "kek".to_owned(),
        wrapped_key: vec![1; 32],
        wrap_nonce: vec![2; 12],
        nonce: vec![3; 12],
        ciphertext: vec![4; 32],
        created_at: at,
        destroy_at: None,
        destroyed_at: None,
    }
}

fn credential(live: &Live, secret: SecretId, at: Timestamp) -> Credential {
    Credential {
        id: live.credential,
        identity: live.id,
        principal: PrincipalRef {
            name: "app".to_owned(),
            immutable_id: Some("1".to_owned()),
        },
        key_id: Some(KeyId(live.credential.to_string())),
        secret: Some(secret),
        state: CredentialState::Active,
        created_at: at,
        proven_at: Some(at),
    }
}

pub(super) fn run_id(run: &StoredRun) -> RunId {
    run.row.id
}

/// The credential that the run issued.
pub(super) fn new_of(run: &StoredRun) -> CredentialId {
    Run::replay(&run.events).unwrap().plan().new.as_ref().unwrap().id
}

pub(super) fn starts_of(run: &StoredRun, wanted: crate::domain::workflow::Step) -> usize {
    let is_start = |body: &EventBody| matches!(body, EventBody::Started { step, .. } if *step == wanted);
    run.events.iter().filter(|event| is_start(&event.body)).count()
}

/// Asks until there is an answer, for a bounded time.
pub(super) async fn until<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    let mut beat = tokio::time::interval(Duration::from_millis(10));
    let asking = async {
        loop {
            beat.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    match tokio::time::timeout(Duration::from_secs(30), asking).await {
        Ok(answer) => answer,
        Err(_) => panic!("in vain waited until {what}"),
    }
}
