//! What the providers themselves say, read behind the back of their connectors: the demo provider's own maps, PostgreSQL's catalog and Redis'
//! user lists through plain drivers, real logins with plain clients, and the file that a workload reads.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use keyfall_connectors::demo;
use keyfall_sdk::{BoxFuture, KeyId, PrincipalStatus, SecretValue};
use ring::{digest, pbkdf2};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_postgres::NoTls;

use super::servers::Servers;
use crate::faults::oracle::{TrueAccount, Truth};

pub(crate) const VANTAGES: [&str; 2] = ["primary", "replica"];

pub(crate) struct DemoTruth {
    pub(crate) provider: Arc<demo::Provider>,
    pub(crate) prefix: String,
    pub(crate) slot: String,
}

impl Truth for DemoTruth {
    fn accounts(&self) -> BoxFuture<'_, BTreeMap<String, TrueAccount>> {
        let ours = |account: &demo::Account| account.name.starts_with(&self.prefix);
        let accounts = self.provider.accounts().into_iter().filter(ours).map(|account| {
            let keys = account.live_keys().map(|key| key.id.clone()).collect();
            let told = TrueAccount {
                keys,
                is_enabled: account.status() == PrincipalStatus::Enabled,
                grants: account.grants.clone(),
                immutable_id: account.immutable_id,
            };
            (account.name, told)
        });
        let accounts = accounts.collect();
        Box::pin(async move { accounts })
    }

    fn accepted_at<'a>(&'a self, account: &'a str, secret: &'a SecretValue) -> BoxFuture<'a, Vec<String>> {
        let accepts = |vantage: &&str| self.provider.accepts(account, secret, vantage);
        let accepting = VANTAGES.iter().filter(|vantage| accepts(vantage));
        let accepting = accepting.map(|vantage| (*vantage).to_owned()).collect();
        Box::pin(async move { accepting })
    }

    fn vantages(&self) -> Vec<String> {
        VANTAGES.map(str::to_owned).to_vec()
    }

    fn delivered(&self) -> Option<SecretValue> {
        demo::destination("demo").read(&self.slot)
    }
}

/// PostgreSQL or Redis, with the file that the secret is delivered to.
pub(crate) struct ServerTruth {
    pub(crate) service: Service,
    pub(crate) prefix: String,
    pub(crate) file: PathBuf,
}

#[derive(Clone)]
pub(crate) enum Service {
    Postgres(Arc<tokio_postgres::Client>),
    Redis([redis::aio::MultiplexedConnection; 2]),
}

impl Service {
    fn ports(&self) -> [&'static str; 2] {
        match self {
            Self::Postgres(_) => ["KEYFALL_PG_PRIMARY_PORT", "KEYFALL_PG_REPLICA_PORT"],
            Self::Redis(_) => ["KEYFALL_REDIS_PORT", "KEYFALL_REDIS2_PORT"],
        }
    }
}

impl Truth for ServerTruth {
    fn accounts(&self) -> BoxFuture<'_, BTreeMap<String, TrueAccount>> {
        Box::pin(async move {
            match &self.service {
                Service::Postgres(client) => roles(client, &self.prefix).await,
                Service::Redis(nodes) => users(nodes, &self.prefix).await,
            }
        })
    }

    fn accepted_at<'a>(&'a self, account: &'a str, secret: &'a SecretValue) -> BoxFuture<'a, Vec<String>> {
        Box::pin(async move {
            let secret = secret.expose_secret_str().unwrap();
            let mut accepting = Vec::new();
            for (vantage, port) in VANTAGES.into_iter().zip(self.service.ports()) {
                let is_in = match &self.service {
                    Service::Postgres(_) => logs_in_to_postgres(port, account, secret).await,
                    Service::Redis(_) => logs_in_to_redis(port, account, secret).await,
                };
                if is_in {
                    accepting.push(vantage.to_owned());
                }
            }
            accepting
        })
    }

    fn vantages(&self) -> Vec<String> {
        VANTAGES.map(str::to_owned).to_vec()
    }

    fn settled(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Service::Postgres(client) = &self.service {
                replayed(client).await;
            }
        })
    }

    fn delivered(&self) -> Option<SecretValue> {
        std::fs::read(&self.file).ok().map(SecretValue::new)
    }
}

/// By the catalog of the primary. A key id is what `connectors/postgres/README.md` says.
async fn roles(client: &tokio_postgres::Client, prefix: &str) -> BTreeMap<String, TrueAccount> {
    let text =
        "select rolname::text, oid::text, rolpassword, rolcanlogin from pg_authid where starts_with(rolname, $1)";
    let rows = client.query(text, &[&prefix]).await.unwrap();
    let account = |row: &tokio_postgres::Row| {
        let (name, oid): (String, String) = (row.get(0), row.get(1));
        let verifier: Option<String> = row.get(2);
        let key = verifier.map(|verifier| {
            let hash = digest::digest(&digest::SHA256, verifier.as_bytes());
            KeyId(format!("{oid}/{}", hex(hash.as_ref())))
        });
        let told = TrueAccount {
            immutable_id: oid,
            keys: key.into_iter().collect(),
            is_enabled: row.get(3),
            grants: Vec::new(),
        };
        (name, told)
    };
    rows.iter().map(account).collect()
}

/// Until the standby has replayed what was written until now, by whomever: how late it is on a busy machine is not what the cells are about.
async fn replayed(client: &tokio_postgres::Client) {
    let written = client.query_one("select pg_current_wal_flush_lsn()::text", &[]).await;
    let written: String = written.unwrap().get(0);
    let text = "select coalesce(bool_and(replay_lsn >= $1::text::pg_lsn), true) from pg_stat_replication";
    let text = client.prepare(text).await.unwrap();
    for _ in 0..1_000_000 {
        if client.query_one(&text, &[&written]).await.unwrap().get(0) {
            return;
        }
    }
    panic!("the standby does not follow");
}

/// What either node would accept: a password that only one of them has is as alive as one that both have.
async fn users(nodes: &[redis::aio::MultiplexedConnection; 2], prefix: &str) -> BTreeMap<String, TrueAccount> {
    let mut users: BTreeMap<String, TrueAccount> = BTreeMap::new();
    for node in nodes {
        let lines: Vec<String> = redis::cmd("ACL")
            .arg("LIST")
            .query_async(&mut node.clone())
            .await
            .unwrap();
        for line in lines {
            let mut words = line.strip_prefix("user ").unwrap_or_default().split(' ');
            let name = words.next().unwrap_or_default().to_owned();
            if !name.starts_with(prefix) {
                continue;
            }
            let user = users.entry(name.clone()).or_insert_with(|| TrueAccount {
                immutable_id: name.clone(),
                keys: BTreeSet::new(),
                is_enabled: true,
                grants: Vec::new(),
            });
            for word in words {
                match word.strip_prefix('#') {
                    Some(hash) => drop(user.keys.insert(redis_key_id(&name, hash))),
                    None if word == "off" => user.is_enabled = false,
                    None => {}
                }
            }
        }
    }
    users
}

/// As `connectors/redis/README.md` defines it.
fn redis_key_id(user: &str, hash: &str) -> KeyId {
    let salt = format!("keyfall-redis-key-id:{user}");
    let mut id = [0; 8];
    let rounds = NonZeroU32::new(10_000).unwrap();
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        rounds,
        salt.as_bytes(),
        hash.as_bytes(),
        &mut id,
    );
    KeyId(format!("{user}/{}", hex(&id)))
}

/// Of the first eight bytes.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

async fn logs_in_to_postgres(port: &str, account: &str, secret: &str) -> bool {
    let servers = Servers::get();
    let connected = tokio_postgres::Config::new()
        .host(servers.text("KEYFALL_PG_HOST"))
        .port(servers.port(port))
        .user(account)
        .password(secret)
        .dbname("postgres")
        .connect(NoTls)
        .await;
    match connected {
        Ok((client, connection)) => {
            let serving = tokio::spawn(connection);
            drop(client);
            let _ = serving.await;
            true
        }
        Err(error) => {
            // Anything but a refusal would be taken for a death.
            let code = error.code().unwrap_or_else(|| panic!("{error:?}")).code();
            assert!(["28P01", "28000"].contains(&code), "{error:?}");
            false
        }
    }
}

async fn logs_in_to_redis(port: &str, account: &str, secret: &str) -> bool {
    let servers = Servers::get();
    let address = (servers.text("KEYFALL_REDIS_HOST"), servers.port(port));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let ask = format!("AUTH {account} {secret}\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await.unwrap();
    assert!(answer == "+OK\r\n" || answer.starts_with("-WRONGPASS"), "{answer}");
    answer == "+OK\r\n"
}
