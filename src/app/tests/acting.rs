//! P6: who approves is not who asked, also where a policy's approval stands for its rotations.

use super::identities::living;
use crate::app::{Asked, RotateAsk};

fn policy(autonomy: &str) -> String {
    format!(
        "---
apiVersion: keyfall.dev/v1
kind: Policy
metadata: {{ name: workers }}
spec:
  owner: team
  selector: {{ systems: [cache] }}
  rotation: {{ every: 30d }}
  autonomy: {autonomy}
"
    )
}

#[tokio::test]
async fn a_policy_that_proposes_makes_a_plan_of_every_rotation() {
    let world = living(&policy("propose")).await;
    let ada = world.caller("ada").await;
    let asked = world.app.rotate(&ada, "worker", RotateAsk::default()).await.unwrap();
    let Asked::Plan(plan) = asked else { panic!("{asked:?}") };
    assert_eq!(world.approve("bo", &plan).await.unwrap().runs.len(), 1);
}

#[tokio::test]
async fn who_approved_a_policy_does_not_ask_for_its_runs_alone() {
    let world = living(&policy("automatic")).await;
    let bo = world.caller("bo").await;
    let asked = world.app.rotate(&bo, "worker", RotateAsk::default()).await.unwrap();
    assert!(matches!(asked, Asked::Plan(_)), "{asked:?}");
    let ada = world.caller("ada").await;
    let asked = world.app.rotate(&ada, "worker", RotateAsk::default()).await.unwrap();
    assert!(matches!(asked, Asked::Run(_)), "{asked:?}");
}

fn emergency() -> RotateAsk {
    RotateAsk {
        reason: "found on a forum".to_owned(),
        emergency: true,
        exception: None,
    }
}

#[tokio::test]
async fn an_emergency_makes_one_of_the_rotation_that_is_under_way() {
    let world = living(&policy("automatic")).await;
    let ada = world.caller("ada").await;
    let asked = world.app.rotate(&ada, "worker", RotateAsk::default()).await.unwrap();
    let Asked::Run(run) = asked else { panic!("{asked:?}") };
    let asked = world.app.rotate(&ada, "worker", emergency()).await.unwrap();
    let Asked::Plan(plan) = asked else { panic!("{asked:?}") };
    assert!(plan.consequences.concat().contains(&run.id), "{plan:?}");
    assert_eq!(
        world.approve("bo", &plan).await.unwrap().runs,
        std::slice::from_ref(&run.id)
    );
    // Whoever asked follows the plan, and so the run, to its end.
    assert_eq!(
        world.app.plan(&ada, &plan.id).await.unwrap().runs,
        std::slice::from_ref(&run.id)
    );

    let run = world.app.run(&ada, &run.id).await.unwrap();
    let last = run.events.last().unwrap();
    assert_eq!(last.event, "hastened");
    assert!(
        last.text.contains("ada") && last.text.contains("found on a forum"),
        "{}",
        last.text
    );
    let steps: Vec<_> = run.steps.iter().map(|(step, _)| step.as_str()).collect();
    assert!(
        !steps.contains(&"await_overlap") && !steps.contains(&"await_uptake"),
        "{steps:?}"
    );
    assert!(steps.contains(&"revoke_old"), "{steps:?}");

    let again = world.app.rotate(&ada, "worker", emergency()).await.unwrap_err();
    assert!(again.to_string().contains("waits for nobody"), "{again}");
}

#[tokio::test]
async fn who_may_not_rotate_now_is_told_what_can_be_done_at_this_very_step() {
    let world = living(&policy("automatic")).await;
    let ada = world.caller("ada").await;
    let asked = world.app.rotate(&ada, "worker", RotateAsk::default()).await.unwrap();
    let Asked::Run(run) = asked else { panic!("{asked:?}") };
    let refused = |asked: Result<Asked, crate::app::AppError>| asked.unwrap_err().to_string();
    let text = refused(world.app.rotate(&ada, "worker", RotateAsk::default()).await);
    assert!(
        text.contains("keyfall cancel") && text.contains("--emergency"),
        "{text}"
    );
    world.app.cancel(&ada, &run.id, "no".to_owned()).await.unwrap();
    for ask in [RotateAsk::default(), emergency()] {
        let text = refused(world.app.rotate(&ada, "worker", ask).await);
        assert!(
            text.contains("taken back") && !text.contains("keyfall cancel"),
            "{text}"
        );
    }
}
