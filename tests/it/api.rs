//! The API as everybody meets it: no route without a token, every error a problem, pages, and who may approve what.

use serde_json::Value;

use crate::harness::{Keyfall, http, token};

const OWNER: &str = "\
apiVersion: keyfall.dev/v1
kind: Owner
metadata: { name: payments }
spec: { contact: payments@example.com }
";

fn owners(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| OWNER.replace("payments", name))
        .collect::<Vec<_>>()
        .join("---\n")
}

#[test]
fn unauthorised_everywhere() {
    let kf = Keyfall::start_with("[log]\nfilter = 'debug'\nformat = 'json'");
    let mut asked = 0;
    for (method, path) in keyfall::http::paths() {
        let path = path.replace("{id}", "x").replace("{name}", "x").replace("{kind}", "x");
        for wrong in [None, Some("kf_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")] {
            let (status, headers, body) = http(method, &format!("{}{path}", kf.url()), wrong, "{}");
            assert_eq!(status, 401, "{method} {path} with {wrong:?}");
            assert_eq!(headers["www-authenticate"], "Bearer");
            assert_eq!(headers["content-type"], "application/problem+json");
            let problem: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(problem["code"], "unauthorised");
            assert!(!body.contains("kf_"), "the token is echoed: {body}");
            asked += 1;
        }
    }
    assert!(asked > 60, "{asked}");
    let log = kf.log();
    assert!(log.contains("\"http.route\":\"/v1/identities/{name}/rotate\""), "{log}");
    assert!(!log.contains("kf_"), "a token is in the log");
}

#[test]
fn every_error_is_a_problem() {
    let kf = Keyfall::start();
    let alice = token(&kf.dir(), "alice");
    let ask = |method: &str, path: &str, body: &str| {
        let (status, headers, body) = http(method, &format!("{}{path}", kf.url()), Some(&alice), body);
        assert_eq!(
            headers["content-type"], "application/problem+json",
            "{method} {path}: {body}"
        );
        assert!(headers.contains_key("x-request-id"));
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["status"], status);
        (status, problem["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(ask("GET", "/v1/nothing", ""), (404, "no_such_route".to_owned()));
    assert_eq!(ask("DELETE", "/v1/status", ""), (405, "wrong_method".to_owned()));
    assert_eq!(ask("GET", "/v1/identities/absent", ""), (404, "not_found".to_owned()));
    assert_eq!(ask("GET", "/v1/runs?limit=many", ""), (422, "invalid".to_owned()));
    assert_eq!(ask("GET", "/v1/runs?opne_only=true", ""), (422, "invalid".to_owned()));
    assert_eq!(ask("GET", "/v1/audit?form=3", ""), (422, "invalid".to_owned()));
    assert_eq!(ask("POST", "/v1/plans", "{\"files\": 1}"), (422, "invalid".to_owned()));
    assert_eq!(
        ask("POST", "/v1/plans", "{\"files\": [], \"more\": 1}"),
        (422, "invalid".to_owned())
    );
    let adopt = http(
        "POST",
        &format!("{}/v1/adopt", kf.url()),
        Some(&alice),
        "{\"secret\": 918273645}",
    );
    assert!(adopt.0 == 422 && !adopt.2.contains("918273645"), "{adopt:?}");
    assert_eq!(
        ask("PUT", "/v1/secrets/x", &"s".repeat(65 * 1024)),
        (413, "too_large".to_owned())
    );
}

#[test]
fn who_asked_cannot_approve_and_who_approves_signs_what_is_shown() {
    let kf = Keyfall::start();
    let file = kf.scratch("owners.yaml");
    std::fs::write(&file, owners(&["payments"])).unwrap();
    let changes = kf
        .alice()
        .run(&["plan", "-f", &file, "--detailed-exitcode", "-o", "json"]);
    assert_eq!(changes.code, 2, "{changes:?}");
    let plan: Value = serde_json::from_str(&changes.stdout).unwrap();
    let id = plan["id"].as_str().unwrap();
    let own = kf.alice().fails(&["approve", id, "--yes"], 1);
    assert!(own.contains("another person"), "{own}");
    let unasked = kf.bob().fails(&["approve", id], 64);
    assert!(unasked.contains("--yes"), "{unasked}");
    let shown = kf.bob().ok(&["approve", id, "--yes"]);
    assert!(
        shown.contains("+ Owner payments") && shown.contains(plan["digest"].as_str().unwrap()),
        "{shown}"
    );
    assert!(shown.contains("is applied"), "{shown}");
    let nothing = kf.alice().run(&["plan", "-f", &file, "--detailed-exitcode"]);
    assert_eq!(nothing.code, 0, "{nothing:?}");
    // The key of somebody else does not sign for bob.
    let second = kf.scratch("second.yaml");
    std::fs::write(&second, owners(&["orders"])).unwrap();
    let plan = kf.alice().json(&["plan", "-f", &second]);
    let key = kf.dir().join("people/alice.key").display().to_string();
    let forged = kf
        .bob()
        .fails(&["approve", plan["id"].as_str().unwrap(), "--yes", "--key", &key], 1);
    assert!(forged.contains("signature"), "{forged}");
}

#[test]
fn lists_go_page_by_page() {
    let kf = Keyfall::start();
    for name in ["a", "b", "c"] {
        let file = kf.scratch("one.yaml");
        std::fs::write(&file, owners(&[name])).unwrap();
        kf.alice().ok(&["plan", "-f", &file]);
    }
    let alice = token(&kf.dir(), "alice");
    let (mut url, mut seen) = (format!("{}/v1/plans?status=proposed&limit=2", kf.url()), Vec::new());
    loop {
        let (status, headers, body) = http("GET", &url, Some(&alice), "");
        assert_eq!(status, 200, "{body}");
        let rows: Vec<Value> = serde_json::from_str(&body).unwrap();
        seen.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        let Some(link) = headers.get("link") else { break };
        let next = link
            .to_str()
            .unwrap()
            .trim_start_matches('<')
            .split('>')
            .next()
            .unwrap()
            .to_owned();
        assert!(next.contains("status=proposed"), "{next}");
        url = format!("{}{next}", kf.url());
    }
    let mut once = seen.clone();
    once.dedup();
    assert_eq!((seen.len(), once.len()), (3, 3));
    assert_eq!(
        kf.alice()
            .json(&["get", "plans", "--limit", "2"])
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn people_come_and_go_by_signature_and_their_tokens_end_with_them() {
    let kf = Keyfall::init(&["--people", "alice,bob,carol"]);
    kf.resume();
    let key = kf.scratch("dave.key");
    let public = kf.alice().ok(&["key", "new", &key, "--name", "dave"]);
    let plan = kf
        .alice()
        .json(&["enrol", "dave", "--role", "auditor", "--public-key", public.trim()]);
    kf.bob().approve(plan["id"].as_str().unwrap());
    let people = kf.alice().json(&["people"]);
    assert!(
        people
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["name"] == "dave" && one["can_approve"] == false)
    );

    let file = kf.scratch("carol.token");
    kf.person("carol").ok(&["token", "new", "carol", &file, "--ttl", "1h"]);
    let carol = ["--token-file", file.as_str(), "status"];
    kf.stranger().ok(&carol);
    let plan = kf.alice().json(&["retire", "carol", "--reason", "left"]);
    kf.bob().approve(plan["id"].as_str().unwrap());
    let gone = kf.stranger().fails(&carol, 1);
    assert!(gone.contains("unknown, revoked or expired"), "{gone}");
    kf.person("carol").fails(&["status"], 1);
}

#[test]
fn a_freeze_is_one_persons_and_its_end_is_twos() {
    let kf = Keyfall::start();
    kf.alice().ok(&["freeze", "--reason", "incident"]);
    assert_eq!(kf.alice().json(&["status"])["frozen"], "incident");
    let plan = kf.alice().json(&["unfreeze", "--reason", "over"]);
    assert_eq!(kf.alice().json(&["status"])["frozen"], "incident");
    kf.bob().approve(plan["id"].as_str().unwrap());
    assert_eq!(kf.alice().json(&["status"])["frozen"], Value::Null);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let kf = Keyfall::start();
    let mut child = kf
        .alice()
        .command()
        .args(["audit", "list"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}
