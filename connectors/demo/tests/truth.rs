//! What is true downstream, what a manifest may say, and how much a call costs.

use std::time::{Duration, Instant};

use keyfall_sdk::{ConnectorKind, DeliverCall, EndSessionsCall, RevokeCall, ServerGrants};
use serde_json::{Value, json};

use super::{connect, ctx, issue_call, secret, spec, verdict};
use crate::demo::{DemoKind, DestinationKind, Uptake, destination, provider};

#[tokio::test]
async fn ending_sessions_spares_the_young_ones() {
    let connector = connect(json!({ "provider": "sessions" }));
    let truth = provider("sessions");
    let call = issue_call("app", "session-secret");
    let issued = connector.issue().unwrap().issue(&ctx(), &call).await.unwrap();
    let old = truth.open_session("app", &call.secret, "primary").unwrap();
    truth.advance(Duration::from_secs(60));
    let young = truth.open_session("app", &call.secret, "replica").unwrap();
    let end = EndSessionsCall {
        principal: issued.principal.clone(),
        spare_younger_than: Some(Duration::from_secs(30)),
    };
    let sessions = connector.sessions().unwrap();
    let ended = sessions.end(&ctx(), &end).await.unwrap();
    assert_eq!((ended.ended, ended.left), (1, 0));
    assert!(!truth.session_is_open("app", old));
    assert!(truth.session_is_open("app", young));
    assert_eq!(sessions.count(&ctx(), &issued.principal).await.unwrap(), 1);
}

#[test]
fn wrong_options_are_named() {
    let problems = |options| DemoKind.check(&spec(options), &ServerGrants::default());
    assert_eq!(problems(Value::Null), []);
    for (options, at, says) in [
        (json!({ "providr": "x" }), "options", "providr"),
        (
            json!({ "faults": { "slots": 0 } }),
            "options.faults.slots",
            "at least one",
        ),
        (
            json!({ "faults": { "vantages": { "moon": {} } } }),
            "options.faults",
            "moon",
        ),
        (
            json!({ "stateFolder": { "root": "state", "folder": "x" } }),
            "options.stateFolder",
            "no file root called state",
        ),
        (
            json!({ "faults": { "rules": [{ "operation": "issue", "probability": 2.0, "then": "denied" }] } }),
            "options.faults.rules[0].probability",
            "from 0 to 1",
        ),
    ] {
        let found = problems(options);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].at, at);
        assert!(found[0].message.contains(says), "{found:?}");
    }
}

#[tokio::test]
async fn consumers_acknowledge_at_once_late_or_never() {
    let options = json!({ "destination": "uptake", "consumers": { "slow": { "afterMs": 3600000 }, "gone": "never" } });
    let connector = DestinationKind
        .connect(&spec(options), None, &ServerGrants::default())
        .unwrap();
    let deliver = connector.deliver().unwrap();
    let call = DeliverCall {
        target: json!({ "slot": "app" }),
        secret: secret("delivered-secret"),
        fields: Default::default(),
        version: "v1".into(),
    };
    deliver.deliver(&ctx(), &call).await.unwrap();
    assert!(destination("uptake").read("app").unwrap().matches(&call.secret));
    let version = async |consumer: &str| {
        let answer = deliver.acknowledged(&ctx(), &call.target, consumer).await.unwrap();
        answer.version
    };
    assert_eq!(version("prompt").await.as_deref(), Some("v1"));
    assert_eq!(version("slow").await, None);
    assert_eq!(version("gone").await, None);
    destination("uptake").set_consumer("slow", Uptake::AtOnce);
    assert_eq!(version("slow").await.as_deref(), Some("v1"));
}

/// The calls of one dual-slot rotation with proof at two vantages, many times over: the vehicle must not be the brake.
#[tokio::test]
async fn ten_thousand_rotations_take_little() {
    let connector = connect(json!({ "provider": "fast" }));
    let (issue, revoke) = (connector.issue().unwrap(), connector.revoke().unwrap());
    let began = Instant::now();
    for number in 0..10_000 {
        let mut call = issue_call(&format!("svc-{number}"), "old-secret");
        let old = issue.issue(&ctx(), &call).await.unwrap();
        call.principal = old.principal.clone();
        call.secret = secret("new-secret");
        issue.issue(&ctx(), &call).await.unwrap();
        let doomed = RevokeCall {
            principal: old.principal,
            key_id: old.key_id,
        };
        revoke.revoke(&ctx(), &doomed).await.unwrap();
        for vantage in ["primary", "replica"] {
            assert!(
                verdict(&*connector, &call.principal.name, "new-secret", vantage)
                    .await
                    .is_accepted()
            );
            assert!(
                verdict(&*connector, &call.principal.name, "old-secret", vantage)
                    .await
                    .is_refused()
            );
        }
    }
    let took = began.elapsed();
    println!("10,000 rotations of 7 calls took {took:?}");
    assert_eq!(provider("fast").accounts().len(), 10_000);
    assert!(took < Duration::from_secs(20), "{took:?}");
}
