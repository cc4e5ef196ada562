//! Each fault does what its line in the README says, and nothing else.

use std::time::Duration;

use keyfall_sdk::{ErrorKind, InconclusiveWhy, IssueObservation, RevokeCall, Verdict};
use serde_json::json;

use super::{connect, ctx, issue_call, verdict};
use crate::demo::{Fault, FaultRule, Faults, Flapping, LockoutFault, Operation, VantageFaults, provider};

#[tokio::test]
async fn a_lost_reply_leaves_the_credential_and_a_blind_repeat_makes_a_second_one() {
    let connector = connect(json!({ "provider": "lost" }));
    let truth = provider("lost");
    truth.set_faults(Faults {
        rules: vec![FaultRule::nth(Operation::Issue, 1, Fault::LostReply)],
        ..Faults::default()
    });
    let call = issue_call("app", "first-secret");
    let issue = connector.issue().unwrap();
    let error = issue.issue(&ctx(), &call).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    assert!(truth.accepts("app", &call.secret, "primary"));
    assert!(matches!(
        issue.observe(&ctx(), &call).await.unwrap(),
        IssueObservation::Applied(_)
    ));
    issue.issue(&ctx(), &call).await.unwrap();
    assert_eq!(truth.account("app").unwrap().live_keys().count(), 2);
    assert_eq!(truth.calls(Operation::Issue), 2);
    let full = issue.issue(&ctx(), &call).await.unwrap_err();
    assert_eq!((full.kind(), full.code()), (ErrorKind::Conflict, Some("slots_full")));
}

#[tokio::test]
async fn errors_before_the_effect_change_nothing() {
    let connector = connect(json!({ "provider": "before" }));
    for (fault, kind) in [
        (Fault::Transient, ErrorKind::Transient),
        (Fault::RateLimited(250), ErrorKind::RateLimited { after_ms: 250 }),
        (Fault::Denied, ErrorKind::Denied),
        (Fault::NotFound, ErrorKind::NotFound),
    ] {
        provider("before").change_faults(|faults| faults.rules = vec![FaultRule::always(Operation::Issue, fault)]);
        let call = issue_call("app", "never-there");
        let error = connector.issue().unwrap().issue(&ctx(), &call).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(provider("before").accounts().is_empty());
    }
}

#[tokio::test]
async fn a_late_vantage_accepts_the_old_and_refuses_the_new_until_the_lag_is_over() {
    let connector = connect(json!({
        "provider": "lagging",
        "faults": { "vantages": { "replica": { "lagMs": 60000 } } },
    }));
    let truth = provider("lagging");
    let call = issue_call("app", "lagging-secret");
    let issued = connector.issue().unwrap().issue(&ctx(), &call).await.unwrap();
    assert!(
        verdict(&*connector, "app", "lagging-secret", "primary")
            .await
            .is_accepted()
    );
    assert!(
        verdict(&*connector, "app", "lagging-secret", "replica")
            .await
            .is_refused()
    );
    truth.advance(Duration::from_secs(61));
    assert!(
        verdict(&*connector, "app", "lagging-secret", "replica")
            .await
            .is_accepted()
    );
    let revoke = RevokeCall {
        principal: issued.principal,
        key_id: issued.key_id.clone(),
    };
    connector.revoke().unwrap().revoke(&ctx(), &revoke).await.unwrap();
    assert!(
        verdict(&*connector, "app", "lagging-secret", "primary")
            .await
            .is_refused()
    );
    assert!(
        verdict(&*connector, "app", "lagging-secret", "replica")
            .await
            .is_accepted()
    );
    truth.advance(Duration::from_secs(61));
    assert!(
        verdict(&*connector, "app", "lagging-secret", "replica")
            .await
            .is_refused()
    );
    assert!(truth.resurrect("app", &issued.key_id));
    assert!(
        verdict(&*connector, "app", "lagging-secret", "primary")
            .await
            .is_accepted()
    );
}

#[tokio::test]
async fn a_flapping_vantage_answers_from_its_late_node_each_third_time() {
    let connector = connect(json!({ "provider": "flapping" }));
    let truth = provider("flapping");
    let issued = connector
        .issue()
        .unwrap()
        .issue(&ctx(), &issue_call("app", "flapping-secret"))
        .await
        .unwrap();
    truth.advance(Duration::from_secs(120));
    let revoke = RevokeCall {
        principal: issued.principal,
        key_id: issued.key_id,
    };
    connector.revoke().unwrap().revoke(&ctx(), &revoke).await.unwrap();
    let flapping = VantageFaults {
        flapping: Some(Flapping {
            every: 3,
            lag_ms: 60_000,
        }),
        ..VantageFaults::default()
    };
    truth.set_faults(Faults {
        vantages: [("primary".to_owned(), flapping)].into(),
        ..Faults::default()
    });
    let mut accepted = Vec::new();
    for _ in 0..6 {
        accepted.push(
            verdict(&*connector, "app", "flapping-secret", "primary")
                .await
                .is_accepted(),
        );
    }
    assert_eq!(accepted, [false, false, true, false, false, true]);
}

#[tokio::test]
async fn a_lie_may_end_by_itself() {
    let connector = connect(json!({ "provider": "brief", "faults": { "revokeLies": { "forMs": 5000 } } }));
    let truth = provider("brief");
    let issued = connector
        .issue()
        .unwrap()
        .issue(&ctx(), &issue_call("app", "brief-secret"))
        .await
        .unwrap();
    let revoke = RevokeCall {
        principal: issued.principal,
        key_id: issued.key_id,
    };
    connector.revoke().unwrap().revoke(&ctx(), &revoke).await.unwrap();
    assert_eq!(
        truth.account("app").unwrap().live_keys().count(),
        0,
        "the list agrees with the lie"
    );
    assert_eq!(truth.honoured_keys().len(), 1, "the truth does not");
    assert!(
        verdict(&*connector, "app", "brief-secret", "replica")
            .await
            .is_accepted()
    );
    truth.advance(Duration::from_secs(6));
    assert!(
        verdict(&*connector, "app", "brief-secret", "replica")
            .await
            .is_refused()
    );
    assert!(truth.honoured_keys().is_empty());
}

#[tokio::test]
async fn refused_logins_lock_the_account_and_may_look_like_refusals() {
    let connector = connect(json!({
        "provider": "lockout",
        "faults": { "lockout": { "failures": 3, "windowMs": 60000 } },
    }));
    assert_eq!(connector.descriptor().lockout.unwrap().failures, 3);
    connector
        .issue()
        .unwrap()
        .issue(&ctx(), &issue_call("app", "right-secret"))
        .await
        .unwrap();
    for _ in 0..3 {
        assert!(
            verdict(&*connector, "app", "wrong-secret", "primary")
                .await
                .is_refused()
        );
    }
    let locked = verdict(&*connector, "app", "right-secret", "primary").await;
    assert!(
        matches!(&locked, Verdict::Inconclusive { why: InconclusiveWhy::Principal, detail } if detail == "principal_locked"),
        "{locked:?}"
    );
    provider("lockout").change_faults(|faults| faults.disabled_looks_refused = true);
    assert!(
        verdict(&*connector, "app", "right-secret", "primary")
            .await
            .is_refused()
    );
}

#[tokio::test]
async fn what_hangs_has_had_its_effect() {
    let connector = connect(json!({ "provider": "hanging" }));
    provider("hanging").set_faults(Faults {
        rules: vec![FaultRule::always(Operation::Issue, Fault::Hang)],
        ..Faults::default()
    });
    let call = issue_call("app", "hanging-secret");
    let context = ctx();
    let issue = connector.issue().unwrap().issue(&context, &call);
    assert!(tokio::time::timeout(Duration::from_millis(20), issue).await.is_err());
    assert!(provider("hanging").accepts("app", &call.secret, "primary"));
}

#[tokio::test(start_paused = true)]
async fn a_late_reply_follows_its_effect() {
    let connector = connect(json!({ "provider": "late-reply" }));
    let late = |operation| FaultRule::always(operation, Fault::LateReply(500));
    provider("late-reply").set_faults(Faults {
        rules: vec![late(Operation::Issue), late(Operation::Probe)],
        ..Faults::default()
    });
    let call = issue_call("app", "late-secret");
    let context = ctx();
    let mut issue = connector.issue().unwrap().issue(&context, &call);
    let early = tokio::time::timeout(Duration::from_millis(499), &mut issue).await;
    assert!(early.is_err(), "answered early");
    assert!(provider("late-reply").accepts("app", &call.secret, "primary"));
    issue.await.unwrap();
    let began = tokio::time::Instant::now();
    assert!(
        verdict(&*connector, "app", "late-secret", "primary")
            .await
            .is_accepted()
    );
    assert_eq!(began.elapsed(), Duration::from_millis(500));
}

#[test]
fn the_same_seed_draws_the_same_faults() {
    let faults = |seed| Faults {
        seed,
        rules: vec![FaultRule {
            probability: Some(0.3),
            ..FaultRule::always(Operation::Revoke, Fault::LostReply)
        }],
        ..Faults::default()
    };
    let drawn = |seed| -> Vec<bool> {
        let faults = faults(seed);
        (1..=1000)
            .map(|number| faults.decide(Operation::Revoke, number, "app", None).is_some())
            .collect()
    };
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    let hits = drawn(1).into_iter().filter(|hit| *hit).count();
    assert!((250..350).contains(&hits), "{hits} of 1000 at probability 0.3");
    assert_eq!(faults(1).decide(Operation::Issue, 1, "app", None), None);
}

#[test]
fn faults_survive_a_reconnect_with_the_same_options() {
    let options = json!({ "provider": "reconnect", "faults": { "slots": 3 } });
    drop(connect(options.clone()));
    provider("reconnect").change_faults(|faults| {
        faults.lockout = Some(LockoutFault {
            failures: 2,
            window_ms: 1000,
        })
    });
    drop(connect(options));
    assert!(provider("reconnect").faults().lockout.is_some());
    drop(connect(json!({ "provider": "reconnect", "faults": { "slots": 4 } })));
    assert_eq!(provider("reconnect").faults().slots, 4);
    assert!(provider("reconnect").faults().lockout.is_none());
}
