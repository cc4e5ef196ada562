//! What the demo connectors promise. The laws of the kit are in `conformance.rs`, what goes wrong on request in `faults.rs`,
//! and what is true downstream in `truth.rs`. Each test has a provider of its own: tests of one process share the map.

mod conformance;
mod faults;
mod folder;
mod truth;

use std::sync::Arc;
use std::time::Duration;

use keyfall_sdk::{
    CallContext, Connector, ConnectorKind, IssueCall, Placement, PrincipalRef, ProbeCall, ProbePurpose, SecretValue,
    ServerGrants, SystemSpec, Verdict,
};
use serde_json::{Value, json};

use super::DemoKind;

fn spec(options: Value) -> SystemSpec {
    serde_json::from_value(json!({ "connector": "demo", "options": options })).unwrap()
}

fn connect(options: Value) -> Arc<dyn Connector> {
    let (spec, grants) = (spec(options), ServerGrants::default());
    assert_eq!(DemoKind.check(&spec, &grants), []);
    DemoKind.connect(&spec, None, &grants).unwrap()
}

fn context(time_left: Duration) -> CallContext {
    CallContext {
        run: "run_1".into(),
        step: "step".into(),
        attempt: 1,
        idempotency_key: "key".into(),
        time_left,
    }
}

fn ctx() -> CallContext {
    context(Duration::from_secs(5))
}

fn secret(text: &str) -> SecretValue {
    SecretValue::from(text.to_owned())
}

fn issue_call(name: &str, text: &str) -> IssueCall {
    IssueCall {
        principal: PrincipalRef {
            name: name.into(),
            immutable_id: None,
        },
        secret: secret(text),
        placement: Placement::Alongside,
        replaces: Vec::new(),
        marker: "run_1/issue".into(),
        access: Value::Null,
    }
}

async fn verdict(connector: &dyn Connector, name: &str, text: &str, vantage: &str) -> Verdict {
    let call = ProbeCall {
        principal: PrincipalRef {
            name: name.into(),
            immutable_id: None,
        },
        secret: secret(text),
        vantage: vantage.into(),
        purpose: ProbePurpose::OldCredential,
    };
    connector.probe().unwrap().probe(&ctx(), &call).await.verdict
}
