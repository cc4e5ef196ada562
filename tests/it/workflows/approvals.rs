//! An approval runs out: a run that has taken nothing away by then takes nothing away any more.

use keyfall::clock::Environment;
use keyfall::domain::plan::Plan;
use keyfall::evidence::approval::{ApprovalStatement, Decision};
use keyfall::evidence::keys::SigningKey;
use serde_json::{Value, json};

use super::scene::{Scene, consumed, policy, text};
use crate::harness::{Service, http, strings, token};

/// Microseconds since the Unix epoch.
fn now() -> i64 {
    Environment::of_this_machine().now().as_microsecond()
}

/// Bob signs, until an instant that comes sooner than the plan's.
fn signed_for(scene: &Scene, plan: &str, until_micros: i64) -> (u16, Value) {
    let (kf, bob) = (&scene.kf, token(&scene.kf.dir(), "bob"));
    let url = |path: &str| format!("{}/v1/plans/{plan}/{path}", kf.url());
    let content = http("GET", &url("content"), Some(&bob), "").2;
    let statement = ApprovalStatement {
        plan_id: plan.to_owned(),
        plan_digest: Plan::digest_of(content.as_bytes()).0,
        decision: Decision::Approve,
        expires_at_micros: until_micros,
    };
    let key = SigningKey::load(&kf.dir().join("people/bob.key"), None).unwrap();
    let body = json!({
        "signature": statement.sign(&key), "expires_at_micros": statement.expires_at_micros, "reason": "for a moment",
    });
    let (status, _, answer) = http("POST", &url("approve"), Some(&bob), &body.to_string());
    (status, serde_json::from_str(&answer).unwrap())
}

#[test]
fn an_approval_that_ran_out_takes_nothing_away() {
    let scene = Scene::start();
    let mut manifests = scene.ground(Service::Postgres);
    manifests.push(policy("careful", &["orders"], json!({ "autonomy": "approve" })));
    manifests.push(scene.identity("orders", Service::Postgres, consumed()));
    let runs = scene.apply(&manifests);
    let old = scene.takes_up("orders", None);
    for run in &runs {
        scene.kf.follow(run, 0);
    }
    let plan = scene.plan(&["rotate", "orders", "--reason", "in time"]);
    let (status, late) = signed_for(&scene, &plan, now() - 1);
    assert_eq!(status, 409, "{late:#}");
    assert!(text(&late["detail"]).contains("has run out"), "{late:#}");

    let until = now() + 4_000_000;
    let (status, view) = signed_for(&scene, &plan, until);
    assert_eq!(status, 200, "{view:#}");
    let run = strings(&view["runs"])[0].clone();
    scene.until_step(&run, "await_uptake");
    scene
        .kf
        .wait("the approval has run out", || (now() > until).then_some(()));
    scene.takes_up("orders", Some(&old));
    let asked = scene.until_status(&run, "needs_operator");
    assert_eq!(asked["step"], "revoke_old", "{asked:#}");
    assert!(text(&asked["note"]).contains("ran out"), "{asked:#}");
    scene.works(Service::Postgres, &old);
    scene.works(Service::Postgres, &scene.delivered("orders"));
}
