//! The conformance kit, on two nodes that know nothing of each other's users.

use keyfall_sdk::testkit::{Subject, conforms};
use serde_json::json;

use super::server::{Server, connector, free_port, losing_proxy};

#[tokio::test]
async fn the_connector_conforms() {
    let (one, two) = (Server::start().await, Server::start().await);
    let nodes = [("primary", one.port), ("replica", two.port)];
    let mut subject = Subject::new(
        connector(&nodes),
        json!({ "rules": ["~kit:*", "+@read"] }),
        "kit-",
        &["primary", "replica"],
        crate::poll::wait,
    );
    subject.broken = Some(connector(&[("primary", free_port()), ("replica", free_port())]));
    // The last node's answer is lost, so that every node has the password.
    let lossy = losing_proxy(two.port, "SETUSER").await;
    subject.lossy = Some(connector(&[("primary", one.port), ("replica", lossy)]));
    // Redis gives users no ids; the README says what follows from that.
    subject.ids_are_real = false;
    let report = conforms(&subject).await;
    report.assert_holds();
    assert_eq!(report.skipped(), ["a_namesake_is_not_harmed"]);
}
