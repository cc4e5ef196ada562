//! Events as audit records and back: each kind of event survives, and no record says what its event does not.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{
    ErrorKind, PlaceReading, Placement, PrincipalReading, PrincipalRef, PrincipalState, PrincipalStatus, Strategy,
};
use uuid::Uuid;

use super::{Act, encode_act, encode_event, event_of};
use crate::domain::actor::{Actor, Approval};
use crate::domain::digest::Digest;
use crate::domain::due::DueReason;
use crate::domain::ids::{ActId, CredentialId, IdentityId, PersonId, PlanId, ResourceId, RunId, SecretId};
use crate::domain::proof::ProofTerms;
use crate::domain::workflow::{
    Event, EventBody, NewCredential, Observation, Outcome, Run, RunKind, RunPlan, Step, StepError, StepOutput,
    StuckBecause, Then, Timing, Trigger,
};
use crate::evidence::record::{AuditRecord, ExceptionCause, PartyKind};

fn approval() -> Approval {
    Approval {
        plan: PlanId::from_uuid(Uuid::from_u128(5)),
        plan_digest: Digest::of(b"plan"),
        requester: PersonId::from_uuid(Uuid::from_u128(77)),
        approvers: Vec::new(),
        standing: false,
        solo: true,
    }
}

fn plan() -> RunPlan {
    let principal = PrincipalRef {
        name: "app".to_owned(),
        immutable_id: None,
    };
    RunPlan {
        run: RunId::from_uuid(Uuid::from_u128(1)),
        workflow_version: 1,
        kind: RunKind::Provision,
        identity: IdentityId::from_uuid(Uuid::from_u128(2)),
        identity_name: "orders-app".to_owned(),
        from: None,
        owner: "team-a".to_owned(),
        environment: "prod".to_owned(),
        system: ResourceId::from_uuid(Uuid::from_u128(3)),
        system_name: "orders-db".to_owned(),
        connector: "demo".to_owned(),
        endpoint_digest: Digest::of(b"x"),
        trigger: Trigger::Apply,
        reason: DueReason::Requested,
        due_at: None,
        initiator: Actor::Person {
            id: PersonId::from_uuid(Uuid::from_u128(4)),
            name: "ada".to_owned(),
        },
        approval: approval(),
        policy: None,
        strategy: Strategy::DualSlot,
        access: serde_json::Value::Null,
        new: Some(NewCredential {
            id: CredentialId::from_uuid(Uuid::from_u128(6)),
            secret: SecretId::from_uuid(Uuid::from_u128(7)),
            principal,
            placement: Placement::Alongside,
        }),
        old: Vec::new(),
        accounts: Vec::new(),
        deliveries: Vec::new(),
        consumers: Vec::new(),
        timing: Timing {
            overlap: SignedDuration::ZERO,
            uptake_interval: SignedDuration::from_secs(1),
            uptake_timeout: SignedDuration::from_secs(1),
            listen: SignedDuration::ZERO,
            keep_dead_secret: SignedDuration::ZERO,
            objective: SignedDuration::from_mins(15),
            opened_at: Timestamp::UNIX_EPOCH,
        },
        proof: ProofTerms {
            vantages: vec!["primary".to_owned()],
            refusals: 3,
            interval: SignedDuration::from_secs(1),
            settling: SignedDuration::ZERO,
            settling_source: "documented".to_owned(),
            give_up_after: SignedDuration::from_secs(1),
        },
        exception: None,
    }
}

fn before() -> Observation {
    let state = PrincipalState {
        name: "app".to_owned(),
        immutable_id: "1".to_owned(),
        status: PrincipalStatus::Enabled,
        key_ids: Vec::new(),
        grants: vec!["write".to_owned(), "read".to_owned()],
        expires_at: None,
        sessions: None,
        privileged: false,
    };
    let place = |vantage: &str| PlaceReading {
        vantage: vantage.to_owned(),
        state: Some(state.clone()),
    };
    Observation::Before {
        reading: PrincipalReading {
            places: vec![place("primary"), place("replica")],
        },
    }
}

fn events() -> Vec<Event> {
    let step = Step::Precheck;
    let issue = Step::IssueNew;
    let at = |seq: u32| Timestamp::from_microsecond(1_790_000_000_123_456 + i64::from(seq)).unwrap();
    let bodies = vec![
        EventBody::Opened { plan: Box::new(plan()) },
        EventBody::Succeeded {
            step,
            seen: vec![before(), Observation::Note { text: "odd".to_owned() }],
            output: StepOutput::Nothing,
        },
        EventBody::Started {
            step: issue,
            attempt: 1,
            deadline: at(99),
            intent: serde_json::json!({"account": "app", "list": [1, 2]}),
        },
        EventBody::Failed {
            step: issue,
            seen: vec![before()],
            error: StepError {
                kind: ErrorKind::RateLimited { after_ms: 20 },
                message: "slow \"down\" \u{2603}".to_owned(),
                code: Some("429".to_owned()),
            },
            then: Then::Unwind,
        },
        EventBody::Unwinding {
            cause: "issue_new".to_owned(),
        },
    ];
    (0..)
        .zip(bodies)
        .map(|(seq, body)| Event {
            seq,
            at: at(seq),
            epoch: 7,
            body,
        })
        .collect()
}

fn encoded() -> Vec<Vec<u8>> {
    let events = events();
    let mut run = Run::open(&events[0]).unwrap();
    let mut all = vec![encode_event(run.plan(), &run, &events[0])];
    for event in &events[1..] {
        run.apply(event).unwrap();
        all.push(encode_event(run.plan(), &run, event));
    }
    all
}

#[test]
fn an_event_reads_back_from_its_record_as_itself() {
    let back: Vec<_> = encoded()
        .iter()
        .map(|bytes| event_of(bytes).unwrap().unwrap())
        .collect();
    assert_eq!(back, events());
}

#[test]
fn a_record_names_who_asked_what_was_tried_and_why_it_was_taken_back() {
    let encoded = encoded();
    let records: Vec<_> = encoded
        .iter()
        .map(|bytes| AuditRecord::decode(bytes).unwrap())
        .collect();
    assert_eq!(records[0].initiator.name, "ada");
    assert_eq!(records[0].id, format!("{}/0", plan().run));
    assert_eq!(records[2].attempt, 1);
    assert_eq!(records[2].permissions_before, None);
    // What the account might do before the first change, whether the attempt that read it succeeded or failed.
    for read in [&records[1], &records[3]] {
        let permissions = read.permissions_before.as_deref().unwrap();
        assert_eq!(permissions, ["read", "write"]);
        assert!(
            read.details.contains(r#""seen":[{"observation":"before""#),
            "{}",
            read.details
        );
    }
    assert_eq!(records[2].outcome, None);
    assert_eq!(records[2].initiator.kind, PartyKind::Engine);
    assert_eq!(
        records[3].exception.as_ref().unwrap().cause,
        ExceptionCause::ProviderFault
    );
    assert_eq!(
        records[4].rule.as_deref(),
        Some("provision: requested, no policy, own approval, unwinding")
    );
}

#[test]
fn the_record_of_a_run_that_asks_for_a_person_names_the_true_cause_and_the_policy() {
    let mut plan = plan();
    plan.policy = Some("daily".to_owned());
    let run = Run::open(&events()[0]).unwrap();
    let system = |kind| StuckBecause::System { kind };
    for (because, cause) in [
        (StuckBecause::Consumer, ExceptionCause::ConsumerFault),
        (StuckBecause::Approval, ExceptionCause::ApprovalLapsed),
        (StuckBecause::Drift, ExceptionCause::Drift),
        (StuckBecause::Data, ExceptionCause::MissingData),
        (StuckBecause::Ourselves, ExceptionCause::OwnFault),
        (system(ErrorKind::Transient), ExceptionCause::ProviderFault),
        (system(ErrorKind::Conflict), ExceptionCause::Drift),
    ] {
        let asked = Event {
            seq: 1,
            at: Timestamp::UNIX_EPOCH,
            epoch: 1,
            body: EventBody::NeedsOperator {
                step: Step::AwaitUptake,
                seen: Vec::new(),
                reason: "late".to_owned(),
                manual_step: "look".to_owned(),
                because,
            },
        };
        let bytes = encode_event(&plan, &run, &asked);
        let record = AuditRecord::decode(&bytes).unwrap();
        assert_eq!(record.exception.unwrap().cause, cause, "{because:?}");
        assert!(record.rule.unwrap().contains("policy daily"));
        assert_eq!(
            event_of(&bytes).unwrap(),
            Some(asked),
            "the cause is folded back from the log"
        );
    }
}

#[test]
fn the_record_of_an_opening_says_what_was_exceptional_about_it() {
    let opened = |change: &dyn Fn(&mut RunPlan)| {
        let mut plan = plan();
        change(&mut plan);
        let body = EventBody::Opened {
            plan: Box::new(plan.clone()),
        };
        let event = Event {
            body,
            ..events().remove(0)
        };
        let record = encode_event(&plan, &Run::open(&event).unwrap(), &event);
        AuditRecord::decode(&record).unwrap().exception.map(|one| one.cause)
    };
    let asked = Some("consumers cannot wait".to_owned());
    assert_eq!(opened(&|_| ()), None);
    assert_eq!(
        opened(&|plan| plan.exception = asked.clone()),
        Some(ExceptionCause::HumanOverride)
    );
    assert_eq!(
        opened(&|plan| plan.trigger = Trigger::BreakGlass),
        Some(ExceptionCause::BreakGlass)
    );
    let due = |hours: i64| {
        let before = SignedDuration::from_mins(hours * 60 + 1);
        opened(&|plan| plan.due_at = Some(plan.timing.opened_at - before))
    };
    assert_eq!(due(0), None);
    assert_eq!(due(1), Some(ExceptionCause::DisconnectedTrigger));
}

/// A cause that no test produces does not belong in the list.
#[test]
fn every_cause_is_produced_by_a_test() {
    let here = include_str!("audit_tests.rs");
    let sweeps = include_str!("../engine/tests/sweeps.rs");
    for cause in ExceptionCause::ALL {
        let (source, test) = match cause {
            ExceptionCause::FragmentedOwnership => (
                sweeps,
                "an_identity_that_nobody_answers_for_is_an_exception_of_ownership",
            ),
            ExceptionCause::PolicyConflict => (
                sweeps,
                "policies_that_contradict_one_another_hold_a_rotation_until_one_of_them_decides",
            ),
            ExceptionCause::DisconnectedTrigger | ExceptionCause::HumanOverride | ExceptionCause::BreakGlass => {
                (here, "the_record_of_an_opening_says_what_was_exceptional_about_it")
            }
            ExceptionCause::MissingData
            | ExceptionCause::ProviderFault
            | ExceptionCause::ConsumerFault
            | ExceptionCause::ApprovalLapsed
            | ExceptionCause::Drift
            | ExceptionCause::OwnFault => (
                here,
                "the_record_of_a_run_that_asks_for_a_person_names_the_true_cause_and_the_policy",
            ),
        };
        let body = source.split_once(&format!("fn {test}("));
        let body = body.map(|(_, rest)| rest.split("\n}\n").next().unwrap_or_default());
        let wanted = format!("ExceptionCause::{cause:?}");
        assert!(
            body.is_some_and(|body| body.contains(&wanted)),
            "{test} does not ask for {wanted}"
        );
    }
}

#[test]
fn the_closing_record_holds_the_receipt_digest_at_its_top_level() {
    let mut run = Run::open(&events()[0]).unwrap();
    let digest = Digest::of(b"receipt");
    let closed = Event {
        seq: 1,
        at: Timestamp::UNIX_EPOCH,
        epoch: 1,
        body: EventBody::Closed {
            outcome: Outcome::Completed,
            receipt_digest: Some(digest),
        },
    };
    assert!(run.apply(&closed).is_err());
    let bytes = encode_event(&plan(), &run, &closed);
    let record = AuditRecord::decode(&bytes).unwrap();
    let details: BTreeMap<String, serde_json::Value> = serde_json::from_str(&record.details).unwrap();
    assert_eq!(details["receipt_digest"], serde_json::json!(digest.to_string()));
    assert_eq!(record.outcome.as_deref(), Some("completed"));
}

#[test]
fn an_act_outside_of_a_run_is_no_event() {
    let bytes = encode_act(Act::of_engine(
        ActId::from_uuid(Uuid::from_u128(1)),
        Timestamp::UNIX_EPOCH,
        "frozen",
        serde_json::json!({}),
    ));
    assert_eq!(event_of(&bytes).unwrap(), None);
    assert!(event_of(&bytes[1..]).is_err());
}
