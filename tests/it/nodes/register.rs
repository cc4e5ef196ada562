//! What the nodes rotate: accounts of real servers whose consumers never stop, and many keys of the demo provider, whose truth the nodes share.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::Cluster;
use super::database::Database;
use crate::harness::{Servers, wait_for};
use crate::kills::manifests::{Names, fast, manifest, policy};

/// Only what hangs takes longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);
/// Keys of the demo provider for the share of every change's checks, and for as much as the machine can do.
const FEW: usize = 12;
const MANY: usize = 160;
const EVERY: &str = "4s";

/// How much is registered.
#[derive(Clone, Copy)]
pub(super) struct Size {
    tills: usize,
}

impl Size {
    pub(super) fn for_rotations(rotations: usize) -> Self {
        Self {
            tills: if rotations < 1000 { FEW } else { MANY },
        }
    }

    fn tills(self) -> Vec<String> {
        (0..self.tills).map(|number| format!("till-{number:03}")).collect()
    }
}

/// Everything that must be active when all is over.
pub(super) fn identities(size: Size) -> Vec<String> {
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
    fixed.iter().map(ToString::to_string).chain(size.tills()).collect()
}

pub(super) fn register(cluster: &Cluster, database: &Database, names: &Names, size: Size) {
    let servers = Servers::get();
    for (name, file) in [
        ("pg-admin", "KEYFALL_PG_ADMIN_PASSWORD_FILE"),
        ("redis-admin", "KEYFALL_REDIS_ADMIN_PASSWORD_FILE"),
    ] {
        cluster.person("alice")[0].secret(name, &servers.file(file));
    }
    let mut all = vec![names.manifests(servers, EVERY), all_tills(size, EVERY).to_string()];
    all.extend(size.tills().iter().map(|name| till(names, name).to_string()));
    apply(cluster, &all.join("\n---\n"));
    wait_for("everything is active", PATIENCE, || {
        (database.active() >= identities(size).len()).then_some(())
    });
}

fn till(names: &Names, name: &str) -> Value {
    let spec = json!({
        "kind": "api_key", "system": "shop", "environment": "test", "owner": "team", "expires": "2099-01-01T00:00:00Z",
        "account": names.account(&name.replace('-', "_")), "strategy": "dual_slot",
    });
    manifest("Identity", name, spec)
}

fn all_tills(size: Size, every: &str) -> Value {
    policy("tills", json!({ "identities": size.tills() }), every)
}

/// Ends scheduled rotations, and waits until nothing is under way and nothing comes: a node that had read the policies before they changed may
/// have made one more rotation due.
pub(super) fn come_to_rest(cluster: &Cluster, database: &Database, size: Size) {
    cluster.wait_for_all();
    apply(cluster, &format!("{}\n---\n{}", fast("30d"), all_tills(size, "30d")));
    wait_for("nothing is under way", PATIENCE, || {
        cluster.wait_for_all();
        let stuck = cluster.ask("alice", &["runs", "--status", "needs_operator"])?;
        assert_eq!(stuck, Value::Array(Vec::new()), "a run asks for a person");
        let open = cluster.ask("alice", &["runs", "--open"])?;
        (open.as_array()?.is_empty() && database.is_at_rest()).then_some(())
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
