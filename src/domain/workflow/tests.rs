//! The fold and the decisions, on plans made by hand: what follows, what does not, what is taken back, and how a run ends.

mod by_hand;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{ErrorKind, Issued, KeyId, Placement, PrincipalRef, Revoked, SessionsEnded, Strategy};
use uuid::Uuid;

use super::event::Death;
use super::{
    ConsumerPlan, Decision, Event, EventBody, NewCredential, OldCredential, Outcome, Path, RegisterChange, Run,
    RunKind, RunPlan, Step, StepError, StepOutput, Then, Timing, Trigger, after_failure, decide, forward_steps,
    register_changes,
};
use crate::domain::actor::{Actor, Approval};
use crate::domain::digest::Digest;
use crate::domain::due::DueReason;
use crate::domain::identity::CredentialState;
use crate::domain::ids::{CredentialId, IdentityId, PersonId, PlanId, ResourceId, RunId, SecretId};
use crate::domain::proof::{ProofTerms, Standing, judge};

fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn principal(name: &str) -> PrincipalRef {
    PrincipalRef {
        name: name.to_owned(),
        immutable_id: Some(format!("id-{name}")),
    }
}

fn timing() -> Timing {
    Timing {
        overlap: SignedDuration::ZERO,
        uptake_interval: SignedDuration::from_secs(1),
        uptake_timeout: SignedDuration::from_secs(60),
        listen: SignedDuration::ZERO,
        keep_dead_secret: SignedDuration::from_secs(5),
        objective: SignedDuration::from_mins(15),
        opened_at: at(0),
    }
}

fn terms() -> ProofTerms {
    ProofTerms {
        vantages: vec!["one".to_owned()],
        refusals: 1,
        interval: SignedDuration::ZERO,
        settling: SignedDuration::ZERO,
        settling_source: "test".to_owned(),
        give_up_after: SignedDuration::from_secs(60),
    }
}

fn plan(kind: RunKind, strategy: Strategy) -> RunPlan {
    let new = NewCredential {
        id: CredentialId::from_uuid(uuid(20)),
        secret: SecretId::from_uuid(uuid(21)),
        principal: principal("app_b"),
        placement: Placement::Replace,
    };
    let old = OldCredential {
        id: CredentialId::from_uuid(uuid(10)),
        secret: Some(SecretId::from_uuid(uuid(11))),
        principal: principal("app_a"),
        key_id: Some(KeyId("old".to_owned())),
        issued: true,
    };
    let issues = matches!(kind, RunKind::Provision | RunKind::Rotate | RunKind::EmergencyRotate);
    RunPlan {
        run: RunId::from_uuid(uuid(1)),
        workflow_version: 1,
        kind,
        identity: IdentityId::from_uuid(uuid(2)),
        identity_name: "app".to_owned(),
        owner: "team".to_owned(),
        environment: "test".to_owned(),
        system: ResourceId::from_uuid(uuid(3)),
        system_name: "db".to_owned(),
        connector: "demo".to_owned(),
        endpoint_digest: Digest([0; 32]),
        trigger: Trigger::Schedule,
        reason: DueReason::MaxAge,
        initiator: Actor::Engine,
        approval: Approval {
            plan: PlanId::from_uuid(uuid(4)),
            plan_digest: Digest([1; 32]),
            requester: PersonId::from_uuid(uuid(5)),
            approvers: Vec::new(),
            standing: true,
            solo: false,
        },
        strategy,
        access: serde_json::Value::Null,
        new: issues.then_some(new),
        old: if kind == RunKind::Provision {
            Vec::new()
        } else {
            vec![old]
        },
        accounts: vec![principal("app_a")],
        deliveries: Vec::new(),
        consumers: Vec::new(),
        timing: timing(),
        proof: terms(),
        exception: None,
    }
}

/// A run with the events that it was told, and what they changed in the register.
struct Told {
    run: Run,
    log: Vec<Event>,
    changes: Vec<RegisterChange>,
}

impl Told {
    fn open(plan: RunPlan) -> Self {
        let event = Event {
            seq: 0,
            at: at(0),
            epoch: 1,
            body: EventBody::Opened { plan: Box::new(plan) },
        };
        let run = Run::open(&event).unwrap();
        let changes = register_changes(&run, &event);
        Self {
            run,
            log: vec![event],
            changes,
        }
    }

    fn tell(&mut self, body: EventBody) -> Result<(), super::IllegalEvent> {
        let seq = self.run.next_seq();
        let event = Event {
            seq,
            at: at(i64::from(seq)),
            epoch: 1,
            body,
        };
        self.run.apply(&event)?;
        self.changes.extend(register_changes(&self.run, &event));
        self.log.push(event);
        Ok(())
    }

    fn start(&mut self, step: Step) {
        let body = EventBody::Started {
            step,
            attempt: 1,
            deadline: at(99),
            intent: serde_json::Value::Null,
        };
        self.tell(body).unwrap();
    }

    fn succeed(&mut self, step: Step) {
        if step.has_effect() {
            self.start(step);
        }
        let output = self.output(step);
        self.tell(EventBody::Succeeded { step, output }).unwrap();
    }

    fn output(&self, step: Step) -> StepOutput {
        match step {
            Step::IssueNew => StepOutput::Issued {
                issued: Issued {
                    principal: principal("app_b"),
                    key_id: KeyId("new".to_owned()),
                    created_principal: true,
                },
            },
            Step::RevokeOld | Step::RevokeNew => StepOutput::Revoked {
                outcomes: BTreeMap::from([(CredentialId::from_uuid(uuid(10)), Revoked::Revoked)]),
            },
            Step::EndSessions | Step::EndNewSessions => StepOutput::SessionsEnded {
                ended: SessionsEnded { ended: 0, left: 0 },
            },
            Step::ProveDead | Step::ProveNewDead => StepOutput::Proofs {
                deaths: BTreeMap::from([(
                    CredentialId::from_uuid(uuid(10)),
                    Death::Unprovable {
                        best: None,
                        why: "nobody looked".to_owned(),
                    },
                )]),
            },
            _ => StepOutput::Nothing,
        }
    }

    /// Steps until the next one is `step`.
    fn until(&mut self, step: Step) {
        while self.run.step() != Some(step) {
            let next = self.run.step().unwrap();
            self.succeed(next);
        }
    }

    fn states(&self, id: u128) -> Vec<&'static str> {
        let of = |change: &RegisterChange| match change {
            RegisterChange::CredentialState { id: of, to } if *of == CredentialId::from_uuid(uuid(id)) => {
                Some(to.name())
            }
            _ => None,
        };
        self.changes.iter().filter_map(of).collect()
    }
}

#[test]
fn every_kind_of_run_ends_when_every_step_succeeds_and_its_log_replays_to_the_same_run() {
    for kind in RunKind::ALL {
        for strategy in [Strategy::AlternatingAccounts, Strategy::DualSlot, Strategy::InPlace] {
            let mut told = Told::open(plan(kind, strategy));
            while let Some(step) = told.run.step() {
                assert!(
                    matches!(decide(&told.run, at(500)), Decision::Perform { step: next, attempt: 1, observe_first: false } if next == step)
                );
                told.succeed(step);
            }
            let Decision::Close(outcome) = decide(&told.run, at(500)) else {
                panic!("{kind:?} does not close")
            };
            told.tell(EventBody::Closed {
                outcome,
                receipt_digest: None,
            })
            .unwrap();
            assert_eq!(decide(&told.run, at(500)), Decision::Finished);
            assert_eq!(Run::replay(&told.log).unwrap(), told.run, "{kind:?} {strategy:?}");
        }
    }
}

#[test]
fn an_effect_without_an_intent_does_not_follow() {
    let mut told = Told::open(plan(RunKind::Rotate, Strategy::DualSlot));
    told.until(Step::IssueNew);
    let output = told.output(Step::IssueNew);
    let illegal = told
        .tell(EventBody::Succeeded {
            step: Step::IssueNew,
            output,
        })
        .unwrap_err();
    assert_eq!(illegal.event, "succeeded");
    assert!(
        told.tell(EventBody::Closed {
            outcome: Outcome::Completed,
            receipt_digest: None
        })
        .is_err()
    );
    let gap = Event {
        seq: told.run.next_seq() + 1,
        at: at(9),
        epoch: 1,
        body: EventBody::Unwinding { cause: String::new() },
    };
    assert!(told.run.apply(&gap).is_err());
}

#[test]
fn a_start_without_an_end_is_looked_at_before_it_is_repeated() {
    let mut told = Told::open(plan(RunKind::Rotate, Strategy::DualSlot));
    told.until(Step::IssueNew);
    told.start(Step::IssueNew);
    let decision = decide(&told.run, at(500));
    assert_eq!(
        decision,
        Decision::Perform {
            step: Step::IssueNew,
            attempt: 2,
            observe_first: true
        }
    );
}

#[test]
fn a_retry_by_hand_does_not_forget_that_an_effect_was_begun() {
    let mut told = Told::open(plan(RunKind::Rotate, Strategy::DualSlot));
    told.until(Step::IssueNew);
    let step = Step::IssueNew;
    told.start(step);
    let error = StepError {
        kind: ErrorKind::Ambiguous,
        message: "no answer".to_owned(),
        code: None,
    };
    let then = Then::RetryAt { at: at(400) };
    told.tell(EventBody::Failed { step, error, then }).unwrap();
    let (reason, manual_step) = ("the approval does not hold".to_owned(), String::new());
    told.tell(EventBody::NeedsOperator {
        step,
        reason,
        manual_step,
    })
    .unwrap();
    let (by, reason) = (Actor::Engine, "it does again".to_owned());
    told.tell(EventBody::Retried { by, reason }).unwrap();
    let looks_first = |run: &Run| {
        matches!(
            decide(run, at(500)),
            Decision::Perform {
                observe_first: true,
                ..
            }
        )
    };
    assert!(looks_first(&told.run));
    let until = at(450);
    told.tell(EventBody::Waiting {
        step,
        until,
        why: String::new(),
    })
    .unwrap();
    assert!(looks_first(&told.run));
}

#[test]
fn before_the_point_of_no_return_a_run_is_taken_back_and_behind_it_only_goes_forward() {
    let error = StepError {
        kind: ErrorKind::Denied,
        message: "no".to_owned(),
        code: None,
    };
    for strategy in [Strategy::AlternatingAccounts, Strategy::DualSlot] {
        let mut told = Told::open(plan(RunKind::Rotate, strategy));
        told.until(Step::RevokeOld);
        assert_eq!(after_failure(&told.run, &error, 0.5, at(9)), Then::Unwind);
        told.start(Step::RevokeOld);
        assert_eq!(after_failure(&told.run, &error, 0.5, at(9)), Then::AskOperator);
        assert!(
            told.tell(EventBody::Unwinding {
                cause: "late".to_owned()
            })
            .is_err()
        );
        let by = Actor::Engine;
        assert!(
            told.tell(EventBody::CancelRequested {
                by,
                reason: "late".to_owned()
            })
            .is_err()
        );
    }
    let mut in_place = Told::open(plan(RunKind::Rotate, Strategy::InPlace));
    in_place.until(Step::IssueNew);
    in_place.start(Step::IssueNew);
    assert_eq!(after_failure(&in_place.run, &error, 0.5, at(9)), Then::AskOperator);
}

#[test]
fn taking_back_after_the_promotion_moves_the_pointer_back_before_the_new_credential_goes() {
    let mut told = Told::open(plan(RunKind::Rotate, Strategy::AlternatingAccounts));
    told.until(Step::RevokeOld);
    let by = Actor::Engine;
    told.tell(EventBody::CancelRequested {
        by,
        reason: "changed my mind".to_owned(),
    })
    .unwrap();
    let Decision::Unwind { cause } = decide(&told.run, at(9)) else {
        panic!("not taken back")
    };
    told.tell(EventBody::Unwinding { cause }).unwrap();
    assert_eq!(told.run.path(), Path::Unwinding);
    assert_eq!(
        told.run.steps(),
        [
            Step::RevokeNew,
            Step::EndNewSessions,
            Step::ProveNewDead,
            Step::DeleteNewAccount
        ]
    );
    assert_eq!(told.states(10), ["superseded", "active"]);
    let back = RegisterChange::IdentityCurrent {
        id: IdentityId::from_uuid(uuid(2)),
        credential: Some(CredentialId::from_uuid(uuid(10))),
    };
    assert!(told.changes.contains(&back));
}

#[test]
fn what_was_intended_and_never_begun_has_nothing_to_kill() {
    let mut told = Told::open(plan(RunKind::Rotate, Strategy::DualSlot));
    told.tell(EventBody::Unwinding {
        cause: "the account is not ours".to_owned(),
    })
    .unwrap();
    assert!(told.run.steps().is_empty());
    let Decision::Close(outcome) = decide(&told.run, at(9)) else {
        panic!("does not close")
    };
    assert_eq!(outcome.name(), "unwound");
    told.tell(EventBody::Closed {
        outcome,
        receipt_digest: None,
    })
    .unwrap();
    assert_eq!(told.states(20), ["never_issued"]);
}

#[test]
fn an_unknown_death_never_reads_as_completed() {
    let mut told = Told::open(plan(RunKind::Rotate, Strategy::DualSlot));
    while let Some(step) = told.run.step() {
        told.succeed(step);
    }
    assert!(matches!(
        decide(&told.run, at(9)),
        Decision::Close(Outcome::Unprovable { .. })
    ));
}

#[test]
fn retries_back_off_with_full_jitter_and_end() {
    let mut told = Told::open(plan(RunKind::Rotate, Strategy::DualSlot));
    let error = StepError {
        kind: ErrorKind::Transient,
        message: "busy".to_owned(),
        code: None,
    };
    let mut delays = Vec::new();
    loop {
        let then = after_failure(&told.run, &error, 1.0, at(0));
        assert_eq!(
            after_failure(&told.run, &error, 0.0, at(0)) == Then::Unwind,
            then == Then::Unwind
        );
        let Then::RetryAt { at: again } = then else { break };
        delays.push(again.duration_since(at(0)).as_millis());
        told.tell(EventBody::Failed {
            step: Step::Precheck,
            error: error.clone(),
            then,
        })
        .unwrap();
    }
    assert_eq!(delays, [400, 800, 1600, 3200, 6400]);
    let limited = StepError {
        kind: ErrorKind::RateLimited { after_ms: 7000 },
        ..error
    };
    let fresh = Told::open(plan(RunKind::Rotate, Strategy::DualSlot));
    assert_eq!(
        after_failure(&fresh.run, &limited, 0.0, at(0)),
        Then::RetryAt { at: at(7) }
    );
}

#[test]
fn a_rotation_in_place_revokes_by_issuing() {
    let mut told = Told::open(plan(RunKind::Rotate, Strategy::InPlace));
    assert!(!forward_steps(told.run.plan()).contains(&Step::RevokeOld));
    told.until(Step::ProveNew);
    assert_eq!(told.states(10), ["revoking", "revoked"]);
    let progress = told.run.progress(CredentialId::from_uuid(uuid(10))).unwrap();
    assert!(progress.revoked_at.is_some());
    // Never accepted before the revocation: no refusal afterwards can prove anything.
    let standing = judge(&told.run.plan().proof, progress, at(1));
    assert!(matches!(standing, Standing::Unprovable { .. }));
}

#[test]
fn dead_is_not_to_be_had_without_a_proof() {
    let revoked = CredentialState::Revoked { settling_until: at(0) };
    assert!(CredentialState::Active.to(revoked.clone()).is_err());
    assert!(CredentialState::Intended.to(CredentialState::Active).is_err());
    assert!(revoked.may_be_live());
    assert!(
        CredentialState::Unprovable {
            best: None,
            why: String::new()
        }
        .may_be_live()
    );
}
