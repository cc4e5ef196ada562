//! Several nodes, each with users of its own: what happens when they differ, or when one is away.

use keyfall_sdk::{ErrorKind, IssueObservation, Revoked};

use super::server::{
    ADMIN, Server, connector, connector_as, context, issue, issue_call, losing_proxy, probe, read, recorded, revoke,
    unrecorded,
};
use crate::testing::machine_micros;

const ONE: &str = "first-password-0123456789abcdef";

#[tokio::test]
async fn every_node_is_changed_and_read() {
    let (one, two) = (Server::start().await, Server::start().await);
    let connector = connector(&[("primary", one.port), ("replica", two.port)]);
    let issued = issue(&connector, unrecorded(), ONE).await;
    for vantage in ["primary", "replica"] {
        assert!(probe(&connector, vantage, ONE).await.is_accepted(), "{vantage}");
    }
    let places: Vec<String> = read(&connector)
        .await
        .places
        .into_iter()
        .map(|place| place.vantage)
        .collect();
    assert_eq!(places, ["primary", "replica"]);

    // A replica that somebody restored from an old ACL file.
    revoke(&connector, &issued).await.unwrap();
    two.ask(&["ACL", "SETUSER", "app", &format!(">{ONE}")]).await;
    assert!(read(&connector).await.shows_key(&issued.key_id));
    assert!(probe(&connector, "replica", ONE).await.is_accepted());
    assert_eq!(revoke(&connector, &issued).await.unwrap(), Revoked::Revoked);
    assert!(probe(&connector, "replica", ONE).await.is_refused());

    let deleter = connector.revoke().unwrap();
    one.ask(&["ACL", "DELUSER", "app"]).await;
    assert_eq!(
        deleter.delete_principal(&context(), &recorded()).await.unwrap(),
        Revoked::Revoked
    );
    assert_eq!(
        deleter.delete_principal(&context(), &recorded()).await.unwrap(),
        Revoked::AlreadyGone
    );
    assert!(read(&connector).await.is_absent());
}

#[tokio::test]
async fn a_node_that_is_away_stops_a_change_before_it_begins() {
    let (one, mut two) = (Server::start().await, Server::start().await);
    let nodes = [("primary", one.port), ("replica", two.port)];
    let connector = connector(&nodes);
    two.stop();
    let error = connector
        .issue()
        .unwrap()
        .issue(&context(), &issue_call(unrecorded(), ONE))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    assert!(error.message().contains("`replica`"), "{error}");
    assert!(
        one.ask(&["ACL", "GETUSER", "app"]).await == redis::Value::Nil,
        "nothing was changed"
    );
    two.restart().await;
    assert!(
        issue(&connector, unrecorded(), ONE).await.created_principal,
        "the connector reconnects by itself"
    );
}

#[tokio::test]
async fn a_change_that_reached_some_nodes_is_ambiguous_and_heals_by_repeating() {
    let (one, two) = (Server::start().await, Server::start().await);
    let nodes = [("primary", one.port), ("replica", two.port)];
    let weak: &[&str] = &[
        "ACL",
        "SETUSER",
        "keeper",
        "on",
        ">keeper-password",
        "+acl",
        "+ping",
        "+client|id",
    ];
    one.ask(weak).await;
    two.ask(weak).await;
    two.ask(&["ACL", "SETUSER", "keeper", "-acl|setuser"]).await;
    let connector = connector_as(&nodes, "keeper", "keeper-password");
    let call = issue_call(unrecorded(), ONE);
    let error = connector.issue().unwrap().issue(&context(), &call).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    assert!(
        error.message().contains("made on primary but failed on replica"),
        "{error}"
    );
    let observed = connector.issue().unwrap().observe(&context(), &call).await.unwrap();
    assert!(matches!(observed, IssueObservation::Unknown { .. }), "{observed:?}");

    two.ask(&["ACL", "SETUSER", "keeper", "+acl|setuser"]).await;
    let issued = connector.issue().unwrap().issue(&context(), &call).await.unwrap();
    assert!(issued.created_principal);
    let observed = connector.issue().unwrap().observe(&context(), &call).await.unwrap();
    assert_eq!(observed, IssueObservation::Applied(issued));
}

#[tokio::test]
async fn a_lost_answer_is_ambiguous_and_can_be_observed() {
    let server = Server::start().await;
    let direct = connector(&[("primary", server.port)]);
    let lossy = connector(&[("primary", losing_proxy(server.port, "SETUSER").await)]);
    let call = issue_call(unrecorded(), ONE);
    let error = lossy.issue().unwrap().issue(&context(), &call).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    let observed = lossy.issue().unwrap().observe(&context(), &call).await.unwrap();
    let IssueObservation::Applied(issued) = observed else {
        panic!("{observed:?}");
    };
    assert!(issued.created_principal);
    assert_eq!(issue(&direct, unrecorded(), ONE).await, issued);

    let error = revoke(&lossy, &issued).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    assert_eq!(revoke(&direct, &issued).await.unwrap(), Revoked::AlreadyGone);
}

#[tokio::test]
async fn each_node_tells_its_time_where_our_account_may_ask() {
    let (one, two) = (Server::start().await, Server::start().await);
    let connector = connector(&[("primary", one.port), ("replica", two.port)]);
    let clocks = async || connector.inventory().unwrap().clocks(&context()).await.unwrap();
    let before = machine_micros();
    let told = clocks().await;
    let after = machine_micros();
    let vantages: Vec<&str> = told.iter().map(|clock| clock.vantage.as_str()).collect();
    assert_eq!(vantages, ["primary", "replica"]);
    assert!(
        told.iter().all(|clock| before <= clock.at && clock.at <= after),
        "{told:?}"
    );
    two.ask(&["ACL", "SETUSER", ADMIN, "-time"]).await;
    assert_eq!(clocks().await.len(), 1);
}
