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
/// `leaf_hashes`, where the caller has them, gives for each record the hash that was stored when it got its position. It is not believed;
/// it lets the *first* bad record be named. Without it a changed record is only known to be one of those under the root.
///
/// # Errors
/// A record that cannot be read, differs from its stored hash or is missing, or a root that differs from the checkpoint's.
pub fn verify_log<B: AsRef<[u8]>>(
    records: impl IntoIterator<Item = (B, Option<Hash>)>,
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
        AuditRecord::decode(record.as_ref()).map_err(|error| bad(error.to_string()))?;
        let leaf = leaf_hash(record.as_ref());
        if stored.is_some_and(|stored| stored != leaf) {
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
