//! What somebody else puts on an account while a run waits. It is a finding and never garbage: before an account goes, and before its only value
//! is replaced, it is read once more.

use keyfall_sdk::{KeyId, Strategy};
use serde_json::json;

use super::{Bench, Driven, Live, fresh, uuid};
use crate::domain::actor::Actor;
use crate::domain::ids::PersonId;
use crate::domain::workflow::{EventBody, Outcome, RunKind, Step};
use crate::engine::report::PerformSteps as _;

fn plant(bench: &Bench, account: &str) -> KeyId {
    let secret = bench.draw();
    bench.provider.plant_key(account, &bench.secret(secret)).unwrap()
}

fn holds(bench: &Bench, account: &str, key: &KeyId) -> bool {
    let account = bench.provider.account(account);
    account.is_some_and(|account| account.live_keys().any(|held| held.id == *key))
}

fn retry(bench: &Bench, driven: &mut Driven) {
    let by = Actor::Engine;
    let reason = "taken away by hand".to_owned();
    driven.push(bench.now(), EventBody::Retried { by, reason });
}

fn asks_about(driven: &Driven, account: &str) {
    let reason = driven.stuck_reason().unwrap_or_else(|| panic!("{}", driven.text()));
    assert!(
        reason.contains("nobody recorded") && reason.contains(account),
        "{reason}"
    );
}

async fn decommissioned_until(bench: &Bench, live: &Live, step: Step) -> Driven {
    let plan = bench.plan(RunKind::Decommission, std::slice::from_ref(live), None);
    bench.drive_until(plan, step).await
}

/// Row 28.
#[tokio::test]
async fn a_key_that_appears_while_a_decommission_listens_stops_it_where_it_can_be_taken_back() {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let live = bench.provision("app").await;
    let mut driven = decommissioned_until(&bench, &live, Step::Listen).await;
    let strangers = plant(&bench, "app");
    bench.finish(&mut driven).await;
    asks_about(&driven, "app");
    assert_eq!(driven.run.step(), Some(Step::StripGrants));
    assert!(driven.run.may_be_cancelled());
    assert!(holds(&bench, "app", &strangers) && holds(&bench, "app", &live.key_id));
    assert_eq!(bench.provider.account("app").unwrap().grants, ["read"]);
}

#[tokio::test]
async fn a_key_that_appears_right_before_the_deletion_is_not_deleted_with_the_account() {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let live = bench.provision("app").await;
    let mut driven = decommissioned_until(&bench, &live, Step::DeleteAccount).await;
    let strangers = plant(&bench, "app");
    bench.finish(&mut driven).await;
    asks_about(&driven, "app");
    assert!(holds(&bench, "app", &strangers));

    assert!(bench.provider.take_key("app", &strangers));
    retry(&bench, &mut driven);
    bench.finish(&mut driven).await;
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
    assert!(bench.provider.account("app").is_none());
}

#[tokio::test]
async fn a_key_beside_an_old_one_without_a_key_id_counts_as_strange_when_it_came_later() {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let live = bench.provision("app").await;
    let mut plan = bench.plan(RunKind::Decommission, std::slice::from_ref(&live), None);
    plan.old[0].key_id = None;
    let mut driven = bench.drive_until(plan, Step::DeleteAccount).await;
    let strangers = plant(&bench, "app");
    bench.finish(&mut driven).await;
    asks_about(&driven, "app");
    assert!(holds(&bench, "app", &strangers));
}

#[tokio::test]
async fn a_key_on_a_new_account_stops_the_deletion_on_the_way_back() {
    let bench = Bench::new(Strategy::AlternatingAccounts, json!({})).await;
    let old = bench.provision("app_a").await;
    let plan = bench.plan(RunKind::Rotate, std::slice::from_ref(&old), Some(fresh("app_b")));
    let mut driven = bench.drive_until(plan, Step::Promote).await;
    let strangers = plant(&bench, "app_b");
    let cause = "told to".to_owned();
    driven.push(bench.now(), EventBody::Unwinding { cause });
    bench.finish(&mut driven).await;
    asks_about(&driven, "app_b");
    assert!(holds(&bench, "app_b", &strangers) && bench.accepted(&old));
}

async fn in_place() -> (Bench, Live, Driven) {
    let bench = Bench::new(Strategy::InPlace, json!({})).await;
    let old = bench.provision("app").await;
    let plan = bench.plan(RunKind::Rotate, std::slice::from_ref(&old), Some(old.principal.clone()));
    let driven = bench.drive_until(plan, Step::IssueNew).await;
    (bench, old, driven)
}

#[tokio::test]
async fn a_password_that_was_set_while_an_in_place_rotation_was_held_is_not_written_over() {
    let (bench, old, mut driven) = in_place().await;
    assert!(bench.provider.take_key("app", &old.key_id));
    let strangers = plant(&bench, "app");
    bench.finish(&mut driven).await;
    let reason = driven.stuck_reason().unwrap_or_else(|| panic!("{}", driven.text()));
    assert!(reason.contains("does not show the recorded credential"), "{reason}");
    assert!(driven.run.may_be_cancelled(), "{}", driven.text());
    assert!(holds(&bench, "app", &strangers));

    bench.take_back(&mut driven, "as the run advises").await;
    assert!(holds(&bench, "app", &strangers));
}

#[tokio::test]
async fn a_password_that_is_set_behind_the_last_look_is_not_written_over_either() {
    let (bench, old, mut driven) = in_place().await;
    // The intent is committed, and the process dies before its call.
    let intent = bench.steps.intent(&driven.run, Step::IssueNew);
    let started = EventBody::Started {
        step: Step::IssueNew,
        attempt: 1,
        deadline: bench.now(),
        intent,
    };
    driven.push(bench.now(), started);
    let strangers = plant(&bench, "app");
    bench.finish(&mut driven).await;
    assert!(driven.stuck_reason().is_some(), "{}", driven.text());
    assert!(holds(&bench, "app", &strangers) && holds(&bench, "app", &old.key_id));

    assert!(bench.provider.take_key("app", &strangers));
    retry(&bench, &mut driven);
    bench.finish(&mut driven).await;
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
}

/// Row 4.
#[tokio::test]
async fn an_issue_that_the_system_refused_can_be_taken_back_once_nothing_is_in_doubt() {
    let (bench, old, mut driven) = in_place().await;
    let started = EventBody::Started {
        step: Step::IssueNew,
        attempt: 1,
        deadline: bench.now(),
        intent: bench.steps.intent(&driven.run, Step::IssueNew),
    };
    driven.push(bench.now(), started);
    let strangers = plant(&bench, "app");
    bench.one(&mut driven, Step::IssueNew, 2, true).await;
    assert!(!driven.run.may_be_cancelled(), "the call may still arrive");
    bench.finish(&mut driven).await;
    assert!(driven.stuck_reason().is_some(), "{}", driven.text());
    assert!(driven.run.may_be_cancelled(), "{}", driven.text());
    bench.take_back(&mut driven, "the stranger stays").await;
    assert!(holds(&bench, "app", &strangers) && holds(&bench, "app", &old.key_id));
}

fn person(name: &str) -> Actor {
    Actor::Person {
        id: PersonId::from_uuid(uuid()),
        name: name.to_owned(),
    }
}

async fn heard() -> (Bench, Live, u64, Driven) {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let live = bench.provision("app").await;
    let session = bench
        .provider
        .open_session("app", &bench.secret(live.secret), "primary")
        .unwrap();
    let mut plan = bench.plan(RunKind::Decommission, std::slice::from_ref(&live), None);
    plan.initiator = person("ada");
    let driven = bench.drive(plan).await;
    (bench, live, session, driven)
}

/// Row 20.
#[tokio::test]
async fn who_is_still_connected_when_the_listening_ends_stops_a_decommission() {
    let (bench, live, session, mut driven) = heard().await;
    let reason = driven.stuck_reason().unwrap_or_else(|| panic!("{}", driven.text()));
    assert!(reason.contains("app") && reason.contains("open session"), "{reason}");
    assert_eq!(driven.run.step(), Some(Step::Listen));
    assert!(bench.provider.session_is_open("app", session));

    bench.take_back(&mut driven, "it is needed").await;
    assert!(bench.accepted(&live) && bench.provider.session_is_open("app", session));
}

#[tokio::test]
async fn a_person_who_knows_who_is_connected_lets_the_decommission_go_on() {
    let (bench, live, _, mut driven) = heard().await;
    assert!(driven.run.refusal_to_resume(&driven.run.plan().initiator).is_some());
    let (by, reason) = (person("bo"), "a forgotten job".to_owned());
    driven.push(bench.now(), EventBody::Resumed { by, reason });
    bench.finish(&mut driven).await;
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
    assert!(!bench.accepted(&live) && bench.provider.account("app").is_none());
    let exceptions = serde_json::to_string(&driven.receipt.as_ref().unwrap().exceptions).unwrap();
    assert!(exceptions.contains("a forgotten job"), "{exceptions}");
}
