//! A store with one system and its control identity registered, on which cells are played one after another. It makes engines as `wire/serve.rs`
//! does, with a hand between engine and store, steps and connectors.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use keyfall_sdk::{BoxFuture, Connector, PrincipalReading, PrincipalRef, SecretShape, SecretValue};
use serde_json::json;
use tempfile::TempDir;

use super::cells::Cell;
use super::connector::MeddledKind;
use super::database::{Database, Opened};
use super::flavour::{Flavour, truth};
use super::hand::{Hand, Life};
use super::steps::{Habits, MeddledSteps};
use super::store::MeddledCommits;
use super::time::Time;
use super::truth::Service;
use crate::clock::Environment;
use crate::domain::actor::Approval;
use crate::domain::digest::Digest;
use crate::domain::ids::{ResourceId, SecretId};
use crate::domain::planner::ConnectorFacts;
use crate::domain::resource::{Kind, Resource, Spec, SystemManifest};
use crate::domain::workflow::RunPlan;
use crate::engine::controls::RegisteredControls;
use crate::engine::prepare::{KnownSignatures, Preparation};
use crate::engine::report::PrepareRuns;
use crate::engine::secrets::{Reach, SealAs, StoredSecrets, seal};
use crate::engine::steps::{StepSettings, Steps, StoredRefusals};
use crate::engine::systems::{StoredCatalog, Systems};
use crate::engine::{Engine, EngineHandle, EngineSettings};
use crate::faults::between::Between;
use crate::faults::oracle::Truth;
use crate::sealing::{Kek, Keyring, SecretGenerator};
use crate::store::{Commit, Committed, Fact, SecretRow, Store};

/// How long an answer is waited for. A server that is slow for a moment is not what the matrix asks about.
const CALL_TIME: Duration = Duration::from_secs(20);
/// Longer than any attempt under it.
pub(crate) const LEASE: Duration = Duration::from_secs(300);

pub(crate) const SYSTEM: &str = "sys";
pub(crate) const DESTINATION: &str = "dst";
pub(crate) const POLICY: &str = "matrix";

pub(crate) struct Bench {
    pub(crate) flavour: Flavour,
    pub(crate) database: Database,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) time: Time,
    pub(crate) env: Environment,
    pub(crate) keys: Arc<Keyring>,
    pub(crate) manifest: SystemManifest,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) destination: Arc<dyn Connector>,
    /// Where files are delivered.
    pub(crate) out: PathBuf,
    provider: String,
    service: Option<Service>,
    number: AtomicU32,
    _opened: Opened,
    _folder: TempDir,
}

impl Bench {
    pub(crate) async fn new(flavour: Flavour, database: Database, time: &Time) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        std::fs::create_dir(&out).unwrap();
        let env = Environment::new(Arc::new(time.clone()), Arc::new(ring::rand::SystemRandom::new()));
        let opened = database.open(folder.path(), &env).await;
        let provider = format!("matrix-{}", env.draw_uuid().simple());
        let manifest: SystemManifest = serde_json::from_value(flavour.system(&provider)).unwrap();
        let grants = Flavour::grants(&out);
        let connect = |kind: &str, spec: &keyfall_sdk::SystemSpec, admin| {
            let kinds = keyfall_connectors::registry();
            let kind = kinds.iter().find(|one| one.descriptor().kind == kind).unwrap();
            kind.connect(spec, admin, &grants).unwrap()
        };
        let connector = connect(&manifest.connector, &manifest.reach(), flavour.admin());
        let place = keyfall_sdk::SystemSpec {
            connector: flavour.destination().to_owned(),
            vantages: Vec::new(),
            tls: keyfall_sdk::TlsMode::default(),
            tls_ca: None,
            options: serde_json::Value::Null,
        };
        let destination = connect(flavour.destination(), &place, None);
        let bench = Self {
            service: flavour.service().await,
            flavour,
            database,
            store: Arc::clone(&opened.store),
            _opened: opened,
            time: time.clone(),
            env,
            keys: Arc::new(Keyring::new(Kek::from_bytes(&[7; 32]).unwrap(), Vec::new())),
            manifest,
            connector,
            destination,
            out,
            provider,
            number: AtomicU32::new(0),
            _folder: folder,
        };
        bench.register().await;
        bench
    }

    pub(crate) fn fits(&self, cell: &Cell) -> bool {
        (self.flavour, self.database) == (cell.scenario.flavour, cell.database)
    }

    /// A name that nothing else in any store or on any server has.
    pub(crate) fn name(&self) -> String {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let drawn = self.env.draw_uuid().simple().to_string();
        format!("mx{}_{number}", &drawn[20..])
    }

    pub(crate) fn truth(&self, account: &str) -> Arc<dyn Truth> {
        truth(self.service.as_ref(), &self.provider, account, &self.out)
    }

    pub(crate) fn endpoints(&self) -> Digest {
        self.manifest.endpoint_digest().unwrap()
    }

    pub(crate) fn secrets(&self) -> StoredSecrets {
        StoredSecrets::new(Arc::clone(&self.store), Arc::clone(&self.keys))
    }

    /// A fresh secret of the system's shape, sealed.
    pub(crate) fn draw_secret(&self) -> (SecretValue, SecretRow) {
        let generator = SecretGenerator::new(SecretShape::STRONG).unwrap();
        let secret = generator.draw(&*self.env.random).unwrap();
        let row = self.seal(&secret, "credential", None, self.endpoints());
        (secret, row)
    }

    fn seal(&self, secret: &SecretValue, kind: &str, name: Option<&str>, endpoints: Digest) -> SecretRow {
        let seal_as = SealAs {
            id: SecretId::from_uuid(self.env.draw_uuid()),
            name: name.map(str::to_owned),
            kind: kind.to_owned(),
            version: 1,
            endpoints,
            at: self.env.now(),
        };
        seal(&self.keys, seal_as, secret, &*self.env.random).unwrap()
    }

    pub(crate) async fn put(&self, facts: Vec<Fact>) {
        let commit = Commit {
            facts,
            ..Commit::default()
        };
        self.commit(commit).await;
    }

    pub(crate) async fn commit(&self, commit: Commit) {
        let committed = self.store.commit(commit).await.unwrap();
        assert!(!matches!(committed, Committed::Refused { .. }), "{committed:?}");
    }

    fn resource(&self, name: &str, spec: Spec) -> Fact {
        Fact::Resource(Resource {
            id: ResourceId::from_uuid(self.env.draw_uuid()),
            name: name.to_owned(),
            version: 1,
            labels: BTreeMap::new(),
            spec,
            approved: None,
        })
    }

    async fn register(&self) {
        let owner = json!({ "contact": "team@example.org" });
        let destination = json!({ "connector": self.flavour.destination(), "environment": "test", "owner": "team" });
        let policy = json!({
            "owner": "team", "selector": { "systems": [SYSTEM] }, "rotation": { "every": "30d" }, "autonomy": "approve",
            "budget": { "destructive": 1_000_000, "per": "1h" }, "overlap": "1ms",
            "uptake": { "interval": "1ms", "timeout": "30s" }, "decommission": { "listen": "1ms" },
            "proof": { "refusals": 2, "interval": "1ms", "giveUpAfter": "30s", "keepDeadSecret": "1h" },
        });
        let mut facts = vec![
            self.resource("team", Spec::Owner(serde_json::from_value(owner).unwrap())),
            self.resource(SYSTEM, Spec::System(self.manifest.clone())),
            self.resource(
                DESTINATION,
                Spec::Destination(serde_json::from_value(destination).unwrap()),
            ),
            self.resource(POLICY, Spec::Policy(serde_json::from_value(policy).unwrap())),
        ];
        if let Some(admin) = self.flavour.admin() {
            let reach = Reach::of("admin", [&self.manifest]).unwrap().digest().unwrap();
            facts.push(Fact::Secret(self.seal(&admin.secret, "admin", Some("admin"), reach)));
        }
        self.put(facts).await;
        self.plant_control().await;
    }

    pub(crate) async fn system(&self) -> Resource {
        self.store.resource(Kind::System, SYSTEM).await.unwrap().unwrap()
    }

    /// One process of a cell.
    pub(crate) async fn start(&self, node: &str, hand: &Arc<Hand>, life: &Arc<Life>, habits: Habits) -> EngineHandle {
        let store: Arc<dyn Store> = Between::a_store(Arc::clone(&self.store), MeddledCommits::new(hand, life));
        let kinds = keyfall_connectors::registry().into_iter().map(|inner| {
            Arc::new(MeddledKind {
                inner,
                hand: Arc::clone(hand),
                life: Arc::clone(life),
            }) as Arc<dyn keyfall_sdk::ConnectorKind>
        });
        let secrets = Arc::new(StoredSecrets::new(Arc::clone(&store), Arc::clone(&self.keys)));
        let catalog = Arc::new(StoredCatalog(Arc::clone(&store)));
        let systems = Systems::new(kinds.collect(), Flavour::grants(&self.out), catalog, secrets.clone());
        let systems = Arc::new(systems.believing_the_catalog_for(Duration::from_secs(1)));
        let prepare = self.preparation(&store, &systems);
        let settings = StepSettings {
            call_time: CALL_TIME,
            issue_grace: SignedDuration::try_from(CALL_TIME + CALL_TIME / 3).unwrap(),
            has_others: false,
        };
        let steps = Steps::new(
            systems,
            secrets,
            Arc::new(RegisteredControls(Arc::clone(&store))),
            Arc::new(StoredRefusals(Arc::clone(&store))),
            self.env.clone(),
            settings,
        );
        let steps = MeddledSteps {
            inner: Arc::new(steps),
            hand: Arc::clone(hand),
            life: Arc::clone(life),
            habits,
        };
        let engine = Engine {
            store,
            steps: Arc::new(steps),
            prepare: Arc::new(prepare),
            env: self.env.clone(),
            settings: EngineSettings {
                take_over_at_start: self.database.is_of_one_process(),
                lease: SignedDuration::try_from(LEASE).unwrap(),
                // The cells move the clock over every wait.
                clock_tolerance: SignedDuration::from_hours(100_000),
                recheck: SignedDuration::from_millis(5),
                without_bell: true,
                ..EngineSettings::new(node)
            },
        };
        engine.start().await.unwrap()
    }

    pub(crate) fn preparation(&self, store: &Arc<dyn Store>, systems: &Arc<Systems>) -> Approved {
        Approved(Preparation {
            store: Arc::clone(store),
            systems: Arc::clone(systems),
            keys: Arc::clone(&self.keys),
            env: self.env.clone(),
            signatures: KnownSignatures::default(),
        })
    }
}

/// The real preparation of runs, but for signatures: who may approve is tried elsewhere (`tests/it/workflows/approvals.rs`).
pub(crate) struct Approved(Preparation);

impl PrepareRuns for Approved {
    fn connector_facts<'a>(&'a self, system: &'a Resource) -> BoxFuture<'a, Result<ConnectorFacts, String>> {
        self.0.connector_facts(system)
    }

    fn seal_new(&self, plan: &RunPlan) -> Result<SecretRow, String> {
        self.0.seal_new(plan)
    }

    fn reading<'a>(
        &'a self,
        system: &'a str,
        principal: &'a PrincipalRef,
    ) -> BoxFuture<'a, Result<PrincipalReading, String>> {
        self.0.reading(system, principal)
    }

    fn check_approval<'a>(&'a self, _approval: &'a Approval) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}
