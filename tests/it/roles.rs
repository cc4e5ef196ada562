//! What a role may not, tried on the API: every route that changes something, with the token of somebody who may only read.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Keyfall, http};

/// Every route that changes something, with a body that it would take. That of a person's own token is tried apart.
const CHANGING: &[(&str, &str, &str)] = &[
    ("POST", "/v1/plans", r#"{"files": []}"#),
    (
        "POST",
        "/v1/plans/{id}/approve",
        r#"{"signature": "AAAA", "expires_at_micros": 1}"#,
    ),
    ("POST", "/v1/plans/{id}/reject", r#"{"reason": "no"}"#),
    ("POST", "/v1/identities/{name}/rotate", r#"{"reason": "due"}"#),
    ("POST", "/v1/identities/{name}/decommission", r#"{"reason": "gone"}"#),
    ("POST", "/v1/identities/{name}/revoke", r#"{"credential": "x"}"#),
    (
        "POST",
        "/v1/adopt",
        r#"{"name": "x", "system": "x", "account": "x", "kind": "bot", "environment": "test", "owner": "x", "expires": "2030-01-01T00:00:00Z"}"#,
    ),
    ("PUT", "/v1/secrets/{name}", r#"{"not": "json"}"#),
    ("POST", "/v1/runs/{id}/retry", r#"{"reason": "again"}"#),
    ("POST", "/v1/runs/{id}/resume", r#"{"reason": "done"}"#),
    ("POST", "/v1/runs/{id}/cancel", r#"{"reason": "wrong"}"#),
    ("POST", "/v1/freeze", r#"{"reason": "incident"}"#),
    ("POST", "/v1/unfreeze", r#"{"reason": "over"}"#),
    ("POST", "/v1/rearm", r#"{"reason": "right"}"#),
    ("POST", "/v1/backups", r#"{"name": "monday"}"#),
    ("POST", "/v1/kek/rotate", "{}"),
    ("POST", "/v1/people", r#"{"name": "x", "roles": ["admin"]}"#),
    ("POST", "/v1/people/{name}/retire", r#"{"reason": "left"}"#),
    ("POST", "/v1/people/{name}/tokens/revoke", r#"{"token_digest": "x"}"#),
];
const OWN_TOKEN: (&str, &str) = ("POST", "/v1/people/{name}/tokens");

fn changing() -> BTreeSet<(&'static str, &'static str)> {
    keyfall::http::paths().filter(|(method, _)| *method != "GET").collect()
}

/// The token of carol, an auditor, whom alice asked for and bob enrolled.
fn auditor(kf: &Keyfall) -> String {
    let file = kf.scratch("carol.token");
    let digest = kf.stranger().ok(&["token", "make", &file]);
    let digest = digest
        .split_whitespace()
        .find(|word| word.starts_with("sha256:"))
        .unwrap();
    let plan = kf
        .alice()
        .json(&["enrol", "carol", "--role", "auditor", "--token-digest", digest]);
    kf.bob().approve(plan["id"].as_str().unwrap());
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

#[test]
fn every_route_that_changes_something_is_tried() {
    let listed: BTreeSet<_> = CHANGING
        .iter()
        .map(|&(method, path, _)| (method, path))
        .chain([OWN_TOKEN])
        .collect();
    assert_eq!(
        changing(),
        listed,
        "a route and this table differ: say here who may not"
    );
}

#[test]
fn an_auditor_reads_and_changes_nothing() {
    let kf = Keyfall::start();
    let carol = auditor(&kf);
    let before = kf.alice().json(&["status"])["log_size"].clone();
    let ask = |method: &str, path: &str, body: &str| {
        let path = path
            .replace("{id}", "x")
            .replace("{name}", "alice")
            .replace("{kind}", "Owner");
        http(method, &format!("{}{path}", kf.url()), Some(&carol), body)
    };
    for (method, path, body) in CHANGING {
        let (status, _, answer) = ask(method, path, body);
        assert_eq!(status, 403, "{method} {path}: {answer}");
        let problem: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(problem["code"], "not_allowed", "{method} {path}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.starts_with("carol may not ") && detail.contains("it takes one of the roles "),
            "{detail}"
        );
    }
    // Nobody gets another person's token, whatever their role; one's own only stands for oneself.
    assert_eq!(ask(OWN_TOKEN.0, OWN_TOKEN.1, "{}").0, 409);
    assert_eq!(
        kf.alice().json(&["status"])["log_size"],
        before,
        "a refused request left a record"
    );
    for (method, path) in keyfall::http::paths().filter(|(method, _)| *method == "GET") {
        let (status, _, answer) = ask(method, path, "");
        assert!(status != 401 && status != 403, "{method} {path}: {answer}");
    }
}
