//! P6, P9: a signature ends what was looked at, and allows no more than that.

use super::world::World;
use crate::app::AppError;
use crate::engine::breaker::{Allowance, BREAKER, BREAKER_ALLOWANCE, Tripped};

#[tokio::test]
async fn an_old_plan_lifts_no_newer_freeze() {
    let world = World::new().await;
    let ada = world.caller("ada").await;
    world.app.freeze(&ada, "first".to_owned()).await.unwrap();
    let one = world.app.unfreeze(&ada, "over".to_owned()).await.unwrap();
    let two = world.app.unfreeze(&ada, "over, again".to_owned()).await.unwrap();
    world.approve("bo", &one).await.unwrap();
    assert_eq!(world.app.status(&ada).await.unwrap().frozen, None);

    world.app.freeze(&ada, "second".to_owned()).await.unwrap();
    let late = world.approve("bo", &two).await;
    assert!(matches!(late, Err(AppError::Conflict { .. })), "{late:?}");
    assert_eq!(world.app.plan(&ada, &two.id).await.unwrap().status, "stale");
    let again = world.approve("bo", &two).await;
    assert!(matches!(again, Err(AppError::Conflict { why }) if why.contains("is stale already")));
    let frozen = world.app.status(&ada).await.unwrap().frozen;
    assert_eq!(frozen.as_deref(), Some("second"));
}

#[tokio::test]
async fn a_breaker_that_is_armed_again_has_room_for_what_was_looked_at_and_little_more() {
    let world = World::new().await;
    let ada = world.caller("ada").await;
    let tripped = |due| Tripped {
        why: "too many".to_owned(),
        due,
        at: world.env.now(),
    };
    world.put(vec![tripped(700).fact()]).await;
    let one = world.app.rearm(&ada, "looked".to_owned()).await.unwrap();
    let two = world.app.rearm(&ada, "looked twice".to_owned()).await.unwrap();
    world.approve("bo", &one).await.unwrap();
    assert_eq!(world.store.setting(BREAKER).await.unwrap(), None);
    let allowance = world.store.setting(BREAKER_ALLOWANCE).await.unwrap().unwrap();
    let allowance = Allowance::of_setting(&allowance).unwrap();
    assert!((700..=800).contains(&allowance.due), "{allowance:?}");

    world.put(vec![tripped(90_000).fact()]).await;
    let late = world.approve("bo", &two).await;
    assert!(matches!(late, Err(AppError::Conflict { .. })), "{late:?}");
    assert!(world.store.setting(BREAKER).await.unwrap().is_some());
}
