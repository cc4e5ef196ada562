//! The conformance kit on the real servers.

use std::sync::Arc;
use std::time::Duration;

use keyfall_sdk::testkit::{Subject, conforms};
use keyfall_sdk::{Connector, ServerGrants, SystemSpec, TlsMode};
use serde_json::json;

use super::lossy::proxy;
use super::{Postgres, VANTAGES, admin, name, postgres, spec, sql};

#[tokio::test]
async fn postgres_conforms_to_the_kit() {
    let connector = postgres();
    let owner = name("kit_owner");
    let prefix = format!("{}_", name("kit"));
    let shared: Arc<dyn Connector> = Arc::clone(&connector) as Arc<dyn Connector>;
    let mut subject = Subject::new(shared, json!({"owner": owner}), prefix, &VANTAGES, crate::poll::wait);
    subject.settle_within = Duration::from_secs(5);
    subject.broken = Some(nobody_listens());
    subject.lossy = Some(replies_get_lost().await);
    let report = conforms(&subject).await;
    report.assert_holds();
    assert_eq!(report.skipped(), [""; 0]);
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

/// The same system behind a proxy that loses the reply to each commit of a new secret.
async fn replies_get_lost() -> Arc<dyn Connector> {
    let mut spec: SystemSpec = spec(json!({}));
    spec.tls = TlsMode::Off;
    spec.tls_ca = None;
    let control = &mut spec.vantages[0];
    control.port = proxy(control.port, &["lossy", "PASSWORD 'SCRAM-SHA-256$", "COMMIT"]).await;
    Arc::new(Postgres::new(&spec, Some(admin()), &ServerGrants::default()).unwrap())
}
