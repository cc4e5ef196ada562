//! What follows from what, what is looked at again, and when a failure turns a run back.

use keyfall_sdk::{ErrorKind, Strategy};

use super::{Told, at, plan};
use crate::domain::actor::Actor;
use crate::domain::workflow::{
    Decision, Event, EventBody, Outcome, Run, RunKind, Step, StepError, StuckBecause, Then, after_failure, decide,
};

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

/// Row 34.
#[test]
fn a_run_of_another_list_of_steps_is_not_taken_on() {
    let mut plan = plan(RunKind::Rotate, Strategy::DualSlot);
    plan.workflow_version += 1;
    let opened = Event {
        seq: 0,
        at: at(0),
        epoch: 1,
        body: EventBody::Opened { plan: Box::new(plan) },
    };
    let refused = Run::replay([&opened]).unwrap_err().to_string();
    assert!(refused.contains("number 1 and not 2"), "{refused}");
}

/// Row 3.
#[test]
fn an_effect_without_an_intent_does_not_follow() {
    let mut told = Told::open(plan(RunKind::Rotate, Strategy::DualSlot));
    told.until(Step::IssueNew);
    let output = told.output(Step::IssueNew);
    let illegal = told
        .tell(EventBody::Succeeded {
            step: Step::IssueNew,
            seen: Vec::new(),
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
    told.tell(EventBody::Failed {
        step,
        seen: Vec::new(),
        error,
        then,
    })
    .unwrap();
    let (reason, manual_step) = ("the approval does not hold".to_owned(), String::new());
    told.tell(EventBody::NeedsOperator {
        step,
        seen: Vec::new(),
        reason,
        manual_step,
        because: StuckBecause::Approval,
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
        seen: Vec::new(),
        until,
        why: String::new(),
    })
    .unwrap();
    assert!(looks_first(&told.run));
}

/// Row 24.
#[test]
fn before_the_point_of_no_return_a_run_is_taken_back_and_behind_it_only_goes_forward() {
    let error = StepError {
        kind: ErrorKind::Denied,
        message: "no".to_owned(),
        code: None,
    };
    for strategy in [Strategy::AlternatingAccounts, Strategy::DualSlot] {
        let mut told = Told::open(plan(RunKind::Rotate, strategy));
        told.until(Step::Promote);
        assert_eq!(after_failure(&told.run, &error, 0.5, at(9)), Then::Unwind);
        told.until(Step::RevokeOld);
        // Consumers are on the new one: whether they go back is a person's to say.
        assert_eq!(after_failure(&told.run, &error, 0.5, at(9)), Then::AskOperator);
        assert!(told.run.may_be_cancelled());
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
    in_place.succeed(Step::IssueNew);
    assert_eq!(in_place.run.step(), Some(Step::ProveNew));
    assert_eq!(after_failure(&in_place.run, &error, 0.5, at(9)), Then::AskOperator);
}

/// Row 29.
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
            seen: Vec::new(),
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
