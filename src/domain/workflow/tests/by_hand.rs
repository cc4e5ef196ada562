//! What a person may declare done, and what follows from it.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use keyfall_sdk::Strategy;

use super::{Told, at, plan, uuid};
use crate::domain::actor::Actor;
use crate::domain::ids::{CredentialId, PersonId, ResourceId};
use crate::domain::resource::SeenBy;
use crate::domain::workflow::{
    ConsumerPlan, Decision, DeliveryPlan, EventBody, Outcome, RegisterChange, RunKind, Step, decide,
};

pub(super) fn person(number: u128) -> Actor {
    Actor::Person {
        id: PersonId::from_uuid(uuid(number)),
        name: format!("person {number}"),
    }
}

impl Told {
    pub(super) fn stuck_at(&mut self, step: Step) {
        self.until(step);
        let asked = EventBody::NeedsOperator {
            step,
            seen: Vec::new(),
            reason: "test".to_owned(),
            manual_step: "test".to_owned(),
            because: super::super::StuckBecause::Drift,
        };
        self.tell(asked).unwrap();
    }

    pub(super) fn resume(&mut self, by: Actor) -> bool {
        let reason = "did it by hand".to_owned();
        self.tell(EventBody::Resumed { by, reason }).is_ok()
    }
}

#[test]
fn a_revocation_by_hand_counts_from_then_on_and_is_left_to_the_proof() {
    for begun in [false, true] {
        let mut told = Told::open(plan(RunKind::Rotate, Strategy::DualSlot));
        told.until(Step::RevokeOld);
        if begun {
            told.start(Step::RevokeOld);
        }
        told.stuck_at(Step::RevokeOld);
        assert!(told.resume(person(7)));
        assert!(told.run.is_past_pivot());
        let states = told.states(10);
        assert_eq!(states[states.len() - 2..], ["revoking", "revoked"], "{states:?}");
        let progress = told.run.progress(CredentialId::from_uuid(uuid(10))).unwrap();
        assert_eq!(progress.revoked_at, Some(told.run.last_event_at()));
    }
    let mut told = Told::open(plan(RunKind::Rotate, Strategy::DualSlot));
    told.until(Step::RevokeOld);
    told.tell(EventBody::Unwinding {
        cause: "test".to_owned(),
    })
    .unwrap();
    told.stuck_at(Step::RevokeNew);
    assert!(told.resume(person(7)));
    assert_eq!(told.states(20).last(), Some(&"revoked"));
    let progress = told.run.progress(CredentialId::from_uuid(uuid(20))).unwrap();
    assert!(progress.revoked_at.is_some());
}

#[test]
fn a_step_that_was_declared_done_is_never_completed() {
    let mut told = Told::open(plan(RunKind::Provision, Strategy::DualSlot));
    told.stuck_at(Step::ReadBack);
    assert!(told.resume(person(7)));
    let Decision::Close(Outcome::Unprovable { why, .. }) = decide(&told.run, at(99)) else {
        panic!("{:?}", decide(&told.run, at(99)))
    };
    assert!(why.contains("read_back") && why.contains("person 7"), "{why}");
}

#[test]
fn nobody_stands_in_for_a_new_credential_that_works() {
    for step in [Step::IssueNew, Step::ProveNew, Step::Promote] {
        let mut told = Told::open(plan(RunKind::Rotate, Strategy::DualSlot));
        told.stuck_at(step);
        assert!(!told.resume(person(7)), "{step:?}");
        let (by, reason) = (person(7), "again".to_owned());
        told.tell(EventBody::Retried { by, reason }).unwrap();
        assert_eq!(told.run.step(), Some(step));
    }
}

/// A run that waits for a consumer at `step`; `None` began it by itself.
fn waiting_for_consumers(step: Step, strategy: Strategy, initiator: Option<u128>, solo: bool) -> Told {
    let mut plan = plan(RunKind::Rotate, strategy);
    plan.initiator = initiator.map_or(Actor::Engine, person);
    plan.approval.solo = solo;
    plan.consumers.push(ConsumerPlan {
        name: "one".to_owned(),
        seen_by: SeenBy::Acknowledgement,
    });
    plan.deliveries.push(delivery());
    let mut told = Told::open(plan);
    if step == Step::AwaitReturn {
        told.until(Step::AwaitUptake);
        told.tell(EventBody::Unwinding {
            cause: "test".to_owned(),
        })
        .unwrap();
    }
    told.stuck_at(step);
    told
}

pub(super) fn delivery() -> DeliveryPlan {
    DeliveryPlan {
        destination: ResourceId::from_uuid(uuid(30)),
        destination_name: "files".to_owned(),
        connector: "file".to_owned(),
        target: serde_json::Value::Null,
        fields: BTreeMap::new(),
    }
}

#[test]
fn the_old_credential_is_taken_from_consumers_by_a_signed_exception_and_by_no_resume() {
    for initiator in [None, Some(6)] {
        let mut told = waiting_for_consumers(Step::AwaitUptake, Strategy::DualSlot, initiator, false);
        // Person 5 asked for the plan that the run stands on, person 7 has nothing to do with it.
        for by in [person(5), person(6), person(7), Actor::Engine] {
            assert!(!told.resume(by.clone()), "{by:?}");
        }
        let why = told.run.refusal_to_resume(&person(7)).unwrap();
        let id = told.run.id();
        for way in [
            format!("retry {id} --reason"),
            format!("cancel {id} --reason"),
            "rotate app --exception".to_owned(),
        ] {
            assert!(why.contains(&way), "{why}");
        }
    }
    let mut solo = waiting_for_consumers(Step::AwaitUptake, Strategy::DualSlot, Some(5), true);
    assert!(solo.resume(person(5)));
    assert_eq!(solo.run.step(), Some(Step::Promote));
    assert_eq!(solo.run.skipped()[0].reason, "did it by hand");
}

#[test]
fn going_on_without_the_consumers_where_the_old_credential_stays_takes_a_second_person() {
    for (step, strategy) in [
        (Step::AwaitReturn, Strategy::DualSlot),
        (Step::AwaitUptake, Strategy::InPlace),
    ] {
        let waiting = |initiator| waiting_for_consumers(step, strategy, initiator, false);
        for (by, may) in [
            // Who asked for the policy is not who asked for the run.
            (person(5), true),
            (person(6), false),
            (Actor::Engine, false),
            (person(7), true),
        ] {
            assert_eq!(waiting(Some(6)).resume(by.clone()), may, "{by:?} at {step:?}");
        }
        // Nobody asked for a scheduled run, so that one person alone is nobody's second.
        let mut scheduled = waiting(None);
        assert!(!scheduled.resume(person(7)), "{step:?}");
        let (by, reason) = (person(7), "look again".to_owned());
        scheduled.tell(EventBody::Retried { by, reason }).unwrap();
        scheduled.stuck_at(step);
        assert!(!scheduled.resume(person(7)), "{step:?}");
        assert!(scheduled.resume(person(8)), "{step:?}");
    }
}

#[test]
fn a_resume_is_named_where_some_person_can_make_it_and_nowhere_else() {
    for kind in RunKind::ALL {
        for strategy in [Strategy::DualSlot, Strategy::InPlace] {
            let mut plan = plan(kind, strategy);
            plan.deliveries.push(delivery());
            plan.consumers.push(ConsumerPlan {
                name: "one".to_owned(),
                seen_by: SeenBy::Acknowledgement,
            });
            let mut told = Told::open(plan);
            while let Some(step) = told.run.step() {
                told.stuck_at(step);
                let (by, reason) = (person(7), "again".to_owned());
                told.tell(EventBody::Retried { by, reason }).unwrap();
                let somebody_can = told.run.refusal_to_resume(&person(8)).is_none();
                assert_eq!(
                    told.run.may_be_resumed(),
                    somebody_can,
                    "{kind:?} {strategy:?} {step:?}"
                );
                told.succeed(step);
            }
        }
    }
}

#[test]
fn nobody_declares_the_look_at_the_accounts_done() {
    for kind in RunKind::ALL {
        let mut told = Told::open(plan(kind, Strategy::DualSlot));
        told.stuck_at(Step::Precheck);
        assert!(!told.resume(person(7)), "{kind:?}");
        let why = told.run.refusal_to_resume(&person(7)).unwrap();
        assert!(why.contains("retry"), "{why}");
    }
}

#[test]
fn a_decommission_goes_on_behind_permissions_that_were_taken_by_hand() {
    let mut told = Told::open(plan(RunKind::Decommission, Strategy::DualSlot));
    told.stuck_at(Step::StripGrants);
    assert!(told.resume(person(7)));
    assert!(told.run.is_past_pivot());
    let decommissioning = |change: &RegisterChange| matches!(change, RegisterChange::IdentityState { to, .. } if to.name() == "decommissioning");
    assert!(told.changes.iter().any(decommissioning));
}

#[test]
fn an_account_that_was_taken_back_is_known_to_be_gone() {
    let mut told = Told::open(plan(RunKind::Rotate, Strategy::AlternatingAccounts));
    told.until(Step::RevokeOld);
    told.tell(EventBody::Unwinding {
        cause: "test".to_owned(),
    })
    .unwrap();
    while let Some(step) = told.run.step() {
        told.succeed(step);
    }
    let gone = |change: &RegisterChange| {
        matches!(change, RegisterChange::PrincipalDeleted { id, was }
            if *id == CredentialId::from_uuid(uuid(20)) && was.principal.name == "app_b")
    };
    assert!(told.changes.iter().any(gone), "{:?}", told.changes);
}

/// Several servers write to a run, and so do people through any of them.
#[test]
fn the_log_of_a_run_only_goes_forward() {
    let run = Told::open(plan(RunKind::Rotate, Strategy::DualSlot)).run;
    let last = run.last_event_at();
    let micro = SignedDuration::from_micros(1);
    assert_eq!(run.instant(last - SignedDuration::from_mins(2)), last + micro);
    assert_eq!(run.instant(last), last + micro);
    assert_eq!(
        run.instant(last + SignedDuration::from_secs(1)),
        last + SignedDuration::from_secs(1)
    );
}
