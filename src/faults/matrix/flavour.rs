//! The systems that the matrix goes over: each connector with each way in which it can replace a credential.

use std::path::Path;
use std::sync::Arc;

use keyfall_connectors::demo;
use keyfall_sdk::{AdminCredential, IssueClass, SecretValue, ServerGrants, Strategy};
use serde_json::{Value, json};

use super::servers::Servers;
use super::truth::{DemoTruth, ServerTruth, Service, VANTAGES};
use crate::domain::workflow::RunKind;
use crate::faults::oracle::Truth;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    Demo(Strategy, IssueClass),
    Postgres,
    Redis,
}

impl Flavour {
    pub(crate) const ALL: [Self; 7] = [
        Self::Demo(Strategy::DualSlot, IssueClass::CheckFirst),
        Self::Demo(Strategy::AlternatingAccounts, IssueClass::CheckFirst),
        Self::Demo(Strategy::InPlace, IssueClass::CheckFirst),
        Self::Demo(Strategy::DualSlot, IssueClass::Repeatable),
        Self::Demo(Strategy::DualSlot, IssueClass::Once),
        Self::Postgres,
        Self::Redis,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Demo(Strategy::DualSlot, IssueClass::CheckFirst) => "demo",
            Self::Demo(Strategy::AlternatingAccounts, _) => "demo-alternating",
            Self::Demo(Strategy::InPlace, _) => "demo-in-place",
            Self::Demo(Strategy::DualSlot, IssueClass::Repeatable) => "demo-repeatable",
            Self::Demo(Strategy::DualSlot, IssueClass::Once) => "demo-once",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }

    pub(crate) fn is_demo(self) -> bool {
        matches!(self, Self::Demo(..))
    }

    /// Whether there are runs of this kind in the matrix. How a credential is issued makes no difference to a run that issues none.
    pub(crate) fn has(self, kind: RunKind) -> bool {
        let issues = matches!(kind, RunKind::Provision | RunKind::Rotate | RunKind::EmergencyRotate);
        match self {
            Self::Demo(Strategy::DualSlot, IssueClass::Repeatable | IssueClass::Once) => issues,
            // One value: there is no second credential to revoke.
            Self::Demo(Strategy::InPlace, _) => kind != RunKind::Revoke,
            _ => true,
        }
    }

    pub(crate) fn issue_class(self) -> IssueClass {
        match self {
            Self::Demo(_, class) => class,
            Self::Postgres => IssueClass::CheckFirst,
            Self::Redis => IssueClass::Repeatable,
        }
    }

    pub(crate) fn strategy(self) -> Strategy {
        match self {
            Self::Demo(strategy, _) => strategy,
            Self::Postgres => Strategy::AlternatingAccounts,
            Self::Redis => Strategy::DualSlot,
        }
    }

    /// `provider` names the demo provider of this bench.
    pub(crate) fn system(self, provider: &str) -> Value {
        let mut manifest = json!({
            "environment": "test", "owner": "team", "connector": "demo",
            "limits": { "concurrency": 64, "callsPerSecond": 0, "refusedLoginsPerMinute": 1_000_000 },
        });
        match self {
            Self::Demo(strategy, class) => {
                manifest["options"] = json!({ "provider": provider, "strategy": strategy, "issueClass": class });
                manifest["vantages"] =
                    json!(VANTAGES.map(|name| json!({ "name": name, "host": "localhost", "port": 1 })));
            }
            Self::Postgres => {
                let servers = Servers::get();
                let vantage = |name: &str, role: &str, port: &str| json!({ "name": name, "role": role, "host": servers.text("KEYFALL_PG_HOST"), "port": servers.port(port) });
                manifest["connector"] = json!("postgres");
                manifest["admin"] = json!({ "username": servers.text("KEYFALL_PG_ADMIN_USER"), "secretRef": "admin" });
                manifest["tlsCa"] = json!(servers.file("KEYFALL_PG_CA_FILE"));
                manifest["vantages"] = json!([
                    vantage("primary", "control", "KEYFALL_PG_PRIMARY_PORT"),
                    vantage("replica", "probe", "KEYFALL_PG_REPLICA_PORT"),
                ]);
            }
            Self::Redis => {
                let servers = Servers::get();
                let vantage = |name: &str, port: &str| json!({ "name": name, "host": servers.text("KEYFALL_REDIS_HOST"), "port": servers.port(port) });
                manifest["connector"] = json!("redis");
                manifest["admin"] =
                    json!({ "username": servers.text("KEYFALL_REDIS_ADMIN_USER"), "secretRef": "admin" });
                manifest["tls"] = json!("off");
                manifest["vantages"] = json!([
                    vantage("primary", "KEYFALL_REDIS_PORT"),
                    vantage("replica", "KEYFALL_REDIS2_PORT"),
                ]);
            }
        }
        manifest
    }

    pub(crate) fn admin(self) -> Option<AdminCredential> {
        let (user, file) = match self {
            Self::Demo(..) => return None,
            Self::Postgres => ("KEYFALL_PG_ADMIN_USER", "KEYFALL_PG_ADMIN_PASSWORD_FILE"),
            Self::Redis => ("KEYFALL_REDIS_ADMIN_USER", "KEYFALL_REDIS_ADMIN_PASSWORD_FILE"),
        };
        let servers = Servers::get();
        Some(AdminCredential {
            username: servers.text(user).to_owned(),
            secret: SecretValue::from(servers.file(file)),
        })
    }

    pub(crate) fn access(self) -> Value {
        match self {
            Self::Demo(..) => json!({ "grants": ["read"] }),
            Self::Postgres => json!({}),
            Self::Redis => json!({ "rules": ["~matrix:*", "+@read"] }),
        }
    }

    pub(crate) fn destination(self) -> &'static str {
        if self.is_demo() { "demo-destination" } else { "file" }
    }

    pub(crate) fn target(self, account: &str) -> Value {
        if self.is_demo() {
            return json!({ "slot": account });
        }
        json!({ "root": "out", "path": format!("{account}.secret"), "layout": "raw", "acknowledgements": format!("{account}.acks") })
    }

    pub(crate) fn grants(folder: &Path) -> ServerGrants {
        ServerGrants {
            file_roots: [("out".to_owned(), folder.to_owned())].into(),
            ..ServerGrants::default()
        }
    }

    /// The administrator's own way to the real servers; none for the demo.
    pub(crate) async fn service(self) -> Option<Service> {
        match self {
            Self::Demo(..) => None,
            Self::Postgres => Some(Service::Postgres(Arc::new(Servers::get().postgres().await))),
            Self::Redis => Some(Service::Redis([
                Servers::get().redis("KEYFALL_REDIS_PORT").await,
                Servers::get().redis("KEYFALL_REDIS2_PORT").await,
            ])),
        }
    }
}

/// The truth about the accounts that begin with `account`.
pub(crate) fn truth(service: Option<&Service>, provider: &str, account: &str, folder: &Path) -> Arc<dyn Truth> {
    match service {
        None => Arc::new(DemoTruth {
            provider: demo::provider(provider),
            prefix: account.to_owned(),
            slot: account.to_owned(),
        }),
        Some(service) => Arc::new(ServerTruth {
            service: service.clone(),
            prefix: account.to_owned(),
            file: folder.join(format!("{account}.secret")),
        }),
    }
}
