//! The decorators, around a connector that says what it must not say and answers when it likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keyfall_sdk::{
    BoxFuture, CallContext, Connector, ConnectorError, Descriptor, ErrorKind, InconclusiveWhy, Issue, IssueCall,
    IssueClass, IssueObservation, Issued, Placement, PrincipalRef, PrincipalState, Probe, ProbeCall, ProbePurpose,
    ProbeReading, Result, SecretShape, SecretValue, SettlingWindow, Verdict,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::super::guard::GuardedConnector;
use super::super::super::lease::{Hold, Lease};
use crate::domain::ids::RunId;
use crate::domain::resource::SystemLimits;

const DESCRIPTOR: Descriptor = Descriptor {
    kind: "chatty",
    about: "says too much",
    strategies: &[],
    issue_class: IssueClass::CheckFirst,
    secret_shape: SecretShape::STRONG,
    settling: SettlingWindow {
        documented: Duration::ZERO,
        source: "",
    },
    lockout: None,
    sessions_survive: false,
    answers: &[],
};

const LONG: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Chatty {
    begun: Notify,
    go_on: Notify,
    done: Notify,
    finished: AtomicBool,
}

impl Connector for Chatty {
    fn descriptor(&self) -> &Descriptor {
        &DESCRIPTOR
    }
    fn issue(&self) -> Option<&dyn Issue> {
        Some(self)
    }
    fn probe(&self) -> Option<&dyn Probe> {
        Some(self)
    }
}

impl Issue for Chatty {
    fn check_access(&self, _access: &serde_json::Value) -> Vec<String> {
        Vec::new()
    }

    fn lacking(&self, _access: &serde_json::Value, _state: &PrincipalState) -> Vec<String> {
        Vec::new()
    }

    fn issue<'a>(&'a self, _ctx: &'a CallContext, _call: &'a IssueCall) -> BoxFuture<'a, Result<Issued>> {
        Box::pin(async move {
            self.begun.notify_one();
            self.go_on.notified().await;
            self.finished.store(true, Ordering::SeqCst);
            self.done.notify_one();
            Err(ConnectorError::transient("too late to matter"))
        })
    }

    fn observe<'a>(&'a self, _ctx: &'a CallContext, call: &'a IssueCall) -> BoxFuture<'a, Result<IssueObservation>> {
        Box::pin(async move {
            let secret = call.secret.expose_secret_str().unwrap();
            Err(ConnectorError::conflict(format!("no password {secret}, says admin-password")).with_code(secret))
        })
    }
}

impl Probe for Chatty {
    fn probe<'a>(&'a self, _ctx: &'a CallContext, call: &'a ProbeCall) -> BoxFuture<'a, ProbeReading> {
        Box::pin(async move {
            if call.vantage == "silent" {
                std::future::pending::<()>().await;
            }
            ProbeReading {
                verdict: Verdict::Untestable {
                    why: format!("tried {}", call.secret.expose_secret_str().unwrap()),
                },
                endpoint: "here".to_owned(),
            }
        })
    }
}

fn guarded() -> (Arc<Chatty>, GuardedConnector) {
    let chatty = Arc::new(Chatty::default());
    let admin = SecretValue::from("admin-password".to_owned());
    let inner = Arc::clone(&chatty) as Arc<dyn Connector>;
    let guard = GuardedConnector::new(inner, "sys", SystemLimits::default(), Some(admin));
    (chatty, guard)
}

#[tokio::test]
async fn a_call_that_is_one_too_many_this_second_is_not_sent() {
    let limits = SystemLimits {
        calls_per_second: 1,
        ..SystemLimits::default()
    };
    let guard = GuardedConnector::new(Arc::new(Chatty::default()), "sys", limits, None);
    let call = || ProbeCall {
        principal: principal(),
        secret: SecretValue::from("hunter2-hunter2".to_owned()),
        vantage: "primary".to_owned(),
        purpose: ProbePurpose::Baseline,
    };
    let first = guard.probe(ctx(Duration::from_secs(1)), call()).await;
    assert!(matches!(first.verdict, Verdict::Untestable { .. }), "{first:?}");
    // A clone is the same system.
    let second = guard.clone().probe(ctx(Duration::from_millis(100)), call()).await;
    let why = InconclusiveWhy::RateLimited;
    assert!(
        matches!(&second.verdict, Verdict::Inconclusive { why: said, .. } if *said == why),
        "{second:?}"
    );
    let error = guard
        .issue(ctx(Duration::from_millis(100)), issue_call())
        .await
        .unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::RateLimited { .. }), "{error:?}");
}

fn ctx(time_left: Duration) -> CallContext {
    CallContext {
        run: "run".to_owned(),
        step: "step".to_owned(),
        attempt: 1,
        idempotency_key: "key".to_owned(),
        time_left,
    }
}

fn principal() -> PrincipalRef {
    PrincipalRef {
        name: "app".to_owned(),
        immutable_id: None,
    }
}

fn issue_call() -> IssueCall {
    IssueCall {
        principal: principal(),
        secret: SecretValue::from("hunter2-hunter2".to_owned()),
        placement: Placement::Alongside,
        replaces: Vec::new(),
        marker: "run".to_owned(),
        access: serde_json::Value::Null,
    }
}

#[tokio::test]
async fn no_secret_leaves_in_an_error_or_a_verdict() {
    let (_, guard) = guarded();
    let error = guard
        .observe(ctx(Duration::from_secs(5)), issue_call())
        .await
        .unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(
        !shown.contains("hunter2") && !shown.contains("admin-password"),
        "{shown}"
    );
    let call = ProbeCall {
        principal: principal(),
        secret: SecretValue::from("hunter2-hunter2".to_owned()),
        vantage: "primary".to_owned(),
        purpose: ProbePurpose::Baseline,
    };
    let reading = guard.probe(ctx(Duration::from_secs(5)), call).await;
    assert!(!format!("{reading:?}").contains("hunter2"), "{reading:?}");
}

#[tokio::test]
async fn an_effect_that_nobody_waits_for_any_more_is_ambiguous_and_goes_on_to_its_end() {
    let (chatty, guard) = guarded();
    let error = guard
        .issue(ctx(Duration::from_millis(20)), issue_call())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    assert!(!chatty.finished.load(Ordering::SeqCst));
    chatty.go_on.notify_one();
    tokio::time::timeout(Duration::from_secs(5), chatty.done.notified())
        .await
        .unwrap();
    assert!(chatty.finished.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_login_without_an_answer_is_inconclusive() {
    let (_, guard) = guarded();
    let call = ProbeCall {
        principal: principal(),
        secret: SecretValue::from("hunter2-hunter2".to_owned()),
        vantage: "silent".to_owned(),
        purpose: ProbePurpose::OldCredential,
    };
    let reading = guard.probe(ctx(Duration::from_millis(20)), call).await;
    assert!(matches!(reading.verdict, Verdict::Inconclusive { .. }), "{reading:?}");
}

#[tokio::test]
async fn a_missing_ability_is_an_answer() {
    let (_, guard) = guarded();
    let error = guard.read(ctx(Duration::from_secs(5)), principal()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

fn lease(length: Duration) -> Arc<Lease> {
    Arc::new(Lease::new(RunId::from_uuid(super::uuid()), 1, Instant::now() + length))
}

/// Row 23.
#[tokio::test]
async fn an_effect_is_not_sent_under_a_lease_that_ends_before_its_deadline() {
    let (chatty, guard) = guarded();
    let lease = lease(Duration::from_secs(5));
    chatty.go_on.notify_one();
    let hold = Hold::of(&lease);
    let error = guard
        .clone()
        .under(hold.clone())
        .issue(ctx(Duration::from_secs(6)), issue_call())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    assert!(hold.has_refused());
    assert!(!chatty.finished.load(Ordering::SeqCst), "it was sent");
    // What only looks may go on until the end of the lease, and no longer.
    let looks = async |hold: Hold| guard.clone().under(hold).observe(ctx(LONG * 2), issue_call()).await;
    assert_eq!(looks(Hold::of(&lease)).await.unwrap_err().kind(), ErrorKind::Conflict);
    lease.lose();
    assert_eq!(looks(Hold::of(&lease)).await.unwrap_err().kind(), ErrorKind::Transient);
}

/// Row 23. As after SIGSTOP in the middle of a call: time went on, and the run is another node's.
#[tokio::test]
async fn a_call_that_wakes_up_behind_its_lease_sends_nothing_more() {
    let (chatty, guard) = guarded();
    let lease = lease(LONG * 2);
    let hold = Hold::of(&lease);
    let under_way = guard.under(hold.clone());
    let call = tokio::spawn(async move { under_way.issue(ctx(LONG), issue_call()).await });
    tokio::time::timeout(LONG, chatty.begun.notified()).await.unwrap();
    lease.lose();
    chatty.go_on.notify_one();
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error}");
    assert!(hold.has_refused());
    assert!(!chatty.finished.load(Ordering::SeqCst), "it went on");
}
