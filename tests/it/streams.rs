//! The events of a run, as a program watches them: they end with the run, with the server and with the token.

use std::time::Duration;

use serde_json::json;

use crate::harness::Keyfall;

/// A run that listens for a day.
fn listening(kf: &Keyfall) -> String {
    let manifest = |kind: &str, name: &str, spec: serde_json::Value| {
        json!({ "apiVersion": "keyfall.dev/v1", "kind": kind, "metadata": { "name": name }, "spec": spec }).to_string()
    };
    let system = json!({
        "connector": "demo", "environment": "test", "owner": "team", "options": { "provider": "streams" },
        "vantages": [{ "name": "only", "role": "control", "host": "127.0.0.1", "port": 1 }],
    });
    let identity = json!({
        "kind": "service_account", "system": "demo", "environment": "test", "owner": "team",
        "expires": "2099-01-01T00:00:00Z", "account": "app",
    });
    let manifests = [
        manifest("Owner", "team", json!({ "contact": "team@example.com" })),
        manifest("System", "demo", system),
        manifest("Identity", "app", identity),
    ];
    for run in kf.apply(&manifests.join("\n---\n")) {
        kf.follow(&run, 0);
    }
    let plan = kf.alice().json(&["decommission", "app", "--reason", "over"]);
    let runs = kf.bob().approve(plan["id"].as_str().unwrap());
    runs.into_iter().next().unwrap()
}

#[test]
fn a_stream_ends_with_the_token_that_opened_it() {
    let kf = Keyfall::start();
    let run = listening(&kf);
    let file = kf.scratch("second.token");
    kf.alice().ok(&["token", "new", "alice", &file, "--ttl", "1h"]);
    let token = std::fs::read_to_string(&file).unwrap();
    crate::harness::tls_provider();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let told = runtime.block_on(async {
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap();
        let stream = client
            .get(format!("{}/v1/runs/{run}/events", kf.url()))
            .bearer_auth(token.trim());
        let stream = stream.send().await.unwrap();
        assert_eq!(stream.status(), 200);
        kf.alice().ok(&["token", "revoke", "alice", &file]);
        stream.text().await.expect("the stream ends")
    });
    assert!(told.contains("event: opened"), "{told}");
    assert!(!told.contains("event: closed"), "{told}");
    // Alice's other token is as good as before.
    kf.alice().ok(&["describe", "run", &run]);
}
