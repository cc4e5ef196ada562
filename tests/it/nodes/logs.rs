//! What the logs of all runs say: no event of a holder behind one of its successor, no credential that was taken away twice, no run that is not
//! over.

use std::collections::BTreeMap;

use keyfall::domain::workflow::{Event, EventBody, StepOutput};
use keyfall_sdk::Revoked;

use super::database::Database;
use super::ledger::Row;

/// So many runs are held in memory at once.
const AT_ONCE: usize = 200;

#[derive(Default)]
struct Told {
    revoked: BTreeMap<String, u32>,
    taken_over: usize,
    runs: usize,
}

pub(super) fn are_sound(database: &Database) {
    let mut told = Told::default();
    each(database, &mut |run, events| told.take(run, events));
    let twice: Vec<_> = told.revoked.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "taken away more than once: {twice:?}");
    println!("{} runs, {} of them claimed more than once", told.runs, told.taken_over);
}

fn each(database: &Database, look: &mut dyn FnMut(&str, &[Event])) {
    let ids = database.runs();
    for some in ids.chunks(AT_ONCE) {
        for (run, events) in database.events(some) {
            look(&run, &events);
        }
    }
}

impl Told {
    fn take(&mut self, run: &str, events: &[Event]) {
        let epochs: Vec<u64> = events.iter().map(|event| event.epoch).collect();
        assert!(epochs.is_sorted(), "{run}: a former holder wrote: {epochs:?}");
        let numbers = events.iter().map(|event| event.seq);
        assert!(numbers.eq(0..u32::try_from(events.len()).unwrap()), "{run} has a gap");
        let is_closed = matches!(events.last().map(|event| &event.body), Some(EventBody::Closed { .. }));
        assert!(is_closed, "{run} is not over");
        self.taken_over += usize::from(epochs.last() > Some(&1));
        self.runs += 1;
        for event in events {
            if let EventBody::Succeeded {
                output: StepOutput::Revoked { outcomes },
                ..
            } = &event.body
            {
                for (credential, _) in outcomes.iter().filter(|(_, outcome)| **outcome == Revoked::Revoked) {
                    *self.revoked.entry(credential.to_string()).or_default() += 1;
                }
            }
        }
    }
}

/// What is gone and not proven dead: why, and the runs that ended it, from first to last.
pub(super) fn tell_unproven(database: &Database, rows: &[Row]) {
    let settled = ["active", "dead", "never_issued"];
    let unproven: Vec<&Row> = rows
        .iter()
        .filter(|row| !settled.contains(&row.entry.state.as_str()))
        .collect();
    for row in &unproven {
        println!("not proven dead: {:?}: {}", row.entry, row.life);
    }
    if unproven.is_empty() {
        return;
    }
    each(database, &mut |run, events| {
        let told = events.iter().map(|event| serde_json::to_string(event).unwrap());
        let told = told.collect::<Vec<String>>().join("\n    ");
        if unproven.iter().any(|row| told.contains(&row.id)) {
            println!("  {run}:\n    {told}");
        }
    });
}
