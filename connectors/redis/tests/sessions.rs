//! Connections that outlive their password.

use std::time::Duration;

use keyfall_sdk::{EndSessionsCall, Issued, KeyId, SessionsEnded};

use super::server::{Server, connector, context, issue, read, recorded, revoke, unrecorded};

const ONE: &str = "first-password-0123456789abcdef";
const TWO: &str = "second-password-0123456789abcdef";

async fn works(connection: &mut redis::aio::MultiplexedConnection) -> bool {
    let answer: redis::RedisResult<Option<String>> = redis::cmd("GET").arg("cache:1").query_async(connection).await;
    answer.is_ok()
}

fn end_call(spare_younger_than: Option<Duration>) -> EndSessionsCall {
    EndSessionsCall {
        principal: recorded(),
        spare_younger_than,
    }
}

#[tokio::test]
async fn sessions_survive_a_revocation_and_are_ended() {
    let (one, two) = (Server::start().await, Server::start().await);
    let connector = connector(&[("primary", one.port), ("replica", two.port)]);
    let issued = issue(&connector, unrecorded(), ONE).await;
    let mut open = [
        one.connection(Some(("app", ONE))).await,
        one.connection(Some(("app", ONE))).await,
        two.connection(Some(("app", ONE))).await,
    ];
    revoke(&connector, &issued).await.unwrap();
    for connection in &mut open {
        assert!(works(connection).await, "a revocation alone ends no session");
    }
    let sessions = connector.sessions().unwrap();
    assert_eq!(sessions.count(&context(), &recorded()).await.unwrap(), 3);

    let young = end_call(Some(Duration::from_secs(3_600)));
    assert_eq!(
        sessions.end(&context(), &young).await.unwrap(),
        SessionsEnded { ended: 0, left: 0 }
    );
    assert!(works(&mut open[0]).await);
    // Every age below one second may be too old for a limit of none.
    let old = end_call(Some(Duration::ZERO));
    assert_eq!(
        sessions.end(&context(), &old).await.unwrap(),
        SessionsEnded { ended: 3, left: 0 }
    );
    assert_eq!(
        sessions.end(&context(), &end_call(None)).await.unwrap(),
        SessionsEnded { ended: 0, left: 0 }
    );
    assert_eq!(sessions.count(&context(), &recorded()).await.unwrap(), 0);
    for connection in &mut open {
        assert!(!works(connection).await, "the session goes on");
    }
}

#[tokio::test]
async fn who_came_behind_the_cut_is_spared_in_the_same_second() {
    let server = Server::start().await;
    let connector = connector(&[("primary", server.port)]);
    let issued = issue(&connector, unrecorded(), ONE).await;
    issue(&connector, recorded(), TWO).await;
    let mut on_the_old = server.connection(Some(("app", ONE))).await;
    let mut early = server.connection(Some(("app", TWO))).await;
    revoke(&connector, &issued).await.unwrap();
    let mut behind = server.connection(Some(("app", TWO))).await;
    let at_once = end_call(Some(Duration::ZERO));
    let sessions = connector.sessions().unwrap();
    assert_eq!(
        sessions.end(&context(), &at_once).await.unwrap(),
        SessionsEnded { ended: 2, left: 0 }
    );
    assert!(works(&mut behind).await);
    assert!(!works(&mut on_the_old).await);
    assert!(!works(&mut early).await, "it may as well be on the old password");
    // A second cut may be the password of those who came behind the first one.
    let two = KeyId(
        read(&connector).await.places[0].state.as_ref().unwrap().key_ids[0]
            .0
            .clone(),
    );
    revoke(&connector, &Issued { key_id: two, ..issued }).await.unwrap();
    assert_eq!(
        sessions.end(&context(), &at_once).await.unwrap(),
        SessionsEnded { ended: 1, left: 0 }
    );
    assert!(!works(&mut behind).await);
}

#[tokio::test]
async fn deleting_a_user_closes_its_sessions() {
    let server = Server::start().await;
    let connector = connector(&[("primary", server.port)]);
    issue(&connector, unrecorded(), ONE).await;
    let mut open = server.connection(Some(("app", ONE))).await;
    assert!(works(&mut open).await);
    connector
        .revoke()
        .unwrap()
        .delete_principal(&context(), &recorded())
        .await
        .unwrap();
    assert!(!works(&mut open).await);
}

#[tokio::test]
async fn a_probe_is_no_session_of_a_workload() {
    let server = Server::start().await;
    let connector = connector(&[("primary", server.port)]);
    issue(&connector, unrecorded(), ONE).await;
    // Named before it logs in, as the user has no right to name it.
    let mut probe = server.admin().await;
    for words in [["CLIENT", "SETNAME", "keyfall-probe"], ["AUTH", "app", ONE]] {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).exec_async(&mut probe).await.unwrap();
    }
    let sessions = connector.sessions().unwrap();
    assert_eq!(sessions.count(&context(), &recorded()).await.unwrap(), 0);
    let _workload = server.connection(Some(("app", ONE))).await;
    assert_eq!(sessions.count(&context(), &recorded()).await.unwrap(), 1);
    // It is ended all the same.
    let ended = sessions.end(&context(), &end_call(None)).await.unwrap();
    assert_eq!(ended, SessionsEnded { ended: 2, left: 0 });
}
