//! The connector against real servers: a primary and a streaming replica, over TLS. No test shares a role with another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use keyfall_sdk::{
    AdminCredential, CallContext, Connector, IssueCall, Issued, Placement, PrincipalRef, PrincipalState, ProbeCall,
    ProbePurpose, SecretValue, ServerGrants, SystemSpec, Verdict,
};
use serde_json::{Value, json};

use super::Postgres;
use super::handshake::{Login, open};
use super::link::{Link, Rows};
use crate::testing::servers;

mod accounts;
mod delete;
mod foreign;
mod kit;
mod life;
mod lossy;
mod names;
mod poll;
mod pooler;
mod waiting;
mod wire;

pub(super) const VANTAGES: [&str; 2] = ["primary", "replica"];

/// The test servers as a system, over TLS.
pub(super) fn spec(options: Value) -> SystemSpec {
    let servers = servers();
    let host = servers.text("KEYFALL_PG_HOST");
    serde_json::from_value(json!({
        "connector": "postgres",
        "tlsCa": servers.file("KEYFALL_PG_CA_FILE"),
        "options": options,
        "vantages": [
            {"name": "primary", "host": host, "port": servers.port("KEYFALL_PG_PRIMARY_PORT")},
            {"name": "replica", "role": "probe", "host": host, "port": servers.port("KEYFALL_PG_REPLICA_PORT")},
        ],
    }))
    .unwrap()
}

pub(super) fn admin() -> AdminCredential {
    servers().admin("KEYFALL_PG_ADMIN_USER", "KEYFALL_PG_ADMIN_PASSWORD_FILE")
}

pub(super) fn postgres() -> Arc<Postgres> {
    postgres_with(json!({"adminDatabase": "postgres"}))
}

pub(super) fn postgres_with(options: Value) -> Arc<Postgres> {
    Arc::new(Postgres::new(&spec(options), Some(admin()), &ServerGrants::default()).unwrap())
}

pub(super) fn ctx() -> CallContext {
    CallContext {
        run: "run_test".to_owned(),
        step: "step".to_owned(),
        attempt: 1,
        idempotency_key: "key".to_owned(),
        time_left: Duration::from_secs(20),
    }
}

/// A name that no other test has.
pub(super) fn name(stem: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!(
        "kf_{stem}_{}_{}",
        std::process::id(),
        NUMBER.fetch_add(1, Ordering::Relaxed)
    )
}

pub(super) fn secret(text: &str) -> SecretValue {
    SecretValue::from(format!("{text}-Zk8_secret_of_a_test_with_43_characters-x"))
}

pub(super) fn new_account(name: &str) -> PrincipalRef {
    PrincipalRef {
        name: name.to_owned(),
        immutable_id: None,
    }
}

pub(super) fn issue_call(principal: PrincipalRef, secret: &SecretValue, access: Value) -> IssueCall {
    IssueCall {
        principal,
        secret: secret.clone(),
        placement: Placement::Alongside,
        replaces: Vec::new(),
        marker: "run_test/1".to_owned(),
        access,
    }
}

pub(super) async fn issue(connector: &Postgres, name: &str, secret: &SecretValue, access: Value) -> Issued {
    let call = issue_call(new_account(name), secret, access);
    connector.issue().unwrap().issue(&ctx(), &call).await.unwrap()
}

pub(super) async fn probe(connector: &Postgres, vantage: &str, name: &str, secret: &SecretValue) -> Verdict {
    let call = ProbeCall {
        principal: new_account(name),
        secret: secret.clone(),
        vantage: vantage.to_owned(),
        purpose: ProbePurpose::ProveNew,
    };
    let reading = connector.probe().unwrap().probe(&ctx(), &call).await;
    assert!(!reading.endpoint.is_empty());
    reading.verdict
}

/// Probes until the verdict is the wanted one: a replica follows by its replay lag.
pub(super) async fn settle(connector: &Postgres, name: &str, secret: &SecretValue, wanted: impl Fn(&Verdict) -> bool) {
    for vantage in VANTAGES {
        poll::eventually(&format!("the wanted verdict on {name} at {vantage}"), async || {
            wanted(&probe(connector, vantage, name, secret).await).then_some(())
        })
        .await;
    }
}

/// The account as the control vantage shows it.
pub(super) async fn read(connector: &Postgres, principal: &PrincipalRef) -> Option<PrincipalState> {
    let reading = connector.inventory().unwrap().read(&ctx(), principal).await.unwrap();
    assert_eq!(reading.places.len(), 1);
    reading.states().next().cloned()
}

pub(super) fn refused(verdict: &Verdict) -> bool {
    *verdict
        == Verdict::Refused {
            code: "28P01".to_owned(),
        }
}

/// An open session of an account, as a consumer would have it.
pub(super) async fn session(connector: &Postgres, vantage: &str, user: &str, secret: &SecretValue) -> Link {
    session_in(connector, vantage, user, secret, "postgres").await
}

pub(super) async fn session_in(
    connector: &Postgres,
    vantage: &str,
    user: &str,
    secret: &SecretValue,
    database: &str,
) -> Link {
    session_of(connector, vantage, user, secret, database, "consumer").await
}

/// A session that says who opened it.
pub(super) async fn session_of(
    connector: &Postgres,
    vantage: &str,
    user: &str,
    secret: &SecretValue,
    database: &str,
    application: &str,
) -> Link {
    let lane = connector
        .admin
        .lanes()
        .iter()
        .find(|lane| lane.target.vantage == vantage);
    let login = Login {
        user,
        secret,
        database,
        application,
    };
    open(&lane.unwrap().target, &login).await.unwrap()
}

/// Runs SQL on the primary as the administrator.
pub(super) async fn sql(connector: &Postgres, sql: &str) -> Vec<Rows> {
    let own = admin();
    let mut link = session(connector, "primary", &own.username, &own.secret).await;
    link.batch(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
}

pub(super) async fn value(connector: &Postgres, query: &str) -> Option<String> {
    sql(connector, query).await.pop()?.pop()?.pop()?
}
