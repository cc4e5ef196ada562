//! The PostgreSQL connector: login roles, two alternating accounts under one group role or one account in place, proven by
//! real logins at the primary, its replicas and poolers.
//!
//! | file | what it does |
//! |---|---|
//! | `config.rs` | what manifests may say |
//! | `quote.rs` | names and texts in statements |
//! | `scram.rs`, `keys.rs`, `tls.rs`, `handshake.rs`, `link.rs` | from a socket to an authenticated connection |
//! | `ask.rs`, `admin.rs` | prepared statements, our own connections |
//! | `role.rs`, `account.rs` | the catalog |
//! | `issue.rs`, `revoke.rs`, `delete.rs`, `inventory.rs`, `sessions.rs`, `probe.rs` | the abilities |
//! | `sqlstate.rs` | what answers mean |

use std::sync::Arc;
use std::time::Duration;

use keyfall_sdk::{
    AdminCredential, ConfigProblem, Connector, ConnectorError, ConnectorKind, Descriptor, IssueClass, Result,
    SecretShape, ServerGrants, SettlingWindow, Strategy, SystemSpec, TlsMode, VantageRole,
};

use self::admin::{Admin, Lane};
use self::config::Options;
use self::handshake::Target;
use self::keys::SaltedKeys;
use self::tls::Tls;

mod account;
mod admin;
mod ask;
mod config;
mod delete;
mod handshake;
mod inventory;
mod issue;
mod keys;
mod link;
mod probe;
mod quote;
mod revoke;
mod role;
mod scram;
mod sessions;
mod sqlstate;
mod tls;

#[cfg(test)]
mod tests;

static DESCRIPTOR: Descriptor = Descriptor {
    kind: "postgres",
    about: "Login roles of a PostgreSQL cluster, tried at its primary, replicas and poolers",
    strategies: &[Strategy::AlternatingAccounts, Strategy::InPlace],
    issue_class: IssueClass::CheckFirst,
    secret_shape: SecretShape::STRONG,
    settling: SettlingWindow {
        documented: Duration::from_secs(2),
        source: "PostgreSQL manual, \"pg_authid\" and \"Log-Shipping Standby Servers\": each login reads the catalog, so the \
                 primary refuses from the commit on; a standby follows by its replay lag, usually below one second. \
                 Raise the window where recovery_min_apply_delay or slow replay makes it longer",
    },
    lockout: None,
    sessions_survive: true,
    answers: sqlstate::ANSWERS,
};

/// Checks configurations of PostgreSQL systems and builds connectors for them.
#[derive(Debug, Clone, Copy)]
pub struct PostgresKind;

impl ConnectorKind for PostgresKind {
    fn descriptor(&self) -> &Descriptor {
        &DESCRIPTOR
    }

    fn check(&self, spec: &SystemSpec, grants: &ServerGrants) -> Vec<ConfigProblem> {
        config::problems(spec, grants)
    }

    fn connect(
        &self,
        spec: &SystemSpec,
        admin: Option<AdminCredential>,
        grants: &ServerGrants,
    ) -> Result<Arc<dyn Connector>> {
        Ok(Arc::new(Postgres::new(spec, admin, grants)?))
    }
}

/// One PostgreSQL cluster.
#[derive(Debug)]
struct Postgres {
    admin: Admin,
    /// Where credentials are tried.
    database: String,
    keys: Arc<SaltedKeys>,
}

impl Postgres {
    /// A configuration with problems is refused here, too: a secret must not travel because a caller forgot to check.
    fn new(spec: &SystemSpec, credential: Option<AdminCredential>, grants: &ServerGrants) -> Result<Self> {
        if let Some(problem) = config::problems(spec, grants).into_iter().next() {
            return Err(problem.refused(&DESCRIPTOR));
        }
        let options = Options::parse(&spec.options).map_err(ConnectorError::conflict)?;
        let keys = Arc::new(SaltedKeys::default());
        let tls = match spec.tls {
            TlsMode::Verify => Some(Arc::new(Tls::new(spec.tls_ca.clone()))),
            TlsMode::Off => None,
        };
        let lanes = spec.vantages.iter().map(|vantage| {
            let target = Target {
                vantage: vantage.name.clone(),
                host: vantage.host.clone(),
                port: vantage.port,
                tls: tls.clone(),
                keys: Arc::clone(&keys),
            };
            Lane::new(target, options.poolers.contains(&vantage.name))
        });
        let control = spec
            .vantages
            .iter()
            .position(|vantage| vantage.role == VantageRole::Control);
        let database = options.admin_database().to_owned();
        Ok(Self {
            admin: Admin::new(credential, database, lanes.collect(), control.unwrap_or_default()),
            database: options.database,
            keys,
        })
    }
}

impl Connector for Postgres {
    fn descriptor(&self) -> &Descriptor {
        &DESCRIPTOR
    }

    keyfall_sdk::abilities!(
        inventory: Inventory,
        issue: Issue,
        suspend: Suspend,
        entitle: Entitle,
        revoke: Revoke,
        sessions: Sessions,
        probe: Probe,
    );
}
