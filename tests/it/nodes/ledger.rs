//! What the register says of each credential, read from its rows, against what the servers say lives, and the sealed secrets against both.

use std::collections::BTreeMap;
use std::path::Path;

use keyfall::clock::Environment;
use keyfall::domain::ids::SecretId;
use keyfall::engine::secrets::{OpenSecrets, StoredSecrets};
use keyfall::evidence::audit::decode_event;
use keyfall::sealing::{Kek, Keyring};
use keyfall::store::{Creation, PostgresOptions, Store, open_postgres};
use keyfall_sdk::SecretValue;
use ring::digest::{SHA256, digest};
use serde_json::Value;
use std::sync::Arc;

use super::cluster::Cluster;
use super::database::Database;
use crate::harness::demo_accounts;
use crate::kills::manifests::{Names, SHOP};
use crate::kills::truth::{self, Entry};

/// A credential's row.
pub(super) struct Row {
    pub(super) id: String,
    pub(super) entry: Entry,
    /// The state with all that it carries.
    pub(super) life: String,
    pub(super) secret: Option<String>,
}

pub(super) fn rows(database: &Database) -> Vec<Row> {
    let text = "select c.id, i.spec, c.principal, c.key_id, c.state, c.life, c.secret from credentials c \
                join identities i on i.id = c.identity order by c.created_at, c.id";
    let row = |row: tokio_postgres::Row| {
        let spec: Value = serde_json::from_str(row.get(1)).unwrap();
        let system = spec["system"].as_str().unwrap();
        Row {
            id: row.get(0),
            entry: Entry {
                state: row.get(4),
                account: format!("{system}/{}", row.get::<_, String>(2)),
                key_id: row.get(3),
            },
            life: row.get(5),
            secret: row.get(6),
        }
    };
    database.ask(text, &[]).into_iter().map(row).collect()
}

/// What lives downstream is what the register calls active, nothing more and nothing less; everything else is proven dead, or never was.
pub(super) fn is_true(cluster: &Cluster, names: &Names, rows: &[Row]) {
    let live = truth::live(names, &cluster.path("state").join(SHOP));
    let ledger: Vec<Entry> = rows.iter().map(|row| row.entry.clone()).collect();
    let wrong = truth::differences(&live, &ledger);
    assert!(wrong.is_empty(), "the servers and the register differ: {wrong:#?}");
}

/// As often as the provider took something away, so often something was to die: no revocation took effect twice, and none on anything else.
pub(super) fn each_died_once(cluster: &Cluster, rows: &[Row]) {
    let mut removed = 0;
    for account in demo_accounts(&cluster.path("state").join(SHOP)) {
        let name = format!("shop/{}", account["name"].as_str().unwrap());
        let dead = rows
            .iter()
            .filter(|row| row.entry.account == name && row.entry.state == "dead");
        let dead = dead.count() as u64;
        assert_eq!(account["removed_keys"].as_u64(), Some(dead), "{account:#}");
        for key in account["keys"].as_array().unwrap() {
            let is_known = rows
                .iter()
                .any(|row| row.entry.account == name && row.entry.key_id.as_deref() == key["id"].as_str());
            assert!(is_known, "nobody knows {key:#}");
        }
        removed += dead;
    }
    println!("COVERED: nodes keys taken away {removed}");
}

/// Every secret that is kept opens, and is that of a credential that lives or of one that is recorded dead; that of a living key is the one
/// that the provider accepts.
pub(super) fn secrets_are_whole(cluster: &Cluster, database: &Database, rows: &[Row]) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let hashes = hashes(&cluster.path("state").join(SHOP));
    let credentials: BTreeMap<&str, &Row> = rows
        .iter()
        .filter_map(|row| Some((row.secret.as_deref()?, row)))
        .collect();
    let kept = "select id from secrets where destroyed_at is null and name is null order by id";
    let kept: Vec<String> = database.ask(kept, &[]).iter().map(|row| row.get(0)).collect();
    let (mut living, mut dead) = (0, 0);
    runtime.block_on(async {
        let (store, secrets) = open(cluster, database).await;
        for id in &kept {
            let row = credentials
                .get(id.as_str())
                .unwrap_or_else(|| panic!("{id} is no credential's"));
            let secret_id: SecretId = id.parse().unwrap();
            let stored = store.secret(secret_id).await.unwrap().unwrap();
            let secret = secrets.open(secret_id, stored.endpoint_digest).await.unwrap();
            match row.entry.state.as_str() {
                "active" => {
                    let hash = row.entry.key_id.as_ref().and_then(|key| hashes.get(key));
                    assert!(
                        hash.is_none_or(|hash| *hash == hash_of(&secret)),
                        "{id} does not open {:?}",
                        row.entry
                    );
                    living += 1;
                }
                "dead" | "never_issued" => dead += 1,
                other => panic!("{id} is kept for a credential that is {other}"),
            }
        }
        // Nothing that lives is without its secret.
        for row in rows.iter().filter(|row| row.entry.state == "active") {
            let is_kept = row.secret.as_ref().is_some_and(|secret| kept.contains(secret));
            assert!(is_kept, "the secret of {:?} is gone", row.entry);
        }
        store.close().await.unwrap();
    });
    println!(
        "{} sealed secrets open: {living} of living credentials, {dead} of dead ones",
        kept.len()
    );
}

async fn open(cluster: &Cluster, database: &Database) -> (Arc<dyn Store>, StoredSecrets) {
    let url = SecretValue::from(Database::url(database.port()));
    let mut options = PostgresOptions::new(url, "reader", decode_event);
    options.creation = Creation::Never;
    let store = open_postgres(options, Environment::of_this_machine()).await.unwrap();
    let kek = Kek::load(&cluster.nodes[0].dir().join("kek")).unwrap();
    let secrets = StoredSecrets::new(Arc::clone(&store), Arc::new(Keyring::new(kek, Vec::new())));
    (store, secrets)
}

/// By key id, as the provider keeps them of live keys.
fn hashes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let accounts = demo_accounts(folder);
    let keys = accounts.iter().flat_map(|account| account["keys"].as_array().unwrap());
    let live = keys.filter(|key| key["removed_at"].is_null());
    let hash = |key: &Value| {
        let bytes = key["hash"].as_array().unwrap().iter();
        let bytes = bytes.map(|byte| u8::try_from(byte.as_u64().unwrap()).unwrap());
        (key["id"].as_str().unwrap().to_owned(), bytes.collect())
    };
    live.map(hash).collect()
}

fn hash_of(secret: &SecretValue) -> Vec<u8> {
    digest(&SHA256, secret.expose_secret()).as_ref().to_vec()
}
