//! What the servers themselves say lives there, read as their administrator behind Keyfall's back, against what Keyfall's ledger says.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::Path;

use ring::{digest, pbkdf2};
use serde_json::Value;

use super::manifests::Names;
use crate::harness::{Servers, demo_accounts};

/// The ids of everything that a login could be made with, by account and by the server that accepts it.
pub(crate) type Live = BTreeMap<String, BTreeMap<&'static str, BTreeSet<String>>>;

/// Every account of this replay that is there, with its live key ids; empty for an account that cannot be logged in to.
pub(crate) fn live(names: &Names, shop: &Path) -> Live {
    let mut all = postgres(names);
    all.extend(demo(shop));
    for (server, port) in [("one", "KEYFALL_REDIS_PORT"), ("two", "KEYFALL_REDIS2_PORT")] {
        for (account, keys) in redis(names, port) {
            all.entry(format!("redis/{account}")).or_default().insert(server, keys);
        }
    }
    all
}

/// Only the primary is asked: a replica is a copy of it.
fn postgres(names: &Names) -> Live {
    let servers = Servers::get();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let rows = runtime.block_on(async {
        let (client, connection) = tokio_postgres::Config::new()
            .host(servers.text("KEYFALL_PG_HOST"))
            .port(servers.text("KEYFALL_PG_PRIMARY_PORT").parse().unwrap())
            .user(servers.text("KEYFALL_PG_ADMIN_USER"))
            .password(servers.file("KEYFALL_PG_ADMIN_PASSWORD_FILE"))
            .dbname("postgres")
            .connect(tokio_postgres::NoTls)
            .await
            .unwrap();
        let serving = tokio::spawn(connection);
        let text = "select rolname::text, oid::text, rolpassword from pg_authid where starts_with(rolname, $1) and \
                    rolname not like '%owner'";
        let rows = client.query(text, &[&names.account("")]).await.unwrap();
        drop(client);
        let _ = serving.await;
        rows
    });
    let account = |row: &tokio_postgres::Row| {
        let (name, oid): (String, String) = (row.get(0), row.get(1));
        let keys = row.get::<_, Option<String>>(2).map(|verifier| {
            format!(
                "{oid}/{}",
                hex(digest::digest(&digest::SHA256, verifier.as_bytes()).as_ref())
            )
        });
        (
            format!("pg/{name}"),
            BTreeMap::from([("primary", keys.into_iter().collect())]),
        )
    };
    rows.iter().map(account).collect()
}

fn redis(names: &Names, port: &str) -> BTreeMap<String, BTreeSet<String>> {
    let servers = Servers::get();
    let url = format!(
        "redis://{}:{}@{}:{}",
        servers.text("KEYFALL_REDIS_ADMIN_USER"),
        servers.file("KEYFALL_REDIS_ADMIN_PASSWORD_FILE"),
        servers.text("KEYFALL_REDIS_HOST"),
        servers.text(port)
    );
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    let lines: Vec<String> = redis::cmd("ACL").arg("LIST").query(&mut connection).unwrap();
    let users = lines.iter().filter_map(|line| {
        let mut words = line.strip_prefix("user ")?.split(' ');
        let name = words.next()?.to_owned();
        let keys = words
            .filter_map(|word| word.strip_prefix('#'))
            .map(|hash| redis_key_id(&name, hash))
            .collect();
        name.starts_with(&names.account("")).then_some((name, keys))
    });
    users.collect()
}

/// The provider's state folder. It is this replay's alone.
fn demo(folder: &Path) -> Live {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let accounts = demo_accounts(folder);
    let there = accounts.iter().filter(|account| account["deleted_at"].is_null());
    let entry = |account: &Value| {
        let keys = account["keys"].as_array().unwrap().iter();
        let live = keys.filter(|key| key["removed_at"].is_null());
        (
            format!("shop/{}", text(&account["name"])),
            BTreeMap::from([("provider", live.map(|key| text(&key["id"])).collect())]),
        )
    };
    there.map(entry).collect()
}

/// As `connectors/redis/README.md` defines it.
fn redis_key_id(user: &str, hash: &str) -> String {
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
    format!("{user}/{}", hex(&id))
}

/// Of the first eight bytes.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// What Keyfall says of one credential.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) state: String,
    /// `system/account`.
    pub(crate) account: String,
    pub(crate) key_id: Option<String>,
}

/// The credentials of identities as `describe` shows them.
pub(crate) fn ledger(identities: &[Value]) -> Vec<Entry> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_identity = |identity: &Value| -> Vec<Entry> {
        let credentials = identity["credentials"].as_array().cloned().unwrap_or_default();
        let entry = |one: &Value| Entry {
            state: text(&one["state"]),
            account: format!("{}/{}", text(&identity["system"]), text(&one["account"])),
            key_id: one["key_id"].as_str().map(str::to_owned),
        };
        credentials.iter().map(entry).collect()
    };
    identities.iter().flat_map(of_identity).collect()
}

/// Everything in which the two differ, once nothing is under way: what lives there is exactly what is called active, on every server.
pub(crate) fn differences(live: &Live, ledger: &[Entry]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (account, servers) in live {
        let called_active: BTreeSet<String> = ledger
            .iter()
            .filter(|entry| entry.account == *account && entry.state == "active")
            .filter_map(|entry| entry.key_id.clone())
            .collect();
        for (server, keys) in servers {
            if *keys != called_active {
                wrong.push(format!(
                    "{account} on {server}: {keys:?} can log in, and {called_active:?} are called active"
                ));
            }
        }
    }
    for entry in ledger {
        if entry.state == "active" && !live.contains_key(&entry.account) {
            wrong.push(format!("{entry:?} is called active, and the account is not there"));
        }
        if !matches!(entry.state.as_str(), "active" | "dead" | "never_issued") {
            wrong.push(format!(
                "{entry:?} is neither active, dead nor never issued, and nothing is under way"
            ));
        }
    }
    wrong
}
