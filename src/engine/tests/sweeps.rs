//! What is wrong although nothing happens is found, and what is right again is resolved.

use jiff::SignedDuration;
use keyfall_sdk::{KeyId, PrincipalRef};
use serde_json::json;

use super::looks::until;
use super::world::{World, settings};
use crate::domain::due::DueReason;
use crate::domain::identity::{Credential, CredentialState};
use crate::domain::ids::CredentialId;
use crate::domain::workflow::{RunKind, RunPlan, Step};
use crate::engine::EngineSettings;
use crate::engine::freeze::{Freeze, lifted};
use crate::engine::standstill::{Cause, stand_still};
use crate::evidence::record::{AuditRecord, ExceptionCause};
use crate::store::{Fact, FindingFilter, Page, SettlingSample};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// The tests move the clock on; that is no jump to them.
fn calm() -> EngineSettings {
    EngineSettings {
        clock_tolerance: SignedDuration::from_hours(1000),
        ..settings()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_person_becomes_overdue_with_time() {
    let world = World::with_policy(json!({ "autonomy": "approve" })).await;
    let live = world.due("app", MINUTE).await;
    let engine = world.start_with(world.store.clone(), calm()).await;
    world.until_open("approval_wanted", "app", true).await;
    assert!(!world.is_open("overdue", "app").await);
    world.clock.shift(HOUR);
    world.until_open("overdue", "app", true).await;

    let later = world.env.now() + HOUR;
    let due = Some((later, DueReason::MaxAge));
    world.put(vec![Fact::IdentityDue { id: live.id, due }]).await;
    world.until_open("overdue", "app", false).await;
    world.until_open("approval_wanted", "app", false).await;
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_run_does_not_end_becomes_overdue_as_well() {
    let world = World::new().await;
    let live = world.due("app", MINUTE).await;
    world.steps.close_gate(Step::Precheck);
    let engine = world.start_with(world.store.clone(), calm()).await;
    until("a run is open", || async { world.run_of(&live).await }).await;
    let cause = Cause {
        reason: "restored".to_owned(),
        action: "restored",
        trigger: "request",
        details: json!({}),
    };
    stand_still(&*world.store, &world.env, cause).await.unwrap();
    world.steps.open_gate(Step::Precheck);
    world.until_status(&live, "needs_operator").await;
    assert!(!world.is_open("overdue", "app").await);
    world.clock.shift(HOUR + MINUTE);
    world.until_open("overdue", "app", true).await;
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_whose_owner_is_not_registered_is_unowned_until_somebody_is() {
    let world = World::new().await;
    let orphan = world.due("orphan", -HOUR).await;
    world.due("owned", -HOUR).await;
    world.change(&orphan, |one| one.spec.owner = "gone".to_owned()).await;
    let engine = world.start().await;
    world.until_open("unowned", "orphan", true).await;
    assert!(!world.is_open("unowned", "owned").await);
    world.put(vec![world.owner("gone")]).await;
    world.until_open("unowned", "orphan", false).await;
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_that_was_moved_ends_its_finding() {
    let world = World::new().await;
    let live = world.due("app", -HOUR).await;
    let soon = world.env.now() + HOUR;
    world.change(&live, |one| one.spec.expires = soon).await;
    let engine = world.start().await;
    world.until_open("expiring", "app", true).await;
    let much_later = soon + SignedDuration::from_hours(24 * 365);
    world.change(&live, |one| one.spec.expires = much_later).await;
    world.until_open("expiring", "app", false).await;
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_with_room_again_ends_its_finding() {
    let world = World::with_policy(json!({ "budget": { "destructive": 1, "per": "3s" } })).await;
    let lives = [world.due("one", HOUR).await, world.due("two", HOUR).await];
    let engine = world.start().await;
    world.until_open("budget_spent", "destructive:daily", true).await;
    for live in &lives {
        world.until_status(live, "completed").await;
    }
    world.until_open("budget_spent", "destructive:daily", false).await;
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_settles_later_than_documented_is_told() {
    let world = World::new().await;
    let sample = SettlingSample {
        system: "sys".to_owned(),
        vantage: "primary".to_owned(),
        micros: 3_000_000,
        at: world.env.now(),
    };
    world.put(vec![Fact::Settling(sample)]).await;
    let engine = world.start().await;
    world.until_open("settling_outside_window", "sys", true).await;
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_behind_its_objective_is_a_finding_until_one_is_in_time() {
    let world = World::with_policy(json!({ "objective": "1us" })).await;
    let live = world.due("app", HOUR).await;
    let engine = world.start().await;
    world.until_status(&live, "completed").await;
    assert!(world.is_open("objective_missed", "app").await);

    let request = || world.request(RunKind::Rotate, DueReason::Requested);
    let in_time = |plan: &mut RunPlan| plan.timing.objective = HOUR;
    world.ask(&live, request(), in_time).await;
    engine.ring();
    world.until_open("objective_missed", "app", false).await;

    // What is unprovable is late when its run closes behind the objective, and never in time.
    let unprovable = |plan: &mut RunPlan| {
        plan.timing.objective = SignedDuration::ZERO;
        plan.proof.vantages.push("nowhere".to_owned());
    };
    world.ask(&live, request(), unprovable).await;
    engine.ring();
    world.until_open("objective_missed", "app", true).await;
    let unprovable_early = |plan: &mut RunPlan| {
        plan.timing.objective = HOUR;
        plan.proof.vantages.push("nowhere".to_owned());
    };
    let run = world.ask(&live, request(), unprovable_early).await;
    engine.ring();
    until("the last run closes", || async {
        let stored = world.store.run(run).await.unwrap()?;
        stored.row.closed_at
    })
    .await;
    assert!(world.is_open("objective_missed", "app").await);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_nobody_recorded_is_a_finding_until_it_is_gone() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    world.steps.plant(&["made-by-hand"]);
    let engine = world.start().await;
    world.until_status(&live, "completed").await;
    assert!(world.is_open("foreign", "app").await);
    engine.shutdown().await;

    for (state, is_foreign) in [(CredentialState::NeverIssued, true), (CredentialState::Lost, false)] {
        let world = World::new().await;
        let live = world.due("app", HOUR).await;
        let current = world.store.credential(live.credential).await.unwrap().unwrap();
        let recorded = Credential {
            id: CredentialId::from_uuid(world.env.draw_uuid()),
            key_id: Some(KeyId("grown-again".to_owned())),
            state,
            ..current
        };
        world.put(vec![Fact::Credential(recorded)]).await;
        world.steps.plant(&["grown-again"]);
        let engine = world.start().await;
        world.until_status(&live, "completed").await;
        assert_eq!(world.is_open("foreign", "app").await, is_foreign);
        engine.shutdown().await;
    }

    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    let engine = world.start().await;
    world.until_status(&live, "completed").await;
    assert!(
        !world.is_open("foreign", "app").await,
        "the account shows what the run made"
    );
    engine.shutdown().await;
}

/// An adopted credential whose key could not be told accounts for one unknown key, as long as the run does not revoke it.
#[tokio::test(flavor = "multi_thread")]
async fn a_credential_without_a_key_id_accounts_for_one_key_until_it_is_revoked() {
    let cases: [(&str, Option<CredentialState>, &[&str], bool); 4] = [
        ("the one that the run revokes", None, &["left"], true),
        (
            "another one, alive",
            Some(CredentialState::Foreign),
            &["adopted"],
            false,
        ),
        (
            "one for two keys",
            Some(CredentialState::Foreign),
            &["adopted", "other"],
            true,
        ),
        (
            "one that was never made",
            Some(CredentialState::Intended),
            &["left"],
            true,
        ),
    ];
    for (what, other, planted, is_foreign) in cases {
        let world = World::new().await;
        let live = world.due("app", HOUR).await;
        let current = world.store.credential(live.credential).await.unwrap().unwrap();
        let untold = Credential {
            key_id: None,
            ..current
        };
        let untold = match other {
            None => untold,
            Some(state) => Credential {
                id: CredentialId::from_uuid(world.env.draw_uuid()),
                principal: PrincipalRef {
                    name: "app_b".to_owned(),
                    immutable_id: None,
                },
                state,
                ..untold
            },
        };
        world.put(vec![Fact::Credential(untold)]).await;
        world.steps.plant(planted);
        let engine = world.start().await;
        world.until_status(&live, "completed").await;
        assert_eq!(world.is_open("foreign", "app").await, is_foreign, "{what}");
        engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_identity_is_renewed_and_rotated_by_the_engine_itself() {
    let world = World::with_policy(json!({ "autonomy": "observe" })).await;
    let live = world.due("keyfall-control.sys", HOUR).await;
    let over = world.env.now() - MINUTE;
    world
        .change(&live, |one| {
            one.is_control = true;
            one.spec.expires = over;
        })
        .await;
    let engine = world.start().await;
    world.until_status(&live, "completed").await;
    let renewed = until("it is renewed", || async {
        let identity = world.store.identity(live.id).await.unwrap().unwrap();
        (identity.version == 2).then_some(identity)
    })
    .await;
    engine.shutdown().await;
    assert!(renewed.spec.expires > over + SignedDuration::from_hours(24 * 300));
    assert!(renewed.due.unwrap().0 > over, "its next rotation is known");
    assert_eq!(world.open_findings().await, vec![]);
    let log = world.store.log(0, 1000).await.unwrap();
    let records = log.iter().map(|entry| AuditRecord::decode(&entry.bytes).unwrap());
    assert_eq!(
        records.filter(|one| one.action == "control_identity_renewed").count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_that_contradict_one_another_hold_a_rotation_until_one_of_them_decides() {
    let world = World::new().await;
    let live = world.due("app", MINUTE).await;
    world
        .policy(
            "other",
            json!({ "selector": { "environments": ["test"] }, "overlap": "2h" }),
        )
        .await;
    let engine = world.start().await;
    world.until_open("policy_conflict", "app", true).await;
    assert!(world.run_of(&live).await.is_none());
    assert!(world.causes().await.contains(&ExceptionCause::PolicyConflict));
    let own = json!({ "selector": { "identities": ["app"] } });
    world.policy("own", own).await;
    world.until_open("policy_conflict", "app", false).await;
    engine.shutdown().await;
    let engine = world.start().await;
    world.until_status(&live, "completed").await;
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_nobody_answers_for_is_an_exception_of_ownership() {
    let world = World::new().await;
    let orphan = world.due("orphan", -HOUR).await;
    world.change(&orphan, |one| one.spec.owner = "gone".to_owned()).await;
    let engine = world.start().await;
    world.until_open("unowned", "orphan", true).await;
    engine.shutdown().await;
    assert_eq!(world.causes().await, [ExceptionCause::FragmentedOwnership]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_set_off_in_time_is_told_and_what_waits_for_a_person_is_not_called_that() {
    let late = World::new().await;
    let live = late.due("late", HOUR + MINUTE).await;
    let engine = late.start().await;
    late.until_status(&live, "completed").await;
    engine.shutdown().await;
    assert_eq!(late.causes().await, [ExceptionCause::DisconnectedTrigger]);

    let still = World::new().await;
    still.due("still", HOUR + MINUTE).await;
    let cause = Cause {
        reason: "restored".to_owned(),
        action: "restored",
        trigger: "request",
        details: json!({}),
    };
    stand_still(&*still.store, &still.env, cause).await.unwrap();
    let engine = still.start().await;
    still.until_open("overdue", "still", true).await;
    engine.shutdown().await;
    assert_eq!(still.causes().await, [ExceptionCause::DisconnectedTrigger]);

    let asking = World::with_policy(json!({ "autonomy": "approve" })).await;
    asking.due("asking", MINUTE).await;
    let engine = asking.start_with(asking.store.clone(), calm()).await;
    asking.until_open("approval_wanted", "asking", true).await;
    asking.clock.shift(HOUR);
    asking.until_open("overdue", "asking", true).await;
    engine.shutdown().await;
    assert_eq!(asking.causes().await, []);
}

/// Row 35.
#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_ends_during_a_freeze_is_told_to_its_owner_in_time() {
    let world = World::new().await;
    let close = world.due("close", -HOUR * 48).await;
    let far = world.due("far", -HOUR * 24 * 30).await;
    let aged = world.due("aged", -HOUR * 48).await;
    for live in [&close, &far] {
        let (at, _) = world.due_of(live).await.unwrap();
        let due = Some((at, DueReason::Expiring));
        world.put(vec![Fact::IdentityDue { id: live.id, due }]).await;
    }
    let freeze = Freeze {
        reason: "an audit".to_owned(),
        by: "ada".to_owned(),
        at: world.env.now(),
    };
    world.put(vec![freeze.fact()]).await;
    let engine = world.start().await;
    world.until_open("ends_meanwhile", &close.name, true).await;
    let filter = FindingFilter {
        kind: Some("ends_meanwhile".to_owned()),
        ..FindingFilter::default()
    };
    let told = world.store.findings(&filter, Page::first(9)).await.unwrap();
    assert_eq!(told.len(), 1, "neither {} nor {} is: {told:?}", far.name, aged.name);
    assert!(
        told[0].text.contains("an audit") && told[0].owner == "team-a",
        "{told:?}"
    );
    world.put(vec![lifted()]).await;
    engine.ring();
    world.until_open("ends_meanwhile", &close.name, false).await;
    engine.shutdown().await;
}
