//! Checks a whole log against a signed checkpoint, and two checkpoints against each other.

use super::checkpoint::Checkpoint;
use super::merkle::{Frontier, Hash, MerkleError, leaf_hash, verify_consistency};
use super::record::AuditRecord;

/// The first thing that is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {position}: {why}")]
pub struct BadRecord {
    pub position: u64,
    pub why: String,
}

/// Reads a log from its beginning, one record at a time, and compares it with the checkpoint (whose signature the caller has verified).
/// Records behind the checkpoint's size are not looked at: no checkpoint speaks of them yet.
///
/// Beside each record, where the caller has it, is how the hash began that was stored when it got its position. It is not believed; it lets
/// the *first* bad record be named. Without it a changed record is only known to be one of those under the root.
///
/// # Errors
/// A record that cannot be read, differs from its stored hash or is missing, or a root that differs from the checkpoint's.
pub fn verify_log<B: AsRef<[u8]>>(
    records: impl IntoIterator<Item = (B, Option<Vec<u8>>)>,
    checkpoint: &Checkpoint,
) -> Result<(), BadRecord> {
    let mut frontier = Frontier::new();
    let mut completed = Vec::new();
    let mut records = records.into_iter();
    while frontier.size() < checkpoint.size {
        let position = frontier.size();
        let bad = |why: String| BadRecord { position, why };
        let Some((record, stored)) = records.next() else {
            let why = format!(
                "the log ends here, and the checkpoint speaks of {} records",
                checkpoint.size
            );
            return Err(bad(why));
        };
        AuditRecord::check(record.as_ref()).map_err(|error| bad(error.to_string()))?;
        let leaf = leaf_hash(record.as_ref());
        if stored.is_some_and(|stored| !leaf.starts_with(&stored)) {
            return Err(bad(
                "its bytes are not those that were hashed when it got its position".to_owned()
            ));
        }
        frontier.append(leaf, &mut completed);
        completed.clear();
    }
    if frontier.root() == checkpoint.root {
        return Ok(());
    }
    Err(BadRecord {
        position: checkpoint.size,
        why: format!(
            "some record before here is not the one that was signed: the root over all {} differs",
            checkpoint.size
        ),
    })
}

/// Checks that the log of `newer` goes on from the log of `older` (an anchor, a checkpoint that a verifier kept): no fork, no rewind.
///
/// # Errors
/// Another origin, fewer records, or a proof that does not hold.
pub fn verify_extends(older: &Checkpoint, newer: &Checkpoint, proof: &[Hash]) -> Result<(), ExtendsError> {
    if older.origin != newer.origin {
        return Err(ExtendsError::Origin {
            older: older.origin.clone(),
            newer: newer.origin.clone(),
        });
    }
    if older.size > newer.size {
        return Err(ExtendsError::Rewound {
            older: older.size,
            newer: newer.size,
        });
    }
    verify_consistency((older.size, &older.root), (newer.size, &newer.root), proof)
        .map_err(|source| ExtendsError::Forked { source })
}

/// Why one checkpoint does not go on from another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtendsError {
    #[error("the checkpoints are of two logs: `{older}` and `{newer}`")]
    Origin { older: String, newer: String },
    #[error("the log was rewound: it had {older} records and now has {newer}")]
    Rewound { older: u64, newer: u64 },
    #[error("the log was rewritten: it does not go on from the checkpoint that was kept")]
    Forked {
        #[source]
        source: MerkleError,
    },
}

#[cfg(test)]
mod tests {
    use super::super::merkle::{NodeId, consistency_proof, mark_of};
    use super::super::record::{Party, PartyKind};
    use super::*;

    fn record(number: u64) -> Vec<u8> {
        AuditRecord {
            id: format!("run_1/{number}").into(),
            at_micros: 0,
            run: None,
            step: None,
            action: "opened".into(),
            trigger: "schedule".into(),
            initiator: Party {
                kind: PartyKind::Engine,
                id: "".into(),
                name: "keyfall".into(),
            },
            approvers: Vec::new(),
            plan_digest: None,
            rule: None,
            identity: None,
            system: None,
            permissions_before: None,
            permissions_after: None,
            attempt: 0,
            exception: None,
            outcome: None,
            details: "{}".into(),
        }
        .encode()
    }

    type Log = Vec<(Vec<u8>, Option<Vec<u8>>)>;

    fn log(size: u64) -> Log {
        (0..size)
            .map(record)
            .map(|bytes| (bytes.clone(), Some(mark_of(&leaf_hash(&bytes)).to_vec())))
            .collect()
    }

    fn checkpoint(log: &[(Vec<u8>, Option<Vec<u8>>)]) -> Checkpoint {
        let mut frontier = Frontier::new();
        for (bytes, _) in log {
            frontier.append(leaf_hash(bytes), &mut Vec::new());
        }
        Checkpoint {
            origin: "log".to_owned(),
            size: frontier.size(),
            root: frontier.root(),
        }
    }

    #[test]
    fn a_whole_log_holds_also_with_records_that_no_checkpoint_speaks_of_yet() {
        let log = log(9);
        assert_eq!(verify_log(log.clone(), &checkpoint(&log)), Ok(()));
        assert_eq!(verify_log(log.clone(), &checkpoint(&log[..5])), Ok(()));
        assert_eq!(verify_log(log.clone(), &checkpoint(&[])), Ok(()));
    }

    #[test]
    fn the_first_bad_record_is_named() {
        let good = log(9);
        let checkpoint = checkpoint(&good);
        let fails_at = |position: u64, change: &dyn Fn(&mut Log)| {
            let mut log = good.clone();
            change(&mut log);
            assert_eq!(verify_log(log, &checkpoint).unwrap_err().position, position);
        };
        fails_at(4, &|log| log[4].0 = record(44));
        fails_at(4, &|log| log[4].0 = b"rubbish".to_vec());
        fails_at(3, &|log| {
            log[3].0 = record(33);
            log[5].0 = record(55);
        });
        fails_at(2, &|log| {
            let moved = log[2].0.clone();
            log[2].0 = log[6].0.clone();
            log[6].0 = moved;
        });
        fails_at(8, &|log| drop(log.pop()));
        // Whoever changes the stored hash too is caught by the root, which covers every record.
        fails_at(9, &|log| log[4] = (record(44), Some(leaf_hash(&record(44)).to_vec())));
        fails_at(9, &|log| log.swap(1, 2));
        fails_at(8, &|log| drop(log.remove(0)));
    }

    #[test]
    fn a_fork_a_rewind_and_another_log_are_told_apart() {
        let log = log(8);
        let (old, new) = (checkpoint(&log[..5]), checkpoint(&log));
        let mut frontier = Frontier::new();
        let mut nodes = Vec::new();
        log.iter()
            .for_each(|(bytes, _)| frontier.append(leaf_hash(bytes), &mut nodes));
        let fetch = |id: NodeId| match id.level {
            0 => log.get(id.index as usize).map(|(bytes, _)| leaf_hash(bytes)),
            _ => nodes.iter().find(|node| node.id == id).map(|node| node.hash),
        };
        let proof = consistency_proof(5, 8, &fetch).unwrap();
        assert_eq!(verify_extends(&old, &new, &proof), Ok(()));
        let forked = Checkpoint {
            root: [1; 32],
            ..old.clone()
        };
        assert!(matches!(
            verify_extends(&forked, &new, &proof),
            Err(ExtendsError::Forked { .. })
        ));
        assert!(matches!(
            verify_extends(&new, &old, &[]),
            Err(ExtendsError::Rewound { older: 8, newer: 5 })
        ));
        let other = Checkpoint {
            origin: "other".to_owned(),
            ..old
        };
        assert!(matches!(
            verify_extends(&other, &new, &proof),
            Err(ExtendsError::Origin { .. })
        ));
        assert!(matches!(
            verify_extends(
                &Checkpoint {
                    root: [1; 32],
                    ..new.clone()
                },
                &new,
                &[]
            ),
            Err(ExtendsError::Forked { .. })
        ));
    }
}
