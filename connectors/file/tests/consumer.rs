//! What consumers acknowledge, and the conformance kit.

use std::sync::Arc;

use keyfall_sdk::testkit::{DestinationSubject, destination_conforms};
use serde_json::json;

use super::{SECRET, Setup, call, raw, template};

#[tokio::test]
async fn what_a_consumer_wrote_is_what_it_acknowledged() {
    let setup = Setup::new();
    let shared = json!({ "root": "apps", "path": "db", "layout": "raw", "acknowledgements": "acks" });
    assert_eq!(setup.acknowledged(&shared, "web").await, None);
    std::fs::write(
        setup.root().join("acks"),
        "web v1\nworker v7\nweb v7\nbatch one v3\n\nweb2 v9\n",
    )
    .unwrap();
    assert_eq!(setup.acknowledged(&shared, "web").await.as_deref(), Some("v7"));
    assert_eq!(setup.acknowledged(&shared, "batch one").await.as_deref(), Some("v3"));
    assert_eq!(setup.acknowledged(&shared, "we").await, None);
    std::fs::write(setup.root().join("acks"), [0xff, 0xfe]).unwrap();
    assert_eq!(setup.acknowledged(&shared, "web").await, None);
    assert_eq!(setup.acknowledged(&raw("db"), "web").await, None);

    let own = json!({ "root": "apps", "path": "db", "layout": "raw", "acknowledgements": "ack-{consumer}" });
    std::fs::write(setup.root().join("ack-web"), "v7\n").unwrap();
    std::fs::write(setup.folder.path().join("victim"), "v9\n").unwrap();
    assert_eq!(setup.acknowledged(&own, "web").await.as_deref(), Some("v7"));
    assert_eq!(setup.acknowledged(&own, "worker").await, None);
    let climbing = json!({ "root": "apps", "path": "db", "layout": "raw", "acknowledgements": "{consumer}" });
    for consumer in ["../victim", "..", ".", "", "a/b"] {
        assert_eq!(setup.acknowledged(&climbing, consumer).await, None, "{consumer:?}");
    }
}

#[tokio::test]
async fn the_destination_conforms() {
    let setup = Setup::new();
    let gone = Setup::new();
    let broken = Arc::clone(&gone.connector);
    drop(gone);
    let subject = DestinationSubject {
        connector: Arc::clone(&setup.connector),
        target: template("dsn-postgres"),
        wrong_target: raw("../x"),
        fields: call(raw("t"), SECRET).fields,
        broken: Some(broken),
        seed: 1,
    };
    let report = destination_conforms(&subject).await;
    report.assert_holds();
    assert_eq!(report.skipped(), Vec::<&str>::new());
}
