//! A Keyfall of its own on the real servers, with what a scenario registers. Every account carries the scenario's prefix, because servers are
//! shared. What it asks of Keyfall goes through the command line; what it asks of the servers goes behind Keyfall's back.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{Delivered, Keyfall, Servers, Service, acknowledge, delivered, http, login, refused};

pub(super) struct Scene {
    pub(super) kf: Keyfall,
    pub(super) servers: &'static Servers,
    prefix: String,
}

impl Scene {
    pub(super) fn start() -> Self {
        Self::start_on(Servers::get())
    }

    /// A running server that knows the admin passwords of these servers, and nothing else yet.
    pub(super) fn start_on(servers: &'static Servers) -> Self {
        let kf = Keyfall::start_with("[file_roots]\napps = \"DIR/apps\"");
        fs::create_dir(kf.dir().join("apps")).unwrap();
        for (name, file) in [
            ("pg-admin", "KEYFALL_PG_ADMIN_PASSWORD_FILE"),
            ("redis-admin", "KEYFALL_REDIS_ADMIN_PASSWORD_FILE"),
        ] {
            if let Some(file) = servers.get_text(file) {
                kf.alice().secret(name, fs::read_to_string(file).unwrap().trim_end());
            }
        }
        let random = keyfall::clock::Environment::of_this_machine()
            .draw_uuid()
            .simple()
            .to_string();
        Self {
            kf,
            servers,
            prefix: format!("w{}", &random[20..]),
        }
    }

    /// The downstream name of what is called `short` here.
    pub(super) fn account(&self, short: &str) -> String {
        format!("{}_{short}", self.prefix)
    }

    /// Applies and approves; the runs that it opened, not yet followed.
    pub(super) fn apply(&self, manifests: &[Value]) -> Vec<String> {
        self.kf.apply(&yaml(manifests))
    }

    /// Applies, approves, and waits until all that it opened is completed.
    pub(super) fn register(&self, manifests: &[Value]) {
        for run in self.apply(manifests) {
            self.kf.follow(&run, 0);
        }
    }

    /// Registers `orders` and acknowledges its first secret, so that its credential is in use.
    pub(super) fn in_use(&self, service: Service, policy_more: Value, identity_more: Value) -> Delivered {
        let mut manifests = self.ground(service);
        manifests.push(policy("fast", &["orders"], policy_more));
        manifests.push(self.identity("orders", service, over(consumed(), identity_more)));
        let runs = self.apply(&manifests);
        self.takes_up("orders", None);
        for run in &runs {
            self.kf.follow(run, 0);
        }
        self.delivered("orders")
    }

    /// Owner, destination and the system.
    pub(super) fn ground(&self, service: Service) -> Vec<Value> {
        let (spec, name) = match service {
            Service::Postgres => (self.postgres(), "pg"),
            Service::Redis => (self.redis(), "redis"),
        };
        let files = json!({
            "connector": "file", "environment": "test", "owner": "team", "defaults": { "root": "apps", "mode": "0600" },
        });
        vec![
            manifest("Owner", "team", json!({ "contact": "team@example.com" })),
            manifest("Destination", "files", files),
            manifest("System", name, spec),
        ]
    }

    fn postgres(&self) -> Value {
        let roles = [("primary", "control"), ("replica", "probe")];
        json!({
            "connector": "postgres", "environment": "test", "owner": "team", "tls": "off",
            "vantages": self.vantages(roles, Service::Postgres, "KEYFALL_PG_HOST"),
            "admin": { "username": self.servers.text("KEYFALL_PG_ADMIN_USER"), "secretRef": "pg-admin" },
            "controlAccount": self.account("control"),
        })
    }

    fn redis(&self) -> Value {
        let roles = [("one", "control"), ("two", "control")];
        json!({
            "connector": "redis", "environment": "test", "owner": "team", "tls": "off",
            "vantages": self.vantages(roles, Service::Redis, "KEYFALL_REDIS_HOST"),
            "admin": { "username": self.servers.text("KEYFALL_REDIS_ADMIN_USER"), "secretRef": "redis-admin" },
            "controlAccount": self.account("control"),
        })
    }

    fn vantages(&self, roles: [(&str, &str); 2], service: Service, host: &str) -> Value {
        let vantage = |((name, role), port): ((&str, &str), &str)| {
            let port: u16 = self.servers.text(port).parse().unwrap();
            json!({ "name": name, "role": role, "host": self.servers.text(host), "port": port })
        };
        roles.into_iter().zip(service.ports()).map(vantage).collect()
    }

    /// Delivered to `apps/<short>/env`; `more` goes over the spec.
    pub(super) fn identity(&self, short: &str, service: Service, more: Value) -> Value {
        fs::create_dir_all(self.folder(short)).unwrap();
        let (system, access) = match service {
            Service::Postgres => ("pg", json!({ "owner": self.account(&format!("{short}_owner")) })),
            Service::Redis => ("redis", json!({ "rules": ["~session:*", "+@read", "-@dangerous"] })),
        };
        let target = json!({
            "path": format!("{short}/env"), "layout": "dotenv",
            "keys": { "username": "USER", "secret": "SECRET", "version": "VERSION" },
            "acknowledgements": format!("{short}/{{consumer}}.version"),
        });
        let spec = json!({
            "kind": "service_account", "system": system, "environment": "test", "owner": "team",
            "expires": "2099-01-01T00:00:00Z", "account": self.account(short), "access": access,
            "deliverTo": [{ "destination": "files", "target": target }],
        });
        manifest("Identity", short, over(spec, more))
    }

    /// Where the identity's file is.
    pub(super) fn folder(&self, short: &str) -> PathBuf {
        self.kf.dir().join("apps").join(short)
    }

    /// What the identity's workload reads now.
    pub(super) fn delivered(&self, short: &str) -> Delivered {
        delivered(&self.folder(short)).unwrap_or_else(|| panic!("nothing is delivered to {short}"))
    }

    /// Waits for something else than `before` in the file, and acknowledges it as the workload does.
    pub(super) fn takes_up(&self, short: &str, before: Option<&Delivered>) -> Delivered {
        let folder = self.folder(short);
        let found = self.kf.wait("something new is delivered", || {
            delivered(&folder).filter(|found| Some(found) != before)
        });
        acknowledge(&folder, &found.version);
        found
    }

    /// Let in everywhere with this.
    pub(super) fn works(&self, service: Service, what: &Delivered) {
        for port in service.ports() {
            let answer = login(self.servers, service, port, &what.user, &what.secret);
            assert_eq!(answer, Ok(()), "{} at {port}", what.user);
        }
    }

    /// Refused everywhere like a wrong password.
    pub(super) fn is_dead(&self, service: Service, what: &Delivered) {
        assert!(
            refused(self.servers, service, &what.user, &what.secret),
            "{}",
            what.user
        );
    }

    pub(super) fn describe(&self, identity: &str) -> Value {
        self.kf.alice().json(&["describe", "identity", identity])
    }

    pub(super) fn state(&self, identity: &str) -> String {
        text(&self.describe(identity)["state"])
    }

    /// The states of all credentials of an identity, sorted.
    pub(super) fn credentials(&self, identity: &str) -> Vec<String> {
        let view = self.describe(identity);
        let mut states: Vec<_> = view["credentials"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| text(&one["state"]))
            .collect();
        states.sort();
        states
    }

    /// The id of the one credential in this state.
    pub(super) fn credential(&self, identity: &str, state: &str) -> String {
        let view = self.describe(identity);
        let all = view["credentials"].as_array().unwrap();
        let mut found = all.iter().filter(|one| one["state"] == state);
        let one = found.next().unwrap_or_else(|| panic!("none of {all:#?} is {state}"));
        assert!(found.next().is_none(), "several of {all:#?} are {state}");
        text(&one["id"])
    }

    /// Asks for a rotation inside of the standing approval; the run.
    pub(super) fn rotate(&self, identity: &str) -> String {
        let view = self.kf.alice().json(&["rotate", identity]);
        view["run"]["id"]
            .as_str()
            .unwrap_or_else(|| panic!("no run: {view}"))
            .to_owned()
    }

    /// What alice asks for becomes a plan, and bob signs it; the runs that it opened.
    pub(super) fn agreed(&self, asked: &[&str]) -> Vec<String> {
        self.kf.bob().approve(&self.plan(asked))
    }

    /// The plan that alice's wish became.
    pub(super) fn plan(&self, asked: &[&str]) -> String {
        let view = self.kf.alice().json(asked);
        let plan = if view["plan"].is_object() { &view["plan"] } else { &view };
        plan["id"]
            .as_str()
            .unwrap_or_else(|| panic!("no plan: {view}"))
            .to_owned()
    }

    pub(super) fn run(&self, id: &str) -> Value {
        self.kf.alice().json(&["describe", "run", id])
    }

    /// Waits until the run stands like this.
    pub(super) fn until_status(&self, run: &str, status: &str) -> Value {
        self.kf.wait(&format!("{run} is {status}"), || {
            Some(self.run(run)).filter(|view| view["status"] == status)
        })
    }

    /// Waits until the run is at this step.
    pub(super) fn until_step(&self, run: &str, step: &str) {
        self.kf.wait(&format!("{run} is at {step}"), || {
            (self.run(run)["step"] == step).then_some(())
        });
    }

    /// The closed runs of one kind that an identity has had, the latest first.
    pub(super) fn completed(&self, identity: &str, kind: &str) -> Vec<String> {
        let args = ["runs", "--identity", identity, "--kind", kind, "--status", "completed"];
        let runs = self.kf.alice().json(&args);
        runs.as_array().unwrap().iter().map(|run| text(&run["id"])).collect()
    }

    /// Waits until a step was held back by this barrier.
    pub(super) fn until_held(&self, barrier: &str) {
        self.kf.wait(&format!("a step is held back: {barrier}"), || {
            let figures = http("GET", &format!("{}/metrics", self.kf.url()), None, "").2;
            let label = format!("barrier=\"{barrier}\"");
            let held = |line: &&str| line.starts_with("keyfall_steps_held_total") && line.contains(&label);
            figures.lines().any(|line| held(&line)).then_some(())
        });
    }

    /// What the run has seen of this kind (`probe_round`, `note`), in order.
    pub(super) fn events(&self, run: &str, event: &str) -> Vec<Value> {
        let view = self.run(run);
        let all = view["events"].as_array().unwrap().iter();
        all.filter(|one| one["event"] == event).cloned().collect()
    }

    /// What the attempts of the run saw on their way, in order.
    pub(super) fn seen(&self, run: &str) -> Vec<String> {
        let view = self.run(run);
        let all = view["events"].as_array().unwrap().iter();
        let seen = all.filter_map(|one| one["seen"].as_array());
        seen.flatten().map(text).collect()
    }

    /// The texts of the open findings of this kind.
    pub(super) fn findings(&self, kind: &str) -> Vec<String> {
        let open = self.kf.alice().json(&["get", "findings", "--kind", kind]);
        let open = open.as_array().unwrap().iter();
        open.inspect(|one| assert!(one["kind"] == kind && one["resolved_at"].is_null(), "{one}"))
            .map(|one| text(&one["text"]))
            .collect()
    }

    /// The run's receipt as a file, verified with the server's key and the approvers'. Who verifies it needs no server.
    pub(super) fn receipt(&self, run: &str, exit: i32) -> Value {
        let file = self.kf.scratch(&format!("{run}.receipt"));
        self.kf.wait("the receipt has its place in the log", || {
            (self
                .kf
                .alice()
                .run(&["get", "receipt", run, "--output-file", &file])
                .code
                == 0)
                .then_some(())
        });
        let approver = self.kf.dir().join("people/bob.pub").display().to_string();
        let key = self.kf.public_key();
        let verified = self
            .kf
            .stranger()
            .run(&["verify", &file, "--key", &key, "--approver", &approver, "-o", "json"]);
        assert_eq!(verified.code, exit, "{verified:?}");
        let other = self.kf.dir().join("people/alice.pub").display().to_string();
        let strange = self
            .kf
            .stranger()
            .run(&["verify", &file, "--key", &key, "--approver", &other]);
        assert_eq!(strange.code, 4, "it is not alice who approved: {strange:?}");
        serde_json::from_str(&verified.stdout).unwrap()
    }
}

pub(super) fn manifest(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "keyfall.dev/v1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

/// A policy for these identities that proves quickly and rotates when it is asked to; `more` goes over the spec.
pub(super) fn policy(name: &str, identities: &[&str], more: Value) -> Value {
    let spec = json!({
        "owner": "team", "selector": { "identities": identities }, "autonomy": "automatic", "rotation": { "every": "30d" },
        "uptake": { "interval": "100ms", "timeout": "1m" },
        "proof": { "refusals": 2, "interval": "100ms", "giveUpAfter": "1m", "keepDeadSecret": "10m" },
        "decommission": { "listen": "200ms" }, "objective": "2m",
    });
    manifest("Policy", name, over(spec, more))
}

/// One consumer that acknowledges what it reads.
pub(super) fn consumed() -> Value {
    json!({ "consumers": [{ "name": "app", "seenBy": "acknowledgement" }] })
}

pub(super) fn over(mut value: Value, more: Value) -> Value {
    let (Value::Object(fields), Value::Object(more)) = (&mut value, more) else {
        panic!("both must be objects");
    };
    fields.extend(more);
    value
}

/// JSON is YAML.
pub(super) fn yaml(manifests: &[Value]) -> String {
    manifests
        .iter()
        .map(|one| format!("{one}\n"))
        .collect::<Vec<_>>()
        .join("---\n")
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
