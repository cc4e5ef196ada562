//! Whole lives over the command line alone: an identity is registered, rotated, its death verified on paper, and taken out of service; a
//! killed server goes on; a real system is looked at.

use std::fs;

use crate::harness::{Keyfall, Servers, wait_for};

const MANIFESTS: &str = "\
apiVersion: keyfall.dev/v1
kind: Owner
metadata: { name: payments }
spec: { contact: payments@example.com }
---
apiVersion: keyfall.dev/v1
kind: System
metadata: { name: shop }
spec:
  connector: demo
  environment: production
  owner: payments
  vantages:
    - { name: primary, role: control, host: 127.0.0.1, port: 1 }
    - { name: replica, role: probe, host: 127.0.0.1, port: 2 }
  options: { provider: shop, stateFolder: { root: state, folder: shop } }
---
apiVersion: keyfall.dev/v1
kind: Policy
metadata: { name: fast }
spec:
  owner: payments
  selector: { identities: [orders-api] }
  autonomy: automatic
  rotation: { every: 30d }
  proof: { refusals: 2, interval: 50ms, giveUpAfter: 30s, keepDeadSecret: 1m }
  decommission: { listen: 100ms }
  budget: { destructive: 100, per: 1h }
---
apiVersion: keyfall.dev/v1
kind: Identity
metadata: { name: orders-api }
spec:
  kind: service_account
  system: shop
  environment: production
  owner: payments
  expires: 2099-01-01T00:00:00Z
  account: orders_api
";

/// The demo provider's truth outlives the server's process.
fn with_shop() -> Keyfall {
    let kf = Keyfall::init(&[]);
    fs::create_dir(kf.dir().join("state")).unwrap();
    kf.add_settings("[file_roots]\nstate = 'DIR/state'");
    kf.resume();
    kf
}

#[test]
fn an_identity_lives_and_dies_and_the_receipts_prove_it() {
    let kf = with_shop();
    let runs = kf.apply(MANIFESTS);
    assert_eq!(runs.len(), 2, "the identity and the control identity: {runs:?}");
    for run in &runs {
        assert!(kf.follow(run, 0).contains("closed"));
    }
    assert!(kf.apply(MANIFESTS).is_empty(), "applying twice changes nothing");

    let rotated = kf
        .alice()
        .run(&["rotate", "orders-api", "--reason", "a test", "--wait"]);
    assert_eq!(rotated.code, 0, "{rotated:?}");
    let receipts = kf.alice().json(&["get", "receipts", "--identity", "orders-api"]);
    let receipt = receipts[0]["id"].as_str().unwrap();
    let file = kf.scratch("death.receipt");
    kf.wait("the receipt has its place in the log", || {
        (kf.alice()
            .run(&["get", "receipt", receipt, "--output-file", &file])
            .code
            == 0)
            .then_some(())
    });
    let verified = kf.stranger().ok(&["verify", &file, "--key", &kf.public_key()]);
    assert!(
        verified.contains("The receipt holds") && verified.contains("proven dead at"),
        "{verified}"
    );
    assert!(
        verified.contains("at primary: E1") && verified.contains("at replica: E1"),
        "{verified}"
    );
    let whole = fs::read(&file).unwrap();
    for part in 1..6 {
        let mut forged = whole.clone();
        let at = whole.len() * part / 6;
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        fs::write(&file, forged).unwrap();
        kf.stranger().fails(&["verify", &file, "--key", &kf.public_key()], 4);
    }

    let plan = kf
        .alice()
        .json(&["decommission", "orders-api", "--reason", "switched off"]);
    let runs = kf.bob().approve(plan["id"].as_str().unwrap());
    kf.follow(&runs[0], 0);
    let identity = kf.alice().json(&["describe", "identity", "orders-api"]);
    assert_eq!(identity["state"], "decommissioned");
    kf.alice().ok(&["audit", "verify", "--key", &kf.public_key()]);
}

#[test]
fn a_server_that_is_killed_in_a_rotation_finishes_it() {
    let kf = with_shop();
    for run in kf.apply(MANIFESTS) {
        kf.follow(&run, 0);
    }
    for _ in 0..3 {
        let asked = kf.alice().json(&["rotate", "orders-api", "--reason", "a test"]);
        let run = asked["run"]["id"].as_str().unwrap().to_owned();
        kf.kill();
        kf.resume();
        kf.follow(&run, 0);
    }
    let credentials = kf.alice().json(&["describe", "identity", "orders-api"])["credentials"].clone();
    let states: Vec<_> = credentials
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["active", "dead", "dead", "dead"]);
}

#[test]
fn who_asked_can_wait_for_the_approval_and_the_end() {
    let kf = with_shop();
    let file = kf.scratch("manifests.yaml");
    fs::write(&file, MANIFESTS).unwrap();
    let ended = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| kf.alice().run(&["apply", "-f", &file, "--wait"]));
        let plan = kf.wait("the plan is proposed", || {
            let plans = kf.bob().json(&["get", "plans", "--status", "proposed"]);
            plans[0]["id"].as_str().map(str::to_owned)
        });
        assert_eq!(kf.bob().approve(&plan).len(), 2);
        waiting.join().unwrap()
    });
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.stderr.matches("is completed").count(), 2, "{}", ended.stderr);
    let identity = kf.alice().json(&["describe", "identity", "orders-api"]);
    assert_eq!(identity["state"], "active");
}

#[test]
fn a_label_that_goes_is_shown_to_who_approves() {
    let kf = Keyfall::start();
    let owner = |labels: &str| {
        format!(
            "apiVersion: keyfall.dev/v1\nkind: Owner\nmetadata: {{ name: a, labels: {labels} }}\nspec: {{ contact: a@b }}\n"
        )
    };
    kf.apply(&owner("{ tier: one, team: x }"));
    let file = kf.scratch("owner.yaml");
    fs::write(&file, owner("{ team: y }")).unwrap();
    let plan = kf.alice().json(&["plan", "-f", &file]);
    let shown = kf.bob().ok(&["approve", plan["id"].as_str().unwrap(), "--yes"]);
    assert!(shown.contains("labels.tier: \"one\" -> nothing"), "{shown}");
    assert!(shown.contains("labels.team: \"x\" -> \"y\""), "{shown}");
}

#[test]
fn what_exists_on_a_real_redis_is_listed_and_checked() {
    let kf = Keyfall::start();
    let servers = Servers::get();
    kf.alice()
        .secret("cache-admin", &servers.file("KEYFALL_REDIS_ADMIN_PASSWORD_FILE"));
    let account = format!("kf_it_{}", std::process::id());
    let system = format!(
        "apiVersion: keyfall.dev/v1
kind: Owner
metadata: {{ name: platform }}
spec: {{ contact: p@example.com }}
---
apiVersion: keyfall.dev/v1
kind: System
metadata: {{ name: cache }}
spec:
  connector: redis
  environment: production
  owner: platform
  tls: \"off\"
  controlAccount: {account}
  vantages:
    - {{ name: node-1, role: control, host: {host}, port: {port} }}
  admin: {{ username: {user}, secretRef: cache-admin }}
",
        host = servers.text("KEYFALL_REDIS_HOST"),
        port = servers.text("KEYFALL_REDIS_PORT"),
        user = servers.text("KEYFALL_REDIS_ADMIN_USER"),
    );
    for run in kf.apply(&system) {
        kf.follow(&run, 0);
    }
    let found = wait_for("the control account is there", crate::harness::LIMIT, || {
        let accounts = kf.alice().json(&["get", "accounts", "--system", "cache"]);
        accounts
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["name"] == account.as_str())
            .cloned()
    });
    assert_eq!(found["privileged"], false);
    let doctor = kf.alice().json(&["doctor"]);
    let failed: Vec<_> = doctor
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["ok"] != true)
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
    let compared = doctor.as_array().unwrap().iter();
    assert_eq!(compared.filter(|line| line["check"] == "clock of cache").count(), 1);
    assert_eq!(
        kf.alice().json(&["describe", "system", "cache"])["approved_by"][0],
        "bob"
    );
}
