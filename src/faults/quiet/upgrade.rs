//! Stores of earlier schemas, opened by this binary. Nothing happens to what is not due, and a rotation that an earlier binary began goes on where
//! it was, at its hour.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{effects, passes};
use crate::domain::ids::IdentityId;
use crate::domain::workflow::Step;
use crate::engine::tests::looks::until;
use crate::engine::tests::world::World;
use crate::evidence::audit::decode_event;
use crate::store::tests::golden;
use crate::store::{Fact, Page, RunFilter, RunRow, StoreOptions};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// Two identities that are not due, and a third one in the overlap of a rotation.
const ROTATING: &str = "rotating";

/// The store of that version, by the clock that it was written by.
async fn opened(folder: &Path, version: i32) -> World {
    golden::left_in(folder, ROTATING, version);
    let world = World::in_folder(folder, StoreOptions::new(decode_event)).await.unwrap();
    let newest = world.store.log_state().await.unwrap().size - 1;
    let written = world.store.log(newest, 1).await.unwrap()[0].at;
    world.clock.shift(written.duration_since(world.env.now()));
    world
}

/// Row 34.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_sets_nothing_off_and_goes_on_with_what_was_begun() {
    if golden::is_written_anew() {
        write().await;
    }
    for version in golden::versions() {
        let folder = tempfile::tempdir().unwrap();
        let world = opened(folder.path(), version).await;
        assert_eq!(world.store.check().await.unwrap(), Vec::<String>::new(), "{version}");
        let runs = world.store.runs(&RunFilter::default(), Page::first(10)).await.unwrap();
        assert_eq!(runs.len(), 1, "{version}");
        let identity: IdentityId = runs[0].identity;
        let all = world.store.credentials_of(identity).await.unwrap();
        for credential in &all {
            world.steps.make_live(credential.id);
        }
        let engine = world.start().await;
        passes(&engine, 3).await;
        assert_eq!(effects(&world), 0, "{version}");
        // Woken before its hour it waits on for what it has stored, and asks nobody anew.
        let waits = || async {
            let row = world.store.run(runs[0].id).await.unwrap().unwrap().row;
            (row.node.is_none() && row.wake_at > Some(world.env.now())).then_some(row)
        };
        let before = until("it waits", waits).await;
        assert_eq!(
            before.epoch, runs[0].epoch,
            "{version}: it was taken up before its hour"
        );
        world.put(vec![woken(&before, world.env.now())]).await;
        engine.ring();
        let after = until("it was claimed and waits on", || async {
            waits().await.filter(|row| row.epoch > before.epoch)
        })
        .await;
        assert!(
            after.wake_at > Some(world.env.now() + HOUR * 11),
            "{version}: {after:?}"
        );
        assert_eq!(world.steps.called().len(), 0, "{version}");

        world.clock.shift(HOUR * 13);
        // The clock of a test jumps; a person has looked at it.
        until("it froze itself", || async { engine.status().last_pass.frozen }).await;
        assert_eq!(effects(&world), 0, "{version}");
        engine.shutdown().await;
        world.put(vec![crate::engine::freeze::lifted()]).await;
        let engine = world.start().await;
        until("the rotation ends", || async {
            let run = world.store.run(runs[0].id).await.unwrap().unwrap();
            (run.row.status == "completed").then_some(())
        })
        .await;
        engine.shutdown().await;
        assert!(!world.steps.has_called(Step::IssueNew), "{version}");
        let others = world.store.runs(&RunFilter::default(), Page::first(10)).await.unwrap();
        assert_eq!(others.len(), 1, "{version}");
        assert_eq!(world.store.check().await.unwrap(), Vec::<String>::new(), "{version}");
    }
    println!("COVERED: golden stores {}", golden::versions().count());
}

fn woken(run: &RunRow, at: Timestamp) -> Fact {
    Fact::RunProgress {
        run: run.id,
        status: run.status.clone(),
        step: Some(Step::AwaitOverlap.name()),
        next_seq: run.next_seq,
        wake_at: Some(at),
        release: false,
    }
}

/// Writes the store that becomes the golden one of this schema.
async fn write() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::with_policy(json!({ "overlap": "12h" })).await;
    let live = world.due("rotating", HOUR).await;
    for name in ["one", "two"] {
        world.due(name, -HOUR * 1000).await;
    }
    let engine = world.start().await;
    until("the overlap has begun", || async {
        let run = world.run_of(&live).await?;
        let waits = run.row.step.as_deref() == Some("await_overlap") && run.row.node.is_none();
        (waits && run.row.wake_at > Some(Timestamp::UNIX_EPOCH)).then_some(())
    })
    .await;
    engine.shutdown().await;
    let copy = folder.path().join("copy.db");
    world.store.backup(&copy).await.unwrap();
    golden::write(ROTATING, &copy);
}
