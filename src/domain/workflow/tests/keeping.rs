//! Until when secrets are kept, what a second try begins with, and that nothing is buried alive.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::Strategy;

use super::{Told, at, plan, uuid};
use crate::domain::identity::IdentityState;
use crate::domain::ids::{CredentialId, SecretId};
use crate::domain::proof::{Standing, judge};
use crate::domain::workflow::{
    Death, Decision, EventBody, Outcome, RegisterChange, RunKind, RunPlan, Step, StepOutput, StuckBecause, decide,
};

fn old() -> CredentialId {
    CredentialId::from_uuid(uuid(10))
}

impl Told {
    fn goes_to_its_end(&mut self) -> Outcome {
        while let Some(step) = self.run.step() {
            self.succeed(step);
        }
        let Decision::Close(outcome) = decide(&self.run, at(500)) else {
            panic!("does not close")
        };
        let closed = EventBody::Closed {
            outcome: outcome.clone(),
            receipt_digest: None,
        };
        self.tell(closed).unwrap();
        outcome
    }

    fn judged(&mut self, death: Death) {
        self.until(Step::ProveDead);
        let (step, deaths) = (Step::ProveDead, BTreeMap::from([(old(), death)]));
        let output = StepOutput::Proofs { deaths };
        self.tell(EventBody::Succeeded {
            step,
            seen: Vec::new(),
            output,
        })
        .unwrap();
    }

    fn unwind(&mut self) {
        let cause = "test".to_owned();
        self.tell(EventBody::Unwinding { cause }).unwrap();
    }

    /// The last word about a secret: kept without a deadline, or until when.
    fn deadline(&self, secret: u128) -> Option<Option<Timestamp>> {
        let secret = SecretId::from_uuid(uuid(secret));
        let of = |change: &RegisterChange| match change {
            RegisterChange::SecretDestroyAt { id, at } if *id == secret => Some(Some(*at)),
            RegisterChange::SecretKept { id } if *id == secret => Some(None),
            _ => None,
        };
        self.changes.iter().rev().find_map(of)
    }

    fn is_buried(&self) -> bool {
        let buried = |change: &RegisterChange| matches!(change, RegisterChange::IdentityState { to, .. } if *to == IdentityState::Decommissioned);
        self.changes.iter().any(buried)
    }
}

fn unprovable() -> Death {
    Death::Unprovable {
        best: None,
        why: "test".to_owned(),
    }
}

fn second_try(kind: RunKind) -> RunPlan {
    let mut plan = plan(kind, Strategy::DualSlot);
    plan.old[0].ended_before = true;
    plan.old[0].accepted = BTreeMap::from([("one".to_owned(), at(-100))]);
    plan
}

#[test]
fn a_secret_whose_death_is_not_proven_has_a_deadline_that_leaves_time_for_another_try() {
    for death in [unprovable(), Death::Alive { since: at(9) }] {
        let mut told = Told::open(plan(RunKind::Rotate, Strategy::DualSlot));
        told.judged(death);
        told.goes_to_its_end();
        let deadline = told.deadline(11).flatten().expect("a deadline");
        assert!(deadline > at(0) + SignedDuration::from_hours(24 * 80), "{deadline}");
    }
}

#[test]
fn the_secret_of_what_was_never_issued_goes_with_its_run() {
    let mut early = Told::open(plan(RunKind::Rotate, Strategy::DualSlot));
    early.unwind();
    early.goes_to_its_end();
    assert_eq!(early.deadline(21), Some(Some(early.run.last_event_at())));

    let mut late = Told::open(plan(RunKind::Rotate, Strategy::DualSlot));
    late.until(Step::IssueNew);
    late.start(Step::IssueNew);
    late.unwind();
    late.start(Step::RevokeNew);
    let (step, output) = (Step::RevokeNew, StepOutput::NeverIssued);
    late.tell(EventBody::Succeeded {
        step,
        seen: Vec::new(),
        output,
    })
    .unwrap();
    late.until(Step::ProveNewDead);
    let (step, deaths) = (Step::ProveNewDead, BTreeMap::new());
    let output = StepOutput::Proofs { deaths };
    late.tell(EventBody::Succeeded {
        step,
        seen: Vec::new(),
        output,
    })
    .unwrap();
    late.goes_to_its_end();
    assert_eq!(late.deadline(21), Some(Some(late.run.last_event_at())));
    assert_eq!(late.deadline(11), None, "the old one goes on living");
}

/// Row 6.
#[test]
fn a_candidate_that_may_be_live_is_not_forgotten_when_its_run_is_taken_back() {
    let mut told = Told::open(plan(RunKind::Rotate, Strategy::AlternatingAccounts));
    told.until(Step::ProveNew);
    told.unwind();
    told.until(Step::ProveNewDead);
    let (step, deaths) = (
        Step::ProveNewDead,
        BTreeMap::from([(CredentialId::from_uuid(uuid(20)), unprovable())]),
    );
    let output = StepOutput::Proofs { deaths };
    let seen = Vec::new();
    told.tell(EventBody::Succeeded { step, seen, output }).unwrap();
    told.goes_to_its_end();
    let deadline = told.deadline(21).flatten().expect("a deadline");
    assert!(
        deadline > told.run.last_event_at() + SignedDuration::from_hours(24 * 80),
        "{deadline}"
    );
    assert_eq!(told.deadline(11), None, "the old one goes on living");
}

#[test]
fn a_tombstone_keeps_no_secret_for_longer_than_a_dead_one() {
    let mut told = Told::open(plan(RunKind::Decommission, Strategy::DualSlot));
    told.judged(unprovable());
    assert!(matches!(told.goes_to_its_end(), Outcome::Unprovable { .. }));
    assert!(told.is_buried());
    let deadline = told.deadline(11).flatten().expect("a deadline");
    assert!(deadline <= told.run.last_event_at() + told.run.plan().timing.keep_dead_secret);
}

#[test]
fn nothing_is_buried_alive_and_the_identity_stays_open_for_another_run() {
    let mut told = Told::open(plan(RunKind::Decommission, Strategy::DualSlot));
    told.judged(Death::Alive { since: at(9) });
    assert!(matches!(told.goes_to_its_end(), Outcome::AliveAfterRevoke { .. }));
    assert!(!told.is_buried());
    let no_current =
        |change: &RegisterChange| matches!(change, RegisterChange::IdentityCurrent { credential: None, .. });
    assert!(told.changes.iter().any(no_current), "it can be revoked by itself");
}

#[test]
fn a_second_try_holds_the_deadline_back_and_sets_it_again_when_it_is_taken_back() {
    let mut told = Told::open(second_try(RunKind::Revoke));
    assert_eq!(told.deadline(11), Some(None));
    told.unwind();
    told.goes_to_its_end();
    assert!(told.deadline(11).flatten().is_some());
}

#[test]
fn a_proof_that_a_person_went_past_leaves_a_deadline() {
    let mut told = Told::open(plan(RunKind::Rotate, Strategy::DualSlot));
    told.until(Step::ProveDead);
    let step = Step::ProveDead;
    let (reason, manual_step) = (String::new(), String::new());
    let asked = EventBody::NeedsOperator {
        step,
        seen: Vec::new(),
        reason,
        manual_step,
        because: StuckBecause::Drift,
    };
    told.tell(asked).unwrap();
    let (by, reason) = (crate::domain::actor::Actor::Engine, String::new());
    told.tell(EventBody::Resumed { by, reason }).unwrap();
    told.goes_to_its_end();
    assert!(told.deadline(11).flatten().is_some());
}

#[test]
fn a_life_that_an_earlier_run_saw_counts_before_the_second_revocation() {
    let judged = |mut plan: RunPlan, accepted: bool| {
        if !accepted {
            plan.old[0].accepted.clear();
        }
        let mut told = Told::open(plan);
        told.until(Step::ProveDead);
        let progress = told.run.progress(old()).unwrap();
        judge(&told.run.plan().proof, progress, told.run.last_event_at())
    };
    assert!(matches!(
        judged(second_try(RunKind::Revoke), true),
        Standing::Probe { .. }
    ));
    assert!(matches!(
        judged(second_try(RunKind::Revoke), false),
        Standing::Unprovable { .. }
    ));
    // What this run saw is told to the next one, for exactly these bytes.
    let told = Told::open(second_try(RunKind::Revoke));
    let life = |secret| told.run.life_of(old(), SecretId::from_uuid(uuid(secret)));
    assert_eq!(life(11), BTreeMap::from([("one".to_owned(), at(-100))]));
    assert_eq!(life(12), BTreeMap::new());
}

#[test]
fn a_second_decommission_that_is_taken_back_leaves_the_identity_as_it_was() {
    for from in [IdentityState::Decommissioning, IdentityState::Quarantined] {
        let mut plan = plan(RunKind::Decommission, Strategy::DualSlot);
        plan.from = Some(from);
        let mut told = Told::open(plan);
        told.until(Step::Listen);
        told.unwind();
        told.goes_to_its_end();
        let mut states = told.changes.iter().filter_map(|change| match change {
            RegisterChange::IdentityState { to, .. } => Some(*to),
            _ => None,
        });
        assert_eq!(states.next_back(), Some(from));
    }
}
