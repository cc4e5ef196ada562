//! What opens by itself, what only becomes a finding, and what makes the breaker open.

use std::ops::Range;
use std::sync::Arc;

use jiff::SignedDuration;
use keyfall_sdk::ErrorKind;
use serde_json::json;

use super::looks::until;
use super::rows::secret_row;
use super::runs::append;
use super::script::Ask;
use super::world::{World, settings};
use crate::domain::actor::Actor;
use crate::domain::ids::SecretId;
use crate::domain::workflow::{EventBody, Step};
use crate::engine::EngineSettings;
use crate::engine::breaker::{Allowance, BREAKER, BreakerSettings, rearmed};
use crate::evidence::record::AuditRecord;
use crate::store::{Fact, Page, RunFilter, SCRUB_OWED};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn nervous() -> EngineSettings {
    EngineSettings {
        breaker: BreakerSettings {
            at_least: 3,
            percent: 10,
            ..BreakerSettings::default()
        },
        ..settings()
    }
}

/// Row 1.
#[tokio::test(flavor = "multi_thread")]
async fn the_breaker_opens_on_a_suspicious_due_set_and_stays_open_over_a_restart() {
    let world = World::new().await;
    for number in 0..5 {
        world.due(&format!("app-{number}"), HOUR).await;
    }
    for _ in 0..2 {
        let engine = world.start_with(Arc::clone(&world.store), nervous()).await;
        until("the breaker is open", || async { engine.status().last_pass.breaker }).await;
        engine.shutdown().await;
        let runs = world.store.runs(&RunFilter::default(), Page::first(10)).await.unwrap();
        assert_eq!(runs, vec![]);
    }
    assert!(world.store.setting(BREAKER).await.unwrap().is_some());

    arm_again(&world, 5).await;
    let engine = world.start_with(Arc::clone(&world.store), nervous()).await;
    until("all are rotated", || async {
        let filter = RunFilter {
            status: Some("completed".to_owned()),
            ..RunFilter::default()
        };
        let runs = world.store.runs(&filter, Page::first(10)).await.ok()?;
        (runs.len() == 5).then_some(())
    })
    .await;
    world.until_open("breaker_open", "schedule", false).await;
    engine.shutdown().await;
}

async fn arm_again(world: &World, due: u32) {
    let since = world.env.now();
    let until = since + HOUR;
    world.put(rearmed(Allowance { due, since, until })).await;
}

async fn count(world: &World, status: &str) -> usize {
    let filter = RunFilter {
        status: Some(status.to_owned()),
        ..RunFilter::default()
    };
    world.store.runs(&filter, Page::first(100)).await.unwrap().len()
}

/// Nervous about failures.
fn failing() -> EngineSettings {
    EngineSettings {
        breaker: BreakerSettings {
            failed: 3,
            failed_percent: 50,
            ..BreakerSettings::default()
        },
        ..settings()
    }
}

/// One process: it lives until so many runs stand like this.
async fn live_until(world: &World, status: &str, number: usize) {
    let engine = world.start_with(Arc::clone(&world.store), failing()).await;
    until(&format!("{number} are {status}"), || async {
        (count(world, status).await == number).then_some(())
    })
    .await;
    engine.shutdown().await;
}

async fn fail_at_issue(world: &World, names: Range<u32>) {
    for number in names {
        world.steps.ask(Step::IssueNew, Ask::Fail(ErrorKind::Denied));
        world.due(&format!("bad-{number}"), HOUR).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_breaker_opens_on_runs_that_fail_and_forgets_nothing_over_a_restart() {
    let world = World::new().await;
    for number in 0..4 {
        world.due(&format!("good-{number}"), HOUR).await;
    }
    live_until(&world, "completed", 4).await;
    // Three of seven are too few, whatever their number.
    fail_at_issue(&world, 0..3).await;
    live_until(&world, "unwound", 3).await;
    world.due("good-4", HOUR).await;
    live_until(&world, "completed", 5).await;

    fail_at_issue(&world, 3..8).await;
    live_until(&world, "unwound", 8).await;
    world.due("held", HOUR).await;
    for _ in 0..2 {
        let engine = world.start_with(Arc::clone(&world.store), failing()).await;
        let tripped = until("the breaker is open", || async { engine.status().last_pass.breaker }).await;
        engine.shutdown().await;
        assert!(tripped.why.starts_with("8 runs of those since"), "{}", tripped.why);
        assert_eq!(count(&world, "completed").await, 5);
    }

    arm_again(&world, 1).await;
    live_until(&world, "completed", 6).await;
    assert!(world.store.setting(BREAKER).await.unwrap().is_none());
}

/// What a person took back, and what waits for what only people do, says nothing of the next run.
#[tokio::test(flavor = "multi_thread")]
async fn what_people_take_back_and_what_waits_for_them_opens_no_breaker() {
    let world = World::new().await;
    for number in 0..4 {
        world.steps.ask(Step::Deliver, Ask::Person);
        world.due(&format!("awaited-{number}"), HOUR).await;
    }
    live_until(&world, "needs_operator", 4).await;

    let mut taken_back = Vec::new();
    world.steps.close_gate(Step::Deliver);
    for number in 0..8 {
        taken_back.push(world.due(&format!("unwanted-{number}"), HOUR).await);
    }
    let engine = world.start_with(Arc::clone(&world.store), failing()).await;
    until("all of them deliver", || async {
        let called = world.steps.called();
        let deliveries = called.iter().filter(|one| one.step == Step::Deliver);
        (deliveries.count() == 12).then_some(())
    })
    .await;
    for live in &taken_back {
        let run = world.run_of(live).await.unwrap();
        let cancelled = EventBody::CancelRequested {
            by: Actor::Engine,
            reason: "not today".to_owned(),
        };
        append(&world, &run.events, cancelled).await;
    }
    world.steps.open_gate(Step::Deliver);
    until("all are taken back", || async {
        (count(&world, "unwound").await == taken_back.len()).then_some(())
    })
    .await;
    engine.shutdown().await;

    world.due("good", HOUR).await;
    live_until(&world, "completed", 1).await;
    assert!(world.store.setting(BREAKER).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_asks_opens_nothing_and_says_so_once() {
    let world = World::with_policy(json!({ "autonomy": "approve" })).await;
    let live = world.due("app", SignedDuration::from_mins(1)).await;
    let engine = world.start().await;
    until("it is wanted", || async {
        (engine.status().last_pass.held > 0).then_some(())
    })
    .await;
    let size = until("the finding is there", || async {
        let findings = world.open_findings().await;
        (findings == [("approval_wanted".to_owned(), "app".to_owned())]).then_some(())?;
        Some(world.store.log_state().await.unwrap().size)
    })
    .await;
    engine.ring();
    let seen = engine.status().last_pass.at;
    until("another pass was made", || async {
        (engine.status().last_pass.at > seen).then_some(())
    })
    .await;
    assert_eq!(world.store.log_state().await.unwrap().size, size);
    assert!(world.run_of(&live).await.is_none());
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_due_at_once_are_all_rotated() {
    let world = World::with_policy(json!({ "budget": { "destructive": 1000, "per": "1h" } })).await;
    let mut all = Vec::new();
    for number in 0..150 {
        all.push(world.due(&format!("app-{number}"), HOUR).await);
    }
    let engine = world.start().await;
    until("all are completed", || async {
        let filter = RunFilter {
            status: Some("completed".to_owned()),
            ..RunFilter::default()
        };
        let runs = world.store.runs(&filter, Page::first(200)).await.ok()?;
        (runs.len() == all.len()).then_some(())
    })
    .await;
    engine.shutdown().await;
    assert_eq!(world.steps.violations(), Vec::<String>::new());
    assert!(all.iter().all(|live| !world.steps.is_live(live.credential)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_destroyed_on_record_when_its_deadline_has_passed() {
    let world = World::new().await;
    let now = world.env.now();
    let secret = |at| {
        let id = SecretId::from_uuid(world.env.draw_uuid());
        let mut row = secret_row(id, now);
        row.destroy_at = Some(at);
        (id, Fact::Secret(row))
    };
    let (over, first) = secret(now - HOUR);
    let (kept, second) = secret(now + HOUR);
    world.put(vec![first, second]).await;
    let engine = world.start().await;
    until("a pass destroyed it", || async {
        (engine.status().last_pass.secrets_destroyed == 1).then_some(())
    })
    .await;
    engine.shutdown().await;
    let destroyed = world.store.secret(over).await.unwrap().unwrap();
    assert!(destroyed.destroyed_at.is_some() && destroyed.ciphertext.iter().all(|byte| *byte == 0));
    assert!(world.store.secret(kept).await.unwrap().unwrap().destroyed_at.is_none());
    let log = world.store.log(0, 10).await.unwrap();
    let record = AuditRecord::decode(&log[0].bytes).unwrap();
    assert_eq!(record.action, "secrets_destroyed");
    assert!(record.details.contains(&over.to_string()), "{}", record.details);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_scrubs_what_somebody_else_left_behind() {
    let world = World::new().await;
    let now = world.env.now();
    let id = SecretId::from_uuid(world.env.draw_uuid());
    world.put(vec![Fact::Secret(secret_row(id, now))]).await;
    world.put(vec![Fact::SecretDestroyed { id, at: now }]).await;
    assert!(world.store.setting(SCRUB_OWED).await.unwrap().is_some());
    let engine = world.start().await;
    until("a pass scrubbed", || async {
        world.store.setting(SCRUB_OWED).await.unwrap().is_none().then_some(())
    })
    .await;
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_go_on_without_a_bell() {
    let world = World::new().await;
    let engine = world
        .start_with(
            Arc::clone(&world.store),
            EngineSettings {
                without_bell: true,
                ..settings()
            },
        )
        .await;
    until("a first pass was made", || async {
        (engine.status().last_pass.took.as_nanos() > 0).then_some(())
    })
    .await;
    let live = world.due("app", HOUR).await;
    world.until_status(&live, "completed").await;
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_whose_approver_has_retired_opens_nothing_and_is_named() {
    let world = World::new().await;
    world
        .steps
        .refuse_approvals("bo has retired, and what bo signed allows nothing any more");
    let live = world.due("app", SignedDuration::from_hours(1)).await;
    let engine = world.start().await;
    let text = until("it is spoken about", || async {
        let filter = crate::store::FindingFilter {
            kind: Some("approval_wanted".to_owned()),
            ..Default::default()
        };
        let found = world.store.findings(&filter, Page::first(9)).await.unwrap();
        found.first().map(|row| row.text.clone())
    })
    .await;
    engine.shutdown().await;
    assert!(
        text.contains("policy `daily`") && text.contains("bo has retired"),
        "{text}"
    );
    assert!(world.run_of(&live).await.is_none());
}
