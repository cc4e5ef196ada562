//! What a server costs while it has nothing to do: start, resident memory and processor time of `keyfall serve`, on an empty store or on one
//! with many identities, none of them due.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keyfall::clock::Environment;
use keyfall::domain::identity::{Credential, CredentialState, Identity, IdentityState};
use keyfall::domain::ids::{CredentialId, IdentityId, ResourceId};
use keyfall::domain::resource::{Resource, Spec};
use keyfall::evidence::audit::decode_event;
use keyfall::store::{Commit, Fact, StoreOptions, open_sqlite};
use keyfall_sdk::{KeyId, PrincipalRef};
use serde_json::json;

use super::cpu;
use super::register::scratch;

const PROGRAM: &str = env!("CARGO_BIN_EXE_keyfall");
/// What a start does is over by then.
const WARM: Duration = Duration::from_secs(3);
const WATCHED: Duration = Duration::from_secs(20);

/// Stopped when it is dropped, however the figure ends.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status();
        if !asked.is_ok_and(|status| status.success()) {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

/// Facts that are stored in one commit while the register is filled.
const BATCH: usize = 2_000;

pub(crate) async fn at_rest(identities: usize) -> Result<()> {
    let folder = scratch()?;
    let home = folder.path().join("kf");
    let ready = folder.path().join("ready");
    let made = Command::new(PROGRAM)
        .arg("init")
        .arg(&home)
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    ensure!(made.success(), "`keyfall init DIR` failed: {made}");
    if identities > 0 {
        fill(&home.join("keyfall.db"), identities).await?;
    }
    let began = Instant::now();
    let served = Command::new(PROGRAM)
        .arg("serve")
        .arg("--config")
        .arg(home.join("keyfall.toml"))
        .arg("--ready-file")
        .arg(&ready)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let served = Served(served);
    while !ready.exists() {
        ensure!(began.elapsed() < Duration::from_secs(30), "the server does not answer");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let start = began.elapsed();
    let process = format!("/proc/{}", served.0.id());
    tokio::time::sleep(WARM).await;
    let before = cpu::seconds(&process)?;
    let began = Instant::now();
    tokio::time::sleep(WATCHED).await;
    let spent = cpu::seconds(&process)? - before;
    println!(
        "rest identities={identities} rss_mb={:.1} cpu_percent={:.2} seconds={:.0} start_ms={}",
        resident_megabytes(&process)?,
        spent / began.elapsed().as_secs_f64() * 100.0,
        WATCHED.as_secs_f64(),
        start.as_millis()
    );
    Ok(())
}

/// Identities with a credential in use each, under one owner and one system.
async fn fill(store: &Path, identities: usize) -> Result<()> {
    let env = Environment::of_this_machine();
    let store = open_sqlite(store, StoreOptions::new(decode_event), env.clone()).await?;
    let resource = |name: &str, spec| {
        Fact::Resource(Resource {
            id: ResourceId::from_uuid(env.draw_uuid()),
            name: name.to_owned(),
            version: 1,
            labels: BTreeMap::new(),
            spec,
            approved: None,
        })
    };
    let system = json!({
        "environment": "bench", "owner": "bench", "connector": "demo", "options": { "provider": "rest" },
        "vantages": [{ "name": "primary", "host": "localhost", "port": 1 }],
    });
    let mut facts = vec![
        resource(
            "bench",
            Spec::Owner(serde_json::from_value(json!({ "contact": "bench" }))?),
        ),
        resource("sys", Spec::System(serde_json::from_value(system)?)),
    ];
    for number in 0..identities {
        facts.extend(member(&env, number)?);
        if facts.len() >= BATCH || number + 1 == identities {
            let facts = std::mem::take(&mut facts);
            store
                .commit(Commit {
                    facts,
                    ..Commit::default()
                })
                .await?;
        }
    }
    Ok(store.close().await?)
}

fn member(env: &Environment, number: usize) -> Result<[Fact; 2]> {
    let now = env.now();
    let (id, current) = (
        IdentityId::from_uuid(env.draw_uuid()),
        CredentialId::from_uuid(env.draw_uuid()),
    );
    let name = format!("app-{number:07}");
    let spec = json!({
        "kind": "service_account", "system": "sys", "environment": "bench", "owner": "bench", "account": name,
        "expires": "2099-01-01T00:00:00Z",
    });
    let identity = Identity {
        id,
        name: name.clone(),
        version: 1,
        labels: BTreeMap::from([("team".to_owned(), format!("team-{}", number % 100))]),
        spec: serde_json::from_value(spec)?,
        state: IdentityState::Active,
        current: Some(current),
        due: None,
        is_control: false,
        approved: None,
        created_at: now,
    };
    let credential = Credential {
        id: current,
        identity: id,
        principal: PrincipalRef {
            name,
            immutable_id: Some(number.to_string()),
        },
        key_id: Some(KeyId(format!("key-{number}"))),
        secret: None,
        state: CredentialState::Active,
        created_at: now,
        proven_at: Some(now),
        expires_at: None,
    };
    Ok([Fact::Identity(identity), Fact::Credential(credential)])
}

fn resident_megabytes(process: &str) -> Result<f64> {
    let status = std::fs::read_to_string(Path::new(process).join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: f64 = line
        .and_then(|line| line.split_whitespace().next())
        .context("VmRSS stands in the status of a process")?
        .parse()?;
    Ok(kibibytes * 1024.0 / 1e6)
}
