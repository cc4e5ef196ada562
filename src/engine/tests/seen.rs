//! What an attempt saw on its way stands in the event that ends it, however it ended, and is folded back from there.

use jiff::SignedDuration;
use keyfall_sdk::{ErrorKind, ProbeReading, Verdict};

use super::answers::failed;
use super::looks::until;
use super::script::Ask;
use super::world::World;
use crate::domain::ids::CredentialId;
use crate::domain::workflow::{EventBody, Observation, Run, Step, StuckBecause};
use crate::engine::report::{StepEnd, StepReport};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn refused(credential: CredentialId, endpoint: &str) -> Observation {
    Observation::Tried {
        credential,
        vantage: "primary".to_owned(),
        reading: ProbeReading {
            verdict: Verdict::Refused { code: "no".to_owned() },
            endpoint: endpoint.to_owned(),
        },
    }
}

fn asks_a_person() -> StepEnd {
    StepEnd::AskOperator {
        reason: "it is refused".to_owned(),
        manual_step: "find out why".to_owned(),
        because: StuckBecause::Drift,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_attempt_saw_is_stored_in_the_event_that_ends_it_however_it_ended() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    let waits = StepEnd::Wait {
        until: world.env.now(),
        why: "it is late".to_owned(),
    };
    let ends = [failed(ErrorKind::Transient).end, waits, asks_a_person()];
    for (number, end) in ends.into_iter().enumerate() {
        let observations = vec![
            refused(live.credential, &format!("attempt {number}")),
            Observation::Note {
                text: format!("seen by attempt {number}"),
            },
        ];
        world
            .steps
            .ask(Step::Baseline, Ask::Report(StepReport { observations, end }));
    }
    let engine = world.start().await;
    let stuck = world.until_status(&live, "needs_operator").await;

    let ended: Vec<_> = stuck
        .events
        .iter()
        .filter(|event| !event.body.seen().is_empty())
        .collect();
    assert_eq!(
        ended.iter().map(|event| event.body.name()).collect::<Vec<_>>(),
        ["failed", "waiting", "needs_operator"]
    );
    for (number, event) in ended.iter().enumerate() {
        assert_eq!(event.body.step(), Some(Step::Baseline));
        assert_eq!(
            event.body.seen()[0],
            refused(live.credential, &format!("attempt {number}"))
        );
        assert_eq!(event.body.seen().len(), 2);
    }
    // Each refused login is known to whoever takes the run on, at the instant of the attempt that it belongs to.
    let run = Run::replay(&stuck.events).unwrap();
    assert_eq!(
        run.refused_at(live.credential).collect::<Vec<_>>(),
        ended.iter().map(|event| event.at).collect::<Vec<_>>()
    );

    let retried = EventBody::Retried {
        by: crate::domain::actor::Actor::Engine,
        reason: "looked into it".to_owned(),
    };
    super::runs::append(&world, &stuck.events, retried).await;
    engine.ring();
    let run = world.until_status(&live, "completed").await;
    engine.shutdown().await;
    let tried =
        |body: &EventBody| matches!(body, EventBody::Succeeded { step: Step::Baseline, seen, .. } if seen.len() == 1);
    assert_eq!(run.events.iter().filter(|event| tried(&event.body)).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_of_a_proof_is_durable_before_the_next_one_is_waited_for() {
    let world = World::new().await;
    let live = world.due("app", HOUR).await;
    let later = StepEnd::Wait {
        until: world.env.now() + HOUR,
        why: "the next round is far away".to_owned(),
    };
    let round = super::answers::round(false, world.env.now());
    let seen = Observation::ProbeRound {
        credential: live.credential,
        round: round.clone(),
    };
    let report = StepReport {
        observations: vec![seen],
        end: later,
    };
    world.steps.ask(Step::ProveDead, Ask::Report(report));
    let engine = world.start().await;
    let stored = until("the run waits for its next round", || async {
        world
            .run_of(&live)
            .await
            .filter(|run| run.row.node.is_none() && run.row.step.as_deref() == Some("prove_dead"))
    })
    .await;
    engine.shutdown().await;
    let run = Run::replay(&stored.events).unwrap();
    assert_eq!(run.progress(live.credential).unwrap().rounds, [round]);
    assert_eq!(
        run.refused_at(live.credential).count(),
        2,
        "the old secret and a random one"
    );
}
