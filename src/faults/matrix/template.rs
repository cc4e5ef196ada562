//! The four tests that every workflow must stand on every connector: it succeeds; everything it does may be done twice; it fails at every step and
//! leaves a clean slate; and so it does when everything that takes back is done twice.

use std::collections::BTreeSet;

use keyfall_sdk::IssueClass;

use super::bench::Bench;
use super::database::Database;
use super::flavour::Flavour;
use super::play::{Piece, Played, play};
use super::steps::{Failing, Habits, Repeats};
use super::time::{at_a_time_of_its_own, joined};
use crate::domain::workflow::{RunKind, Step};

/// Answers the steps that some test of the four stood on.
pub(crate) async fn four_tests(bench: &Bench, kind: RunKind) -> BTreeSet<Step> {
    let once = Habits::default();
    let played = plays(bench, kind, once, &["completed"]).await;
    let mut stood: BTreeSet<Step> = played.path.iter().copied().collect();
    let twice = Habits {
        repeats: Repeats::Everything,
        ..once
    };
    // What mints another key at each call, and cannot say which, is asked once and by nobody again.
    if bench.flavour.issue_class() != IssueClass::Once {
        plays(bench, kind, twice, &["completed"]).await;
    }
    for step in played.path {
        for repeats in [Repeats::Nothing, Repeats::Undos] {
            let habits = Habits {
                fails: Some(Failing { step, is_done: false }),
                repeats,
            };
            let mut ends = vec!["unwound", "completed"];
            // Whether it made something cannot be read there, so a person has the last word.
            let is_untold = bench.flavour.issue_class() == IssueClass::Once && step == Step::IssueNew;
            ends.extend(is_untold.then_some("needs_operator"));
            let back = plays(bench, kind, habits, &ends).await;
            // Behind the point of no return a person is asked, and the run goes on.
            let is_back = back.status == "unwound";
            assert_eq!(back.was_asked, !is_back, "{}", name(bench, kind, habits));
            stood.extend(back.path);
        }
    }
    stood
}

async fn plays(bench: &Bench, kind: RunKind, habits: Habits, ends: &[&str]) -> Played {
    let played = play(
        bench,
        Piece {
            kind,
            habits,
            fault: None,
            is_answered: habits.fails.is_some(),
        },
    )
    .await;
    let name = name(bench, kind, habits);
    assert_eq!(played.wrong, Vec::<String>::new(), "{name}: {}", played.log);
    assert!(ends.contains(&played.status.as_str()), "{name}: {}", played.log);
    played
}

fn name(bench: &Bench, kind: RunKind, habits: Habits) -> String {
    format!("{} {} {habits:?}", bench.flavour.name(), kind.name())
}

/// All workflows of one connector.
fn of(flavour: Flavour, database: Database) -> BTreeSet<Step> {
    let kinds = RunKind::ALL.into_iter().filter(|kind| flavour.has(*kind));
    let workflows = kinds.map(|kind| {
        at_a_time_of_its_own(async move |time| {
            let bench = Bench::new(flavour, database, &time).await;
            let stood = four_tests(&bench, kind).await;
            assert_eq!(
                bench.store.check().await.unwrap(),
                Vec::<String>::new(),
                "{}",
                kind.name()
            );
            bench.store.close().await.unwrap();
            stood
        })
    });
    let workflows: Vec<_> = workflows.collect();
    workflows.into_iter().flat_map(joined).collect()
}

/// One line for each connector with each of its strategies buys all of it.
macro_rules! four_tests {
    ($($name:ident: $flavour:expr;)+) => {$(
        #[test]
        fn $name() {
            for database in Database::ALL {
                of($flavour, database);
            }
        }
    )+};
}

four_tests! {
    demo: Flavour::ALL[0];
    demo_alternating: Flavour::ALL[1];
    demo_in_place: Flavour::ALL[2];
    demo_repeatable: Flavour::ALL[3];
    demo_once: Flavour::ALL[4];
    postgres: Flavour::ALL[5];
    redis: Flavour::ALL[6];
}

/// A step that no workflow here takes would be disturbed by nothing.
#[test]
fn every_step_is_stood_on() {
    let mut stood = of(Flavour::ALL[0], Database::Sqlite);
    stood.extend(of(Flavour::ALL[1], Database::Sqlite));
    let missing: Vec<Step> = Step::ALL.into_iter().filter(|step| !stood.contains(step)).collect();
    assert_eq!(missing, [], "no workflow of the template takes these steps");
}
