//! Looking that costs is for those whose work it is, and one of them at a time.

use super::world::World;
use crate::app::{AppError, Caller, Role};

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
