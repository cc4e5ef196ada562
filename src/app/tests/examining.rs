//! Looking that costs is for those whose work it is, and one of them at a time.

use jiff::SignedDuration;

use super::world::World;
use crate::app::{AppError, Caller, DoctorLine, Role};
use crate::domain::ids::{IdentityId, RunId};
use crate::domain::workflow::{RunKind, WORKFLOW_VERSION};
use crate::engine::EngineSettings;
use crate::store::{DATABASE, Fact, NodeSays, RunRow};

#[tokio::test]
async fn the_server_is_examined_by_one_at_a_time_and_not_by_who_only_signs() {
    let world = World::new().await;
    let ada = world.caller("ada").await;
    let signer = Caller {
        roles: [Role::Approver].into(),
        ..ada.clone()
    };
    let refused = world.app.doctor(&signer).await;
    assert!(matches!(refused, Err(AppError::NotAllowed(_))), "{refused:?}");
    let refused = world.app.discover(&signer, "cache").await;
    assert!(matches!(refused, Err(AppError::NotAllowed(_))), "{refused:?}");

    let (first, second) = tokio::join!(world.app.doctor(&ada), world.app.doctor(&ada));
    assert!(first.is_ok(), "{first:?}");
    assert!(matches!(second, Err(AppError::Conflict { .. })), "{second:?}");
    assert!(world.app.doctor(&ada).await.is_ok());
}

async fn steps_line(world: &World) -> DoctorLine {
    let lines = world.app.doctor(&world.caller("ada").await).await.unwrap();
    lines.into_iter().find(|line| line.check == "steps").unwrap()
}

/// Row 34.
#[tokio::test]
async fn the_doctor_names_runs_whose_steps_no_living_server_knows() {
    let world = World::new().await;
    assert!(steps_line(&world).await.ok);
    let newer = WORKFLOW_VERSION + 1;
    let run = RunRow {
        id: RunId::from_uuid(world.env.draw_uuid()),
        kind: RunKind::Rotate,
        identity: IdentityId::from_uuid(world.env.draw_uuid()),
        identity_name: "worker".to_owned(),
        system_name: "cache".to_owned(),
        status: "open".to_owned(),
        step: None,
        next_seq: 1,
        epoch: 0,
        node: None,
        lease_until: None,
        wake_at: Some(world.env.now()),
        opened_at: world.env.now(),
        closed_at: None,
        workflow: newer,
    };
    world.put(vec![Fact::RunOpened(run.clone())]).await;
    let line = steps_line(&world).await;
    assert!(!line.ok && line.text.contains(&run.id.to_string()), "{line:?}");
    let knows = NodeSays {
        name: "newer".to_owned(),
        instance: "1".to_owned(),
        version: "2".to_owned(),
        workflow: newer,
        address: String::new(),
        clock_ahead: SignedDuration::ZERO,
        draining: false,
        starts: true,
        gone: false,
        believed_for: SignedDuration::from_secs(15),
        ended: None,
    };
    world.store.say(&knows).await.unwrap();
    assert!(steps_line(&world).await.ok);
    // As long as the engine believes it, and no longer.
    let believed = EngineSettings::new("any").believed_for();
    assert_eq!(believed, SignedDuration::from_secs(20));
    world.clock.shift(believed - SignedDuration::from_secs(1));
    assert!(steps_line(&world).await.ok);
    assert_eq!(state_of(&world, "newer").await, "alive");
    world.clock.shift(SignedDuration::from_secs(2));
    assert!(!steps_line(&world).await.ok, "it was silent for too long");
    assert_eq!(state_of(&world, "newer").await, "silent");
}

async fn state_of(world: &World, server: &str) -> String {
    let servers = world.app.servers(&world.caller("ada").await).await.unwrap();
    servers.into_iter().find(|one| one.name == server).unwrap().state
}

#[tokio::test]
async fn a_database_that_cannot_be_told_from_a_copy_is_not_in_order() {
    let world = World::new().await;
    let line = async |is: &str| {
        let value = Some(is.to_owned());
        world.put(vec![Fact::Setting { key: DATABASE, value }]).await;
        let lines = world.app.doctor(&world.caller("ada").await).await.unwrap();
        lines.into_iter().find(|line| line.check == "database").unwrap()
    };
    let told = line("77/00000001/5").await;
    assert!(told.ok && told.text.contains("timeline 00000001"), "{told:?}");
    let unknown = line("unknown").await;
    assert!(!unknown.ok && unknown.text.contains("pg_control_system"), "{unknown:?}");
}
