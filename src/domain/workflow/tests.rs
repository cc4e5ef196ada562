//! The fold and the decisions, on plans made by hand, told event by event.

mod by_hand;
mod ends;
mod fold;
mod keeping;
mod seen;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{Issued, KeyId, Placement, PrincipalRef, Revoked, SessionsEnded, Strategy};
use uuid::Uuid;

use super::event::Death;
use super::{
    Event, EventBody, IllegalEvent, NewCredential, OldCredential, RegisterChange, Run, RunKind, RunPlan, Step,
    StepOutput, Timing, Trigger, register_changes,
};
use crate::domain::actor::{Actor, Approval};
use crate::domain::digest::Digest;
use crate::domain::due::DueReason;
use crate::domain::ids::{CredentialId, IdentityId, PersonId, PlanId, ResourceId, RunId, SecretId};
use crate::domain::proof::ProofTerms;

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
        ended_before: false,
        accepted: BTreeMap::new(),
    };
    let issues = matches!(kind, RunKind::Provision | RunKind::Rotate | RunKind::EmergencyRotate);
    RunPlan {
        run: RunId::from_uuid(uuid(1)),
        workflow_version: 1,
        kind,
        identity: IdentityId::from_uuid(uuid(2)),
        identity_name: "app".to_owned(),
        from: None,
        owner: "team".to_owned(),
        environment: "test".to_owned(),
        system: ResourceId::from_uuid(uuid(3)),
        system_name: "db".to_owned(),
        connector: "demo".to_owned(),
        endpoint_digest: Digest([0; 32]),
        trigger: Trigger::Schedule,
        reason: DueReason::MaxAge,
        due_at: None,
        initiator: Actor::Engine,
        approval: Approval {
            plan: PlanId::from_uuid(uuid(4)),
            plan_digest: Digest([1; 32]),
            requester: PersonId::from_uuid(uuid(5)),
            approvers: Vec::new(),
            standing: true,
            solo: false,
        },
        policy: None,
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

    fn tell(&mut self, body: EventBody) -> Result<(), IllegalEvent> {
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
        self.tell(EventBody::Succeeded {
            step,
            seen: Vec::new(),
            output,
        })
        .unwrap();
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

/// Whoever goes over all steps goes over each: a step that is added has no place here until it is in the list.
#[test]
fn the_list_of_all_steps_is_complete() {
    let place = |step: Step| match step {
        Step::Precheck => 0,
        Step::Baseline => 1,
        Step::IssueNew => 2,
        Step::ProveNew => 3,
        Step::Deliver => 4,
        Step::AwaitUptake => 5,
        Step::Promote => 6,
        Step::AwaitOverlap => 7,
        Step::Quarantine => 8,
        Step::Listen => 9,
        Step::StripGrants => 10,
        Step::RevokeOld => 11,
        Step::EndSessions => 12,
        Step::DeleteAccount => 13,
        Step::ProveDead => 14,
        Step::DisableIdle => 15,
        Step::Withdraw => 16,
        Step::ReadBack => 17,
        Step::Tombstone => 18,
        Step::Record => 19,
        Step::RestoreDelivery => 20,
        Step::AwaitReturn => 21,
        Step::RevokeNew => 22,
        Step::EndNewSessions => 23,
        Step::ProveNewDead => 24,
        Step::DeleteNewAccount => 25,
        Step::LiftQuarantine => 26,
    };
    let places: Vec<usize> = Step::ALL.into_iter().map(place).collect();
    assert_eq!(places, (0..Step::ALL.len()).collect::<Vec<_>>());
}
