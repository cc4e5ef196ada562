//! What came due while nothing could be opened, and changes while it is given places of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::SignedDuration;
use keyfall_sdk::BoxFuture;
use serde_json::json;

use super::looks::until;
use super::world::World;
use crate::domain::due::DueReason;
use crate::faults::between::{Between, Rule};
use crate::store::{Commit, Committed, Fact, Result, Store};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// Stores something right before places are given: behind the look that they go by.
struct Meanwhile {
    facts: Vec<Fact>,
    seen: AtomicBool,
}

impl Rule for Meanwhile {
    fn is_alive(&self) -> bool {
        true
    }

    fn commit<'a>(&'a self, inner: &'a Arc<dyn Store>, commit: Commit) -> BoxFuture<'a, Result<Committed>> {
        Box::pin(async move {
            let places = |entry: &crate::store::LogEntry| String::from_utf8_lossy(&entry.bytes).contains("late_spread");
            if commit.log.iter().any(places) && !self.seen.swap(true, Ordering::SeqCst) {
                let facts = self.facts.clone();
                let between = Commit {
                    facts,
                    ..Commit::default()
                };
                assert_eq!(inner.commit(between).await?, Committed::Stored);
            }
            inner.commit(commit).await
        })
    }
}

/// Row 35.
#[tokio::test(flavor = "multi_thread")]
async fn a_leak_and_a_rotation_that_come_between_are_not_put_off() {
    const COUNT: usize = 40;
    let world = World::with_policy(json!({ "budget": { "destructive": 1, "per": "1h" } })).await;
    let mut lives = Vec::new();
    for number in 0..COUNT {
        lives.push(world.due(&format!("app-{number}"), HOUR * 2).await);
    }
    let next = (world.env.now() + HOUR * 500, DueReason::MaxAge);
    let rotated = Fact::IdentityDue {
        id: lives[0].id,
        due: Some(next),
    };
    let leaked = Fact::IdentityDue {
        id: lives[1].id,
        due: Some((world.env.now() - HOUR, DueReason::Compromised)),
    };
    let rule = Meanwhile {
        facts: vec![rotated, leaked],
        seen: AtomicBool::new(false),
    };
    let store = Between::a_store(Arc::clone(&world.store), rule);
    let engine = world.start_on(Arc::clone(&store) as _).await;
    // What leaked is rotated at once, and not in a place of its own.
    world.until_status(&lives[1], "completed").await;
    until("places were given", || async {
        store.rule.seen.load(Ordering::SeqCst).then_some(())
    })
    .await;
    engine.shutdown().await;
    let (at, reason) = world.due_of(&lives[0]).await.unwrap();
    assert_eq!((at.as_second(), reason), (next.0.as_second(), next.1));
    let (at, _) = world.due_of(&lives[2]).await.unwrap();
    assert!(at > world.env.now(), "it was given a place: {at}");
}
