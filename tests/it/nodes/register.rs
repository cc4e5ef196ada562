//! What the nodes rotate: accounts of real servers whose consumers never stop, and many keys of the demo provider, whose truth the nodes share.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::Cluster;
use crate::harness::{Servers, wait_for};
use crate::kills::manifests::{Names, fast, manifest, policy};

/// Only what hangs takes longer.
const PATIENCE: Duration = Duration::from_secs(600);
/// Keys of the demo provider.
const TILLS: usize = 12;
const EVERY: &str = "4s";

fn tills() -> Vec<String> {
    (0..TILLS).map(|number| format!("till-{number:02}")).collect()
}

/// Everything that must be active when all is over.
pub(super) fn identities() -> Vec<String> {
    let fixed = [
        "batch",
        "cache",
        "keyfall-control.pg",
        "keyfall-control.redis",
        "keyfall-control.shop",
        "legacy",
        "orders",
        "till",
    ];
    fixed.iter().map(ToString::to_string).chain(tills()).collect()
}

pub(super) fn register(cluster: &Cluster, names: &Names) {
    let servers = Servers::get();
    for (name, file) in [
        ("pg-admin", "KEYFALL_PG_ADMIN_PASSWORD_FILE"),
        ("redis-admin", "KEYFALL_REDIS_ADMIN_PASSWORD_FILE"),
    ] {
        cluster.person("alice")[0].secret(name, &servers.file(file));
    }
    let mut all = vec![names.manifests(servers, EVERY), all_tills(EVERY).to_string()];
    all.extend(tills().iter().map(|name| till(names, name).to_string()));
    apply(cluster, &all.join("\n---\n"));
    wait_for("everything is active", PATIENCE, || {
        let active = cluster.ask("alice", &["get", "identities", "--state", "active"])?;
        let shown = identities()
            .into_iter()
            .filter(|name| !name.starts_with("keyfall-control"));
        (active.as_array()?.len() >= shown.count()).then_some(())
    });
}

fn till(names: &Names, name: &str) -> Value {
    let spec = json!({
        "kind": "api_key", "system": "shop", "environment": "test", "owner": "team", "expires": "2099-01-01T00:00:00Z",
        "account": names.account(&name.replace('-', "_")), "strategy": "dual_slot",
    });
    manifest("Identity", name, spec)
}

fn all_tills(every: &str) -> Value {
    policy("tills", json!({ "identities": tills() }), every)
}

/// Ends scheduled rotations, and waits until nothing is under way.
pub(super) fn come_to_rest(cluster: &Cluster) {
    cluster.wait_for_all();
    apply(cluster, &format!("{}\n---\n{}", fast("30d"), all_tills("30d")));
    wait_for("nothing is under way", PATIENCE, || {
        cluster.wait_for_all();
        let stuck = cluster.ask("alice", &["runs", "--status", "needs_operator"])?;
        assert_eq!(stuck, Value::Array(Vec::new()), "a run asks for a person");
        let open = cluster.ask("alice", &["runs", "--open"])?;
        open.as_array()?.is_empty().then_some(())
    });
}

/// The manifests, applied and approved until applying them again changes nothing.
fn apply(cluster: &Cluster, manifests: &str) {
    let file = cluster.path("manifests.yaml");
    fs::write(&file, manifests).unwrap();
    let file = file.display().to_string();
    wait_for("the manifests hold", PATIENCE, || {
        let plan = cluster.ask("alice", &["apply", "-f", &file, "--reason", "in a test"])?;
        if plan["empty"] == Value::Bool(true) {
            return Some(());
        }
        cluster.ask(
            "bob",
            &["approve", plan["id"].as_str()?, "--yes", "--reason", "in a test"],
        );
        None
    });
}
