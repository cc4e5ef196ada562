//! Real steps against the demo provider, whose truth is the oracle. The driver here is the domain's own `decide` and fold with the clock in
//! the test's hand: a stored wait costs no time.

mod answers;
mod by_hand;
mod deaths;
mod driven;
mod faults;
mod guards;
mod hasten;
mod held;
mod lives;
mod lost;
mod outage;
mod patience;
mod pivot;
mod plans;
mod restarts;
mod second;
mod strangers;
mod taking_over;
mod twice;
mod whole;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyfall_connectors::demo;
use keyfall_sdk::{KeyId, PrincipalRef, SecretShape, SecretValue, ServerGrants, Strategy, Vantage, VantageRole};
use serde_json::json;
use uuid::Uuid;

use super::super::controls::{ControlCredential, LiveControls};
use super::super::lease::Hold;
use super::super::report::{PerformSteps, StepReport};
use super::super::secrets::OpenSecrets;
use super::super::systems::{Catalog, Systems};
use super::{StepSettings, Steps};
use crate::clock::{Clock, Environment};
use crate::domain::actor::Actor;
use crate::domain::digest::Digest;
use crate::domain::ids::{CredentialId, IdentityId, SecretId};
use crate::domain::resource::SystemManifest;
use crate::domain::workflow::{Decision, EventBody, Outcome, Run, RunKind, RunPlan, Step, StuckBecause, decide};
use crate::evidence::receipt::{ReceiptBody, proof_holds};
use crate::sealing::SecretGenerator;
use crate::store::Fact;
pub(super) use driven::Driven;
use held::{HeldClock, HeldControl, OneSystem, Secrets};
pub(super) use plans::fresh;

pub(super) const VANTAGES: [&str; 2] = ["primary", "replica"];
const CONTROL: &str = "keyfall_control";

static NUMBER: AtomicU64 = AtomicU64::new(1);

fn number() -> u64 {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

fn uuid() -> Uuid {
    Uuid::from_u128(u128::from(number()))
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
    pub(super) controls: Arc<HeldControl>,
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
        let env = Environment::new(Arc::clone(&clock) as _, Arc::new(ring::rand::SystemRandom::new()));
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
        let controls = Arc::new(HeldControl::default());
        let bench = Self {
            steps: Steps::new(
                Arc::new(systems),
                Arc::clone(&secrets) as Arc<dyn OpenSecrets>,
                Arc::clone(&controls) as Arc<dyn LiveControls>,
                Arc::new(restarts::NothingRecorded),
                env,
                settings,
            ),
            provider: demo::provider(&name),
            slot: format!("slot-{name}"),
            strategy,
            clock,
            secrets,
            catalog,
            endpoints,
            controls,
            identity: IdentityId::from_uuid(uuid()),
        };
        let secret = bench.draw();
        let account = bench.provider.plant_account(CONTROL, &bench.secret(secret), &[]);
        bench.controls.hold(Some(ControlCredential {
            principal: PrincipalRef {
                name: CONTROL.to_owned(),
                immutable_id: Some(account.immutable_id),
            },
            secret,
        }));
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

    /// Takes a run to its end, or to where a person is needed. `interfere` is asked before each step.
    pub(super) async fn drive_with(&self, plan: RunPlan, mut interfere: impl FnMut(&Run, Step)) -> Driven {
        let mut driven = self.open(plan);
        self.go(&mut driven, &mut |run, step| {
            interfere(run, step);
            Turn::Go
        })
        .await;
        driven
    }

    pub(super) async fn drive(&self, plan: RunPlan) -> Driven {
        self.drive_with(plan, |_, _| {}).await
    }

    /// Stops right before a step is begun.
    pub(super) async fn drive_until(&self, plan: RunPlan, stop_before: Step) -> Driven {
        let mut driven = self.open(plan);
        self.go(&mut driven, &mut |_, step| {
            if step == stop_before { Turn::Stop } else { Turn::Go }
        })
        .await;
        driven
    }

    pub(super) async fn finish(&self, driven: &mut Driven) {
        self.go(driven, &mut |_, _| Turn::Go).await;
    }

    /// A person cancels the run, and it is taken back.
    pub(super) async fn take_back(&self, driven: &mut Driven, why: &str) {
        let (by, reason) = (Actor::Engine, why.to_owned());
        driven.push(self.now(), EventBody::CancelRequested { by, reason });
        self.finish(driven).await;
        assert!(
            matches!(driven.outcome(), Some(Outcome::Unwound { .. })),
            "{}",
            driven.text()
        );
    }

    pub(super) fn open(&self, plan: RunPlan) -> Driven {
        Driven::open(self.now(), EventBody::Opened { plan: Box::new(plan) })
    }

    pub(super) async fn go(&self, driven: &mut Driven, turn: &mut dyn FnMut(&Run, Step) -> Turn) {
        for _ in 0..2_000 {
            match decide(&driven.run, self.now()) {
                Decision::Perform {
                    step,
                    attempt,
                    observe_first,
                } => match turn(&driven.run, step) {
                    Turn::Stop => return self.steps.let_go(driven.run.id()),
                    Turn::Go => self.one(driven, step, attempt, observe_first).await,
                    Turn::Crash => self.crash(driven, step, attempt, observe_first).await,
                    Turn::Unwind => driven.push(
                        self.now(),
                        EventBody::Unwinding {
                            cause: "told to".to_owned(),
                        },
                    ),
                },
                Decision::WaitUntil(until) => {
                    self.steps.let_go(driven.run.id());
                    self.advance(until.duration_since(self.now()));
                }
                Decision::Unwind { cause } => driven.push(self.now(), EventBody::Unwinding { cause }),
                Decision::Close(outcome) => self.close(driven, outcome),
                Decision::Stuck | Decision::Finished => return self.steps.let_go(driven.run.id()),
            }
        }
        panic!("the run does not end: {:?}", driven.names());
    }

    /// The receipt of every run that closes must hold by the rule that verifiers apply.
    fn close(&self, driven: &mut Driven, outcome: Outcome) {
        let at = self.now();
        let closing = self.steps.closing(&driven.run, &outcome, at);
        if let [Fact::Receipt(row)] = closing.facts.as_slice() {
            let body: ReceiptBody = serde_json::from_slice(&row.body).unwrap();
            assert_eq!(proof_holds(&body), Ok(()), "{}", driven.text());
            assert_eq!(closing.receipt_digest, Some(ReceiptBody::digest_of(&row.body)));
            driven.receipt = Some(body);
        }
        let receipt_digest = closing.receipt_digest;
        driven.push(
            at,
            EventBody::Closed {
                outcome,
                receipt_digest,
            },
        );
    }

    fn begin(&self, driven: &mut Driven, step: Step, attempt: u32) {
        if step.has_effect() {
            let intent = self.steps.intent(&driven.run, step);
            let deadline = self.now();
            let started = EventBody::Started {
                step,
                attempt,
                deadline,
                intent,
            };
            driven.push(self.now(), started);
        }
    }

    pub(super) async fn one(&self, driven: &mut Driven, step: Step, attempt: u32, observe_first: bool) {
        if driven.run.is_before_pivot()
            && let Some(end) = self.steps.obstacle(&driven.run, step).await
        {
            let observations = Vec::new();
            driven.take(self.now(), step, StepReport { observations, end });
            return;
        }
        self.begin(driven, step, attempt);
        let report = self
            .steps
            .perform(&driven.run, step, attempt, observe_first, Hold::of_no_run())
            .await;
        driven.take(self.now(), step, report);
        self.advance(SignedDuration::from_millis(1));
    }

    /// The process dies between the effect and its record.
    async fn crash(&self, driven: &mut Driven, step: Step, attempt: u32, observe_first: bool) {
        self.begin(driven, step, attempt);
        self.steps
            .perform(&driven.run, step, attempt, observe_first, Hold::of_no_run())
            .await;
        self.steps.let_go(driven.run.id());
        self.advance(SignedDuration::from_millis(1));
    }

    pub(super) async fn provision(&self, account: &str) -> Live {
        let driven = self
            .drive(self.plan(RunKind::Provision, &[], Some(fresh(account))))
            .await;
        assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{:?}", driven.events);
        driven.new_live()
    }

    /// A person declares a step done.
    pub(super) fn resume_by_hand(&self, driven: &mut Driven, step: Step) {
        let stuck = EventBody::NeedsOperator {
            step,
            seen: Vec::new(),
            reason: "test".to_owned(),
            manual_step: "test".to_owned(),
            because: StuckBecause::Drift,
        };
        driven.push(self.now(), stuck);
        let resumed = EventBody::Resumed {
            by: Actor::Engine,
            reason: "test".to_owned(),
        };
        driven.push(self.now(), resumed);
    }

    pub(super) fn accepted(&self, live: &Live) -> bool {
        let secret = self.secret(live.secret);
        VANTAGES
            .iter()
            .any(|vantage| self.provider.accepts(&live.principal.name, &secret, vantage))
    }
}

/// What the test lets happen at a step.
pub(super) enum Turn {
    Go,
    Stop,
    /// Done, and never recorded.
    Crash,
    /// Taken back from here.
    Unwind,
}
