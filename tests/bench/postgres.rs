//! Accounts of a real PostgreSQL for the figures that need one, and bare SQL beside them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use keyfall_connectors::postgres::PostgresKind;
use keyfall_sdk::{
    AdminCredential, CallContext, Connector, ConnectorKind, PrincipalRef, ProbeCall, ProbePurpose, SecretValue,
    ServerGrants, SystemSpec, Verdict,
};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::meter::{Meter, metered_registry};
use super::register::{ADMIN_SECRET, Account, Member, Place, Register, Wanted};
use super::servers::Servers;

pub(crate) const VANTAGES: [&str; 2] = ["primary", "replica"];

/// The servers, the connector as it is, and a register that knows them.
pub(crate) struct Cluster {
    pub(crate) servers: Servers,
    pub(crate) connector: Arc<dyn Connector>,
    sql: Client,
}

/// How many of the two vantages a figure looks at.
fn system(servers: &Servers, vantages: usize) -> Result<Value> {
    let host = servers.text("KEYFALL_PG_HOST")?;
    let mut places = vec![
        json!({ "name": "primary", "host": host, "port": servers.port("KEYFALL_PG_PRIMARY_PORT")? }),
        json!({ "name": "replica", "role": "probe", "host": host, "port": servers.port("KEYFALL_PG_REPLICA_PORT")? }),
    ];
    places.truncate(vantages);
    Ok(json!({
        "environment": "bench", "owner": "bench", "connector": "postgres", "tls": "off", "vantages": places,
        "options": { "database": "postgres" },
        "admin": { "username": servers.text("KEYFALL_PG_ADMIN_USER")?, "secretRef": ADMIN_SECRET },
        "limits": { "concurrency": 64, "callsPerSecond": 0, "refusedLoginsPerMinute": 1_000_000 },
    }))
}

impl Cluster {
    pub(crate) async fn up(under: &Path) -> Result<Self> {
        let servers = Servers::up(under)?;
        let mut spec = system(&servers, VANTAGES.len())?;
        for ours in ["environment", "owner", "admin", "limits"] {
            spec.as_object_mut().and_then(|spec| spec.remove(ours));
        }
        let spec: SystemSpec = serde_json::from_value(spec)?;
        let admin = AdminCredential {
            username: servers.text("KEYFALL_PG_ADMIN_USER")?.to_owned(),
            secret: SecretValue::from(servers.admin_password()?),
        };
        let connector = PostgresKind.connect(&spec, Some(admin), &ServerGrants::default())?;
        let sql = connect(&servers, "KEYFALL_PG_PRIMARY_PORT").await?;
        Ok(Self {
            servers,
            connector,
            sql,
        })
    }

    pub(crate) async fn register(&self, meter: &Meter, vantages: usize, policy: Value) -> Result<Register> {
        let register = Register::new(Wanted {
            place: Place::Sqlite,
            kinds: metered_registry(meter),
            system: system(&self.servers, vantages)?,
            destination: json!({
                "connector": "file", "environment": "bench", "owner": "bench", "defaults": { "root": "bench", "layout": "raw" },
            }),
            policy,
            admin_password: Some(self.servers.admin_password()?),
        })
        .await?;
        let control = self.member(&register, &unique("control"), true).await?;
        register.register(vec![control]).await?;
        Ok(register)
    }

    /// Makes an account that is in use and an idle one beside it, as a rotation before would have left them.
    pub(crate) async fn member(&self, register: &Register, name: &str, is_control: bool) -> Result<Member> {
        let secret = register.draw_secret()?;
        let current = self.make_role(&format!("{name}_a"), Some(&secret)).await?;
        let idle = match is_control {
            true => None,
            false => Some(self.make_role(&format!("{name}_b"), None).await?),
        };
        let reading = match self.connector.inventory() {
            Some(inventory) => inventory.read(&ctx(), &current).await?,
            None => bail!("the connector has no inventory"),
        };
        let key_id = reading.states().find_map(|state| state.key_ids.first().cloned());
        Ok(Member {
            name: name.to_owned(),
            account: name.to_owned(),
            current: Account {
                principal: current,
                key_id: key_id.context("a fresh account shows its credential")?,
                secret,
            },
            idle,
            target: json!({ "path": name }),
            consumers: json!([]),
            is_control,
            is_due: false,
        })
    }

    async fn make_role(&self, name: &str, secret: Option<&SecretValue>) -> Result<PrincipalRef> {
        let password = match secret {
            Some(secret) => format!(" PASSWORD '{}'", verifier(secret)),
            None => String::new(),
        };
        self.sql
            .batch_execute(&format!("CREATE ROLE {name} LOGIN{password}"))
            .await?;
        let rows = self
            .sql
            .simple_query(&format!("SELECT oid FROM pg_roles WHERE rolname = '{name}'"))
            .await?;
        let oid = rows.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(PrincipalRef {
            name: name.to_owned(),
            immutable_id: Some(oid.context("a fresh role has an OID")?),
        })
    }

    /// Whether one login is accepted, on a fresh connection by the connector's own code.
    pub(crate) async fn login(&self, vantage: &str, principal: &PrincipalRef, secret: &SecretValue) -> Result<bool> {
        let call = ProbeCall {
            principal: principal.clone(),
            secret: secret.clone(),
            vantage: vantage.to_owned(),
            purpose: ProbePurpose::ProveNew,
        };
        let Some(probe) = self.connector.probe() else {
            bail!("the connector has no probe");
        };
        match probe.probe(&ctx(), &call).await.verdict {
            Verdict::Accepted { .. } => Ok(true),
            Verdict::Refused { .. } => Ok(false),
            other => bail!("a login of {} at {vantage} came to {other:?}", principal.name),
        }
    }
}

pub(crate) async fn connect(servers: &Servers, port: &str) -> Result<Client> {
    let mut config = tokio_postgres::Config::new();
    config
        .host(servers.text("KEYFALL_PG_HOST")?)
        .port(servers.port(port)?)
        .user(servers.text("KEYFALL_PG_ADMIN_USER")?)
        .password(servers.admin_password()?)
        .dbname("postgres");
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// What an `ALTER ROLE` is given, made beforehand.
pub(crate) fn verifier(secret: &SecretValue) -> String {
    postgres_protocol::password::scram_sha_256(secret.expose_secret())
}

/// A role name that no other round of this program has.
pub(crate) fn unique(stem: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("kf_{stem}_{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn ctx() -> CallContext {
    CallContext {
        run: "bench".to_owned(),
        step: "bench".to_owned(),
        attempt: 1,
        idempotency_key: "bench".to_owned(),
        time_left: Duration::from_secs(20),
    }
}
