//! Two people with keys and tokens, a store on a file of its own, and the use cases over it. Nothing downstream is reached.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::ServerGrants;
use ring::rand::SystemRandom;
use tempfile::TempDir;

use crate::app::manifest::ManifestFile;
use crate::app::{App, AppError, AppParts, AppSettings, Bell, Caller, EnrolAsk, PlanView, Signed, first_people};
use crate::clock::{Environment, ShiftedClock};
use crate::domain::ids::{PlanId, RunId};
use crate::domain::workflow::{Event, EventBody, Run};
use crate::engine::EngineSettings;
use crate::engine::clocks::TOLERANCE;
use crate::engine::prepare::{KnownSignatures, Preparation};
use crate::engine::secrets::StoredSecrets;
use crate::engine::systems::{StoredCatalog, Systems};
use crate::evidence::approval::{ApprovalStatement, Decision};
use crate::evidence::audit::{decode_event, encode_event};
use crate::evidence::keys::SigningKey;
use crate::sealing::{Kek, Keyring};
use crate::store::{Commit, Committed, Fact, LogEntry, Store, StoreOptions, open_sqlite};

struct Silent;

impl Bell for Silent {
    fn ring(&self) {}

    fn last_pass_at(&self) -> Option<Timestamp> {
        None
    }
}

pub(super) struct World {
    folder: TempDir,
    pub(super) store: Arc<dyn Store>,
    pub(super) app: App,
    pub(super) env: Environment,
    pub(super) clock: Arc<ShiftedClock>,
    keys: BTreeMap<String, SigningKey>,
}

impl World {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ShiftedClock::default());
        let env = Environment::new(Arc::clone(&clock) as _, Arc::new(SystemRandom::new()));
        let options = StoreOptions::new(decode_event);
        let store = open_sqlite(&folder.path().join("keyfall.db"), options, env.clone())
            .await
            .unwrap();
        let keys = ["ada", "bo"].map(|name| (name.to_owned(), key(&folder, name)));
        let public: Vec<_> = keys
            .iter()
            .map(|(name, key)| (name.clone(), key.verifier().clone()))
            .collect();
        std::fs::create_dir(folder.path().join("apps")).unwrap();
        let world = Self {
            app: app(&folder, &store, &env),
            folder,
            store,
            keys: BTreeMap::from(keys),
            env,
            clock,
        };
        let (facts, _) = first_people(&world.env, &public).unwrap();
        world.put(facts).await;
        world
    }

    pub(super) async fn put(&self, facts: Vec<Fact>) {
        let commit = Commit {
            facts,
            ..Commit::default()
        };
        let committed = self.store.commit(commit).await.unwrap();
        assert!(matches!(committed, Committed::Stored), "{committed:?}");
    }

    /// A path in the world's own directory; `apps` in it is a root of file destinations.
    pub(super) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// A key for somebody else.
    pub(super) fn new_key(&self, name: &str) -> SigningKey {
        key(&self.folder, name)
    }

    /// Somebody enrolled, with a token made for the occasion.
    pub(super) async fn caller(&self, name: &str) -> Caller {
        let people = self.store.people().await.unwrap();
        let person = people.into_iter().find(|one| one.name == name).unwrap();
        Caller {
            person: person.id,
            roles: person
                .roles
                .iter()
                .filter_map(|role| crate::app::Role::named(role))
                .collect(),
            name: person.name,
        }
    }

    /// `ada` asks for somebody who can approve as well, `bo` signs.
    pub(super) async fn enrol(&mut self, name: &str) {
        let key = self.new_key(name);
        let ask = EnrolAsk {
            name: name.to_owned(),
            roles: vec!["approver".to_owned()],
            public_key: Some(key.verifier().to_string()),
            token_digest: None,
            reason: String::new(),
        };
        let plan = self.app.enrol(&self.caller("ada").await, ask).await.unwrap();
        self.approve("bo", &plan).await.unwrap();
        self.keys.insert(name.to_owned(), key);
    }

    /// A run as its log tells it.
    pub(super) async fn folded(&self, run: RunId) -> Run {
        Run::replay(&self.store.run(run).await.unwrap().unwrap().events).unwrap()
    }

    /// Appends to the log of a run what an engine would, with the facts that go with it.
    pub(super) async fn append(&self, run: RunId, body: EventBody, facts: impl FnOnce(&Run, &Event) -> Vec<Fact>) {
        let mut folded = self.folded(run).await;
        let at = Timestamp::from_microsecond(self.env.now().as_microsecond()).unwrap();
        let event = Event {
            seq: folded.next_seq(),
            at,
            epoch: 0,
            body,
        };
        folded.apply(&event).unwrap();
        let commit = Commit {
            facts: facts(&folded, &event),
            log: vec![LogEntry {
                run: Some((run, event.seq)),
                at,
                bytes: encode_event(folded.plan(), &folded, &event),
            }],
            ..Commit::default()
        };
        let stored = self.store.commit(commit).await.unwrap();
        assert!(matches!(stored, Committed::Stored), "{stored:?}");
    }

    /// The person signs the plan with the person's own key.
    pub(super) async fn approve(&self, name: &str, plan: &PlanView) -> Result<PlanView, AppError> {
        let id: PlanId = plan.id.parse().unwrap();
        let row = self.store.plan(id).await.unwrap().unwrap();
        let expires = self.env.now() + SignedDuration::from_hours(1);
        let statement = ApprovalStatement {
            plan_id: plan.id.clone(),
            plan_digest: row.digest.0,
            decision: Decision::Approve,
            expires_at_micros: expires.as_microsecond(),
        };
        let signed = Signed {
            signature: statement.sign(&self.keys[name]),
            expires_at_micros: expires.as_microsecond(),
            reason: String::new(),
        };
        self.app.approve(&self.caller(name).await, &plan.id, signed).await
    }

    /// `ada` asks for what the manifests say.
    pub(super) async fn plan(&self, text: &str) -> Result<PlanView, AppError> {
        self.plan_as("ada", text, "").await
    }

    pub(super) async fn plan_as(&self, name: &str, text: &str, reason: &str) -> Result<PlanView, AppError> {
        let file = ManifestFile {
            name: "test.yaml".to_owned(),
            text: text.to_owned(),
        };
        self.app
            .plan_manifests(&self.caller(name).await, reason.to_owned(), vec![file])
            .await
    }

    /// `ada` asks, `bo` signs.
    pub(super) async fn apply(&self, text: &str) -> PlanView {
        let plan = self.plan(text).await.unwrap();
        self.approve("bo", &plan).await.unwrap()
    }
}

fn key(folder: &TempDir, name: &str) -> SigningKey {
    SigningKey::create(&folder.path().join(format!("{name}.key")), name, &SystemRandom::new()).unwrap()
}

fn app(folder: &TempDir, store: &Arc<dyn Store>, env: &Environment) -> App {
    let ring = Arc::new(Keyring::new(Kek::from_bytes(&[7; 32]).unwrap(), Vec::new()));
    let kinds = keyfall_connectors::registry();
    let secrets = Arc::new(StoredSecrets::new(Arc::clone(store), Arc::clone(&ring)));
    let catalog = Arc::new(StoredCatalog(Arc::clone(store)));
    let mut grants = ServerGrants::default();
    for (name, path) in [("all", ""), ("apps", "apps")] {
        grants.file_roots.insert(name.to_owned(), folder.path().join(path));
    }
    let systems = Arc::new(Systems::new(kinds.clone(), grants.clone(), catalog, secrets));
    let prepare = Arc::new(Preparation {
        store: Arc::clone(store),
        systems: Arc::clone(&systems),
        keys: Arc::clone(&ring),
        env: env.clone(),
        signatures: KnownSignatures::default(),
    });
    App::new(AppParts {
        store: Arc::clone(store),
        env: env.clone(),
        bell: Arc::new(Silent),
        keys: ring,
        signing: Arc::new(key(folder, "server")),
        kinds,
        systems,
        prepare,
        settings: AppSettings {
            node: "node-a".to_owned(),
            origin: "test".to_owned(),
            backup_directory: folder.path().join("backups"),
            grants,
            clock_tolerance: TOLERANCE,
            believed_for: EngineSettings::new("node-a").believed_for(),
        },
    })
}
