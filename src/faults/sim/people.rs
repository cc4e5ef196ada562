//! The people: Ada asks, Bo signs, and both look after runs that need a person. They do what is sensible, through the use cases that
//! everybody has, and what they may not do they are told.

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use keyfall_sdk::ServerGrants;

use super::dice::Dice;
use super::life::Life;
use super::network::Network;
use super::nodes::{Site, keyring};
use super::remote::kinds;
use super::witness::Witness;
use crate::app::manifest::ManifestFile;
use crate::app::{
    App, AppError, AppParts, AppSettings, Asked, Caller, PlanView, Role, RotateAsk, Signed, first_people,
};
use crate::clock::Environment;
use crate::domain::ids::{PlanId, RunId};
use crate::domain::workflow::{Run, RunStatus};
use crate::engine::clocks::TOLERANCE;
use crate::engine::freeze::FREEZE;
use crate::engine::prepare::{KnownSignatures, Preparation};
use crate::engine::secrets::StoredSecrets;
use crate::engine::systems::{StoredCatalog, Systems};
use crate::evidence::approval::{ApprovalStatement, Decision};
use crate::evidence::keys::{SigningKey, VerifierKey};
use crate::evidence::receipt::VerifierKeys;
use crate::store::{Commit, Page, RunFilter, RunRow, Store};

/// The name of the log.
const ORIGIN: &str = "sim";

/// Keys that are the same in every process: what is signed with them is a part of what a seed decides.
static KEYS: LazyLock<BTreeMap<&'static str, Arc<SigningKey>>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let names = ["ada", "bo", "server"];
    let keys = names.iter().zip(1_u8..).map(|(name, number)| {
        // PKCS #8, version 1, around 32 bytes (RFC 8410, 7).
        let mut der = vec![
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
        ];
        der.extend([number; 32]);
        let path = folder.path().join(name);
        let text = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der)
        );
        let mut file = std::fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        (*name, Arc::new(SigningKey::load(&path, Some(name)).unwrap()))
    });
    keys.collect()
});

pub(super) fn verifier_keys() -> VerifierKeys {
    VerifierKeys {
        origin: ORIGIN.to_owned(),
        server: vec![KEYS["server"].verifier().clone()],
        approvers: None,
    }
}

pub(super) struct People {
    pub(super) app: App,
    store: Arc<dyn Store>,
    env: Environment,
    ada: Caller,
    bo: Caller,
    /// How often each run was looked after.
    looked_after: BTreeMap<RunId, u32>,
    /// Runs that went on because a person said that something was done by hand.
    pub(super) by_hand: Vec<RunId>,
}

impl People {
    /// Enrols both, and opens the desk at which they work: it has no engine, and its line never fails.
    pub(super) async fn enrolled(site: &Site, env: Environment) -> Self {
        let public: Vec<(String, VerifierKey)> = ["ada", "bo"]
            .map(|name| (name.to_owned(), KEYS[name].verifier().clone()))
            .to_vec();
        let (facts, _) = first_people(&env, &public).unwrap();
        let commit = Commit {
            facts,
            ..Commit::default()
        };
        site.direct.commit(commit).await.unwrap();
        let people = site.direct.people().await.unwrap();
        let caller = |name: &str| {
            let person = people.iter().find(|one| one.name == name).unwrap();
            Caller {
                person: person.id,
                roles: person.roles.iter().filter_map(|role| Role::named(role)).collect(),
                name: person.name.clone(),
            }
        };
        Self {
            app: desk(site, &env),
            store: Arc::clone(&site.direct),
            ada: caller("ada"),
            bo: caller("bo"),
            env,
            looked_after: BTreeMap::new(),
            by_hand: Vec::new(),
        }
    }

    pub(super) fn ada(&self) -> &Caller {
        &self.ada
    }

    pub(super) async fn approve(&self, plan: &PlanView) -> Result<PlanView, AppError> {
        let id: PlanId = plan.id.parse().unwrap();
        let row = self.store.plan(id).await?.unwrap();
        let expires = self.env.now() + SignedDuration::from_hours(1);
        let statement = ApprovalStatement {
            plan_id: plan.id.clone(),
            plan_digest: row.digest.0,
            decision: Decision::Approve,
            expires_at_micros: expires.as_microsecond(),
        };
        let signed = Signed {
            signature: statement.sign(&KEYS["bo"]),
            expires_at_micros: expires.as_microsecond(),
            reason: String::new(),
        };
        self.app.approve(&self.bo, &plan.id, signed).await
    }

    /// Ada asks for what the manifests say, and Bo signs.
    pub(super) async fn apply(&self, text: String) {
        let name = "sim.yaml".to_owned();
        let plan = self
            .app
            .plan_manifests(&self.ada, String::new(), vec![ManifestFile { name, text }])
            .await
            .unwrap();
        self.approve(&plan).await.unwrap();
    }

    pub(super) async fn rotate(&self, identity: &str, emergency: bool) -> Result<(), AppError> {
        let ask = RotateAsk {
            reason: "somebody asked".to_owned(),
            emergency,
            exception: None,
        };
        match self.app.rotate(&self.ada, identity, ask).await? {
            Asked::Run(_) => Ok(()),
            Asked::Plan(plan) => self.approve(&plan).await.map(drop),
        }
    }

    pub(super) async fn decommission(&self, identity: &str) -> Result<(), AppError> {
        let why = "not needed any more".to_owned();
        let plan = self.app.decommission(&self.ada, identity, why).await?;
        self.approve(&plan).await.map(drop)
    }

    /// Ends the first credential of the identity that may be ended by itself.
    pub(super) async fn revoke_some(&self, identity: &str) -> Result<(), AppError> {
        let Some(row) = self.store.identity_named(identity).await? else {
            return Ok(());
        };
        for credential in self.store.credentials_in_play(row.id).await? {
            if Some(credential.id) == row.current {
                continue;
            }
            let id = credential.id.to_string();
            let why = "left over".to_owned();
            if let Ok(plan) = self.app.revoke(&self.ada, identity, &id, why).await {
                return self.approve(&plan).await.map(drop);
            }
        }
        Ok(())
    }

    pub(super) async fn lift_freeze(&self) -> Result<(), AppError> {
        if self.store.setting(FREEZE).await?.is_none() {
            return Ok(());
        }
        let plan = self.app.unfreeze(&self.ada, "it is over".to_owned()).await?;
        self.approve(&plan).await.map(drop)
    }

    pub(super) async fn is_at_rest(&self) -> bool {
        self.open_rows(None).await.is_empty()
    }

    async fn open_rows(&self, status: Option<&str>) -> Vec<RunRow> {
        let filter = RunFilter {
            open_only: true,
            status: status.map(str::to_owned),
            ..RunFilter::default()
        };
        self.store.runs(&filter, Page::first(100)).await.unwrap()
    }

    pub(super) async fn open_runs(&self) -> Vec<Run> {
        self.folded(self.open_rows(None).await).await
    }

    async fn folded(&self, rows: Vec<RunRow>) -> Vec<Run> {
        let mut runs = Vec::new();
        for row in rows {
            let stored = self.store.run(row.id).await.unwrap().unwrap();
            runs.push(Run::replay(&stored.events).unwrap());
        }
        runs
    }

    /// Deletes what a run asks about because no record knows it: what bears the run's own mark, and what its question names.
    async fn clean_up_behind(&self, site: &Site, run: &Run, question: &str) {
        let provider = &site.truth.providers[&run.plan().system_name];
        let recorded = self.store.credentials_of(run.plan().identity).await.unwrap();
        let named: Vec<&str> = question.split([' ', ',', ';', ':', ')', '(']).collect();
        for account in provider.accounts() {
            for key in account.live_keys() {
                let is_meant = key.marker == run.id().to_string() || named.contains(&key.id.0.as_str());
                if !is_meant || recorded.iter().any(|one| one.key_id.as_ref() == Some(&key.id)) {
                    continue;
                }
                provider.take_key(&account.name, &key.id);
                site.truth
                    .note(|| format!("{} of {} is deleted by hand", key.id.0, account.name));
            }
        }
    }

    /// Sees to every run that waits for a person: tries again, takes it back, or does by hand what is asked for and says so.
    pub(super) async fn look_after_runs(&mut self, site: &Site) {
        let stuck = self.open_rows(Some("needs_operator")).await;
        for run in self.folded(stuck).await {
            let RunStatus::NeedsOperator { reason, .. } = run.status() else {
                continue;
            };
            let times = self.looked_after.entry(run.id()).or_default();
            *times += 1;
            let times = *times;
            let id = run.id().to_string();
            let why = format!("for the {times}. time");
            self.clean_up_behind(site, &run, reason).await;
            let did = match times % 4 {
                3 if run.may_be_cancelled() => self.app.cancel(&self.ada, &id, why).await.map(|_| "cancelled"),
                0 if times > 8 && run.refusal_to_resume(&self.bo.actor()).is_none() => {
                    self.by_hand.push(run.id());
                    self.app.resume(&self.bo, &id, why).await.map(|_| "resumed")
                }
                _ => self.app.retry(&self.ada, &id, why).await.map(|_| "retried"),
            };
            site.truth.note(|| format!("{id} at {:?}: {did:?}", run.step()));
        }
    }
}

fn desk(site: &Site, env: &Environment) -> App {
    let life = Arc::new(Life::new(Dice::new(site.seed, 50)));
    let witness = Arc::new(Witness::new(
        "desk",
        Arc::clone(&site.direct),
        Arc::clone(&site.truth),
        env.clone(),
    ));
    let network = Arc::new(Network::new(
        life,
        Arc::clone(&site.truth),
        witness,
        Dice::new(site.seed, 51),
    ));
    let kinds = kinds(&network);
    let keys = keyring();
    let store = Arc::clone(&site.direct);
    let secrets = Arc::new(StoredSecrets::new(Arc::clone(&store), Arc::clone(&keys)));
    let catalog = Arc::new(StoredCatalog(Arc::clone(&store)));
    let grants = ServerGrants::default();
    let systems = Arc::new(Systems::new(kinds.clone(), grants.clone(), catalog, secrets));
    let prepare = Arc::new(Preparation {
        store: Arc::clone(&store),
        systems: Arc::clone(&systems),
        keys: Arc::clone(&keys),
        env: env.clone(),
        signatures: KnownSignatures::default(),
    });
    App::new(AppParts {
        store,
        env: env.clone(),
        bell: Arc::clone(&site.bells) as _,
        keys,
        signing: Arc::clone(&KEYS["server"]),
        kinds,
        systems,
        prepare,
        settings: AppSettings {
            node: "desk".to_owned(),
            origin: ORIGIN.to_owned(),
            backup_directory: std::path::PathBuf::new(),
            grants,
            clock_tolerance: TOLERANCE,
            believed_for: SignedDuration::from_secs(20),
        },
    })
}
