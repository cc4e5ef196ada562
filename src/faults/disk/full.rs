//! The disk runs full between an intent and its result. What the system answered is stored in the room that is kept for that; nothing else is,
//! so that nothing more is sent.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::SignedDuration;
use keyfall_vfs::{Call, Failure, Watcher};
use serde_json::json;

use super::folder;
use super::rotation::options;
use crate::domain::workflow::{EventBody, Step};
use crate::engine::tests::looks::until;
use crate::engine::tests::world::{Live, World};
use crate::store::{Commit, Fact, StoreError, StoreOptions};

const RESERVE: u64 = 1 << 20;

/// A disk that, while it is full, has as much room as the reserve beside the store leaves when it goes.
struct Full {
    is_full: AtomicBool,
    reserve: PathBuf,
    /// Something was written where the reserve had been.
    was_used: AtomicBool,
}

impl Watcher for Full {
    fn about_to(&self, call: Call<'_>) -> Result<(), Failure> {
        if !matches!(call, Call::Write { .. }) || !self.is_full.load(Ordering::SeqCst) {
            return Ok(());
        }
        if self.reserve.exists() {
            return Err(Failure::Full { after: 0 });
        }
        self.was_used.store(true, Ordering::SeqCst);
        Ok(())
    }
}

async fn world_in(folder: &Path) -> World {
    let options = StoreOptions {
        reserve: RESERVE,
        ..options()
    };
    let world = World::in_folder(folder, options).await.unwrap();
    world.register(json!({})).await;
    world
}

async fn put(world: &World) -> Result<(), StoreError> {
    let value = Some("anything".to_owned());
    let facts = vec![Fact::Setting { key: "anything", value }];
    let commit = Commit {
        facts,
        ..Commit::default()
    };
    world.store.commit(commit).await.map(drop)
}

async fn until_recorded(world: &World, live: &Live, wanted: Step) {
    let what = format!("the result of {} is stored", wanted.name());
    until(&what, || async {
        let run = world.run_of(live).await?;
        let is_it = |body: &EventBody| matches!(body, EventBody::Succeeded { step, .. } if *step == wanted);
        run.events.iter().any(|event| is_it(&event.body)).then_some(())
    })
    .await;
}

/// Row 32.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_the_result_of_a_call_is_stored_and_no_further_call_is_made() {
    for called in [Step::IssueNew, Step::RevokeOld] {
        let folder = folder();
        let reserve = folder.path().join("keyfall.db-reserve");
        let disk = Arc::new(Full {
            is_full: AtomicBool::new(false),
            reserve: reserve.clone(),
            was_used: AtomicBool::new(false),
        });
        let _watched = keyfall_vfs::watch(folder.path(), Arc::clone(&disk) as _);
        let world = world_in(folder.path()).await;
        let size = || std::fs::metadata(&reserve).ok().map(|found| found.len());
        assert_eq!(size(), Some(RESERVE));
        let live = world.due("app", SignedDuration::from_hours(1)).await;
        world.steps.close_gate(called);
        let engine = world.start().await;
        until("the call is made", || async {
            world.steps.has_called(called).then_some(())
        })
        .await;

        disk.is_full.store(true, Ordering::SeqCst);
        let refused = put(&world).await;
        assert!(matches!(refused, Err(StoreError::Unwritable { .. })), "{refused:?}");
        assert_eq!(size(), Some(RESERVE), "it is no room for anything else");
        world.steps.open_gate(called);
        until_recorded(&world, &live, called).await;
        assert!(disk.was_used.load(Ordering::SeqCst));
        let refused = put(&world).await;
        assert!(matches!(refused, Err(StoreError::Unwritable { .. })), "{refused:?}");
        let effects = world.steps.called().iter().filter(|one| one.step.has_effect()).count();
        let last = world
            .steps
            .called()
            .iter()
            .rfind(|one| one.step.has_effect())
            .map(|one| one.step);
        assert_eq!(last, Some(called), "{effects} effects");

        disk.is_full.store(false, Ordering::SeqCst);
        until("there is room again", || async { put(&world).await.ok() }).await;
        assert_eq!(size(), Some(RESERVE));
        engine.ring();
        world.until_status(&live, "completed").await;
        engine.shutdown().await;
        assert_eq!(world.steps.violations(), Vec::<String>::new());
    }
}
