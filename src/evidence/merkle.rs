//! The Merkle tree over the audit log, hashed as RFC 6962 §2.1 says: leaf `SHA-256(0x00 || record)`, node `SHA-256(0x01 || left || right)`.
//!
//! Which nodes a proof holds, and whether a proof is right, is the work of `ct_merkle`. Ours is only what it leaves out: appending with a
//! handful of hashes as state, and making a proof from nodes that are stored elsewhere.

use ct_merkle::{
    ConsistencyProof, InclusionProof, RootHash, indices_for_consistency_proof, indices_for_inclusion_proof,
};
use ring::digest::{Context, SHA256, digest};
use sha2::Sha256;

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// More leaves than any log has, and few enough that no index arithmetic overflows.
pub const MOST_LEAVES: u64 = 1 << 48;

/// The place of a complete subtree: `level` 0 are the leaves, and the subtree covers leaves `index << level` to `(index + 1) << level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    pub level: u8,
    pub index: u64,
}

/// A complete subtree with its hash. It never changes once it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    pub id: NodeId,
    pub hash: Hash,
}

/// What is wrong with a tree or a proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    #[error("a tree of {size} leaves has {wanted} peaks, and {given} were given")]
    Peaks { size: u64, wanted: usize, given: usize },
    #[error("position {index} is not in a log of {size} records")]
    NotInLog { index: u64, size: u64 },
    #[error("a log of {old} records is not the beginning of a log of {new}")]
    Shrunk { old: u64, new: u64 },
    #[error("a log of {size} records is larger than any log can be")]
    TooLarge { size: u64 },
    #[error("the stored node at level {level}, index {index} is missing")]
    MissingNode { level: u8, index: u64 },
    #[error("the inclusion proof does not lead from the record at position {index} to the root of {size} records")]
    NotIncluded { index: u64, size: u64 },
    #[error("the consistency proof does not show that the log of {old} records is the beginning of the log of {new}")]
    NotConsistent { old: u64, new: u64 },
}

/// The hash of one record's bytes.
#[must_use]
pub fn leaf_hash(record: &[u8]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    context.update(record);
    to_hash(context.finish().as_ref())
}

/// The beginning of a leaf's hash, which is kept beside the record. Nothing is proven by it: where a root says that some record was changed,
/// it tells which.
#[must_use]
pub fn mark_of(leaf: &Hash) -> [u8; 8] {
    let mut mark = [0; 8];
    mark.iter_mut().zip(leaf).for_each(|(to, from)| *to = *from);
    mark
}

#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[1]);
    context.update(left);
    context.update(right);
    to_hash(context.finish().as_ref())
}

/// The root of a log without records: the hash of nothing.
#[must_use]
pub fn empty_root() -> Hash {
    to_hash(digest(&SHA256, b"").as_ref())
}

fn to_hash(bytes: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(bytes);
    hash
}

/// A tree by its peaks: the hashes of its complete subtrees, the largest first; one for each bit that is set in the size. All that is
/// needed to append and to know the root, so the store keeps it as one small row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// # Errors
    /// The number of peaks is not that of a tree of this size, or the size is beyond [`MOST_LEAVES`].
    pub fn from_parts(size: u64, peaks: Vec<Hash>) -> Result<Self, MerkleError> {
        let wanted = size.count_ones() as usize;
        if size > MOST_LEAVES {
            Err(MerkleError::TooLarge { size })
        } else if peaks.len() != wanted {
            let given = peaks.len();
            Err(MerkleError::Peaks { size, wanted, given })
        } else {
            Ok(Self { size, peaks })
        }
    }

    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Appends one leaf hash. The subtrees that it completes, level 1 and above, are pushed to `completed`: one for each leaf on average.
    /// The leaf itself (level 0) is not: whoever keeps the records keeps its hash.
    pub fn append(&mut self, leaf: Hash, completed: &mut Vec<Node>) {
        let mut hash = leaf;
        // Each trailing one of the size is a peak that the leaf's subtree now joins.
        for level in 0..self.size.trailing_ones() as u8 {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            let id = NodeId {
                level: level + 1,
                index: self.size >> (level + 1),
            };
            completed.push(Node { id, hash });
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    #[must_use]
    pub fn root(&self) -> Hash {
        fold_peaks(self.peaks.iter().copied()).unwrap_or_else(empty_root)
    }
}

/// The hash over neighbouring complete subtrees, the largest first.
fn fold_peaks(peaks: impl DoubleEndedIterator<Item = Hash>) -> Option<Hash> {
    peaks.rev().reduce(|right, left| node_hash(&left, &right))
}

/// The stored nodes that an inclusion proof is made from, so that a store can read them in one go.
///
/// # Errors
/// `index` is not below `size`, or `size` is beyond [`MOST_LEAVES`].
pub fn inclusion_needs(index: u64, size: u64) -> Result<Vec<NodeId>, MerkleError> {
    Ok(inclusion_ranges(index, size)?.into_iter().flatten().collect())
}

/// # Errors
/// As [`inclusion_needs`], and [`MerkleError::MissingNode`] when `fetch` has no answer.
pub fn inclusion_proof(
    index: u64,
    size: u64,
    fetch: &dyn Fn(NodeId) -> Option<Hash>,
) -> Result<Vec<Hash>, MerkleError> {
    assemble(inclusion_ranges(index, size)?, fetch)
}

/// The stored nodes that a consistency proof is made from.
///
/// # Errors
/// `old` is above `new`, or `new` is beyond [`MOST_LEAVES`].
pub fn consistency_needs(old: u64, new: u64) -> Result<Vec<NodeId>, MerkleError> {
    Ok(consistency_ranges(old, new)?.into_iter().flatten().collect())
}

/// The proof from an empty log, and the proof from a log to itself, are empty.
///
/// # Errors
/// As [`consistency_needs`], and [`MerkleError::MissingNode`] when `fetch` has no answer.
pub fn consistency_proof(old: u64, new: u64, fetch: &dyn Fn(NodeId) -> Option<Hash>) -> Result<Vec<Hash>, MerkleError> {
    assemble(consistency_ranges(old, new)?, fetch)
}

fn inclusion_ranges(index: u64, size: u64) -> Result<Vec<Vec<NodeId>>, MerkleError> {
    check_size(size)?;
    if index >= size {
        return Err(MerkleError::NotInLog { index, size });
    }
    let places = indices_for_inclusion_proof(size, index);
    Ok(places.into_iter().map(|place| complete_subtrees(place, size)).collect())
}

fn consistency_ranges(old: u64, new: u64) -> Result<Vec<Vec<NodeId>>, MerkleError> {
    check_size(new)?;
    if old > new {
        return Err(MerkleError::Shrunk { old, new });
    }
    if old == 0 {
        return Ok(Vec::new());
    }
    let places = indices_for_consistency_proof(old, new - old);
    Ok(places.into_iter().map(|place| complete_subtrees(place, new)).collect())
}

fn check_size(size: u64) -> Result<(), MerkleError> {
    if size > MOST_LEAVES {
        return Err(MerkleError::TooLarge { size });
    }
    Ok(())
}

/// `place` is a node in the numbering of RFC 9420's array-based trees, which `ct_merkle` uses: its trailing ones are its level. A node on
/// the ragged right edge is no complete subtree: it is taken apart into those, the largest first.
fn complete_subtrees(place: u64, size: u64) -> Vec<NodeId> {
    let level = place.trailing_ones();
    let first = (place >> (level + 1)) << level;
    let end = (first + (1 << level)).min(size);
    let mut subtrees = Vec::new();
    let mut at = first;
    while at < end {
        let level = (end - at).ilog2();
        subtrees.push(NodeId {
            level: level as u8,
            index: at >> level,
        });
        at += 1 << level;
    }
    subtrees
}

fn assemble(ranges: Vec<Vec<NodeId>>, fetch: &dyn Fn(NodeId) -> Option<Hash>) -> Result<Vec<Hash>, MerkleError> {
    let fetch = |id: &NodeId| {
        fetch(*id).ok_or(MerkleError::MissingNode {
            level: id.level,
            index: id.index,
        })
    };
    let mut proof = Vec::with_capacity(ranges.len());
    for subtrees in &ranges {
        let hashes = subtrees.iter().map(fetch).collect::<Result<Vec<_>, _>>()?;
        proof.extend(fold_peaks(hashes.into_iter()));
    }
    Ok(proof)
}

/// Checks that `record` stands at `index` of the log that has this root.
///
/// # Errors
/// It does not, or the proof is not one for these figures.
pub fn verify_inclusion(record: &[u8], index: u64, size: u64, root: &Hash, proof: &[Hash]) -> Result<(), MerkleError> {
    check_size(size)?;
    let wrong = MerkleError::NotIncluded { index, size };
    let proof = InclusionProof::<Sha256>::try_from_bytes(proof.concat()).map_err(|_| wrong.clone())?;
    RootHash::<Sha256>::new((*root).into(), size)
        .verify_inclusion(&record, index, &proof)
        .map_err(|_| wrong)
}

/// Checks that the old log is the beginning of the new one: nothing was rewritten, dropped or put between.
///
/// # Errors
/// It is not, or the proof is not one for these figures.
pub fn verify_consistency(old: (u64, &Hash), new: (u64, &Hash), proof: &[Hash]) -> Result<(), MerkleError> {
    check_size(new.0)?;
    let wrong = MerkleError::NotConsistent { old: old.0, new: new.0 };
    if old.0 == 0 {
        let empty = proof.is_empty() && *old.1 == empty_root();
        return empty.then_some(()).ok_or(wrong);
    }
    if old.0 > new.0 {
        return Err(MerkleError::Shrunk { old: old.0, new: new.0 });
    }
    let proof = ConsistencyProof::<Sha256>::try_from_bytes(proof.concat()).map_err(|_| wrong.clone())?;
    RootHash::<Sha256>::new((*new.1).into(), new.0)
        .verify_consistency(&RootHash::new((*old.1).into(), old.0), &proof)
        .map_err(|_| wrong)
}

#[cfg(test)]
#[path = "merkle_tests.rs"]
mod tests;
