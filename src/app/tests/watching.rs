//! What a reviewer sees: the grave thing among the many light ones, what is wrong with one credential, a wrong clock, a plan that ran out.

use jiff::{SignedDuration, Timestamp};

use super::identities::{MANIFESTS, living};
use super::world::World;
use crate::app::{AppError, DoctorLine, FindingQuery, PageQuery};
use crate::domain::ids::FindingId;
use crate::engine::findings::{ALIVE_AFTER_REVOKE, APPROVAL_WANTED, KINDS, credential_subject};
use crate::evidence::record::AuditRecord;
use crate::store::{Fact, FindingRow};

fn finding(world: &World, kind: &str, subject: String, at: Timestamp) -> Fact {
    Fact::Finding(FindingRow {
        id: FindingId::from_uuid(world.env.draw_uuid()),
        kind: kind.to_owned(),
        subject,
        severity: "high".to_owned(),
        text: "as a test wants it".to_owned(),
        owner: "team".to_owned(),
        raised_at: at,
        resolved_at: None,
    })
}

#[tokio::test]
async fn many_light_findings_push_no_grave_one_off_the_review() {
    let world = World::new().await;
    let now = world.env.now();
    let old = now - SignedDuration::from_hours(24);
    let mut facts = vec![finding(&world, ALIVE_AFTER_REVOKE, "app/one".to_owned(), old)];
    facts.extend((0..1500).map(|number| finding(&world, APPROVAL_WANTED, format!("app-{number}"), now)));
    world.put(facts).await;
    let review = world.app.review(&world.caller("ada").await).await.unwrap();
    assert_eq!(review.still_alive.len(), 1, "{:?}", review.still_alive);
    assert_eq!(review.findings[0].kind, ALIVE_AFTER_REVOKE);
}

#[test]
fn every_kind_of_finding_is_asked_for() {
    let mut kinds = KINDS.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), KINDS.len());
    let source = include_str!("../../engine/findings.rs");
    let named = source
        .lines()
        .filter(|line| line.starts_with("pub const ") && line.contains(": &str"));
    assert_eq!(named.count(), KINDS.len());
}

#[tokio::test]
async fn findings_are_asked_for_by_their_kind_and_one_that_is_none_is_refused_with_the_nearest() {
    let world = World::new().await;
    let ada = world.caller("ada").await;
    let ask = |kind: &str| FindingQuery {
        kind: Some(kind.to_owned()),
        ..FindingQuery::default()
    };
    let page = PageQuery::default;
    let refused = world.app.findings(&ada, ask("alive_after_revok"), page()).await;
    let Err(AppError::Invalid { problems }) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        problems[0].contains("did you mean `alive_after_revoke`?"),
        "{problems:?}"
    );
    let now = world.env.now();
    let subjects = [(ALIVE_AFTER_REVOKE, "app/one"), (APPROVAL_WANTED, "app")];
    let findings = subjects.map(|(kind, subject)| finding(&world, kind, subject.to_owned(), now));
    world.put(findings.into()).await;
    for (kind, subject) in subjects {
        let found = world.app.findings(&ada, ask(kind), page()).await.unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.kind.as_str(), one.subject.as_str()))
            .collect();
        assert_eq!(found, [(kind, subject)]);
    }
    assert_eq!(world.app.findings(&ada, ask("unowned"), page()).await.unwrap(), vec![]);
}

#[tokio::test]
async fn an_identity_shows_what_is_wrong_with_its_credentials() {
    let world = living("").await;
    let ada = world.caller("ada").await;
    let worker = world.store.identity_named("worker").await.unwrap().unwrap();
    let subject = credential_subject("worker", worker.current.unwrap());
    world
        .put(vec![finding(
            &world,
            ALIVE_AFTER_REVOKE,
            subject.clone(),
            world.env.now(),
        )])
        .await;
    let shown = world.app.identity(&ada, "worker").await.unwrap().findings;
    assert_eq!(shown.iter().map(|one| &one.subject).collect::<Vec<_>>(), [&subject]);
}

async fn clock_line(world: &World) -> DoctorLine {
    let lines = world.app.doctor(&world.caller("ada").await).await.unwrap();
    lines.into_iter().find(|line| line.check == "clock").unwrap()
}

#[tokio::test]
async fn the_doctor_holds_the_clock_against_the_log() {
    let world = World::new().await;
    world.plan(MANIFESTS).await.unwrap();
    assert!(clock_line(&world).await.ok);
    world.clock.shift(SignedDuration::from_hours(24 * 30));
    let silent = clock_line(&world).await;
    assert!(silent.ok && silent.text.contains("cannot say"), "{}", silent.text);
    world.clock.shift(SignedDuration::from_hours(-24 * 31));
    let behind = clock_line(&world).await;
    assert!(
        !behind.ok && behind.text.contains("before the newest record"),
        "{}",
        behind.text
    );
}

#[tokio::test]
async fn a_plan_that_runs_out_does_so_on_record() {
    let world = World::new().await;
    let plan = world.plan(MANIFESTS).await.unwrap();
    world.clock.shift(SignedDuration::from_hours(25));
    world.approve("bo", &plan).await.unwrap_err();
    let size = world.store.log_state().await.unwrap().size;
    let last = world.store.log(size - 1, 1).await.unwrap().remove(0);
    let record = AuditRecord::decode(&last.bytes).unwrap();
    assert_eq!(record.action, "plan_expired");
    assert!(record.details.contains(&plan.id), "{}", record.details);
}

#[tokio::test]
async fn the_end_of_a_control_identity_says_what_it_costs() {
    let world = living("").await;
    let ada = world.caller("ada").await;
    let plan = world
        .app
        .decommission(&ada, "keyfall-control.cache", "not wanted".to_owned())
        .await
        .unwrap();
    assert!(
        plan.warnings
            .iter()
            .any(|line| line.contains("positive control of cache")),
        "{:?}",
        plan.warnings
    );
}
