//! Real steps against the demo provider, whose truth is the oracle. The driver here is the domain's own `decide` and fold with the clock in
//! the test's hand: a stored wait costs no time.

mod deaths;
mod faults;
mod lives;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyfall_connectors::demo;
use keyfall_sdk::{
    BoxFuture, KeyId, Placement, PrincipalRef, SecretShape, SecretValue, ServerGrants, Strategy, Vantage, VantageRole,
};
use serde_json::json;
use uuid::Uuid;

use super::super::report::{PerformSteps, StepEnd, StepReport};
use super::super::secrets::{OpenSecrets, SecretError};
use super::super::systems::{Catalog, Systems};
use super::{StepSettings, Steps};
use crate::clock::{Clock, Environment};
use crate::domain::actor::{Actor, Approval};
use crate::domain::digest::Digest;
use crate::domain::due::DueReason;
use crate::domain::ids::{CredentialId, IdentityId, PersonId, PlanId, ResourceId, RunId, SecretId};
use crate::domain::proof::ProofTerms;
use crate::domain::resource::{SeenBy, SystemManifest};
use crate::domain::workflow::{
    ConsumerPlan, ControlCredential, Decision, DeliveryPlan, Event, EventBody, NewCredential, OldCredential, Outcome,
    Run, RunKind, RunPlan, RunStatus, Step, Then, Timing, Trigger, after_failure, decide,
};
use crate::sealing::SecretGenerator;
use crate::store::StoreError;

pub(super) const VANTAGES: [&str; 2] = ["primary", "replica"];
const CONTROL: &str = "keyfall_control";

static NUMBER: AtomicU64 = AtomicU64::new(1);

fn number() -> u64 {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

fn uuid() -> Uuid {
    Uuid::from_u128(u128::from(number()))
}

struct HeldClock(AtomicI64);

impl Clock for HeldClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

#[derive(Default)]
struct Secrets(Mutex<BTreeMap<SecretId, (SecretValue, Digest)>>);

impl OpenSecrets for Secrets {
    fn open(&self, id: SecretId, endpoints: Digest) -> BoxFuture<'_, Result<SecretValue, SecretError>> {
        Box::pin(async move {
            let secrets = self.0.lock().unwrap();
            let (secret, sealed_for) = secrets.get(&id).ok_or(SecretError::Missing(id))?;
            if *sealed_for != endpoints {
                return Err(SecretError::OtherEndpoints { id });
            }
            Ok(secret.clone())
        })
    }

    fn open_named<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretValue, SecretError>> {
        Box::pin(async move { Err(SecretError::Unnamed(name.to_owned())) })
    }
}

struct OneSystem(Mutex<(u32, SystemManifest)>);

impl Catalog for OneSystem {
    fn system<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<Option<(u32, SystemManifest)>, StoreError>> {
        Box::pin(async move { Ok(Some(self.0.lock().unwrap().clone())) })
    }
}

/// A credential as the test's own register remembers it.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) id: CredentialId,
    pub(super) secret: SecretId,
    pub(super) principal: PrincipalRef,
    pub(super) key_id: KeyId,
}

/// One demo system with its own provider, one destination slot, one clock.
pub(super) struct Bench {
    pub(super) steps: Steps,
    pub(super) provider: Arc<demo::Provider>,
    pub(super) slot: String,
    pub(super) strategy: Strategy,
    clock: Arc<HeldClock>,
    secrets: Arc<Secrets>,
    catalog: Arc<OneSystem>,
    endpoints: Digest,
    control: Option<ControlCredential>,
    identity: IdentityId,
}

impl Bench {
    pub(super) async fn new(strategy: Strategy, options: serde_json::Value) -> Self {
        let name = format!("steps-{}", number());
        let mut all = json!({ "provider": name, "strategy": strategy });
        for (key, value) in options.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        let manifest: SystemManifest = serde_json::from_value(json!({
            "environment": "test", "owner": "team", "connector": "demo", "options": all,
            "vantages": VANTAGES.map(|name| Vantage {
                name: name.to_owned(), role: VantageRole::Control, host: "localhost".to_owned(), port: 1,
            }),
        }))
        .unwrap();
        let endpoints = manifest.endpoint_digest().unwrap();
        let secrets = Arc::new(Secrets::default());
        let catalog = Arc::new(OneSystem(Mutex::new((1, manifest))));
        let clock = Arc::new(HeldClock(AtomicI64::new(1_700_000_000_000_000)));
        let random = Arc::new(ring::rand::SystemRandom::new());
        let env = Environment::new(Arc::clone(&clock) as Arc<dyn Clock>, random);
        let systems = Systems::new(
            keyfall_connectors::registry(),
            ServerGrants::default(),
            Arc::clone(&catalog) as Arc<dyn Catalog>,
            Arc::clone(&secrets) as Arc<dyn OpenSecrets>,
        );
        let settings = StepSettings {
            call_time: Duration::from_millis(300),
            ..StepSettings::default()
        };
        let opener = Arc::clone(&secrets) as Arc<dyn OpenSecrets>;
        let mut bench = Self {
            steps: Steps::new(Arc::new(systems), opener, env, settings),
            provider: demo::provider(&name),
            slot: format!("slot-{name}"),
            strategy,
            clock,
            secrets,
            catalog,
            endpoints,
            control: None,
            identity: IdentityId::from_uuid(uuid()),
        };
        let secret = bench.draw();
        let account = bench.provider.plant_account(CONTROL, &bench.secret(secret), &[]);
        bench.control = Some(ControlCredential {
            principal: PrincipalRef {
                name: CONTROL.to_owned(),
                immutable_id: Some(account.immutable_id),
            },
            secret,
        });
        bench
    }

    pub(super) fn draw(&self) -> SecretId {
        let generator = SecretGenerator::new(SecretShape::STRONG).unwrap();
        let secret = generator.draw(&ring::rand::SystemRandom::new()).unwrap();
        let id = SecretId::from_uuid(uuid());
        self.secrets.0.lock().unwrap().insert(id, (secret, self.endpoints));
        id
    }

    pub(super) fn secret(&self, id: SecretId) -> SecretValue {
        self.secrets.0.lock().unwrap()[&id].0.clone()
    }

    pub(super) fn forget_secret(&self, id: SecretId) {
        self.secrets.0.lock().unwrap().remove(&id);
    }

    pub(super) fn change_manifest(&self, change: impl FnOnce(&mut SystemManifest)) {
        let mut held = self.catalog.0.lock().unwrap();
        held.0 += 1;
        change(&mut held.1);
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn advance(&self, by: SignedDuration) {
        if by.is_positive() {
            let micros = i64::try_from(by.as_micros()).unwrap();
            self.clock.0.fetch_add(micros, Ordering::SeqCst);
            self.provider.advance(Duration::try_from(by).unwrap());
        }
    }

    pub(super) fn plan(&self, kind: RunKind, old: &[Live], account: Option<PrincipalRef>) -> RunPlan {
        let slot = json!({ "slot": self.slot });
        let placement = match self.strategy {
            Strategy::InPlace => Placement::Replace,
            _ => Placement::Alongside,
        };
        let delivers = !matches!(kind, RunKind::Revoke | RunKind::Adopt | RunKind::TakeOver);
        RunPlan {
            run: RunId::from_uuid(uuid()),
            workflow_version: 1,
            kind,
            identity: self.identity,
            identity_name: "app".to_owned(),
            owner: "team".to_owned(),
            environment: "test".to_owned(),
            system: ResourceId::from_uuid(Uuid::from_u128(1)),
            system_name: "demo".to_owned(),
            connector: "demo".to_owned(),
            endpoint_digest: self.endpoints,
            trigger: Trigger::Request,
            reason: DueReason::Requested,
            initiator: Actor::Engine,
            approval: Approval {
                plan: PlanId::from_uuid(Uuid::from_u128(1)),
                plan_digest: Digest::of(b"plan"),
                requester: PersonId::from_uuid(Uuid::from_u128(77)),
                approvers: Vec::new(),
                standing: true,
                solo: false,
            },
            strategy: self.strategy,
            access: json!({ "grants": ["read"] }),
            new: account.map(|principal| NewCredential {
                id: CredentialId::from_uuid(uuid()),
                secret: self.draw(),
                principal,
                placement,
            }),
            old: old.iter().map(old_credential).collect(),
            accounts: old.iter().map(|live| live.principal.clone()).collect(),
            control: self.control.clone(),
            deliveries: Vec::from_iter(delivers.then(|| DeliveryPlan {
                destination: ResourceId::from_uuid(Uuid::from_u128(2)),
                destination_name: "place".to_owned(),
                connector: "demo-destination".to_owned(),
                target: slot,
                fields: BTreeMap::new(),
            })),
            consumers: Vec::from_iter(
                matches!(kind, RunKind::Provision | RunKind::Rotate).then(|| ConsumerPlan {
                    name: format!("consumer-of-{}", self.slot),
                    seen_by: SeenBy::Acknowledgement,
                }),
            ),
            timing: Timing {
                overlap: SignedDuration::from_secs(30),
                uptake_interval: SignedDuration::from_secs(1),
                uptake_timeout: SignedDuration::from_secs(10),
                listen: SignedDuration::from_secs(8),
                keep_dead_secret: SignedDuration::from_hours(1),
                objective: SignedDuration::from_mins(15),
                opened_at: self.now(),
            },
            proof: ProofTerms {
                vantages: VANTAGES.map(str::to_owned).to_vec(),
                refusals: 3,
                interval: SignedDuration::from_secs(5),
                settling: SignedDuration::from_secs(20),
                settling_source: "test".to_owned(),
                give_up_after: SignedDuration::from_mins(5),
            },
            exception: None,
        }
    }

    /// Takes a run to its end, or to where a person is needed. `interfere` is asked before each step.
    pub(super) async fn drive_with(&self, plan: RunPlan, mut interfere: impl FnMut(&Run, Step)) -> Driven {
        let opened = EventBody::Opened { plan: Box::new(plan) };
        let mut driven = Driven::open(self.now(), opened);
        for _ in 0..2_000 {
            match decide(&driven.run, self.now()) {
                Decision::Perform {
                    step,
                    attempt,
                    observe_first,
                } => {
                    interfere(&driven.run, step);
                    self.one(&mut driven, step, attempt, observe_first).await;
                }
                Decision::WaitUntil(until) => self.advance(until.duration_since(self.now())),
                Decision::Unwind { cause } => driven.push(self.now(), EventBody::Unwinding { cause }),
                Decision::Close(outcome) => driven.push(
                    self.now(),
                    EventBody::Closed {
                        outcome,
                        receipt_digest: None,
                    },
                ),
                Decision::Stuck | Decision::Finished => return driven,
            }
        }
        panic!("the run does not end: {:?}", driven.names());
    }

    pub(super) async fn drive(&self, plan: RunPlan) -> Driven {
        self.drive_with(plan, |_, _| {}).await
    }

    async fn one(&self, driven: &mut Driven, step: Step, attempt: u32, observe_first: bool) {
        if step.has_effect() {
            let intent = self.steps.intent(&driven.run, step);
            let deadline = self.now();
            driven.push(
                self.now(),
                EventBody::Started {
                    step,
                    attempt,
                    deadline,
                    intent,
                },
            );
        }
        let report = self.steps.perform(&driven.run, step, attempt, observe_first).await;
        driven.take(self.now(), step, report);
    }

    pub(super) async fn provision(&self, account: &str) -> Live {
        let driven = self
            .drive(self.plan(RunKind::Provision, &[], Some(fresh(account))))
            .await;
        assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{:?}", driven.events);
        driven.new_live()
    }

    pub(super) fn accepted(&self, live: &Live) -> bool {
        let secret = self.secret(live.secret);
        VANTAGES
            .iter()
            .any(|vantage| self.provider.accepts(&live.principal.name, &secret, vantage))
    }
}

pub(super) fn fresh(account: &str) -> PrincipalRef {
    PrincipalRef {
        name: account.to_owned(),
        immutable_id: None,
    }
}

fn old_credential(live: &Live) -> OldCredential {
    OldCredential {
        id: live.id,
        secret: Some(live.secret),
        principal: live.principal.clone(),
        key_id: Some(live.key_id.clone()),
        issued: true,
    }
}

/// A run with its log.
pub(super) struct Driven {
    pub(super) run: Run,
    pub(super) events: Vec<Event>,
}

impl Driven {
    fn open(at: Timestamp, body: EventBody) -> Self {
        let event = Event {
            seq: 0,
            at,
            epoch: 1,
            body,
        };
        Self {
            run: Run::open(&event).unwrap(),
            events: vec![event],
        }
    }

    pub(super) fn push(&mut self, at: Timestamp, body: EventBody) {
        let event = Event {
            seq: self.run.next_seq(),
            at,
            epoch: 1,
            body,
        };
        self.run.apply(&event).unwrap();
        self.events.push(event);
    }

    fn take(&mut self, at: Timestamp, step: Step, report: StepReport) {
        for observation in report.observations {
            self.push(at, EventBody::Observed { step, observation });
        }
        match report.end {
            StepEnd::Done(output) => self.push(at, EventBody::Succeeded { step, output }),
            StepEnd::Wait { until, why } => self.push(at, EventBody::Waiting { step, until, why }),
            StepEnd::AskOperator { reason, manual_step } => self.push(
                at,
                EventBody::NeedsOperator {
                    step,
                    reason,
                    manual_step,
                },
            ),
            StepEnd::Failed(error) => {
                let then = after_failure(&self.run, &error, 1.0, at);
                let message = error.message.clone();
                self.push(at, EventBody::Failed { step, error, then });
                match then {
                    Then::RetryAt { .. } => {}
                    Then::Unwind => self.push(at, EventBody::Unwinding { cause: message }),
                    Then::AskOperator => self.push(
                        at,
                        EventBody::NeedsOperator {
                            step,
                            reason: message,
                            manual_step: "look".to_owned(),
                        },
                    ),
                }
            }
        }
    }

    pub(super) fn outcome(&self) -> Option<&Outcome> {
        match self.run.status() {
            RunStatus::Closed { outcome } => Some(outcome),
            _ => None,
        }
    }

    pub(super) fn stuck_reason(&self) -> Option<&str> {
        match self.run.status() {
            RunStatus::NeedsOperator { reason, .. } => Some(reason),
            _ => None,
        }
    }

    pub(super) fn new_live(&self) -> Live {
        let new = self.run.plan().new.as_ref().unwrap();
        let issued = self.run.issued().unwrap();
        Live {
            id: new.id,
            secret: new.secret,
            principal: issued.principal.clone(),
            key_id: issued.key_id.clone(),
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        let name = |event: &Event| serde_json::to_value(&event.body).unwrap()["event"].to_string();
        self.events.iter().map(name).collect()
    }

    /// The whole log as it would be stored.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(&self.events).unwrap()
    }
}
