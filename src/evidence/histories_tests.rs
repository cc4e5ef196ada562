//! Old histories, as they stand in stores: whatever is changed in the steps, the events and their encoding, they fold to the same end.

use std::collections::BTreeSet;
use std::path::Path;

use super::{encode_event, event_of};
use crate::domain::workflow::{Event, Run, RunKind, RunStatus};

/// The records of one run, in the order of its log.
fn records(file: &Path) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(file).unwrap();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.lines()
        .map(|line| line.as_bytes().chunks_exact(2).map(byte).collect())
        .collect()
}

/// Row 34.
#[test]
fn old_histories_replay() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/evidence/testdata/histories-v1");
    let mut seen = BTreeSet::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let records = records(&file);
        let events: Vec<Event> = records
            .iter()
            .map(|bytes| event_of(bytes).unwrap().expect("an event of a run"))
            .collect();
        let mut run = Run::open(&events[0]).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (event, bytes) in events.iter().zip(&records) {
            if event.seq > 0 {
                run.apply(event).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            let again = encode_event(&run.plan().clone(), &run, event);
            assert_eq!(&again, bytes, "{name}: record {} would be another one now", event.seq);
        }
        assert!(
            matches!(run.status(), RunStatus::Closed { .. }),
            "{name}: {:?}",
            run.status()
        );
        assert_eq!(name, format!("{}.{}", run.plan().kind.name(), run.status().name()));
        assert_eq!(run.plan().workflow_version, 1, "{name}");
        seen.insert(name);
    }
    let wanted = RunKind::ALL
        .iter()
        .flat_map(|kind| ["completed", "unwound"].map(|end| format!("{}.{end}", kind.name())));
    assert_eq!(seen, wanted.collect(), "a kind of run without a history");
}
