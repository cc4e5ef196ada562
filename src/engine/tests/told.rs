//! Two engines on one PostgreSQL make the same passes over the same register at the same time: each thing is told once, and ends once.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::looks::until;
use super::world::{Live, World, settings};
use crate::clock::{Environment, ShiftedClock};
use crate::domain::due::DueReason;
use crate::engine::{EngineHandle, EngineSettings};
use crate::evidence::audit::decode_event;
use crate::evidence::record::AuditRecord;
use crate::store::tests::database::Database;
use crate::store::{Fact, FindingFilter, Page, PostgresOptions, Store, open_postgres};

const MANY: usize = 60;

/// A world in a database, and its store as another node has it open.
async fn two_nodes(policy: Value) -> (Database, World, Arc<dyn Store>) {
    let database = Database::create().await;
    let clock = Arc::new(ShiftedClock::default());
    let env = Environment::new(Arc::clone(&clock) as _, Arc::new(ring::rand::SystemRandom::new()));
    let open = || {
        open_postgres(
            PostgresOptions::for_test(&database.url(), &env, decode_event),
            env.clone(),
        )
    };
    let (one, other) = (open().await.unwrap(), open().await.unwrap());
    let world = World::over(one, env, clock);
    world.register(policy).await;
    (database, world, other)
}

async fn both(world: &World, other: &Arc<dyn Store>) -> [EngineHandle; 2] {
    let node = |name: &str| EngineSettings {
        take_over_at_start: false,
        node: name.to_owned(),
        ..settings()
    };
    let first = world.start_with(Arc::clone(&world.store), node("node-a"));
    let second = world.start_with(Arc::clone(other), node("node-b"));
    let (first, second) = tokio::join!(first, second);
    [first, second]
}

/// How often each finding was told in records of this action.
async fn told(world: &World, action: &str) -> BTreeMap<(String, String), u32> {
    let mut told = BTreeMap::new();
    for entry in world.store.log(0, 100_000).await.unwrap() {
        let record = AuditRecord::decode(&entry.bytes).unwrap();
        if record.action != action {
            continue;
        }
        let details: Value = serde_json::from_str(&record.details).unwrap();
        for finding in details["findings"].as_array().unwrap() {
            let text = |key: &str| finding[key].as_str().unwrap().to_owned();
            *told.entry((text("kind"), text("subject"))).or_default() += 1;
        }
    }
    told
}

async fn open_ones(world: &World) -> usize {
    let filter = FindingFilter {
        open_only: true,
        ..FindingFilter::default()
    };
    world.store.findings(&filter, Page::first(1000)).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_nodes_find_is_told_once_and_ends_once() {
    let (_database, world, other) = two_nodes(json!({ "autonomy": "observe" })).await;
    let mut lives: Vec<Live> = Vec::new();
    for number in 0..MANY {
        // Overdue as well, so that the passes and the sweeps have something to say at the same time.
        lives.push(
            world
                .due(&format!("name-{number}"), SignedDuration::from_hours(72))
                .await,
        );
    }
    let engines = both(&world, &other).await;
    let wanted = 2 * MANY;
    let is_told = || async { (open_ones(&world).await == wanted).then_some(()) };
    until("both kinds are told of everybody", is_told).await;
    let count = told(&world, "findings_raised").await;
    assert_eq!(count.len(), wanted, "{count:?}");
    assert!(count.values().all(|times| *times == 1), "told twice: {count:?}");
    for engine in engines {
        engine.shutdown().await;
    }

    // Two that begin anew know nothing of what was said, and say it not again; what is new beside it is told.
    lives.push(world.due("one-more", SignedDuration::from_hours(72)).await);
    let engines = both(&world, &other).await;
    for engine in &engines {
        let passed = || async { engine.status().last_pass.held.gt(&(MANY as u32)).then_some(()) };
        until("a pass is over", passed).await;
    }
    let is_told = || async { (open_ones(&world).await == wanted + 2).then_some(()) };
    until("both kinds are told of the new one", is_told).await;
    let before = count;
    let count = told(&world, "findings_raised").await;
    assert!(count.values().all(|times| *times == 1), "told twice: {count:?}");
    assert_eq!((before.len(), count.len()), (wanted, wanted + 2));
    let later = world.env.now() + SignedDuration::from_hours(24);
    let due = Some((later, DueReason::MaxAge));
    let facts = lives.iter().map(|live| Fact::IdentityDue { id: live.id, due });
    world.put(facts.collect()).await;
    let is_over = || async { (open_ones(&world).await == 0).then_some(()) };
    until("nothing is wrong any more", is_over).await;
    for engine in engines {
        engine.shutdown().await;
    }
    let ended = told(&world, "findings_resolved").await;
    assert_eq!(ended.keys().collect::<Vec<_>>(), count.keys().collect::<Vec<_>>());
    assert!(ended.values().all(|times| *times == 1), "ended twice: {ended:?}");
}
