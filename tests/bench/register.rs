//! A register to measure on: a store on a file of its own, sealed secrets, one system, one destination, one policy that somebody else
//! approved with a real signature, and an engine with the real steps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use jiff::SignedDuration;
use keyfall::clock::Environment;
use keyfall::domain::actor::Approval;
use keyfall::domain::digest::Digest;
use keyfall::domain::due::DueReason;
use keyfall::domain::identity::{Credential, CredentialState, Identity, IdentityState};
use keyfall::domain::ids::{CredentialId, IdentityId, ResourceId, SecretId};
use keyfall::domain::resource::{Resource, Spec, SystemManifest};
use keyfall::engine::breaker::BreakerSettings;
use keyfall::engine::controls::RegisteredControls;
use keyfall::engine::prepare::{KnownSignatures, Preparation};
use keyfall::engine::report::PerformSteps;
use keyfall::engine::secrets::{Reach, SealAs, StoredSecrets, seal};
use keyfall::engine::steps::{StepSettings, Steps, StoredRefusals};
use keyfall::engine::systems::{StoredCatalog, Systems};
use keyfall::engine::{Engine, EngineHandle, EngineSettings};
use keyfall::evidence::audit::decode_event;
use keyfall::sealing::{Kek, Keyring, SecretGenerator};
use keyfall::store::{
    Commit, Committed, Fact, Page, PostgresOptions, RunFilter, SecretRow, Store, StoreOptions, open_postgres,
    open_sqlite,
};
use keyfall_sdk::{ConnectorKind, KeyId, PrincipalRef, SecretShape, SecretValue, ServerGrants};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::approval::approve;
use super::servers::Servers;

/// Facts that are stored in one commit while the register is filled.
const BATCH: usize = 1_000;
/// No figure takes longer; one that does is broken, not slow.
const PATIENCE: Duration = Duration::from_secs(300);

/// Under which name the systems of the bench find their admin credential.
pub(crate) const ADMIN_SECRET: &str = "bench-admin";

pub(crate) struct Register {
    /// Taken down before the folder goes.
    _servers: Option<Servers>,
    folder: TempDir,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) env: Environment,
    keys: Arc<Keyring>,
    systems: Arc<Systems>,
    secrets: Arc<StoredSecrets>,
    approval: Approval,
    endpoints: Digest,
}

/// Where the store is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Place {
    Sqlite,
    /// A private server, with fsync.
    Postgres,
}

/// What differs from one figure to another.
pub(crate) struct Wanted {
    pub(crate) place: Place,
    /// Systems are reached through these.
    pub(crate) kinds: Vec<Arc<dyn ConnectorKind>>,
    pub(crate) system: Value,
    pub(crate) destination: Value,
    /// Over the policy's own spec.
    pub(crate) policy: Value,
    pub(crate) admin_password: Option<String>,
}

/// An account as it is downstream.
pub(crate) struct Account {
    pub(crate) principal: PrincipalRef,
    pub(crate) key_id: KeyId,
    pub(crate) secret: SecretValue,
}

/// An identity to be registered, in use and due.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) account: String,
    pub(crate) current: Account,
    /// The other one of two alternating accounts, which holds nothing.
    pub(crate) idle: Option<PrincipalRef>,
    pub(crate) target: Value,
    pub(crate) consumers: Value,
    pub(crate) is_control: bool,
    pub(crate) is_due: bool,
}

pub(crate) fn scratch() -> Result<TempDir> {
    let folder = std::env::var_os("KEYFALL_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::Builder::new()
        .prefix("keyfall-bench-")
        .tempdir_in(folder)
        .context("a folder for the bench")
}

impl Register {
    pub(crate) async fn new(wanted: Wanted) -> Result<Self> {
        let folder = scratch()?;
        let env = Environment::of_this_machine();
        let (store, servers) = open(wanted.place, folder.path(), &env).await?;
        let kek = Kek::create(&folder.path().join("kek"), &*env.random)?;
        let keys = Arc::new(Keyring::new(kek, Vec::new()));
        let secrets = Arc::new(StoredSecrets::new(Arc::clone(&store), Arc::clone(&keys)));
        let grants = ServerGrants {
            file_roots: BTreeMap::from([("bench".to_owned(), folder.path().join("delivered"))]),
            ..ServerGrants::default()
        };
        std::fs::create_dir(folder.path().join("delivered"))?;
        let catalog = Arc::new(StoredCatalog(Arc::clone(&store)));
        let systems = Systems::new(wanted.kinds, grants, catalog, Arc::clone(&secrets) as _)
            .believing_the_catalog_for(Duration::from_secs(1));
        let manifest: SystemManifest = serde_json::from_value(wanted.system)?;
        let reach = Reach::of(ADMIN_SECRET, [&manifest])?.digest()?;
        let register = Self {
            approval: approve(folder.path(), &env, &store).await?,
            endpoints: manifest.endpoint_digest()?,
            _servers: servers,
            folder,
            store,
            env,
            keys,
            systems: Arc::new(systems),
            secrets,
        };
        let mut policy = json!({
            "owner": "bench", "selector": { "systems": ["sys"] }, "rotation": { "every": "30d" }, "autonomy": "automatic",
            "overlap": "0s", "proof": { "refusals": 3, "interval": "0s", "giveUpAfter": "5m", "keepDeadSecret": "8d" },
            "budget": { "destructive": 10_000_000, "per": "1h" },
        });
        if let (Some(policy), Some(over)) = (policy.as_object_mut(), wanted.policy.as_object()) {
            policy.extend(over.clone());
        }
        let mut facts = vec![
            register.resource(
                "bench",
                Spec::Owner(serde_json::from_value(json!({ "contact": "bench@example.org" }))?),
            ),
            register.resource("sys", Spec::System(manifest)),
            register.resource("dst", Spec::Destination(serde_json::from_value(wanted.destination)?)),
            register.resource("pol", Spec::Policy(serde_json::from_value(policy)?)),
        ];
        if let Some(password) = wanted.admin_password {
            let sealed = register.sealed(SecretValue::from(password), Some(ADMIN_SECRET), reach)?;
            facts.push(Fact::Secret(sealed));
        }
        register.put(facts).await?;
        Ok(register)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn draw_secret(&self) -> Result<SecretValue> {
        Ok(SecretGenerator::new(SecretShape::STRONG)?.draw(&*self.env.random)?)
    }

    fn resource(&self, name: &str, spec: Spec) -> Fact {
        Fact::Resource(Resource {
            id: ResourceId::from_uuid(self.env.draw_uuid()),
            name: name.to_owned(),
            version: 1,
            labels: BTreeMap::new(),
            spec,
            approved: Some(self.approval.clone()),
        })
    }

    fn sealed(&self, secret: SecretValue, name: Option<&str>, endpoints: Digest) -> Result<SecretRow> {
        let seal_as = SealAs {
            id: SecretId::from_uuid(self.env.draw_uuid()),
            name: name.map(str::to_owned),
            kind: if name.is_some() { "admin" } else { "credential" }.to_owned(),
            version: 1,
            endpoints,
            at: self.env.now(),
        };
        Ok(seal(&self.keys, seal_as, &secret, &*self.env.random)?)
    }

    async fn put(&self, facts: Vec<Fact>) -> Result<()> {
        put(&self.store, facts).await
    }

    /// Registers identities with the accounts that they have.
    pub(crate) async fn register(&self, members: Vec<Member>) -> Result<()> {
        let mut facts = Vec::new();
        for member in members {
            facts.extend(self.member(member)?);
            if facts.len() >= BATCH {
                self.put(std::mem::take(&mut facts)).await?;
            }
        }
        self.put(facts).await
    }

    fn member(&self, member: Member) -> Result<Vec<Fact>> {
        let now = self.env.now();
        let id = IdentityId::from_uuid(self.env.draw_uuid());
        let secret = self.sealed(member.current.secret, None, self.endpoints)?;
        let current = CredentialId::from_uuid(self.env.draw_uuid());
        let deliver = json!([{ "destination": "dst", "target": member.target }]);
        let spec = json!({
            "kind": "service_account", "system": "sys", "environment": "bench", "owner": "bench", "account": member.account,
            "expires": "2099-01-01T00:00:00Z", "consumers": member.consumers,
            "deliverTo": if member.is_control { json!([]) } else { deliver },
        });
        let credential = |id, principal, key_id, secret, state| Credential {
            id,
            identity: IdentityId::from_uuid(uuid::Uuid::nil()),
            principal,
            key_id,
            secret,
            state,
            created_at: now,
            proven_at: Some(now),
            expires_at: None,
        };
        let secret_id = secret.id;
        let mut credentials = vec![credential(
            current,
            member.current.principal,
            Some(member.current.key_id),
            Some(secret_id),
            CredentialState::Active,
        )];
        if let Some(idle) = member.idle {
            let other = CredentialId::from_uuid(self.env.draw_uuid());
            credentials.insert(0, credential(other, idle, None, None, CredentialState::NeverIssued));
        }
        let mut facts = vec![
            Fact::Secret(secret),
            Fact::Identity(Identity {
                id,
                name: member.name,
                version: 1,
                labels: BTreeMap::new(),
                spec: serde_json::from_value(spec)?,
                state: IdentityState::Active,
                current: Some(current),
                due: member
                    .is_due
                    .then_some((now - SignedDuration::from_mins(1), DueReason::MaxAge)),
                is_control: member.is_control,
                approved: Some(self.approval.clone()),
                created_at: now,
            }),
        ];
        facts.extend(credentials.into_iter().map(|mut one| {
            one.identity = id;
            Fact::Credential(one)
        }));
        Ok(facts)
    }

    /// Makes an identity due now, and answers nothing: whoever waits looks for its runs.
    pub(crate) async fn make_due(&self, name: &str) -> Result<()> {
        let identity = self.store.identity_named(name).await?;
        let id = identity.with_context(|| format!("{name} is registered"))?.id;
        let due = Some((self.env.now(), DueReason::Requested));
        self.put(vec![Fact::IdentityDue { id, due }]).await
    }

    pub(crate) fn steps(&self) -> Arc<dyn PerformSteps> {
        Arc::new(Steps::new(
            Arc::clone(&self.systems),
            Arc::clone(&self.secrets) as _,
            Arc::new(RegisteredControls(Arc::clone(&self.store))),
            Arc::new(StoredRefusals(Arc::clone(&self.store))),
            self.env.clone(),
            StepSettings::default(),
        ))
    }

    pub(crate) async fn start(&self, steps: Arc<dyn PerformSteps>, concurrency: usize) -> Result<EngineHandle> {
        let prepare = Preparation {
            store: Arc::clone(&self.store),
            systems: Arc::clone(&self.systems),
            keys: Arc::clone(&self.keys),
            env: self.env.clone(),
            signatures: KnownSignatures::default(),
        };
        let engine = Engine {
            store: Arc::clone(&self.store),
            steps,
            prepare: Arc::new(prepare),
            env: self.env.clone(),
            settings: EngineSettings {
                max_runs: concurrency,
                take_over_at_start: true,
                breaker: BreakerSettings {
                    at_least: u32::MAX,
                    percent: 100,
                    ..BreakerSettings::default()
                },
                ..EngineSettings::new("bench")
            },
        };
        Ok(engine.start().await?)
    }

    /// Waits until nothing is due and no run is open. The store is asked only when the engine has nothing in its hands, so that looking costs
    /// what is measured next to nothing.
    pub(crate) async fn until_idle(&self, engine: &EngineHandle) -> Result<()> {
        let began = Instant::now();
        let mut beat = tokio::time::interval(Duration::from_millis(1));
        loop {
            beat.tick().await;
            let now = self.env.now();
            if engine.status().runs_in_hands == 0 && self.store.count_due(now, 1).await? == 0 {
                let overview = self.store.overview(now).await?;
                let stuck = overview.open_runs.iter().find(|(status, _)| status == "needs_operator");
                if stuck.is_some_and(|(_, count)| *count > 0) {
                    bail!("a run needs an operator: {}", self.why_stuck().await?);
                }
                if overview.open_runs.iter().all(|(_, count)| *count == 0) {
                    return Ok(());
                }
            }
            ensure!(began.elapsed() < PATIENCE, "the runs do not end");
        }
    }

    async fn why_stuck(&self) -> Result<String> {
        let filter = RunFilter {
            status: Some("needs_operator".to_owned()),
            ..RunFilter::default()
        };
        let rows = self.store.runs(&filter, Page::first(1)).await?;
        let stuck = rows.first().context("the stuck run is listed")?;
        let stored = self.store.run(stuck.id).await?.context("the stuck run is stored")?;
        Ok(format!("{:?}", stored.events.last().map(|event| &event.body)))
    }

    /// How many runs are closed as completed, and how many there are.
    pub(crate) async fn completed(&self) -> Result<(usize, usize)> {
        let mut page = Page::first(1_000);
        let (mut completed, mut all) = (0, 0);
        loop {
            let rows = self.store.runs(&RunFilter::default(), page).await?;
            let Some(last) = rows.last() else {
                return Ok((completed, all));
            };
            all += rows.len();
            completed += rows.iter().filter(|row| row.status == "completed").count();
            page = Page {
                after: Some(last.id.to_string()),
                limit: 1_000,
            };
        }
    }
}

async fn open(place: Place, folder: &Path, env: &Environment) -> Result<(Arc<dyn Store>, Option<Servers>)> {
    if place == Place::Sqlite {
        let options = StoreOptions::new(decode_event);
        return Ok((
            open_sqlite(&folder.join("keyfall.db"), options, env.clone()).await?,
            None,
        ));
    }
    let servers = Servers::these(folder, &["postgres"])?;
    let url = SecretValue::from(servers.url("postgres")?);
    let store = open_postgres(PostgresOptions::new(url, "bench", decode_event), env.clone()).await?;
    Ok((store, Some(servers)))
}

pub(crate) async fn put(store: &Arc<dyn Store>, facts: Vec<Fact>) -> Result<()> {
    let commit = Commit {
        facts,
        ..Commit::default()
    };
    let committed = store.commit(commit).await?;
    ensure!(matches!(committed, Committed::Stored), "{committed:?}");
    Ok(())
}
