//! The nodes: each a real engine with real steps, behind its own line to the one database and its own network to the systems.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::ServerGrants;
use tokio::time::Instant;

use super::dice::Dice;
use super::life::{Life, LineWeather};
use super::network::{LONGEST_WAY, NetWeather, Network};
use super::remote::kinds;
use super::truth::Truth;
use super::witness::Witness;
use crate::app::Bell;
use crate::clock::{Clock, Environment, SeededChance};
use crate::engine::controls::RegisteredControls;
use crate::engine::prepare::{KnownSignatures, Preparation};
use crate::engine::secrets::StoredSecrets;
use crate::engine::steps::{StepSettings, Steps, StoredRefusals};
use crate::engine::systems::{StoredCatalog, Systems};
use crate::engine::{Engine, EngineHandle, EngineSettings};
use crate::sealing::{Kek, Keyring};
use crate::store::Store;
use crate::store::inline::Database;

pub(super) const LEASE: SignedDuration = SignedDuration::from_secs(10);
const CALL_TIME: Duration = Duration::from_secs(1);

/// Tokio's paused clock as wall time, so far off as the node's machine is.
pub(super) struct SimClock {
    began: Instant,
    off_by: SignedDuration,
}

impl SimClock {
    pub(super) fn new(began: Instant, off_by: SignedDuration) -> Self {
        Self { began, off_by }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.began.elapsed()).unwrap();
        Timestamp::from_second(1_800_000_000).unwrap() + elapsed + self.off_by
    }
}

/// Rings every engine that there is.
#[derive(Default)]
pub(super) struct Bells(Mutex<Vec<EngineHandle>>);

impl Bells {
    fn add(&self, engine: EngineHandle) {
        self.0.lock().unwrap().push(engine);
    }
}

impl Bell for Bells {
    fn ring(&self) {
        for engine in &*self.0.lock().unwrap() {
            engine.ring();
        }
    }

    fn last_pass_at(&self) -> Option<Timestamp> {
        None
    }
}

pub(super) fn keyring() -> Arc<Keyring> {
    Arc::new(Keyring::new(Kek::from_bytes(&[7; 32]).unwrap(), Vec::new()))
}

/// What all nodes share.
pub(super) struct Site {
    pub(super) seed: u64,
    pub(super) began: Instant,
    pub(super) database: Database,
    pub(super) truth: Arc<Truth>,
    /// The database without any line.
    pub(super) direct: Arc<dyn Store>,
    pub(super) clock: Environment,
    pub(super) bells: Arc<Bells>,
}

pub(super) struct Node {
    pub(super) name: String,
    pub(super) life: Arc<Life>,
    network: Arc<Network>,
    witness: Arc<Witness>,
    skew: SignedDuration,
    starts: u64,
}

impl Node {
    /// A process that is started, when its time comes, for the first time or after a death.
    pub(super) async fn start(site: &Site, name: &str, skew: SignedDuration, starts: u64) -> Self {
        let purpose = 1_000 + starts * 10 + name.bytes().map(u64::from).sum::<u64>() * 1_000;
        let life = Arc::new(Life::new(Dice::new(site.seed, purpose)));
        let witness = Arc::new(Witness::new(
            name,
            Arc::clone(&site.direct),
            Arc::clone(&site.truth),
            site.clock.clone(),
        ));
        let network = Arc::new(Network::new(
            Arc::clone(&life),
            Arc::clone(&site.truth),
            Arc::clone(&witness),
            Dice::new(site.seed, purpose + 1),
        ));
        let node = Self {
            name: name.to_owned(),
            life,
            network,
            witness,
            skew,
            starts,
        };
        let env = Environment::new(
            Arc::new(SimClock::new(site.began, skew)),
            Arc::new(SeededChance::new(site.seed ^ (purpose + 2) << 20)),
        );
        match node.engine(site, env).start().await {
            Ok(engine) => {
                site.bells.add(engine);
                site.truth.note(|| format!("{name} is started"));
            }
            // Somebody tries again later.
            Err(error) => {
                site.truth.note(|| format!("{name} does not start: {error}"));
                node.kill();
            }
        }
        node
    }

    fn engine(&self, site: &Site, env: Environment) -> Engine {
        let line: Arc<Life> = Arc::clone(&self.life);
        let store = site.database.at_the_end_of(line, env.clone());
        let keys = keyring();
        let secrets = Arc::new(StoredSecrets::new(Arc::clone(&store), Arc::clone(&keys)));
        let catalog = Arc::new(StoredCatalog(Arc::clone(&store)));
        let systems = Systems::new(
            kinds(&self.network),
            ServerGrants::default(),
            catalog,
            Arc::clone(&secrets) as _,
        );
        let systems = Arc::new(systems.believing_the_catalog_for(Duration::from_secs(1)));
        let prepare = Arc::new(Preparation {
            store: Arc::clone(&store),
            systems: Arc::clone(&systems),
            keys,
            env: env.clone(),
            signatures: KnownSignatures::default(),
        });
        let settings = StepSettings {
            call_time: CALL_TIME,
            issue_grace: SignedDuration::try_from(LONGEST_WAY + Duration::from_millis(1_500)).unwrap(),
            has_others: true,
        };
        let steps = Steps::new(
            systems,
            secrets,
            Arc::new(RegisteredControls(Arc::clone(&store))),
            Arc::new(StoredRefusals(Arc::clone(&store))),
            env.clone(),
            settings,
        );
        Engine {
            store,
            steps: Arc::new(steps),
            prepare,
            env,
            settings: EngineSettings {
                lease: LEASE,
                max_runs: 3,
                take_over_at_start: false,
                recheck: SignedDuration::from_millis(500),
                sweep_every: Duration::from_secs(20),
                without_bell: true,
                ..EngineSettings::new(self.name.clone())
            },
        }
    }

    /// The machine comes back, and the process with it.
    pub(super) async fn restart(&mut self, site: &Site) {
        *self = Self::start(site, &self.name.clone(), self.skew, self.starts + 1).await;
    }

    pub(super) fn kill(&self) {
        self.life.kill();
    }

    pub(super) fn pause(&self, time: Duration) {
        self.witness.node_is_stopped_for(time);
        self.life.pause(time);
    }

    pub(super) fn set_weather(&self, line: LineWeather, network: NetWeather) {
        self.life.set_weather(line);
        self.network.set_weather(network);
    }

    pub(super) fn calm(&self) {
        self.life.calm();
        self.network.set_weather(NetWeather::default());
    }
}
