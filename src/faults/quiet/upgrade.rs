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
use crate::store::{Page, RunFilter, StoreOptions};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const GOLDEN: [(&str, &str); 3] = [
    ("v1", include_str!("testdata/v1.sql")),
    ("v2", include_str!("testdata/v2.sql")),
    ("v3", include_str!("testdata/v3.sql")),
];

/// The store in this file, by the clock that it was written by.
async fn opened(folder: &Path, sql: &str) -> World {
    let file = rusqlite::Connection::open(folder.join("keyfall.db")).unwrap();
    file.execute_batch(sql).unwrap();
    // What a dump leaves out.
    file.pragma_update(None, "application_id", 0x4B46_414C).unwrap();
    drop(file);
    let world = World::in_folder(folder, StoreOptions::new(decode_event)).await.unwrap();
    let newest = world.store.log_state().await.unwrap().size - 1;
    let written = world.store.log(newest, 1).await.unwrap()[0].at;
    world.clock.shift(written.duration_since(world.env.now()));
    world
}

/// Row 34.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_sets_nothing_off_and_goes_on_with_what_was_begun() {
    for (version, sql) in GOLDEN {
        let folder = tempfile::tempdir().unwrap();
        let world = opened(folder.path(), sql).await;
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
    println!("COVERED: golden stores {}", GOLDEN.len());
}

/// Writes the store that becomes the golden one of this schema.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it writes a file, and only when the schema has changed"]
async fn write() {
    let to = std::env::var("KEYFALL_GOLDEN").expect("KEYFALL_GOLDEN names the file to write");
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
    world.store.backup(Path::new(&to)).await.unwrap();
}
