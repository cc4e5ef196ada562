//! Processes that end at each commit of one rotation, beside identities that are not due.

use std::sync::Arc;

use jiff::SignedDuration;

use super::{effects, passes};
use crate::engine::tests::dying::{Cut, DyingStore};
use crate::engine::tests::looks::until;
use crate::engine::tests::world::World;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_at_any_commit_sets_off_nothing_that_is_not_due() {
    let mut restarts = 0;
    for at in 1.. {
        let world = World::new().await;
        let due = world.due("due", HOUR).await;
        let others = [world.due("one", -HOUR).await, world.due("two", -HOUR * 2).await];
        let dying = DyingStore::new(Arc::clone(&world.store), at, Cut::AfterCommit);
        let first = world.start_on(Arc::clone(&dying) as _).await;
        until("the process died or the run ended", || async {
            let run = world.run_of(&due).await;
            let is_over = run.is_some_and(|run| run.row.status == "completed");
            (dying.is_dead() || is_over).then_some(())
        })
        .await;
        first.shutdown().await;
        let second = world.start().await;
        world.until_status(&due, "completed").await;
        let done = effects(&world);
        passes(&second, 2).await;
        second.shutdown().await;
        // Once more, with nothing left to do.
        let third = world.start().await;
        passes(&third, 2).await;
        third.shutdown().await;
        for other in &others {
            assert!(
                world.run_of(other).await.is_none(),
                "a death at commit {at} set off {}",
                other.name
            );
            assert!(world.steps.is_live(other.credential));
        }
        assert_eq!(effects(&world), done, "after a death at commit {at}");
        if !dying.is_dead() {
            break;
        }
        restarts = at;
    }
    assert!(restarts >= 5, "a rotation has more commits than {restarts}");
    println!("COVERED: quiet restarts {restarts}");
}
