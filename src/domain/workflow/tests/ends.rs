//! What is taken back, and how a run ends: unknown never reads as done.

use jiff::SignedDuration;
use keyfall_sdk::{ErrorKind, Strategy};

use super::{Told, at, plan, uuid};
use crate::domain::actor::{Actor, Approver};
use crate::domain::identity::CredentialState;
use crate::domain::ids::{CredentialId, IdentityId, PersonId};
use crate::domain::proof::{Standing, judge};
use crate::domain::workflow::{
    Decision, EventBody, Observation, Outcome, Path, RegisterChange, RunKind, Step, StepError, Then, after_failure,
    decide, forward_steps,
};

/// Row 19.
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

#[test]
fn an_approval_of_one_run_covers_the_overlap_that_it_approved_and_a_standing_one_has_no_hour() {
    let mut plan = plan(RunKind::Rotate, Strategy::DualSlot);
    let signed = |second: i64| Approver {
        person: PersonId::from_uuid(uuid(6)),
        name: "bo".to_owned(),
        public_key: String::new(),
        expires_at_micros: at(second).as_microsecond(),
        signature: String::new(),
    };
    plan.approval.approvers = vec![signed(90), signed(60)];
    assert_eq!(plan.approval_ends_at(), None, "standing");
    plan.approval.standing = false;
    assert_eq!(plan.approval_ends_at(), Some(at(60)), "the first signature to run out");
    plan.timing.overlap = SignedDuration::from_secs(30);
    assert_eq!(plan.approval_ends_at(), Some(at(90)));
}

fn failed(step: Step, kind: ErrorKind, seen: Vec<Observation>) -> EventBody {
    EventBody::Failed {
        step,
        seen,
        error: error(kind),
        then: Then::AskOperator,
    }
}

fn error(kind: ErrorKind) -> StepError {
    StepError {
        kind,
        message: "the role does not exist".to_owned(),
        code: None,
    }
}

#[test]
fn a_rotation_in_place_whose_issue_is_known_to_have_changed_nothing_is_taken_back() {
    let mut told = Told::open(plan(RunKind::Rotate, Strategy::InPlace));
    told.until(Step::IssueNew);
    told.start(Step::IssueNew);
    assert!(told.run.is_past_pivot(), "an issue call is under way");
    // The system's own answer says that nothing was replaced.
    assert_eq!(
        after_failure(&told.run, &error(ErrorKind::NotFound), 0.5, at(9)),
        Then::Unwind
    );
    told.tell(failed(Step::IssueNew, ErrorKind::NotFound, Vec::new()))
        .unwrap();
    assert!(told.run.may_be_cancelled());
    told.start(Step::IssueNew);
    assert!(!told.run.may_be_cancelled(), "another call is under way");
}

/// Rows 4, 5.
#[test]
fn a_rotation_in_place_whose_issue_may_have_replaced_the_old_one_only_goes_forward_until_it_was_looked_at() {
    for kind in [ErrorKind::Ambiguous, ErrorKind::Transient] {
        let mut told = Told::open(plan(RunKind::Rotate, Strategy::InPlace));
        told.until(Step::IssueNew);
        told.start(Step::IssueNew);
        told.tell(failed(Step::IssueNew, kind, Vec::new())).unwrap();
        assert!(!told.run.may_be_cancelled(), "{kind:?}");
        // A later call that certainly changed nothing says nothing about the earlier one.
        told.start(Step::IssueNew);
        assert_eq!(
            after_failure(&told.run, &error(ErrorKind::NotFound), 0.5, at(9)),
            Then::AskOperator
        );
        told.tell(failed(Step::IssueNew, ErrorKind::NotFound, Vec::new()))
            .unwrap();
        assert!(!told.run.may_be_cancelled(), "{kind:?}");
        told.start(Step::IssueNew);
        let missing = vec![Observation::IssueMissing];
        told.tell(failed(Step::IssueNew, kind, missing.clone())).unwrap();
        assert!(!told.run.may_be_cancelled(), "{kind:?}: it looked before its own call");
        told.start(Step::IssueNew);
        told.tell(failed(Step::IssueNew, ErrorKind::NotFound, missing)).unwrap();
        assert!(told.run.may_be_cancelled(), "{kind:?}");
    }
}

#[test]
fn what_was_declared_done_and_nothing_looked_at_is_not_buried() {
    for step in [Step::Withdraw, Step::ReadBack, Step::EndSessions] {
        let mut plan = plan(RunKind::Decommission, Strategy::DualSlot);
        plan.deliveries.push(super::by_hand::delivery());
        let mut told = Told::open(plan);
        told.stuck_at(step);
        assert!(told.resume(super::by_hand::person(7)));
        while let Some(step) = told.run.step() {
            assert_ne!(step, Step::Tombstone);
            told.succeed(step);
        }
        let decommissioned = |change: &RegisterChange| matches!(change, RegisterChange::IdentityState { to, .. } if to.name() == "decommissioned");
        assert!(!told.changes.iter().any(decommissioned), "{step:?}");
        assert!(matches!(
            decide(&told.run, at(99)),
            Decision::Close(Outcome::Unprovable { .. })
        ));
    }
}
