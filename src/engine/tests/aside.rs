//! A run whose log nobody can read, or that says what cannot be, takes nothing from the others, and is named.

use jiff::SignedDuration;

use super::looks::until;
use super::world::World;
use crate::domain::actor::Actor;
use crate::domain::due::DueReason;
use crate::domain::ids::RunId;
use crate::domain::workflow::{Event, EventBody, Run, RunKind};
use crate::engine::EngineSettings;
use crate::engine::findings::UNREADABLE_RUN;
use crate::evidence::audit::encode_event;
use crate::store::{Commit, LogEntry, Page, RunFilter, RunRow};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

impl World {
    async fn append(&self, run: RunId, seq: u32, bytes: Vec<u8>) {
        let entry = LogEntry {
            run: Some((run, seq)),
            at: self.env.now(),
            bytes,
        };
        let commit = Commit {
            log: vec![entry],
            ..Commit::default()
        };
        self.store.commit(commit).await.unwrap();
    }

    async fn row(&self, run: RunId) -> RunRow {
        let rows = self.store.runs(&RunFilter::default(), Page::first(9)).await.unwrap();
        rows.into_iter().find(|row| row.id == run).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_nobody_can_read_are_set_aside_and_named_and_the_others_go_on() {
    let world = World::new().await;
    let spoilt = world.due("spoilt", -HOUR).await;
    let odd = world.due("odd", -HOUR).await;
    let well = world.due("well", -HOUR).await;
    let mut runs = Vec::new();
    for live in [&spoilt, &odd, &well] {
        let request = world.request(RunKind::Rotate, DueReason::Requested);
        runs.push(world.ask(live, request, |_| {}).await);
    }
    world.append(runs[0], 1, b"of a later Keyfall".to_vec()).await;
    // It can be read, and nothing ends that did not begin.
    let closed = Event {
        seq: 7,
        at: world.env.now(),
        epoch: 0,
        body: EventBody::CancelRequested {
            by: Actor::Engine,
            reason: "a test".to_owned(),
        },
    };
    let log = world.store.run(runs[1]).await.unwrap().unwrap();
    let run = Run::replay(&log.events).unwrap();
    world.append(runs[1], 7, encode_event(run.plan(), &run, &closed)).await;

    // One slot: a run that keeps it stops everybody.
    let settings = EngineSettings {
        max_runs: 1,
        ..super::world::settings()
    };
    let engine = world.start_with(world.store.clone(), settings).await;
    world.until_status(&well, "completed").await;
    for run in &runs[..2] {
        world.until_open(UNREADABLE_RUN, &run.to_string(), true).await;
        let row = until("it is set aside", || async {
            Some(world.row(*run).await).filter(|row| row.node.is_none())
        })
        .await;
        let left = row.wake_at.unwrap().duration_since(world.env.now());
        assert!(left > SignedDuration::from_mins(50), "{left}");
    }
    engine.shutdown().await;
    for (live, run) in [(&spoilt, runs[0]), (&odd, runs[1])] {
        let identity = world.store.identity(live.id).await.unwrap().unwrap();
        assert_eq!(identity.current, Some(live.credential));
        assert_eq!(world.row(run).await.next_seq, 1);
    }
}
