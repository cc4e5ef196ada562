//! Servers that lie, fail or are not there.

use std::time::Duration;

use keyfall_sdk::{
    AdminCredential, Connector, ErrorKind, InconclusiveWhy, PrincipalRef, ProbeCall, ProbePurpose, ServerGrants,
    SystemSpec, Verdict,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Postgres, admin, ctx, postgres, probe, secret, spec};
use crate::testing::servers;

/// A system of one plain-text vantage on this machine.
fn plain(port: u16) -> SystemSpec {
    serde_json::from_value(json!({"connector": "postgres", "tls": "off",
        "vantages": [{"name": "primary", "host": "127.0.0.1", "port": port}]}))
    .unwrap()
}

fn connect(spec: &SystemSpec) -> Postgres {
    let credential = AdminCredential {
        username: "root".to_owned(),
        secret: secret("admin"),
    };
    Postgres::new(spec, Some(credential), &ServerGrants::default()).unwrap()
}

fn why(verdict: &Verdict) -> InconclusiveWhy {
    match verdict {
        Verdict::Inconclusive { why, .. } => *why,
        other => panic!("{other:?}"),
    }
}

/// What a fake server heard: start-up messages, and everything that came after its answer.
#[derive(Default)]
struct Heard {
    startups: Vec<u8>,
    after: Vec<u8>,
}

/// Answers the start-up with `reply`, for two connections.
async fn fake(reply: Vec<u8>) -> (u16, tokio::task::JoinHandle<Heard>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = tokio::spawn(async move {
        let mut heard = Heard::default();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let length = stream.read_u32().await.unwrap();
            let mut startup = vec![0; usize::try_from(length).unwrap() - 4];
            stream.read_exact(&mut startup).await.unwrap();
            heard.startups.append(&mut startup);
            stream.write_all(&reply).await.unwrap();
            stream.read_to_end(&mut heard.after).await.unwrap();
        }
        heard
    });
    (port, heard)
}

fn authentication(kind: u32, rest: &[u8]) -> Vec<u8> {
    let mut message = vec![b'R'];
    message.extend_from_slice(&u32::try_from(8 + rest.len()).unwrap().to_be_bytes());
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(rest);
    message
}

fn holds(heard: &[u8], needle: &[u8]) -> bool {
    heard.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test]
async fn no_server_gets_the_secret_in_clear_or_hashed() {
    let requests = [
        ("clear text", authentication(3, &[])),
        ("MD5", authentication(5, b"salt")),
        ("trust", authentication(0, &[])),
        ("GSS", authentication(7, &[])),
        ("another SASL", authentication(10, b"PLAIN\0\0")),
    ];
    for (request, reply) in requests {
        let (port, heard) = fake(reply).await;
        let connector = connect(&plain(port));
        let verdict = probe(&connector, "primary", "svc", &secret("probe")).await;
        assert_eq!(why(&verdict), InconclusiveWhy::Policy, "{request}");
        let error = connector.inventory().unwrap().list(&ctx()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{request}");
        let heard = tokio::time::timeout(Duration::from_secs(5), heard)
            .await
            .unwrap()
            .unwrap();
        assert!(
            holds(&heard.startups, b"svc") && holds(&heard.startups, b"root"),
            "{request}"
        );
        assert_eq!(heard.after, b"", "{request}: nothing follows the start-up message");
        for secret in [secret("probe"), secret("admin")] {
            assert!(!holds(&heard.startups, secret.expose_secret()), "{request}");
        }
    }
}

#[tokio::test]
async fn a_refusal_before_the_proof_is_none() {
    let mut body = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed\0\0".to_vec();
    let mut reply = vec![b'E'];
    reply.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    reply.append(&mut body);
    let (port, _heard) = fake(reply).await;
    let verdict = probe(&connect(&plain(port)), "primary", "svc", &secret("probe")).await;
    assert_eq!(why(&verdict), InconclusiveWhy::Protocol);
}

#[tokio::test]
async fn rubbish_is_inconclusive() {
    for reply in [
        &b"HTTP/1.1 200 OK\r\n\r\n"[..],
        &[b'R', 0x7f, 0xff, 0xff, 0xff, 0],
        &[b'R', 0, 0, 0, 1],
    ] {
        let (port, _heard) = fake(reply.to_vec()).await;
        let verdict = probe(&connect(&plain(port)), "primary", "svc", &secret("probe")).await;
        assert_eq!(why(&verdict), InconclusiveWhy::Protocol, "{reply:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_down_or_dumb_says_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connector = connect(&plain(port));
    let mut short = ctx();
    short.time_left = Duration::from_millis(200);
    let call = ProbeCall {
        principal: PrincipalRef {
            name: "svc".to_owned(),
            immutable_id: None,
        },
        secret: secret("probe"),
        vantage: "primary".to_owned(),
        purpose: ProbePurpose::OldCredential,
    };
    let reading = connector.probe().unwrap().probe(&short, &call).await;
    assert_eq!(why(&reading.verdict), InconclusiveWhy::Timeout);
    drop(listener);
    let verdict = probe(&connector, "primary", "svc", &secret("probe")).await;
    assert_eq!(why(&verdict), InconclusiveWhy::Unreachable);
    let error = connector.inventory().unwrap().list(&ctx()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    let nowhere = ProbeCall {
        vantage: "elsewhere".to_owned(),
        ..call
    };
    let reading = connector.probe().unwrap().probe(&ctx(), &nowhere).await;
    assert!(matches!(reading.verdict, Verdict::Untestable { .. }));
}

#[tokio::test]
async fn tls_is_verified_and_never_given_up() {
    // A server without TLS answers the request with N.
    let (port, heard) = fake(b"N".to_vec()).await;
    let mut without = plain(port);
    without.tls = keyfall_sdk::TlsMode::Verify;
    let connector = connect(&without);
    for _ in 0..2 {
        let verdict = probe(&connector, "primary", "svc", &secret("probe")).await;
        assert_eq!(why(&verdict), InconclusiveWhy::Unreachable);
    }
    assert!(
        !holds(&heard.await.unwrap().after, b"svc"),
        "not even the name goes out in clear"
    );

    // The machine's own trust store does not know the test authority.
    let mut stranger = spec(json!({}));
    stranger.tls_ca = None;
    let connector = Postgres::new(&stranger, Some(admin()), &ServerGrants::default()).unwrap();
    let own = admin();
    assert_eq!(
        why(&probe(&connector, "primary", &own.username, &own.secret).await),
        InconclusiveWhy::Unreachable
    );
    assert_eq!(
        connector.inventory().unwrap().list(&ctx()).await.unwrap_err().kind(),
        ErrorKind::Denied
    );
}

#[tokio::test]
async fn the_same_server_answers_in_clear_where_that_is_allowed() {
    let connector = Postgres::new(
        &plain(servers().port("KEYFALL_PG_PRIMARY_PORT")),
        Some(admin()),
        &ServerGrants::default(),
    )
    .unwrap();
    assert!(
        connector
            .inventory()
            .unwrap()
            .preflight(&ctx())
            .await
            .unwrap()
            .is_empty()
    );
    let own = admin();
    assert!(
        probe(&connector, "primary", &own.username, &own.secret)
            .await
            .is_accepted()
    );
    assert!(super::refused(
        &probe(&connector, "primary", "nobody_at_all", &own.secret).await
    ));
}

#[tokio::test]
async fn a_database_that_is_not_there_is_no_verdict_on_the_credential() {
    let connector = super::postgres_with(json!({"database": "no_such_database", "adminDatabase": "postgres"}));
    let own = admin();
    assert_eq!(
        why(&probe(&connector, "primary", &own.username, &own.secret).await),
        InconclusiveWhy::Policy
    );
    let other = postgres();
    assert!(probe(&other, "primary", &own.username, &own.secret).await.is_accepted());
}

/// The test servers' `pg_hba.conf` asks these two roles for what must never be given, and closes one database.
#[tokio::test]
async fn a_real_server_that_asks_for_less_gets_nothing() {
    let connector = postgres();
    // The server asks for an MD5 hash only where it holds one.
    let hash = format!("md5{}", "0".repeat(32));
    let make = format!("DROP ROLE IF EXISTS keyfall_ask_md5; CREATE ROLE keyfall_ask_md5 LOGIN PASSWORD '{hash}'");
    super::sql(&connector, &make).await;
    for user in ["keyfall_ask_clear", "keyfall_ask_md5"] {
        let verdict = probe(&connector, "primary", user, &secret("probe")).await;
        assert_eq!(why(&verdict), InconclusiveWhy::Policy, "{user}");
    }
    super::sql(&connector, "DROP ROLE keyfall_ask_md5").await;
    let closed = super::postgres_with(json!({"database": "keyfall_closed", "adminDatabase": "postgres"}));
    let own = admin();
    let verdict = probe(&closed, "primary", &own.username, &own.secret).await;
    assert_eq!(why(&verdict), InconclusiveWhy::Policy);
}
