//! Redis ACL users as identities. A user holds any number of passwords at once, so a rotation overlaps without a second
//! account; every node keeps an ACL of its own, so every change is made, and every credential tried, on each of them.
//!
//! It must not know the engine, the store, or any other connector, and it never sends a password in clear except as a login.

mod access;
mod account;
mod acl;
mod config;
mod inventory;
mod issue;
mod key;
mod node;
mod persist;
mod probe;
mod revoke;
mod sessions;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use keyfall_sdk::{
    AdminCredential, ConfigProblem, Connector, ConnectorError, ConnectorKind, Descriptor, IssueClass, PrincipalRef,
    RefusalCode, Result, SecretShape, ServerGrants, SettlingWindow, Strategy, SystemSpec, VantageRole,
};

use key::KeyIds;
use node::{Deadline, Node, Session};

static DESCRIPTOR: Descriptor = Descriptor {
    kind: "redis",
    about: "Redis ACL users, on every node of one deployment.",
    strategies: &[Strategy::DualSlot, Strategy::AlternatingAccounts, Strategy::InPlace],
    issue_class: IssueClass::Repeatable,
    secret_shape: SecretShape::STRONG,
    settling: SettlingWindow {
        documented: Duration::ZERO,
        source: "https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/ (a change holds for the \
                 next AUTH on that node; nodes do not pass it on)",
    },
    lockout: None,
    sessions_survive: true,
    answers: ANSWERS,
};

const ANSWERS: &[RefusalCode] = &[
    RefusalCode {
        code: "WRONGPASS",
        refuses_credential: true,
        meaning: "The user does not hold this password, does not exist, or is off. The control plane tells which.",
    },
    RefusalCode {
        code: "NOPERM",
        refuses_credential: false,
        meaning: "The login was accepted; the user may not run the command that asks who it is.",
    },
    RefusalCode {
        code: "NOAUTH",
        refuses_credential: false,
        meaning: "The server wants a login first; it judged no password.",
    },
    RefusalCode {
        code: "LOADING",
        refuses_credential: false,
        meaning: "The server is reading its data set.",
    },
    RefusalCode {
        code: "BUSY",
        refuses_credential: false,
        meaning: "The server is running a script.",
    },
    RefusalCode {
        code: "MASTERDOWN",
        refuses_credential: false,
        meaning: "A replica has lost its master and serves nothing.",
    },
    RefusalCode {
        code: "ERR max number of clients reached",
        refuses_credential: false,
        meaning: "The server takes no more connections.",
    },
    RefusalCode {
        code: "DENIED",
        refuses_credential: false,
        meaning: "Protected mode: the server refuses the host, not the credential.",
    },
];

/// Checks a Redis system's configuration and builds its connector.
pub struct RedisKind;

impl ConnectorKind for RedisKind {
    fn descriptor(&self) -> &Descriptor {
        &DESCRIPTOR
    }

    fn check(&self, spec: &SystemSpec, grants: &ServerGrants) -> Vec<ConfigProblem> {
        config::check(spec, grants)
    }

    fn connect(
        &self,
        spec: &SystemSpec,
        admin: Option<AdminCredential>,
        grants: &ServerGrants,
    ) -> Result<Arc<dyn Connector>> {
        if let Some(problem) = config::check(spec, grants).into_iter().next() {
            return Err(problem.refused(&DESCRIPTOR));
        }
        let nodes = spec
            .vantages
            .iter()
            .map(|vantage| Node::new(vantage.clone(), spec.tls, spec.tls_ca.clone(), admin.clone()))
            .collect();
        Ok(Arc::new(RedisConnector {
            nodes,
            admin,
            key_ids: KeyIds::default(),
        }))
    }
}

/// One Redis deployment: a primary and its replicas, each with an ACL of its own.
struct RedisConnector {
    nodes: Vec<Node>,
    /// Without one it checks manifests and tries credentials; it reads and changes nothing.
    admin: Option<AdminCredential>,
    key_ids: KeyIds,
}

impl RedisConnector {
    /// The nodes whose ACL we change. Vantages with role `probe` are only tried.
    fn control_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes
            .iter()
            .filter(|node| node.vantage().role == VantageRole::Control)
    }

    /// Opens an admin session on every control node, before the first of them is changed: a node that is away stops the
    /// call while nothing has happened yet.
    async fn open_all(&self, deadline: Deadline) -> Result<Vec<Session<'_>>> {
        let mut sessions = Vec::new();
        for node in self.control_nodes() {
            sessions.push(node.open(deadline).await?);
        }
        Ok(sessions)
    }

    /// Refuses what would take away the account with which Keyfall itself administers this system.
    fn spare_own_account(&self, principal: &PrincipalRef, act: &str) -> Result<()> {
        if self
            .admin
            .as_ref()
            .is_some_and(|admin| admin.username == principal.name)
        {
            return Err(ConnectorError::conflict(format!(
                "`{}` is the account with which Keyfall administers this system; to {act} it would lock Keyfall out. \
                 Give the system another admin credential first.",
                principal.name
            )));
        }
        Ok(())
    }
}

/// The account must be the recorded one. Redis gives users no id, so the name is all there is to compare.
fn check_recorded(principal: &PrincipalRef) -> Result<()> {
    match &principal.immutable_id {
        Some(id) if *id == principal.name => Ok(()),
        Some(id) => Err(ConnectorError::conflict(format!(
            "The recorded id of Redis user `{}` is `{id}`; a Redis user's id is its name, so this is another account.",
            principal.name
        ))),
        None => Err(ConnectorError::conflict(format!(
            "Redis user `{}` was never recorded; only recorded accounts are changed.",
            principal.name
        ))),
    }
}

impl Connector for RedisConnector {
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
