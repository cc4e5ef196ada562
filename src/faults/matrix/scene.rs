//! One identity with what there is of it before a run begins, and the run: what an application would have planned and people approved. What lives
//! downstream is put there through the connector itself, without an engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use keyfall_sdk::{CallContext, DeliverCall, IssueCall, Issued, Placement, PrincipalRef, SecretValue};
use serde_json::json;

use super::bench::{Bench, DESTINATION, POLICY, SYSTEM};
use crate::domain::actor::{Actor, Approval, Approver};
use crate::domain::digest::Digest;
use crate::domain::due::DueReason;
use crate::domain::identity::{Credential, CredentialState, Identity, IdentityState};
use crate::domain::ids::{CredentialId, IdentityId, PersonId, PlanId, RunId, SecretId};
use crate::domain::planner::{Drawn, Lives, Registered, RunRequest, account_names, plan_run};
use crate::domain::resource::{Kind, Spec};
use crate::domain::workflow::{RunKind, RunPlan, Trigger};
use crate::engine::opening;
use crate::engine::report::PrepareRuns;
use crate::engine::systems::{StoredCatalog, Systems};
use crate::faults::oracle::{Slate, Truth};
use crate::store::{Commit, Fact};

/// The identity of one cell and the run that is to be disturbed.
pub(crate) struct Scene {
    pub(crate) identity: IdentityId,
    pub(crate) plan: RunPlan,
    pub(crate) truth: Arc<dyn Truth>,
    pub(crate) before: Slate,
    opening: Commit,
}

impl Scene {
    pub(crate) async fn set(bench: &Bench, kind: RunKind) -> Self {
        let account = bench.name();
        let truth = bench.truth(&account);
        let credential = prepare(bench, kind, &account).await;
        truth.settled().await;
        let identity = bench.store.identity_named(&account).await.unwrap().unwrap();
        let before = Slate::read(&*bench.store, &*truth, identity.id, POLICY).await;
        let plan = plan(bench, kind, &identity, credential).await;
        let prepare = bench.preparation(&bench.store, &systems(bench));
        let secret = plan.new.is_some().then(|| prepare.seal_new(&plan).unwrap());
        Self {
            identity: identity.id,
            opening: opening(plan.clone(), secret).unwrap(),
            plan,
            truth,
            before,
        }
    }

    pub(crate) async fn open(&self, bench: &Bench) {
        bench.commit(self.opening.clone()).await;
    }
}

fn systems(bench: &Bench) -> Arc<Systems> {
    let catalog = Arc::new(StoredCatalog(Arc::clone(&bench.store)));
    let grants = super::flavour::Flavour::grants(&bench.out);
    Arc::new(Systems::new(
        keyfall_connectors::registry(),
        grants,
        catalog,
        Arc::new(bench.secrets()),
    ))
}

/// What stands there before the run; the credential that a revocation is about.
async fn prepare(bench: &Bench, kind: RunKind, account: &str) -> Option<CredentialId> {
    let mut identity = identity(bench, account);
    match kind {
        RunKind::Provision => {
            identity.state = IdentityState::Requested;
            bench.put(vec![Fact::Identity(identity)]).await;
            None
        }
        RunKind::Rotate | RunKind::EmergencyRotate | RunKind::Decommission => {
            let live = bench.plant(&identity, Slot::First, CredentialState::Active).await;
            register(bench, identity, vec![live]).await;
            None
        }
        RunKind::Revoke => {
            let mut old = bench.plant(&identity, Slot::First, CredentialState::Active).await;
            let current = bench.plant(&identity, Slot::Second, CredentialState::Active).await;
            old.0.state = CredentialState::Superseded {
                successor: current.0.id,
                overlap_ends: bench.env.now(),
            };
            let id = old.0.id;
            register(bench, identity, vec![old, current]).await;
            Some(id)
        }
        RunKind::Adopt | RunKind::TakeOver => {
            let (credential, secret) = bench.plant(&identity, Slot::First, CredentialState::Foreign).await;
            identity.state = IdentityState::Discovered;
            identity.spec.deliver_to.clear();
            identity.spec.consumers.clear();
            let is_given = kind == RunKind::TakeOver;
            let found = Credential {
                principal: PrincipalRef {
                    immutable_id: None,
                    ..credential.principal
                },
                key_id: None,
                secret: credential.secret.filter(|_| is_given),
                proven_at: None,
                ..credential
            };
            let mut facts: Vec<Fact> = secret.into_iter().filter(|_| is_given).map(Fact::Secret).collect();
            facts.extend([Fact::Identity(identity), Fact::Credential(found)]);
            bench.put(facts).await;
            None
        }
    }
}

type Planted = (Credential, Option<crate::store::SecretRow>);

/// The last of them is the current one, and its secret is delivered.
async fn register(bench: &Bench, mut identity: Identity, planted: Vec<Planted>) {
    let mut facts = Vec::new();
    identity.current = planted.last().map(|(credential, _)| credential.id);
    let mut credentials = Vec::new();
    for (credential, secret) in planted {
        facts.extend(secret.map(Fact::Secret));
        credentials.push(Fact::Credential(credential));
    }
    facts.push(Fact::Identity(identity));
    facts.extend(credentials);
    bench.put(facts).await;
}

fn identity(bench: &Bench, account: &str) -> Identity {
    let flavour = bench.flavour;
    let spec = json!({
        "kind": "service_account", "system": SYSTEM, "environment": "test", "owner": "team", "expires": "2099-01-01T00:00:00Z",
        "account": account, "strategy": flavour.strategy(), "access": flavour.access(),
        "deliverTo": [{ "destination": DESTINATION, "target": flavour.target(account) }],
        "consumers": [{ "name": "app", "seenBy": "acknowledgement" }],
    });
    Identity {
        id: IdentityId::from_uuid(bench.env.draw_uuid()),
        name: account.to_owned(),
        version: 1,
        labels: BTreeMap::new(),
        spec: serde_json::from_value(spec).unwrap(),
        state: IdentityState::Active,
        current: None,
        due: None,
        is_control: false,
        approved: None,
        created_at: bench.env.now(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    First,
    Second,
}

impl Bench {
    /// A live credential: issued and, unless somebody else's, delivered and taken up by its consumer.
    async fn plant(&self, identity: &Identity, slot: Slot, state: CredentialState) -> Planted {
        let names = account_names(&identity.spec.account, self.flavour.strategy());
        let name = match slot {
            Slot::First => names.first(),
            Slot::Second => names.last(),
        };
        let (secret, row) = self.draw_secret();
        let is_beside = slot == Slot::Second && names.len() == 1;
        let issued = self.issue(name.unwrap(), &secret, is_beside).await;
        let id = CredentialId::from_uuid(self.env.draw_uuid());
        if state == CredentialState::Active {
            self.deliver(&identity.spec.account, &secret, &id.to_string()).await;
        }
        let credential = Credential {
            id,
            identity: identity.id,
            principal: issued.principal,
            key_id: Some(issued.key_id),
            secret: Some(row.id),
            state,
            created_at: self.env.now(),
            proven_at: Some(self.env.now()),
            expires_at: None,
        };
        (credential, Some(row))
    }

    async fn issue(&self, name: &str, secret: &SecretValue, is_beside: bool) -> Issued {
        let immutable_id = match is_beside {
            true => {
                let inventory = self.connector.inventory().unwrap();
                let principal = PrincipalRef {
                    name: name.to_owned(),
                    immutable_id: None,
                };
                let reading = inventory.read(&context(), &principal).await.unwrap();
                reading.states().next().map(|state| state.immutable_id.clone())
            }
            false => None,
        };
        let call = IssueCall {
            principal: PrincipalRef {
                name: name.to_owned(),
                immutable_id,
            },
            secret: secret.clone(),
            placement: Placement::Alongside,
            replaces: Vec::new(),
            marker: "planted".to_owned(),
            access: self.flavour.access(),
        };
        self.connector.issue().unwrap().issue(&context(), &call).await.unwrap()
    }

    async fn deliver(&self, account: &str, secret: &SecretValue, version: &str) {
        let call = DeliverCall {
            target: self.flavour.target(account),
            secret: secret.clone(),
            fields: [("username".to_owned(), account.to_owned())].into(),
            version: version.to_owned(),
        };
        self.destination
            .deliver()
            .unwrap()
            .deliver(&context(), &call)
            .await
            .unwrap();
        self.take_up(account, version);
    }

    /// The consumer says which version it uses. That of the demo destination does by itself.
    pub(crate) fn take_up(&self, account: &str, version: &str) {
        if !self.flavour.is_demo() {
            std::fs::write(self.out.join(format!("{account}.acks")), format!("app {version}\n")).unwrap();
        }
    }

    /// Keyfall's own powerless account, the positive control of whatever has no other.
    pub(super) async fn plant_control(&self) {
        let account = format!("{}_control", self.name());
        let (secret, row) = self.draw_secret();
        let issued = self.issue(&account, &secret, false).await;
        let id = CredentialId::from_uuid(self.env.draw_uuid());
        let mut control = identity(self, &account);
        control.is_control = true;
        control.current = Some(id);
        control.spec.deliver_to.clear();
        control.spec.consumers.clear();
        let credential = Credential {
            id,
            identity: control.id,
            principal: issued.principal,
            key_id: Some(issued.key_id),
            secret: Some(row.id),
            state: CredentialState::Active,
            created_at: self.env.now(),
            proven_at: Some(self.env.now()),
            expires_at: None,
        };
        register(self, control, vec![(credential, Some(row))]).await;
    }
}

fn context() -> CallContext {
    CallContext {
        run: "planting".to_owned(),
        step: "planting".to_owned(),
        attempt: 1,
        idempotency_key: "planting".to_owned(),
        time_left: Duration::from_secs(20),
    }
}

async fn plan(bench: &Bench, kind: RunKind, identity: &Identity, credential: Option<CredentialId>) -> RunPlan {
    let system = bench.system().await;
    let prepare = bench.preparation(&bench.store, &systems(bench));
    let facts = prepare.connector_facts(&system).await.unwrap();
    let policies = bench.store.resource(Kind::Policy, POLICY).await.unwrap().unwrap();
    let Spec::Policy(policy) = &policies.spec else {
        panic!("{policies:?}")
    };
    let destinations = bench.store.resources(Kind::Destination).await.unwrap();
    let destinations = destinations.into_iter().filter_map(|one| match one.spec {
        Spec::Destination(spec) => Some((one.name, (one.id, spec))),
        _ => None,
    });
    let registered = Registered {
        identity,
        system_id: system.id,
        system: &bench.manifest,
        policy: Some((POLICY, policy)),
        destinations: &destinations.collect(),
        credentials: &bench.store.credentials_in_play(identity.id).await.unwrap(),
        connector: &facts,
        lives: &Lives::new(),
    };
    let drawn = Drawn {
        run: RunId::from_uuid(bench.env.draw_uuid()),
        credential: CredentialId::from_uuid(bench.env.draw_uuid()),
        secret: SecretId::from_uuid(bench.env.draw_uuid()),
        now: bench.env.now(),
    };
    let mut plan = plan_run(&registered, request(bench, kind, credential), drawn).unwrap();
    // Narrower than any policy could say: the cells are not about time.
    plan.proof.settling = SignedDuration::from_millis(10);
    plan
}

fn request(bench: &Bench, kind: RunKind, credential: Option<CredentialId>) -> RunRequest {
    let person = |number| PersonId::from_uuid(uuid::Uuid::from_u128(number));
    let (alice, bob) = (person(1), person(2));
    let tomorrow = bench.env.now() + SignedDuration::from_hours(24);
    RunRequest {
        kind,
        trigger: match kind {
            RunKind::EmergencyRotate => Trigger::BreakGlass,
            _ => Trigger::Request,
        },
        reason: DueReason::Requested,
        initiator: Actor::Person {
            id: alice,
            name: "alice".to_owned(),
        },
        approval: Approval {
            plan: PlanId::from_uuid(bench.env.draw_uuid()),
            plan_digest: Digest::of(b"matrix"),
            requester: alice,
            approvers: vec![Approver {
                person: bob,
                name: "bob".to_owned(),
                public_key: "matrix".to_owned(),
                expires_at_micros: tomorrow.as_microsecond(),
                signature: "matrix".to_owned(),
            }],
            standing: false,
            solo: false,
        },
        credential,
        exception: None,
    }
}
