//! What a seed makes: systems with their strategies and lies, identities with a consumer each, a policy, people, nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use keyfall_connectors::demo;
use keyfall_sdk::{IssueClass, Strategy};
use serde_json::json;
use tokio::time::Instant;

use super::dice::Dice;
use super::life::Life;
use super::nodes::{Bells, Node, SimClock, Site};
use super::people::People;
use super::truth::Truth;
use crate::clock::{Environment, SeededChance};
use crate::domain::ids::IdentityId;
use crate::evidence::audit::decode_event;
use crate::store::inline::Database;

pub(super) struct System {
    pub(super) name: String,
    pub(super) faults: demo::Faults,
    /// Seconds for which it says that it may honour what was revoked.
    pub(super) settling: u64,
}

pub(super) struct Subject {
    pub(super) id: IdentityId,
    pub(super) name: String,
    pub(super) system: String,
    /// Where its one consumer reads.
    pub(super) slot: String,
    pub(super) strategy: Strategy,
    /// It was asked to end.
    pub(super) is_doomed: bool,
}

/// How many destructive actions a policy allows in how many seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct BudgetDraw {
    pub(super) destructive: u64,
    pub(super) per: u64,
}

pub(super) struct World {
    pub(super) site: Site,
    pub(super) dice: Dice,
    pub(super) people: People,
    pub(super) nodes: Vec<Node>,
    pub(super) systems: Vec<System>,
    pub(super) subjects: Vec<Subject>,
    pub(super) budget: BudgetDraw,
    /// Sizes of the log between which a freeze stood for certain.
    pub(super) freezes: Vec<(u64, Option<u64>)>,
    /// The size of the log when the oracle looked last.
    pub(super) glanced_at: u64,
}

const STRATEGIES: [Strategy; 3] = [Strategy::DualSlot, Strategy::AlternatingAccounts, Strategy::InPlace];
const CLASSES: [IssueClass; 4] = [
    IssueClass::CheckFirst,
    IssueClass::CheckFirst,
    IssueClass::Repeatable,
    IssueClass::Once,
];

impl World {
    pub(super) async fn new(seed: u64, is_traced: bool) -> Self {
        let dice = Dice::new(seed, 1);
        let began = Instant::now();
        let clock = Arc::new(SimClock::new(began, SignedDuration::ZERO));
        let env = Environment::new(clock, Arc::new(SeededChance::new(seed ^ 0x5eed)));
        let database = Database::new(decode_event, &env).unwrap();
        database.remember_claims().unwrap();
        let line = Arc::new(Life::new(Dice::new(seed, 2)));
        let direct = database.at_the_end_of(line, env.clone());
        let (systems, manifests, providers) = draw_systems(seed, &dice);
        let (mut subjects, identities) = draw_subjects(&dice, &systems);
        let budget = BudgetDraw {
            destructive: dice.between(1, 4),
            per: dice.between(8, 25),
        };
        let site = Site {
            seed,
            began,
            database,
            truth: Arc::new(Truth::new(providers, is_traced)),
            direct,
            clock: env.clone(),
            bells: Arc::new(Bells::default()),
        };
        for subject in &subjects {
            site.truth.set_uptake(&subject.slot, Some(dice.millis(0, 3_000)));
            if subject.strategy == Strategy::InPlace {
                site.truth
                    .excuse(&subject.slot, "a system that holds one value has a gap");
            }
        }
        let people = People::enrolled(&site, env).await;
        let mut all = vec![
            manifest("Owner", "team", json!({ "contact": "team@example.com" })),
            manifest(
                "Destination",
                "shelf",
                json!({ "connector": "demo-destination", "environment": "test", "owner": "team" }),
            ),
            manifest("Policy", "rules", policy(&dice, budget)),
        ];
        all.extend(manifests);
        people.apply(all.join("\n---\n")).await;
        people.apply(identities.join("\n---\n")).await;
        for subject in &mut subjects {
            subject.id = site.direct.identity_named(&subject.name).await.unwrap().unwrap().id;
        }
        Self {
            site,
            people,
            nodes: Vec::new(),
            systems,
            subjects,
            budget,
            freezes: Vec::new(),
            glanced_at: 0,
            dice,
        }
    }

    pub(super) async fn start_nodes(&mut self) {
        for number in 0..self.dice.between(1, 3) {
            let name = format!("node-{number}");
            // As far as nodes may be apart (`crate::engine::clocks::TOLERANCE`), and no further.
            let off_by = SignedDuration::from_millis(self.dice.pick(&[0, 0, 300, -2_000, 240_000, -240_000]));
            let node = Node::start(&self.site, &name, off_by, 1).await;
            self.nodes.push(node);
        }
    }
}

fn manifest(kind: &str, name: &str, spec: serde_json::Value) -> String {
    let whole = json!({ "apiVersion": "keyfall.dev/v1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    whole.to_string()
}

fn seconds(dice: &Dice, least: u64, most: u64) -> String {
    format!("{}s", dice.between(least, most))
}

fn policy(dice: &Dice, budget: BudgetDraw) -> serde_json::Value {
    json!({
        "owner": "team", "selector": { "environments": ["test"] }, "rotation": { "every": "30d" }, "autonomy": "automatic",
        "overlap": seconds(dice, 0, 3),
        "proof": {
            "refusals": dice.between(2, 3), "interval": "1s", "giveUpAfter": seconds(dice, 5, 20),
            "keepDeadSecret": seconds(dice, 5, 60),
        },
        "uptake": { "interval": "1s", "timeout": seconds(dice, 5, 20) },
        "decommission": { "listen": seconds(dice, 1, 5) },
        "budget": { "destructive": budget.destructive, "per": format!("{}s", budget.per) },
    })
}

type Drawn = (Vec<System>, Vec<String>, BTreeMap<String, Arc<demo::Provider>>);

fn draw_systems(seed: u64, dice: &Dice) -> Drawn {
    let (mut systems, mut manifests, mut providers) = (Vec::new(), Vec::new(), BTreeMap::new());
    let markers = Dice::new(seed, 3);
    for number in 0..dice.between(1, 2) {
        let name = format!("s{number}");
        let provider = format!("sim-{seed}-{name}");
        demo::forget_provider(&provider);
        let faults = demo::Faults {
            lockout: dice.permille(400).then(|| demo::LockoutFault {
                failures: u32::try_from(dice.between(10, 30)).unwrap(),
                window_ms: dice.between(5, 20) * 1000,
            }),
            sticky_sessions: dice.permille(100),
            ..demo::Faults::default()
        };
        let settling = dice.pick(&[0, 0, 2, 5]);
        let spec = json!({
            "environment": "test", "owner": "team", "connector": "demo",
            "limits": { "refusedLoginsPerMinute": 600, "callsPerSecond": 500 },
            "vantages": [
                { "name": "primary", "role": "control", "host": "localhost", "port": 1 },
                { "name": "replica", "role": "probe", "host": "localhost", "port": 2 },
            ],
            "options": {
                "provider": provider, "strategy": dice.pick(&STRATEGIES), "issueClass": dice.pick(&CLASSES),
                "settlingMs": settling * 1000, "faults": faults, "keepsMarkers": markers.permille(500),
            },
        });
        manifests.push(manifest("System", &name, spec));
        providers.insert(name.clone(), demo::provider(&provider));
        systems.push(System { name, faults, settling });
    }
    (systems, manifests, providers)
}

fn draw_subjects(dice: &Dice, systems: &[System]) -> (Vec<Subject>, Vec<String>) {
    let (mut subjects, mut manifests) = (Vec::new(), Vec::new());
    for number in 0..dice.between(1, 4) {
        let system = &systems[usize::try_from(dice.below(systems.len() as u64)).unwrap()].name;
        let name = format!("app-{number}");
        let slot = format!("{system}-{name}");
        let strategy = dice.pick(&STRATEGIES);
        let spec = json!({
            "kind": "database_user", "system": system, "environment": "test", "owner": "team",
            "expires": "2099-01-01T00:00:00Z", "account": name.replace('-', "_"), "strategy": strategy,
            "access": { "grants": ["read"] },
            "deliverTo": [{ "destination": "shelf", "target": { "slot": slot } }],
            "consumers": [{ "name": "web", "seenBy": "acknowledgement" }],
        });
        manifests.push(manifest("Identity", &name, spec));
        subjects.push(Subject {
            // Known when it is registered.
            id: IdentityId::from_uuid(uuid::Uuid::nil()),
            name,
            system: system.clone(),
            slot,
            strategy,
            is_doomed: false,
        });
    }
    (subjects, manifests)
}
