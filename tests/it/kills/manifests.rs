//! What a replay registers: three systems, five identities, two policies. Every account carries the replay's prefix, because the servers are shared.

use serde_json::{Value, json};

use crate::harness::Servers;

/// The folder, under the root `state`, in which the demo provider keeps what is true.
pub(crate) const SHOP: &str = "shop";

/// A replay's names.
pub(crate) struct Names {
    pub(crate) prefix: String,
}

impl Names {
    pub(crate) fn account(&self, short: &str) -> String {
        format!("{}_{short}", self.prefix)
    }

    /// Every manifest as one YAML stream (JSON is YAML). `every` is the period of what rotates by schedule.
    pub(crate) fn manifests(&self, servers: &Servers, every: &str) -> String {
        let all = [
            owner(),
            self.postgres(servers),
            self.redis(servers),
            self.shop(),
            destination(),
            fast(every),
            policy("standard", json!({ "environments": ["test"] }), "30d"),
            self.database_user("orders", true),
            self.database_user("batch", true),
            self.database_user("legacy", false),
            self.cache(),
            self.till(),
        ];
        all.map(|one| format!("{one}\n")).join("---\n")
    }

    fn postgres(&self, servers: &Servers) -> Value {
        let vantage = |name: &str, role: &str, port: &str| {
            let port: u16 = servers.text(port).parse().unwrap();
            json!({ "name": name, "role": role, "host": servers.text("KEYFALL_PG_HOST"), "port": port })
        };
        let vantages = json!([
            vantage("primary", "control", "KEYFALL_PG_PRIMARY_PORT"),
            vantage("replica", "probe", "KEYFALL_PG_REPLICA_PORT"),
        ]);
        let admin = json!({ "username": servers.text("KEYFALL_PG_ADMIN_USER"), "secretRef": "pg-admin" });
        let spec = json!({
            "connector": "postgres", "environment": "test", "owner": "team", "tls": "off", "vantages": vantages,
            "admin": admin, "controlAccount": self.account("control"), "limits": limits(),
        });
        manifest("System", "pg", spec)
    }

    fn redis(&self, servers: &Servers) -> Value {
        let vantage = |name: &str, port: &str| {
            let port: u16 = servers.text(port).parse().unwrap();
            json!({ "name": name, "role": "control", "host": servers.text("KEYFALL_REDIS_HOST"), "port": port })
        };
        let vantages = json!([
            vantage("one", "KEYFALL_REDIS_PORT"),
            vantage("two", "KEYFALL_REDIS2_PORT")
        ]);
        let admin = json!({ "username": servers.text("KEYFALL_REDIS_ADMIN_USER"), "secretRef": "redis-admin" });
        let spec = json!({
            "connector": "redis", "environment": "test", "owner": "team", "tls": "off", "vantages": vantages,
            "admin": admin, "controlAccount": self.account("control"), "limits": limits(),
        });
        manifest("System", "redis", spec)
    }

    /// A provider that mints a second key when it is asked again, unlike the servers, on which a repeated change is no change. It has done what
    /// it was asked well before it says so, and a death in between leaves a key of which only looking tells.
    fn shop(&self) -> Value {
        let vantage = |name: &str, role: &str| json!({ "name": name, "role": role, "host": "127.0.0.1", "port": 1 });
        let late = json!({ "operation": "issue", "then": { "lateReply": 600 } });
        let spec = json!({
            "connector": "demo", "environment": "test", "owner": "team", "controlAccount": self.account("control"),
            "vantages": [vantage("primary", "control"), vantage("replica", "probe")], "limits": limits(),
            "options": {
                "provider": "shop", "issueClass": "check_first", "stateFolder": { "root": "state", "folder": SHOP },
                "faults": { "slots": 4, "rules": [late] },
            },
        });
        manifest("System", "shop", spec)
    }

    fn database_user(&self, short: &str, consumed: bool) -> Value {
        let access = json!({ "owner": self.account(&format!("{short}_owner")) });
        self.identity(short, "pg", "alternating_accounts", access, consumed)
    }

    fn cache(&self) -> Value {
        let access = json!({ "rules": ["~session:*", "+@read", "+@write", "-@dangerous"] });
        self.identity("cache", "redis", "dual_slot", access, true)
    }

    fn till(&self) -> Value {
        let spec = json!({
            "kind": "api_key", "system": "shop", "environment": "test", "owner": "team", "expires": "2099-01-01T00:00:00Z",
            "account": self.account("till"), "strategy": "dual_slot",
        });
        manifest("Identity", "till", spec)
    }

    fn identity(&self, short: &str, system: &str, strategy: &str, access: Value, consumed: bool) -> Value {
        let target = json!({
            "path": format!("{short}/env"), "layout": "dotenv",
            "keys": { "username": "USER", "secret": "SECRET", "version": "VERSION" },
            "acknowledgements": format!("{short}/{{consumer}}.version"),
        });
        let consumers = if consumed {
            json!([{ "name": "app", "seenBy": "acknowledgement" }])
        } else {
            json!([])
        };
        let spec = json!({
            "kind": "service_account", "system": system, "environment": "test", "owner": "team",
            "expires": "2099-01-01T00:00:00Z", "account": self.account(short), "strategy": strategy, "access": access,
            "deliverTo": [{ "destination": "files", "target": target }], "consumers": consumers,
        });
        manifest("Identity", short, spec)
    }
}

pub(crate) fn manifest(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "keyfall.dev/v1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

/// None of these systems locks an account, and each account is rotated several times a minute.
fn limits() -> Value {
    json!({ "concurrency": 64, "callsPerSecond": 2000, "refusedLoginsPerMinute": 1000 })
}

fn owner() -> Value {
    manifest("Owner", "team", json!({ "contact": "team@example.com" }))
}

fn destination() -> Value {
    let spec = json!({
        "connector": "file", "environment": "test", "owner": "team", "defaults": { "root": "apps", "mode": "0600" },
    });
    manifest("Destination", "files", spec)
}

/// What rotates by schedule.
pub(crate) fn fast(every: &str) -> Value {
    policy("fast", json!({ "identities": ["orders", "cache", "till"] }), every)
}

/// No machine is so loaded that one of the ends in here is met.
pub(crate) fn policy(name: &str, selector: Value, every: &str) -> Value {
    let spec = json!({
        "owner": "team", "selector": selector, "autonomy": "automatic", "rotation": { "every": every },
        "overlap": "300ms", "uptake": { "interval": "100ms", "timeout": "1h" },
        "proof": { "refusals": 3, "interval": "200ms", "giveUpAfter": "1h", "keepDeadSecret": "2h" },
        "decommission": { "listen": "500ms" }, "budget": { "destructive": 100000, "per": "1h" }, "objective": "1h",
    });
    manifest("Policy", name, spec)
}
