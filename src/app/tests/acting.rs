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
