//! Whole runs: success, failures before and behind the point of no return, a person who writes in between.

use std::sync::Arc;

use jiff::SignedDuration;
use keyfall_sdk::ErrorKind;

use super::dying::{Cut, DyingStore};
use super::looks::{new_of, run_id, starts_of, until};
use super::script::Ask;
use super::world::{Live, World};
use crate::domain::actor::Actor;
use crate::domain::identity::CredentialState;
use crate::domain::workflow::{Event, EventBody, Run, Step};
use crate::engine::EngineHandle;
use crate::engine::report::{StepEnd, StepReport};
use crate::evidence::audit::encode_event;
use crate::store::{Commit, Fact, FindingFilter, Guard, LogEntry, Page, StoredRun};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const FORWARD: [Step; 9] = [
    Step::Precheck,
    Step::Baseline,
    Step::IssueNew,
    Step::ProveNew,
    Step::Deliver,
    Step::Promote,
    Step::RevokeOld,
    Step::EndSessions,
    Step::ProveDead,
];

/// Row 19.
#[tokio::test(flavor = "multi_thread")]
async fn a_due_identity_is_rotated_to_a_proven_end_in_few_commits() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    let counting = DyingStore::new(Arc::clone(&world.store), u32::MAX, Cut::BeforeCommit);
    let engine = world.start_on(Arc::clone(&counting) as _).await;
    let run = world.until_status(&live, "completed").await;
    engine.shutdown().await;

    // The opening, four intents and the close; on a slow machine a result does not wait for the next of them.
    assert!((6..=8).contains(&counting.commits()), "{}", counting.commits());
    // One event for each attempt, one before each effect, the opening and the close: nothing is told twice.
    let called = world.steps.called();
    let effects = called.iter().filter(|one| one.step.has_effect()).count();
    assert_eq!(run.events.len(), 1 + called.len() + effects + 1, "{:?}", run.events);
    assert!(matches!(
        world.state_of(live.credential).await,
        CredentialState::Dead { .. }
    ));
    assert_eq!(world.state_of(new_of(&run)).await, CredentialState::Active);
    let identity = world.store.identity(live.id).await.unwrap().unwrap();
    assert_eq!(identity.current, Some(new_of(&run)));
    let (due, _) = identity.due.unwrap();
    assert!(due > world.env.now() + SignedDuration::from_hours(23), "{due}");
    assert_eq!(world.steps.violations(), Vec::<String>::new());
    assert_eq!(world.steps.live(), [new_of(&run)].into());
    assert_eq!(world.open_findings().await, vec![]);
    assert_eq!(world.store.check().await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_goes_on_asking_to_be_repeated_at_once_does_not_pile_up() {
    const TIMES: u32 = 80;
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    for _ in 0..TIMES {
        let end = StepEnd::Wait {
            until: world.env.now(),
            why: "at once".to_owned(),
        };
        let observations = Vec::new();
        let report = StepReport { observations, end };
        world.steps.ask(Step::Baseline, Ask::Report(report));
    }
    let counting = DyingStore::new(Arc::clone(&world.store), u32::MAX, Cut::BeforeCommit);
    let engine = world.start_on(Arc::clone(&counting) as _).await;
    world.until_status(&live, "completed").await;
    engine.shutdown().await;
    // Nothing piles up in memory, and what a person writes in between is met at the next commit.
    assert!(counting.commits() >= TIMES / 10, "{}", counting.commits());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_may_fail_once_and_is_tried_again() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    for step in FORWARD {
        world.steps.ask(step, Ask::Fail(ErrorKind::Transient));
    }
    let engine = world.start().await;
    let run = world.until_status(&live, "completed").await;
    engine.shutdown().await;
    for step in FORWARD {
        let calls: Vec<_> = world
            .steps
            .called()
            .into_iter()
            .filter(|one| one.step == step)
            .collect();
        assert_eq!(calls.len(), 2, "{step:?}");
        assert_eq!(calls[1].observe_first, step.has_effect(), "{step:?}");
    }
    assert_eq!(starts_of(&run, Step::RevokeOld), 2);
    assert!(matches!(
        world.state_of(live.credential).await,
        CredentialState::Dead { .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_and_a_panic_are_looked_at_before_anything_is_repeated() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    world.steps.ask(Step::IssueNew, Ask::LoseAnswer);
    world.steps.ask(Step::RevokeOld, Ask::Panic);
    let engine = world.start().await;
    world.until_status(&live, "completed").await;
    engine.shutdown().await;
    for step in [Step::IssueNew, Step::RevokeOld] {
        let calls: Vec<_> = world
            .steps
            .called()
            .into_iter()
            .filter(|one| one.step == step)
            .collect();
        assert_eq!(
            calls.iter().map(|one| one.observe_first).collect::<Vec<_>>(),
            [false, true]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_before_the_point_of_no_return_unwinds_and_leaves_the_old_one_in_use() {
    for step in FORWARD.into_iter().take_while(|step| *step != Step::RevokeOld) {
        let world = World::new().await;
        let live = world.due("app", HOUR).await;
        world.steps.ask(step, Ask::Fail(ErrorKind::Denied));
        let engine = world.start().await;
        // Bytes that were never accepted anywhere cannot be proven dead: no death without a life.
        let end = if step == Step::ProveNew {
            "unprovable"
        } else {
            "unwound"
        };
        let run = world.until_status(&live, end).await;
        engine.shutdown().await;

        assert_eq!(world.steps.live(), [live.credential].into(), "{step:?}");
        assert_eq!(
            world.state_of(live.credential).await,
            CredentialState::Active,
            "{step:?}"
        );
        let may_live = world.state_of(new_of(&run)).await.may_be_live();
        assert_eq!(may_live, step == Step::ProveNew, "{step:?}");
        let identity = world.store.identity(live.id).await.unwrap().unwrap();
        assert_eq!(identity.current, Some(live.credential), "{step:?}");
        assert!(
            identity.due.unwrap().0 > world.env.now() + SignedDuration::from_mins(10),
            "it comes back later"
        );
        assert_eq!(world.steps.violations(), Vec::<String>::new());
        let unwound = ("run_unwound".to_owned(), "app".to_owned());
        assert!(world.open_findings().await.contains(&unwound), "{step:?}");
        assert_eq!(world.store.check().await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_the_point_of_no_return_a_person_is_asked_and_a_retry_goes_on() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    world.steps.ask(Step::RevokeOld, Ask::Fail(ErrorKind::Denied));
    let engine = world.start().await;
    let stuck = world.until_status(&live, "needs_operator").await;
    let last = stuck.events.last().unwrap();
    let EventBody::NeedsOperator { manual_step, .. } = &last.body else {
        panic!("{last:?}")
    };
    assert!(manual_step.contains(&live.credential.to_string()), "{manual_step}");
    assert_eq!(
        world.open_findings().await,
        [("needs_operator".to_owned(), run_id(&stuck).to_string())]
    );

    let retried = EventBody::Retried {
        by: Actor::Engine,
        reason: "the right was given back".to_owned(),
    };
    append(&world, &stuck.events, retried).await;
    engine.ring();
    world.until_status(&live, "completed").await;
    engine.shutdown().await;
    assert_eq!(world.open_findings().await, vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_not_seen_is_told_to_its_owner_until_it_is() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    let shop = serde_json::json!({ "name": "shop", "seenBy": "sessions" });
    world
        .change(&live, |one| {
            one.spec.consumers = vec![serde_json::from_value(shop).unwrap()]
        })
        .await;
    world.steps.ask(Step::AwaitUptake, Ask::Person);
    let engine = world.start().await;
    let stuck = world.until_status(&live, "needs_operator").await;
    let filter = FindingFilter {
        kind: Some("consumer_not_seen".to_owned()),
        subject: Some("app".to_owned()),
        open_only: true,
    };
    let found = world.store.findings(&filter, Page::first(9)).await.unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|row| (row.owner.as_str(), row.text.as_str()))
        .collect();
    assert_eq!(told, [("team-a", "app: shop has not switched")]);
    assert!(world.steps.is_live(live.credential));
    let retried = EventBody::Retried {
        by: Actor::Engine,
        reason: "shop was restarted".to_owned(),
    };
    append(&world, &stuck.events, retried).await;
    engine.ring();
    world.until_status(&live, "completed").await;
    engine.shutdown().await;
    assert_eq!(world.open_findings().await, vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_before_the_point_of_no_return_is_said_while_the_run_can_be_cancelled() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    world.steps.stand_in_the_way("the new credential was never accepted");
    let engine = world.start().await;
    let stuck = world.until_status(&live, "needs_operator").await;
    assert_eq!(starts_of(&stuck, Step::RevokeOld), 0, "no intent of it is in the log");
    let cancelled = EventBody::CancelRequested {
        by: Actor::Engine,
        reason: "as advised".to_owned(),
    };
    append(&world, &stuck.events, cancelled).await;
    engine.ring();
    world.until_status(&live, "unwound").await;
    engine.shutdown().await;
    assert_eq!(world.steps.live(), [live.credential].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_arrives_between_two_steps_is_obeyed_and_loses_no_result() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    // The run waits for its second attempt to deliver while a person cancels it.
    world
        .steps
        .ask(Step::Deliver, Ask::Fail(ErrorKind::RateLimited { after_ms: 60_000 }));
    let engine = world.start().await;
    let waiting = until("the delivery failed", || async {
        let run = world.run_of(&live).await?;
        let failed = run
            .events
            .iter()
            .any(|event| matches!(event.body, EventBody::Failed { .. }));
        (failed && run.row.node.is_none()).then_some(run)
    })
    .await;
    cancel(&world, &live, &waiting, engine).await;
    assert_eq!(world.steps.live(), [live.credential].into());
}

/// A person cancels the run while it waits; answers when it is taken back and the engine is down.
pub(super) async fn cancel(world: &World, live: &Live, waiting: &StoredRun, engine: EngineHandle) {
    let cancelled = EventBody::CancelRequested {
        by: Actor::Engine,
        reason: "not today".to_owned(),
    };
    append(world, &waiting.events, cancelled).await;
    engine.ring();
    world.until_status(live, "unwound").await;
    engine.shutdown().await;
}

/// What a use case does: appends an event of a person and wakes the run.
pub(super) async fn append(world: &World, events: &[Event], body: EventBody) {
    let mut run = Run::replay(events).unwrap();
    let at = super::super::record::to_micros(world.env.now());
    let event = Event {
        seq: run.next_seq(),
        at,
        epoch: 0,
        body,
    };
    run.apply(&event).unwrap();
    let commit = Commit {
        guards: vec![Guard::RunAt {
            run: run.id(),
            next_seq: event.seq,
        }],
        facts: vec![Fact::RunProgress {
            run: run.id(),
            status: run.status().name().to_owned(),
            step: run.step().map(Step::name),
            next_seq: run.next_seq(),
            wake_at: Some(at),
            release: false,
        }],
        log: vec![LogEntry {
            run: Some((run.id(), event.seq)),
            at,
            bytes: encode_event(run.plan(), &run, &event),
        }],
    };
    world.store.commit(commit).await.unwrap();
}
