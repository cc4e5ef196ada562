//! The demo connectors keep the laws of the kit, and the kit notices each way in which they can be told to break them.

use std::sync::Arc;
use std::time::Duration;

use keyfall_sdk::testkit::{DestinationSubject, Report, Subject, conforms, destination_conforms};
use keyfall_sdk::{
    BoxFuture, CallContext, Connector, ConnectorError, ConnectorKind, Descriptor, EndSessionsCall, Entitle, Inventory,
    Issue, IssueCall, IssueObservation, Issued, PrincipalRef, PrincipalState, Probe, RefusalCode, Result, Revoke,
    RevokeCall, Revoked, SecretShape, ServerGrants, Sessions, Suspend,
};
use serde_json::{Value, json};

use super::{connect, ctx, issue_call, spec};
use crate::demo::{DestinationKind, Fault, FaultRule, Faults, Lie, Operation, VantageFaults, provider};
use crate::poll;

fn subject(options: Value) -> Subject {
    let access = json!({ "grants": ["read:orders"] });
    let mut subject = Subject::new(connect(options), access, "kit_", &["primary", "replica"], poll::wait);
    subject.broken = Some(connect(json!({
        "provider": "dead",
        "faults": { "rules": [{ "operation": "any", "then": "transient" }] },
    })));
    subject
}

async fn broken_by(name: &str, faults: Faults) -> Report {
    let subject = subject(json!({ "provider": name }));
    provider(name).set_faults(faults);
    conforms(&subject).await
}

#[tokio::test]
async fn demo_conforms_with_every_strategy_and_class() {
    for strategy in ["dual_slot", "alternating_accounts", "in_place"] {
        for class in ["check_first", "repeatable", "once"] {
            let name = format!("conforms-{strategy}-{class}");
            let mut subject = subject(json!({ "provider": name, "strategy": strategy, "issueClass": class }));
            provider(&name).set_faults(Faults {
                rules: vec![FaultRule {
                    principal: Some("kit_lossy".into()),
                    ..FaultRule::always(Operation::Issue, Fault::LostReply)
                }],
                ..Faults::default()
            });
            subject.lossy = Some(Arc::clone(&subject.connector));
            let report = conforms(&subject).await;
            report.assert_holds();
            let skipped = if class == "once" { 3 } else { 0 };
            assert_eq!(report.skipped().len(), skipped, "{report}");
            assert_eq!(provider(&name).honoured_keys(), [], "the kit leaves no live credential");
        }
    }
}

#[tokio::test]
async fn demo_conforms_while_its_replica_is_late() {
    let mut subject = subject(json!({ "provider": "late", "strategy": "dual_slot" }));
    provider("late").set_faults(Faults {
        vantages: [(
            "replica".to_owned(),
            VantageFaults {
                lag_ms: 20,
                ..VantageFaults::default()
            },
        )]
        .into(),
        ..Faults::default()
    });
    subject.settle_within = Duration::from_secs(2);
    conforms(&subject).await.assert_holds();
}

#[tokio::test]
async fn destination_conforms_to_the_kit() {
    let connect = |options: Value| {
        DestinationKind
            .connect(&spec(options), None, &ServerGrants::default())
            .unwrap()
    };
    let dead = json!({ "rules": [{ "operation": "any", "then": "transient" }] });
    let subject = DestinationSubject {
        connector: connect(json!({ "destination": "kit" })),
        target: json!({ "slot": "app/db" }),
        wrong_target: json!({ "slot": "" }),
        fields: Default::default(),
        broken: Some(connect(json!({ "destination": "kit-dead", "faults": dead }))),
        seed: 7,
    };
    let report = destination_conforms(&subject).await;
    report.assert_holds();
    assert_eq!(report.skipped(), [""; 0]);
}

#[tokio::test]
async fn the_kit_notices_a_revoke_that_lies() {
    let report = broken_by(
        "liar-revoke",
        Faults {
            revoke_lies: Some(Lie::Forever),
            ..Faults::default()
        },
    )
    .await;
    assert_eq!(
        report.broken(),
        [
            "each_strategy_replaces_a_credential",
            "a_revoked_secret_is_refused_everywhere",
            "deleting_twice_is_success"
        ],
        "{report}"
    );
}

#[tokio::test]
async fn the_kit_notices_an_issue_that_lies() {
    let faults = Faults {
        issue_lies: true,
        ..Faults::default()
    };
    let report = broken_by("liar-issue", faults).await;
    assert!(
        report.broken().contains(&"a_new_credential_is_accepted_everywhere"),
        "{report}"
    );
    assert!(
        report.broken().contains(&"an_issue_is_observed_before_and_after"),
        "{report}"
    );
}

#[tokio::test]
async fn the_kit_notices_a_replica_that_never_learns() {
    let never = VantageFaults {
        stops_learning: true,
        ..VantageFaults::default()
    };
    let faults = Faults {
        vantages: [("replica".to_owned(), never)].into(),
        ..Faults::default()
    };
    let report = broken_by("liar-replica", faults).await;
    assert!(
        report.broken().contains(&"a_new_credential_is_accepted_everywhere"),
        "{report}"
    );
}

#[tokio::test]
async fn the_kit_notices_garbage_failures_and_sticky_sessions() {
    for (operation, law) in [
        (Operation::List, "an_account_is_listed_and_read"),
        (Operation::Read, "an_absent_account_reads_as_absent"),
        (Operation::Issue, "issuing_twice_leaves_one_credential"),
        (Operation::Observe, "an_issue_is_observed_before_and_after"),
        (Operation::Suspend, "suspending_is_reversible_and_idempotent"),
        (Operation::Strip, "stripping_twice_is_success"),
        (Operation::Revoke, "revoking_twice_is_success"),
        (Operation::Delete, "deleting_twice_is_success"),
        (Operation::EndSessions, "ending_sessions_twice_is_success"),
        (Operation::Probe, "a_secret_never_issued_is_refused_everywhere"),
    ] {
        let faults = Faults {
            rules: vec![FaultRule::always(operation, Fault::Garbage)],
            ..Faults::default()
        };
        let report = broken_by(&format!("liar-garbage-{operation:?}"), faults).await;
        assert!(report.broken().contains(&law), "{operation:?}:\n{report}");
    }
    let faults = Faults {
        sticky_sessions: true,
        ..Faults::default()
    };
    let subject = subject(json!({ "provider": "liar-sticky" }));
    provider("liar-sticky").set_faults(faults);
    let call = issue_call("held", "open-session-secret");
    let issued = subject.connector.issue().unwrap().issue(&ctx(), &call).await.unwrap();
    let session = provider("liar-sticky")
        .open_session("held", &call.secret, "primary")
        .unwrap();
    let end = EndSessionsCall {
        principal: issued.principal,
        spare_younger_than: None,
    };
    let ended = subject.connector.sessions().unwrap().end(&ctx(), &end).await.unwrap();
    assert_eq!((ended.ended, ended.left), (0, 1));
    assert!(provider("liar-sticky").session_is_open("held", session));
}

#[tokio::test]
async fn the_kit_notices_success_at_a_dead_endpoint() {
    let mut subject = subject(json!({ "provider": "liar-alive" }));
    subject.broken = Some(Arc::clone(&subject.connector));
    let report = conforms(&subject).await;
    assert_eq!(
        report.broken(),
        ["a_dead_endpoint_is_transient_and_inconclusive"],
        "{report}"
    );
}

/// A connector as it should not be: its errors quote the secret, it plans on any access and misses none of it, and it revokes
/// the oldest key of whatever account has the name, instead of what was recorded.
struct Careless(Arc<dyn Connector>);

impl Connector for Careless {
    fn descriptor(&self) -> &Descriptor {
        self.0.descriptor()
    }
    fn inventory(&self) -> Option<&dyn Inventory> {
        self.0.inventory()
    }
    fn issue(&self) -> Option<&dyn Issue> {
        Some(self)
    }
    fn suspend(&self) -> Option<&dyn Suspend> {
        self.0.suspend()
    }
    fn entitle(&self) -> Option<&dyn Entitle> {
        self.0.entitle()
    }
    fn revoke(&self) -> Option<&dyn Revoke> {
        Some(self)
    }
    fn sessions(&self) -> Option<&dyn Sessions> {
        self.0.sessions()
    }
    fn probe(&self) -> Option<&dyn Probe> {
        self.0.probe()
    }
}

impl Issue for Careless {
    fn check_access(&self, _access: &Value) -> Vec<String> {
        Vec::new()
    }
    fn lacking(&self, _access: &Value, _state: &PrincipalState) -> Vec<String> {
        Vec::new()
    }
    fn issue<'a>(&'a self, ctx: &'a CallContext, call: &'a IssueCall) -> BoxFuture<'a, Result<Issued>> {
        Box::pin(async move {
            self.0.issue().unwrap().issue(ctx, call).await.map_err(|error| {
                let quoted = call.secret.expose_secret_str().unwrap();
                ConnectorError::new(error.kind(), format!("could not set password {quoted}"))
            })
        })
    }
    fn observe<'a>(&'a self, ctx: &'a CallContext, call: &'a IssueCall) -> BoxFuture<'a, Result<IssueObservation>> {
        self.0.issue().unwrap().observe(ctx, call)
    }
}

impl Revoke for Careless {
    fn revoke<'a>(&'a self, ctx: &'a CallContext, call: &'a RevokeCall) -> BoxFuture<'a, Result<Revoked>> {
        Box::pin(async move {
            let current = self.0.inventory().unwrap().read(ctx, &call.principal).await?;
            let Some(state) = current.states().next() else {
                return Ok(Revoked::AlreadyGone);
            };
            let oldest = state.key_ids.first().cloned().unwrap_or_else(|| call.key_id.clone());
            let principal = PrincipalRef {
                name: state.name.clone(),
                immutable_id: Some(state.immutable_id.clone()),
            };
            let call = RevokeCall {
                principal,
                key_id: oldest,
            };
            self.0.revoke().unwrap().revoke(ctx, &call).await
        })
    }
    fn delete_principal<'a>(
        &'a self,
        ctx: &'a CallContext,
        principal: &'a PrincipalRef,
    ) -> BoxFuture<'a, Result<Revoked>> {
        self.0.revoke().unwrap().delete_principal(ctx, principal)
    }
}

#[tokio::test]
async fn the_kit_notices_a_careless_connector() {
    let mut subject = subject(json!({ "provider": "careless" }));
    subject.connector = Arc::new(Careless(Arc::clone(&subject.connector)));
    let report = conforms(&subject).await;
    assert_eq!(
        report.broken(),
        [
            "wrong_access_is_named",
            "an_account_has_what_access_names",
            "a_foreign_key_id_harms_nothing",
            "a_namesake_is_not_harmed",
            "no_secret_is_ever_returned"
        ],
        "{report}"
    );
}

/// A connector that says much of itself and can do nothing.
struct Boastful(Descriptor);

impl Connector for Boastful {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }
}

#[tokio::test]
async fn the_kit_notices_a_descriptor_that_boasts() {
    let mut subject = subject(json!({ "provider": "boastful" }));
    let mut descriptor = subject.connector.descriptor().clone();
    let code = RefusalCode {
        code: "denied",
        refuses_credential: false,
        meaning: "no",
    };
    descriptor.answers = Box::leak(Box::new([code, code]));
    descriptor.secret_shape = SecretShape {
        length: 43,
        alphabet: "ab'",
    };
    subject.connector = Arc::new(Boastful(descriptor));
    subject.broken = None;
    let report = conforms(&subject).await;
    assert_eq!(
        report.broken()[..3],
        [
            "descriptor_agrees_with_abilities",
            "answers_are_listed_once",
            "secrets_are_strong_and_quotable"
        ],
        "{report}"
    );
}

#[tokio::test]
async fn the_kit_notices_a_destination_that_lies() {
    let connect = |options: Value| {
        DestinationKind
            .connect(&spec(options), None, &ServerGrants::default())
            .unwrap()
    };
    let faults = json!({ "rules": [{ "operation": "confirm", "nth": 2, "then": "lostReply" }] });
    let subject = DestinationSubject {
        connector: connect(json!({ "destination": "lying", "faults": faults })),
        target: json!({ "slot": "app/db" }),
        wrong_target: json!({ "slot": "fine" }),
        fields: Default::default(),
        broken: Some(connect(json!({ "destination": "lying-alive" }))),
        seed: 7,
    };
    let report = destination_conforms(&subject).await;
    assert_eq!(
        report.broken(),
        [
            "wrong_targets_are_named",
            "a_delivery_lives_and_ends",
            "a_dead_destination_never_succeeds"
        ],
        "{report}"
    );
}
