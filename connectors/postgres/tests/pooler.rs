//! A pooler as a vantage.

use keyfall_sdk::{
    Connector, EndSessionsCall, InconclusiveWhy, RevokeCall, ServerGrants, SystemSpec, TlsMode, Verdict,
};
use serde_json::json;

use super::poll::eventually;
use super::{Postgres, admin, ctx, issue, name, probe, secret, session};
use crate::testing::servers;

fn with_pooler(tls: TlsMode) -> Postgres {
    let servers = servers();
    let mut spec: SystemSpec = serde_json::from_value(json!({
        "connector": "postgres", "tls": tls, "options": {"poolers": ["pooler"]},
        "vantages": [
            {"name": "primary", "host": "127.0.0.1", "port": servers.port("KEYFALL_PG_PRIMARY_PORT")},
            {"name": "pooler", "role": "probe", "host": "127.0.0.1", "port": servers.port("KEYFALL_PGBOUNCER_PORT")},
        ],
    }))
    .unwrap();
    if tls == TlsMode::Verify {
        spec.tls_ca = Some(servers.file("KEYFALL_PG_CA_FILE"));
    }
    Postgres::new(&spec, Some(admin()), &ServerGrants::default()).unwrap()
}

#[tokio::test]
async fn a_pooler_refuses_what_its_server_refuses() {
    let connector = with_pooler(TlsMode::Off);
    let account = name("pooled");
    let issued = issue(&connector, &account, &secret("one"), json!({})).await;
    assert!(
        probe(&connector, "pooler", &account, &secret("one"))
            .await
            .is_accepted()
    );
    let mut through = session(&connector, "pooler", &account, &secret("one")).await;
    assert!(through.batch("SELECT 1").await.is_ok());
    let revoke = RevokeCall {
        principal: issued.principal.clone(),
        key_id: issued.key_id.clone(),
    };
    connector.revoke().unwrap().revoke(&ctx(), &revoke).await.unwrap();
    let end = EndSessionsCall {
        principal: issued.principal.clone(),
        spare_younger_than: None,
    };
    let ended = connector.sessions().unwrap().end(&ctx(), &end).await.unwrap();
    assert!(ended.ended >= 1 && ended.left == 0, "{ended:?}");
    assert!(through.batch("SELECT 1").await.is_err());
    let verdict = eventually("an answer of the pooler", async || {
        let verdict = probe(&connector, "pooler", &account, &secret("one")).await;
        (!verdict.is_accepted()).then_some(verdict)
    })
    .await;
    // PgBouncer 1.18 has one code for everything; later versions answer like PostgreSQL.
    assert!(
        matches!(&verdict, Verdict::Refused { code } if code == "08P01" || code == "28P01"),
        "{verdict:?}"
    );
    let random = probe(&connector, "pooler", &account, &secret("random")).await;
    assert_eq!(random, verdict);
    connector
        .revoke()
        .unwrap()
        .delete_principal(&ctx(), &issued.principal)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_pooler_without_channel_binding_gets_nothing_over_tls() {
    let connector = with_pooler(TlsMode::Verify);
    let own = admin();
    assert!(
        probe(&connector, "primary", &own.username, &own.secret)
            .await
            .is_accepted()
    );
    let verdict = probe(&connector, "pooler", &own.username, &own.secret).await;
    let Verdict::Inconclusive { why, detail } = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(why, InconclusiveWhy::Policy);
    assert!(detail.contains("no channel binding"), "{detail}");
}
