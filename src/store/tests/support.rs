//! A store on a file of its own, a clock that the test moves, and rows to fill it with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{PrincipalRef, Strategy};
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use super::database::Database;
use crate::clock::{Clock, Environment};
use crate::domain::actor::{Actor, Approval};
use crate::domain::digest::Digest;
use crate::domain::due::DueReason;
use crate::domain::identity::{Credential, CredentialState, Identity, IdentityState};
use crate::domain::ids::{CredentialId, IdentityId, PersonId, PlanId, ResourceId, RunId, SecretId};
use crate::domain::proof::ProofTerms;
use crate::domain::workflow::{Event, EventBody, RunKind, RunPlan, Timing, Trigger};
use crate::store::{
    Commit, Committed, Creation, Fact, Guard, LogEntry, PostgresOptions, Result, RunRow, SecretRow, Store,
    StoreOptions, open_postgres, open_sqlite,
};

pub(super) const START: &str = "2026-11-21T03:10:00Z";

pub(super) fn at(seconds: i64) -> Timestamp {
    START.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

pub(super) struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        at(self.0.load(Ordering::SeqCst))
    }
}

pub(super) fn decode(bytes: &[u8]) -> std::result::Result<Event, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// The database under a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    Sqlite,
    Postgres,
}

/// What holds for one holds for the other.
pub(super) const BOTH: [On; 2] = [On::Sqlite, On::Postgres];

/// Where a store lies, gone with the test.
pub(super) enum Home {
    Folder(TempDir),
    Database(Database),
}

/// A store of its own.
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<TestClock>,
    environment: Environment,
    pub(super) home: Home,
    ids: Mutex<u128>,
}

impl On {
    /// A new store. The name of the database goes before what a failing test says.
    pub(super) async fn opened(self) -> Opened {
        let home = match self {
            Self::Sqlite => return opened().await,
            Self::Postgres => Home::Database(Database::create().await),
        };
        let (clock, environment) = environment();
        Opened {
            store: home.open(&environment, Creation::Always).await.unwrap(),
            clock,
            environment,
            home,
            ids: Mutex::new(0),
        }
    }
}

impl Home {
    pub(super) async fn open(&self, environment: &Environment, creation: Creation) -> Result<Arc<dyn Store>> {
        match self {
            Self::Folder(folder) => {
                let mut options = StoreOptions::new(decode);
                options.creation = creation;
                open_sqlite(&path_in(folder.path()), options, environment.clone()).await
            }
            Self::Database(database) => {
                let mut options = PostgresOptions::for_test(&database.url(), environment, decode);
                options.creation = creation;
                open_postgres(options, environment.clone()).await
            }
        }
    }
}

pub(super) fn path_in(folder: &Path) -> PathBuf {
    folder.join("keyfall.db")
}

pub(super) fn environment() -> (Arc<TestClock>, Environment) {
    let clock = Arc::new(TestClock(AtomicI64::new(0)));
    let environment = Environment::new(
        Arc::clone(&clock) as Arc<dyn Clock>,
        Arc::new(ring::rand::SystemRandom::new()),
    );
    (clock, environment)
}

pub(super) async fn open_at(path: &Path, options: StoreOptions) -> Result<Arc<dyn Store>> {
    open_sqlite(path, options, environment().1).await
}

pub(super) async fn reopen(path: &Path) -> Result<Arc<dyn Store>> {
    let mut options = StoreOptions::new(decode);
    options.creation = Creation::Never;
    open_at(path, options).await
}

pub(super) async fn opened() -> Opened {
    opened_with(StoreOptions::new(decode)).await
}

pub(super) async fn opened_with(options: StoreOptions) -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let (clock, environment) = environment();
    let store = open_sqlite(&path_in(folder.path()), options, environment.clone())
        .await
        .unwrap();
    Opened {
        store,
        clock,
        environment,
        home: Home::Folder(folder),
        ids: Mutex::new(0),
    }
}

impl Opened {
    /// The file of a store that lies in one.
    pub(super) fn path(&self) -> PathBuf {
        path_in(self.folder())
    }

    pub(super) fn folder(&self) -> &Path {
        match &self.home {
            Home::Folder(folder) => folder.path(),
            Home::Database(_) => panic!("this store lies in no folder"),
        }
    }

    /// Ends the store, and keeps its folder.
    pub(super) fn into_folder(self) -> TempDir {
        match self.home {
            Home::Folder(folder) => folder,
            Home::Database(_) => panic!("this store lies in no folder"),
        }
    }

    pub(super) fn database(&self) -> &Database {
        match &self.home {
            Home::Folder(_) => panic!("this store lies in no database"),
            Home::Database(database) => database,
        }
    }

    /// The same store as another node has it open.
    pub(super) async fn beside(&self) -> Arc<dyn Store> {
        self.home.open(&self.environment, Creation::Never).await.unwrap()
    }

    /// The same store, opened by another process after this one ended.
    pub(super) async fn opened_again(self) -> Self {
        self.store.close().await.unwrap();
        let Self {
            store,
            clock,
            environment,
            home,
            ids,
        } = self;
        drop(store);
        Self {
            store: home.open(&environment, Creation::Never).await.unwrap(),
            clock,
            environment,
            home,
            ids,
        }
    }

    pub(super) fn set_clock(&self, seconds: i64) {
        self.clock.0.store(seconds, Ordering::SeqCst);
    }

    pub(super) fn uuid(&self) -> Uuid {
        let mut ids = self.ids.lock().unwrap();
        *ids += 1;
        Uuid::from_u128(*ids)
    }

    pub(super) async fn put(&self, facts: Vec<Fact>) {
        let committed = self.try_put(facts).await.unwrap();
        assert!(matches!(committed, Committed::Stored), "{committed:?}");
    }

    pub(super) async fn try_put(&self, facts: Vec<Fact>) -> Result<Committed> {
        self.store
            .commit(Commit {
                facts,
                ..Commit::default()
            })
            .await
    }

    /// An identity with nothing else.
    pub(super) async fn identity(&self, name: &str) -> Identity {
        let one = identity(IdentityId::from_uuid(self.uuid()), name);
        self.put(vec![Fact::Identity(one.clone())]).await;
        one
    }

    /// An open run of a new identity, awake since `wake`, with its first event.
    pub(super) async fn run(&self, name: &str, wake: i64) -> RunRow {
        let identity = self.identity(name).await;
        let row = run_row(RunId::from_uuid(self.uuid()), &identity, wake);
        let opened = opening(&row);
        let committed = self
            .store
            .commit(Commit {
                guards: vec![Guard::NoOpenRun { identity: identity.id }],
                facts: vec![Fact::RunOpened(row.clone())],
                log: vec![entry(&row, &opened)],
            })
            .await;
        assert!(matches!(committed, Ok(Committed::Stored)), "{committed:?}");
        row
    }

    pub(super) async fn claim(&self, node: &str, seconds: i64, limit: u32) -> Vec<RunId> {
        self.set_clock(seconds);
        let lease = SignedDuration::from_secs(30);
        let claimed = self.store.claim_runs(node, lease, limit).await.unwrap();
        claimed.iter().map(|one| one.row.id).collect()
    }
}

pub(super) fn identity(id: IdentityId, name: &str) -> Identity {
    let spec = json!({
        "kind": "database_user", "system": "orders-db", "environment": "prod", "owner": "team-orders",
        "expires": "2027-01-01T00:00:00Z", "account": name,
    });
    Identity {
        id,
        name: name.to_owned(),
        version: 1,
        labels: BTreeMap::from([("tier".to_owned(), "1".to_owned())]),
        spec: serde_json::from_value(spec).unwrap(),
        state: IdentityState::Active,
        current: None,
        due: None,
        is_control: false,
        approved: None,
        created_at: at(0),
    }
}

pub(super) fn due(identity: &Identity, seconds: i64) -> Fact {
    Fact::IdentityDue {
        id: identity.id,
        due: Some((at(seconds), DueReason::MaxAge)),
    }
}

pub(super) fn credential(id: u128, identity: IdentityId) -> Credential {
    Credential {
        id: CredentialId::from_uuid(Uuid::from_u128(id)),
        identity,
        principal: PrincipalRef {
            name: format!("account_{id}"),
            immutable_id: None,
        },
        key_id: None,
        secret: None,
        state: CredentialState::Intended,
        created_at: at(0),
        proven_at: None,
        expires_at: None,
    }
}

pub(super) fn secret(id: u128, bytes: &[u8]) -> SecretRow {
    SecretRow {
        id: SecretId::from_uuid(Uuid::from_u128(id)),
        name: None,
        kind: "password".to_owned(),
        version: 1,
        endpoint_digest: Digest::of(b"endpoint"),
        algorithm: "aes-256-gcm".to_owned(),
        kek_id: "kek-1".to_owned(),
        wrapped_key: bytes.to_vec(),
        wrap_nonce: vec![1; 12],
        nonce: vec![2; 12],
        ciphertext: bytes.repeat(3),
        created_at: at(0),
        destroy_at: None,
        destroyed_at: None,
    }
}

pub(super) fn run_row(id: RunId, identity: &Identity, wake: i64) -> RunRow {
    RunRow {
        id,
        kind: RunKind::Rotate,
        identity: identity.id,
        identity_name: identity.name.clone(),
        system_name: identity.spec.system.clone(),
        status: "open".to_owned(),
        step: Some("precheck".to_owned()),
        next_seq: 1,
        epoch: 0,
        node: None,
        lease_until: None,
        wake_at: Some(at(wake)),
        opened_at: at(wake),
        closed_at: None,
        workflow: 1,
    }
}

pub(super) fn opening(row: &RunRow) -> Event {
    Event {
        seq: 0,
        at: at(0),
        epoch: 0,
        body: EventBody::Opened {
            plan: Box::new(plan(row)),
        },
    }
}

pub(super) fn entry(row: &RunRow, event: &Event) -> LogEntry {
    LogEntry {
        run: Some((row.id, event.seq)),
        at: event.at,
        bytes: serde_json::to_vec(event).unwrap(),
    }
}

/// An entry that is no event of a run.
pub(super) fn note(text: &str) -> LogEntry {
    LogEntry {
        run: None,
        at: at(0),
        bytes: text.as_bytes().to_vec(),
    }
}

pub(super) fn cancel_requested(seq: u32) -> Event {
    Event {
        seq,
        at: at(1),
        epoch: 1,
        body: EventBody::CancelRequested {
            by: Actor::Engine,
            reason: "a test".to_owned(),
        },
    }
}

pub(super) fn progress(row: &RunRow, next_seq: u32, status: &str, release: bool) -> Fact {
    Fact::RunProgress {
        run: row.id,
        status: status.to_owned(),
        step: Some("precheck"),
        next_seq,
        wake_at: row.wake_at,
        release,
    }
}

pub(super) fn approval() -> Approval {
    Approval {
        plan: PlanId::from_uuid(Uuid::from_u128(9)),
        plan_digest: Digest::of(b"plan"),
        requester: PersonId::from_uuid(Uuid::from_u128(77)),
        approvers: Vec::new(),
        standing: true,
        solo: false,
    }
}

fn plan(row: &RunRow) -> RunPlan {
    RunPlan {
        run: row.id,
        workflow_version: 1,
        kind: row.kind,
        identity: row.identity,
        identity_name: row.identity_name.clone(),
        from: None,
        owner: "team-orders".to_owned(),
        environment: "prod".to_owned(),
        system: ResourceId::from_uuid(Uuid::from_u128(1)),
        system_name: row.system_name.clone(),
        connector: "demo".to_owned(),
        endpoint_digest: Digest::of(b"endpoint"),
        trigger: Trigger::Schedule,
        reason: DueReason::MaxAge,
        due_at: None,
        initiator: Actor::Engine,
        approval: approval(),
        policy: None,
        strategy: Strategy::AlternatingAccounts,
        access: serde_json::Value::Null,
        new: None,
        old: Vec::new(),
        accounts: Vec::new(),
        deliveries: Vec::new(),
        consumers: Vec::new(),
        timing: Timing {
            overlap: SignedDuration::ZERO,
            uptake_interval: SignedDuration::ZERO,
            uptake_timeout: SignedDuration::ZERO,
            listen: SignedDuration::ZERO,
            keep_dead_secret: SignedDuration::ZERO,
            objective: SignedDuration::ZERO,
            opened_at: at(0),
        },
        proof: ProofTerms {
            vantages: Vec::new(),
            refusals: 1,
            interval: SignedDuration::ZERO,
            settling: SignedDuration::ZERO,
            settling_source: "test".to_owned(),
            give_up_after: SignedDuration::ZERO,
        },
        exception: None,
    }
}
