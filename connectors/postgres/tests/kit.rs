//! The conformance kit on the real servers.

use std::sync::Arc;
use std::time::Duration;

use keyfall_sdk::testkit::{Subject, conforms};
use keyfall_sdk::{Connector, ServerGrants, SystemSpec};
use serde_json::json;

use super::{Postgres, VANTAGES, admin, name, postgres, spec, sql};

#[tokio::test]
async fn postgres_conforms_to_the_kit() {
    let connector = postgres();
    let owner = name("kit_owner");
    let prefix = format!("{}_", name("kit"));
    let shared: Arc<dyn Connector> = Arc::clone(&connector) as Arc<dyn Connector>;
    let mut subject = Subject::new(shared, json!({"owner": owner}), prefix, &VANTAGES, |time| {
        Box::pin(tokio::time::sleep(time))
    });
    subject.settle_within = Duration::from_secs(5);
    subject.broken = Some(nobody_listens());
    let report = conforms(&subject).await;
    report.assert_holds();
    assert_eq!(report.skipped(), ["a_lost_reply_is_ambiguous_and_observable"]);
    sql(&connector, &format!("DROP ROLE IF EXISTS {owner}")).await;
}

/// The same system with a port that was free a moment ago.
fn nobody_listens() -> Arc<dyn Connector> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut spec: SystemSpec = spec(json!({}));
    for vantage in &mut spec.vantages {
        vantage.port = port;
    }
    Arc::new(Postgres::new(&spec, Some(admin()), &ServerGrants::default()).unwrap())
}
