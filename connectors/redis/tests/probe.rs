//! What each answer to a login says, and that everything else says nothing.

use std::time::Duration;

use keyfall_sdk::{InconclusiveWhy, ProbeCall, ProbePurpose, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::server::{Server, connector, context, free_port, issue, issue_call, probe, recorded, secret, unrecorded};

const ONE: &str = "first-password-0123456789abcdef";

/// A port where every request gets this answer; nothing at all for an empty one.
async fn answering(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4_096];
                while client.read(&mut request).await.is_ok_and(|length| length > 0) {
                    if client.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

fn why(verdict: &Verdict) -> Option<InconclusiveWhy> {
    match verdict {
        Verdict::Inconclusive { why, .. } => Some(*why),
        _ => None,
    }
}

#[tokio::test]
async fn right_and_wrong_passwords_are_told_apart() {
    let server = Server::start().await;
    let connector = connector(&[("primary", server.port)]);
    assert!(probe(&connector, "primary", ONE).await.is_refused(), "no such user");
    // A powerless user: it may not even ask who it is.
    let mut call = issue_call(unrecorded(), ONE);
    call.access = serde_json::json!({ "rules": [] });
    connector.issue().unwrap().issue(&context(), &call).await.unwrap();
    assert_eq!(
        probe(&connector, "primary", ONE).await,
        Verdict::Accepted {
            principal: "app".to_owned()
        }
    );
    assert_eq!(
        probe(&connector, "primary", "another").await,
        Verdict::Refused {
            code: "WRONGPASS".to_owned()
        }
    );
    assert!(matches!(
        probe(&connector, "elsewhere", ONE).await,
        Verdict::Untestable { .. }
    ));
}

#[tokio::test]
async fn a_probe_names_itself_and_leaves_no_connection() {
    let server = Server::start().await;
    let connector = connector(&[("primary", server.port)]);
    issue(&connector, unrecorded(), ONE).await;
    server
        .ask(&["ACL", "SETUSER", "app", "+client|setname", "+acl|whoami"])
        .await;
    assert!(probe(&connector, "primary", ONE).await.is_accepted());
    let mut left = String::new();
    for _ in 0..200 {
        left = format!("{:?}", server.ask(&["CLIENT", "LIST"]).await);
        if !left.contains("user=app") {
            return;
        }
        crate::poll::wait(Duration::from_millis(10)).await;
    }
    panic!("a probe's connection stays open: {left}");
}

#[tokio::test]
async fn a_full_server_refuses_nobody() {
    let server = Server::start().await;
    let connector = connector(&[("primary", server.port)]);
    issue(&connector, unrecorded(), ONE).await;
    server.ask(&["CONFIG", "SET", "maxclients", "1"]).await;
    // The connector's own admin connection is the one that the server takes.
    let verdict = probe(&connector, "primary", ONE).await;
    assert!(
        matches!(
            why(&verdict),
            Some(InconclusiveWhy::ServerFault | InconclusiveWhy::Unreachable)
        ),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn only_a_listed_answer_refuses() {
    for (answer, expected) in [
        (
            "-LOADING Redis is loading the dataset in memory\r\n",
            InconclusiveWhy::ServerFault,
        ),
        ("-BUSY Redis is busy running a script\r\n", InconclusiveWhy::ServerFault),
        ("-MASTERDOWN Link with MASTER is down\r\n", InconclusiveWhy::ServerFault),
        ("-NOAUTH Authentication required.\r\n", InconclusiveWhy::ServerFault),
        ("-ERR max number of clients reached\r\n", InconclusiveWhy::ServerFault),
        (
            "-DENIED Redis is running in protected mode\r\n",
            InconclusiveWhy::Policy,
        ),
        ("-NOPERM no permissions\r\n", InconclusiveWhy::Protocol),
        ("-ERR unknown command 'AUTH'\r\n", InconclusiveWhy::Protocol),
        ("-wrongpass\r\n", InconclusiveWhy::Protocol),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", InconclusiveWhy::Protocol),
    ] {
        let connector = connector(&[("primary", answering(answer).await)]);
        let verdict = probe(&connector, "primary", ONE).await;
        assert_eq!(why(&verdict), Some(expected), "{answer:?}: {verdict:?}");
    }
    // A server that says yes to everything lets us in, but as nobody that we know.
    let connector = connector(&[("primary", answering("+OK\r\n").await)]);
    assert_eq!(
        why(&probe(&connector, "primary", ONE).await),
        Some(InconclusiveWhy::Protocol)
    );
}

#[tokio::test]
async fn silence_and_absence_say_nothing() {
    let absent = connector(&[("primary", free_port())]);
    assert_eq!(
        why(&probe(&absent, "primary", ONE).await),
        Some(InconclusiveWhy::Unreachable)
    );
    let silent = connector(&[("primary", answering("").await)]);
    let mut hurried = context();
    hurried.time_left = Duration::from_millis(300);
    let call = ProbeCall {
        principal: recorded(),
        secret: secret(ONE),
        vantage: "primary".to_owned(),
        purpose: ProbePurpose::Baseline,
    };
    let reading = silent.probe().unwrap().probe(&hurried, &call).await;
    assert_eq!(why(&reading.verdict), Some(InconclusiveWhy::Timeout), "{reading:?}");
    assert!(reading.endpoint.starts_with("127.0.0.1:"));
}
