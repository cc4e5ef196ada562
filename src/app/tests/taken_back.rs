//! A provisioning that is taken back when its identity was in use already. Its log is told event by event, with what each changes in the register.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use keyfall_sdk::{Issued, KeyId, PrincipalRef, ProbeReading, Revoked, SecretValue, SessionsEnded, Verdict};

use super::identities::{MANIFESTS, provisioned};
use super::world::World;
use crate::domain::identity::IdentityState;
use crate::domain::ids::RunId;
use crate::domain::proof::{ControlPlane, Round};
use crate::domain::workflow::{
    Death, Decision, Event, EventBody, Observation, Run, RunStatus, Step, StepOutput, StuckBecause, decide,
};
use crate::engine::facts_by_hand;
use crate::store::Fact;

async fn tell(world: &World, run: RunId, body: EventBody) {
    let changed = |run: &Run, event: &Event| {
        let mut facts = facts_by_hand(run, event);
        facts.push(Fact::RunProgress {
            run: run.id(),
            status: run.status().name().to_owned(),
            step: run.step().map(Step::name),
            next_seq: run.next_seq(),
            wake_at: None,
            release: true,
        });
        facts
    };
    world.append(run, body, changed).await;
}

async fn succeed(world: &World, run: RunId, step: Step) {
    let folded = world.folded(run).await;
    let (output, seen) = (output(&folded, step), seen(&folded, step));
    if step.has_effect() {
        let started = EventBody::Started {
            step,
            attempt: 1,
            deadline: world.env.now(),
            intent: serde_json::Value::Null,
        };
        tell(world, run, started).await;
    }
    tell(world, run, EventBody::Succeeded { step, seen, output }).await;
}

fn output(run: &Run, step: Step) -> StepOutput {
    let new = run.plan().new.clone().unwrap();
    match step {
        Step::IssueNew => StepOutput::Issued {
            issued: Issued {
                principal: PrincipalRef {
                    immutable_id: Some("1".to_owned()),
                    ..new.principal
                },
                key_id: KeyId("sha256/1".to_owned()),
                created_principal: true,
            },
        },
        Step::RevokeNew => StepOutput::Revoked {
            outcomes: BTreeMap::from([(new.id, Revoked::Revoked)]),
        },
        Step::EndNewSessions => StepOutput::SessionsEnded {
            ended: SessionsEnded { ended: 0, left: 0 },
        },
        Step::ProveNewDead => StepOutput::Proofs {
            deaths: BTreeMap::from([(
                new.id,
                Death::Proven {
                    proven_at: rounds(run)
                        .iter()
                        .filter_map(|seen| seen.round_of(new.id))
                        .map(|round| round.ended_at)
                        .max()
                        .unwrap(),
                },
            )]),
        },
        _ => StepOutput::Nothing,
    }
}

/// Accepted at every place before.
fn lives(run: &Run) -> Vec<Observation> {
    let credential = run.plan().new.as_ref().unwrap().id;
    let tried = |vantage: &String| Observation::Tried {
        credential,
        vantage: vantage.clone(),
        reading: ProbeReading {
            verdict: accepted(),
            endpoint: vantage.clone(),
        },
    };
    run.plan().proof.vantages.iter().map(tried).collect()
}

fn accepted() -> Verdict {
    Verdict::Accepted {
        principal: "worker".to_owned(),
    }
}

/// Refused at every place behind the settling window.
fn rounds(run: &Run) -> Vec<Observation> {
    let (terms, credential) = (&run.plan().proof, run.plan().new.as_ref().unwrap().id);
    let mut at = run.progress(credential).unwrap().revoked_at.unwrap() + terms.settling;
    let refused = || Verdict::Refused {
        code: "WRONGPASS".to_owned(),
    };
    let mut seen = Vec::new();
    for _ in 0..terms.refusals {
        at += terms.interval.max(SignedDuration::from_secs(1));
        seen.extend(terms.vantages.iter().map(|vantage| Observation::ProbeRound {
            credential,
            round: Round {
                vantage: vantage.clone(),
                endpoint: vantage.clone(),
                began_at: at,
                ended_at: at,
                old: refused(),
                positive: Some(accepted()),
                negative: refused(),
                control_plane: ControlPlane::CredentialGone,
            },
        }));
    }
    seen
}

fn seen(run: &Run, step: Step) -> Vec<Observation> {
    match step {
        Step::ProveNew => lives(run),
        Step::ProveNewDead => rounds(run),
        _ => Vec::new(),
    }
}

/// The run of the worker, stuck behind its promotion; everything else is provisioned.
async fn stuck_behind_promotion(world: &World) -> RunId {
    let ada = world.caller("ada").await;
    let secret = SecretValue::from("admin-password".to_owned());
    world.app.set_secret(&ada, "cache-admin", secret).await.unwrap();
    let mut of_worker = None;
    for run in world.apply(MANIFESTS).await.runs {
        let id: RunId = run.parse().unwrap();
        if world.folded(id).await.plan().identity_name == "worker" {
            of_worker = Some(id);
        } else {
            provisioned(world, &run).await;
        }
    }
    let run = of_worker.unwrap();
    loop {
        match world.folded(run).await.step().unwrap() {
            Step::ReadBack => break,
            step => succeed(world, run, step).await,
        }
    }
    let stuck = EventBody::NeedsOperator {
        step: Step::ReadBack,
        seen: Vec::new(),
        reason: "the system does not show what was approved".to_owned(),
        manual_step: "look".to_owned(),
        because: StuckBecause::Drift,
    };
    tell(world, run, stuck).await;
    run
}

#[tokio::test]
async fn a_provisioning_that_is_taken_back_behind_its_promotion_can_be_begun_again() {
    let world = World::new().await;
    let run = stuck_behind_promotion(&world).await;
    let worker = world.store.identity_named("worker").await.unwrap().unwrap();
    assert_eq!(worker.state, IdentityState::Active);
    let ada = world.caller("ada").await;
    world
        .app
        .cancel(&ada, &run.to_string(), "wrong rights".to_owned())
        .await
        .unwrap();
    loop {
        match decide(&world.folded(run).await, world.env.now()) {
            Decision::Unwind { cause } => tell(&world, run, EventBody::Unwinding { cause }).await,
            Decision::Perform { step, .. } => succeed(&world, run, step).await,
            Decision::Close(outcome) => {
                assert_eq!(outcome.name(), "unwound");
                let receipt_digest = None;
                tell(
                    &world,
                    run,
                    EventBody::Closed {
                        outcome,
                        receipt_digest,
                    },
                )
                .await;
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let worker = world.store.identity_named("worker").await.unwrap().unwrap();
    assert_eq!((worker.state, worker.current), (IdentityState::Requested, None));
    assert_eq!(worker.due, None, "what is not there is not due");

    let applied = world.apply(MANIFESTS).await;
    let again: RunId = applied.runs.first().expect("nothing to change").parse().unwrap();
    let again = world.folded(again).await;
    assert_eq!(again.plan().kind.name(), "provision");
    assert_eq!(again.plan().identity, worker.id);
    assert_eq!(*again.status(), RunStatus::Open);
    assert_eq!(
        again.plan().new.as_ref().unwrap().principal.immutable_id,
        None,
        "the account is made anew"
    );
}
