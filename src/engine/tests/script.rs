//! Steps that do what the test says, on a downstream that remembers what is live. Repeating an effect changes nothing, as with a real one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{
    BoxFuture, Confirmation, ErrorKind, KeyId, PlaceReading, PrincipalReading, PrincipalState, PrincipalStatus,
    Revoked, SessionsEnded,
};

use super::answers::{failed, issued, overlap, round, tried};
use crate::clock::Environment;
use crate::domain::ids::CredentialId;
use crate::domain::proof::{Standing, judge};
use crate::domain::workflow::{Death, EventBody, Observation, Outcome, Run, RunPlan, Step, StepOutput, StuckBecause};
use crate::engine::lease::Hold;
use crate::engine::report::{Closing, PerformSteps, StepEnd, StepReport};
use crate::store::Store;

/// What the test asks of one attempt at a step.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Fail(ErrorKind),
    /// The effect happens, and its answer is lost.
    LoseAnswer,
    Panic,
    /// A consumer does not come.
    Person,
    /// Nothing happens downstream, and this is what the attempt says of it.
    Report(StepReport),
}

/// One call of a step, as it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Called {
    pub(crate) step: Step,
    pub(crate) observe_first: bool,
}

#[derive(Default, Clone)]
struct Downstream {
    live: BTreeSet<CredentialId>,
    /// What was ever made live by a step.
    issued: BTreeSet<CredentialId>,
    called: Vec<Called>,
    asked: BTreeMap<&'static str, VecDeque<Ask>>,
    violations: Vec<String>,
    approval: Option<String>,
    obstacle: Option<String>,
    /// On the account, by somebody else's hand.
    foreign: Vec<KeyId>,
    /// When the account ends by itself.
    ends_at: Option<Timestamp>,
    /// Nobody answers who asks for the account while nothing runs.
    is_silent: bool,
}

/// Steps that come to rest inside of their call until their gate is opened.
type Gates = tokio::sync::watch::Sender<BTreeSet<&'static str>>;

pub(crate) struct Script {
    pub(super) env: Environment,
    /// Where the intent is looked for when an effect arrives.
    pub(super) store: Arc<dyn Store>,
    downstream: Mutex<Downstream>,
    closed_gates: Gates,
}

impl Script {
    pub(crate) fn new(env: Environment, store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            env,
            store,
            downstream: Mutex::default(),
            closed_gates: Gates::new(BTreeSet::new()),
        })
    }

    /// The same downstream, seen by the next process, which opened the store again.
    pub(crate) fn moved_to(&self, store: Arc<dyn Store>) -> Arc<Self> {
        let moved = Self::new(self.env.clone(), store);
        *moved.downstream.lock().unwrap() = self.downstream.lock().unwrap().clone();
        moved
    }

    pub(crate) fn close_gate(&self, step: Step) {
        self.closed_gates.send_modify(|gates| _ = gates.insert(step.name()));
    }

    pub(crate) fn open_gate(&self, step: Step) {
        self.closed_gates.send_modify(|gates| _ = gates.remove(step.name()));
    }

    pub(crate) fn has_called(&self, step: Step) -> bool {
        self.called().iter().any(|one| one.step == step)
    }

    pub(crate) fn ask(&self, step: Step, ask: Ask) {
        let mut downstream = self.downstream.lock().unwrap();
        downstream.asked.entry(step.name()).or_default().push_back(ask);
    }

    pub(crate) fn is_live(&self, id: CredentialId) -> bool {
        self.downstream.lock().unwrap().live.contains(&id)
    }

    pub(crate) fn live(&self) -> BTreeSet<CredentialId> {
        self.downstream.lock().unwrap().live.clone()
    }

    pub(crate) fn make_live(&self, id: CredentialId) {
        self.downstream.lock().unwrap().live.insert(id);
    }

    pub(crate) fn be_silent(&self, is_silent: bool) {
        self.downstream.lock().unwrap().is_silent = is_silent;
    }

    pub(super) fn is_silent(&self) -> bool {
        self.downstream.lock().unwrap().is_silent
    }

    /// By somebody else's hand.
    pub(crate) fn take_away(&self, id: CredentialId) {
        self.downstream.lock().unwrap().live.remove(&id);
    }

    pub(crate) fn called(&self) -> Vec<Called> {
        self.downstream.lock().unwrap().called.clone()
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.downstream.lock().unwrap().violations.clone()
    }

    /// What the account shows besides what the runs made.
    pub(crate) fn plant(&self, keys: &[&str]) {
        let keys = keys.iter().map(|key| KeyId((*key).to_owned()));
        self.downstream.lock().unwrap().foreign = keys.collect();
    }

    /// The account with these credentials and what somebody else put on it.
    pub(super) fn shown(&self, mut key_ids: Vec<KeyId>) -> PrincipalReading {
        key_ids.extend(self.downstream.lock().unwrap().foreign.iter().cloned());
        let state = PrincipalState {
            name: "app".to_owned(),
            immutable_id: "1".to_owned(),
            status: PrincipalStatus::Enabled,
            key_ids,
            grants: Vec::new(),
            privileged: false,
            sessions: None,
            expires_at: self.downstream.lock().unwrap().ends_at.map(Timestamp::as_microsecond),
        };
        PrincipalReading {
            places: vec![PlaceReading {
                vantage: "primary".to_owned(),
                state: Some(state),
            }],
        }
    }

    /// From here on the account ends by itself at this instant.
    pub(crate) fn end_account_at(&self, at: Timestamp) {
        self.downstream.lock().unwrap().ends_at = Some(at);
    }

    /// From here on approvals do not hold, for this reason.
    pub(crate) fn refuse_approvals(&self, why: &str) {
        self.downstream.lock().unwrap().approval = Some(why.to_owned());
    }

    /// Why approvals do not hold.
    pub(super) fn refused_approvals(&self) -> Option<String> {
        self.downstream.lock().unwrap().approval.clone()
    }

    /// From here on this stands before the point of no return.
    pub(crate) fn stand_in_the_way(&self, what: &str) {
        self.downstream.lock().unwrap().obstacle = Some(what.to_owned());
    }

    /// P1: the last event that is durable when an effect arrives is its intent.
    async fn check_intent(&self, run: &Run, step: Step) {
        // A disk that cannot be read says nothing about what is on it.
        let Ok(stored) = self.store.run(run.id()).await else {
            return;
        };
        let stored = stored.unwrap();
        let last = stored.events.last().map(|event| &event.body);
        if !matches!(last, Some(EventBody::Started { step: intended, .. }) if *intended == step) {
            let violation = format!("{} arrived and the last durable event was {last:?}", step.name());
            self.downstream.lock().unwrap().violations.push(violation);
        }
    }

    fn effect(&self, run: &Run, step: Step) {
        let mut downstream = self.downstream.lock().unwrap();
        let new = run.plan().new.as_ref().map(|new| new.id);
        match step {
            Step::IssueNew => {
                downstream.live.extend(new);
                downstream.issued.extend(new);
            }
            Step::RevokeNew => {
                if let Some(new) = new {
                    downstream.live.remove(&new);
                }
            }
            Step::RevokeOld => {
                for old in &run.plan().old {
                    downstream.live.remove(&old.id);
                }
            }
            _ => {}
        }
    }

    fn was_ever_live(&self, plan: &RunPlan) -> bool {
        let downstream = self.downstream.lock().unwrap();
        plan.new.as_ref().is_some_and(|new| downstream.issued.contains(&new.id))
    }

    fn report(&self, run: &Run, step: Step) -> StepReport {
        let now = self.env.now();
        let plan = run.plan();
        match step {
            Step::Baseline => plan
                .old
                .iter()
                .fold(StepReport::done(StepOutput::Nothing), |report, old| {
                    report.seeing(tried(old.id))
                }),
            Step::ProveNew => plan
                .new
                .iter()
                .fold(StepReport::done(StepOutput::Nothing), |report, new| {
                    report.seeing(tried(new.id))
                }),
            Step::IssueNew => StepReport::done(StepOutput::Issued { issued: issued(plan) }),
            Step::Deliver => StepReport::done(StepOutput::Delivered {
                version: "1".to_owned(),
                places: vec!["place".to_owned()],
                confirmed: Confirmation::Matches,
            }),
            Step::RevokeOld => StepReport::done(StepOutput::Revoked {
                outcomes: plan.old.iter().map(|old| (old.id, Revoked::Revoked)).collect(),
            }),
            Step::AwaitOverlap => StepReport {
                observations: Vec::new(),
                end: overlap(run, now),
            },
            Step::RevokeNew if !self.was_ever_live(plan) => StepReport::done(StepOutput::NeverIssued),
            Step::ProveNewDead if run.was_never_issued() => StepReport::done(StepOutput::Nothing),
            Step::RevokeNew => StepReport::done(StepOutput::Revoked {
                outcomes: plan.new.iter().map(|new| (new.id, Revoked::Revoked)).collect(),
            }),
            Step::EndSessions | Step::EndNewSessions => StepReport::done(StepOutput::SessionsEnded {
                ended: SessionsEnded { ended: 1, left: 0 },
            }),
            Step::ProveDead => self.deaths(run, plan.old.iter().map(|old| old.id).collect(), now),
            Step::ProveNewDead => self.deaths(run, plan.new.iter().map(|new| new.id).collect(), now),
            Step::ReadBack => StepReport::done(StepOutput::Read {
                reading: self.shown(vec![issued(plan).key_id]),
            }),
            _ => StepReport::done(StepOutput::Nothing),
        }
    }

    fn deaths(&self, run: &Run, ids: Vec<CredentialId>, now: Timestamp) -> StepReport {
        let mut report = StepReport::done(StepOutput::Nothing);
        let mut deaths = BTreeMap::new();
        for id in ids {
            let mut progress = run.progress(id).cloned().unwrap_or_default();
            let round = round(self.is_live(id), now);
            progress.rounds.push(round.clone());
            report = report.seeing(Observation::ProbeRound { credential: id, round });
            let death = match judge(&run.plan().proof, &progress, now) {
                Standing::Proven(proof) => Death::Proven {
                    proven_at: proof.proven_at(),
                },
                Standing::Alive { since } => Death::Alive { since },
                Standing::Unprovable { best, why } => Death::Unprovable { best, why },
                Standing::Probe { at } => {
                    report.end = StepEnd::Wait {
                        until: at,
                        why: "settling".to_owned(),
                    };
                    return report;
                }
            };
            deaths.insert(id, death);
        }
        report.end = StepEnd::Done(StepOutput::Proofs { deaths });
        report
    }
}

impl PerformSteps for Script {
    fn intent(&self, _run: &Run, step: Step) -> serde_json::Value {
        serde_json::json!({ "step": step.name() })
    }

    fn obstacle<'a>(&'a self, _run: &'a Run, _step: Step) -> BoxFuture<'a, Option<StepEnd>> {
        let obstacle = self.downstream.lock().unwrap().obstacle.clone();
        Box::pin(async move {
            obstacle.map(|reason| StepEnd::AskOperator {
                reason,
                manual_step: "cancel this run".to_owned(),
                because: StuckBecause::Drift,
            })
        })
    }

    fn perform<'a>(
        &'a self,
        run: &'a Run,
        step: Step,
        _attempt: u32,
        observe_first: bool,
        hold: Hold,
    ) -> BoxFuture<'a, StepReport> {
        Box::pin(async move {
            if step.has_effect() {
                self.check_intent(run, step).await;
            }
            let ask = {
                let mut downstream = self.downstream.lock().unwrap();
                downstream.called.push(Called { step, observe_first });
                downstream.asked.get_mut(step.name()).and_then(VecDeque::pop_front)
            };
            let mut gates = self.closed_gates.subscribe();
            gates.wait_for(|gates| !gates.contains(step.name())).await.unwrap();
            // As the guard around a connector does, right before something is sent.
            if !hold.stands() {
                return failed(ErrorKind::Transient);
            }
            match ask {
                None => {
                    self.effect(run, step);
                    self.report(run, step)
                }
                Some(Ask::Fail(kind)) => failed(kind),
                Some(Ask::LoseAnswer) => {
                    self.effect(run, step);
                    failed(ErrorKind::Ambiguous)
                }
                Some(Ask::Report(report)) => report,
                Some(Ask::Panic) => panic!("as the test asked"),
                Some(Ask::Person) => StepReport {
                    observations: Vec::new(),
                    end: StepEnd::AskOperator {
                        reason: "shop has not switched".to_owned(),
                        manual_step: "restart shop".to_owned(),
                        because: StuckBecause::Consumer,
                    },
                },
            }
        })
    }

    fn time_limit(&self, _run: &Run, _step: Step) -> SignedDuration {
        SignedDuration::from_secs(5)
    }

    fn must_record_at_once(&self, _run: &Run, _step: Step) -> bool {
        false
    }

    fn closing(&self, _run: &Run, _outcome: &Outcome, _at: Timestamp) -> Closing {
        Closing::default()
    }
}
