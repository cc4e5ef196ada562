//! P6, P9: a signature ends what was looked at, and allows no more than that.

use super::world::World;
use crate::app::AppError;
use crate::engine::breaker::{Allowance, BREAKER, BREAKER_ALLOWANCE, Tripped};
use crate::evidence::record::AuditRecord;

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
async fn a_freeze_upon_a_freeze_is_not_lifted_by_who_agreed_to_the_first() {
    let world = World::new().await;
    let ada = world.caller("ada").await;
    let bo = world.caller("bo").await;
    world.app.freeze(&ada, "a drill".to_owned()).await.unwrap();
    let over = world.app.unfreeze(&ada, "the drill is over".to_owned()).await.unwrap();
    let size = world.store.log_state().await.unwrap().size;
    world.app.freeze(&bo, "an incident".to_owned()).await.unwrap();
    let record = world.store.log(size, 1).await.unwrap().remove(0);
    let record = AuditRecord::decode(&record.bytes).unwrap();
    assert_eq!(record.action, "frozen");
    assert!(record.details.contains("an incident"), "{}", record.details);

    let late = world.approve("bo", &over).await;
    assert!(matches!(late, Err(AppError::Conflict { .. })), "{late:?}");
    let frozen = world.app.status(&ada).await.unwrap().frozen.unwrap();
    assert_eq!(frozen, "an incident; before that: a drill");
    let again = world.app.unfreeze(&ada, "both are over".to_owned()).await.unwrap();
    world.approve("bo", &again).await.unwrap();
    assert_eq!(world.app.status(&ada).await.unwrap().frozen, None);

    for number in 0..40 {
        world.app.freeze(&ada, format!("reason {number}")).await.unwrap();
    }
    let frozen = world.app.status(&ada).await.unwrap().frozen.unwrap();
    assert!(frozen.starts_with("reason 39; before that: reason 38"), "{frozen}");
    assert!(frozen.len() < 400, "{frozen}");
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
