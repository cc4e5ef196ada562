//! The tree against RFC 6962's own vectors and against its definition, written out naively.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// The leaves of the reference implementation's test vectors (certificate-transparency, `merkle_tree_test.cc`).
const LEAVES: [&[u8]; 8] = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    b"\x50\x51\x52\x53\x54\x55\x56\x57",
    b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
];

/// Their roots, for 1 to 8 leaves.
const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 6962 §2.1, word for word.
fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&naive_root(left), &naive_root(right))
        }
    }
}

/// RFC 6962 §2.1.1.
fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut path, sibling) = if index < left.len() {
        (naive_path(index, left), right)
    } else {
        (naive_path(index - left.len(), right), left)
    };
    path.push(naive_root(sibling));
    path
}

/// RFC 6962 §2.1.2.
fn naive_consistency(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if whole { Vec::new() } else { vec![naive_root(leaves)] };
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut path, sibling) = if old <= left.len() {
        (naive_consistency(old, left, whole), right)
    } else {
        (naive_consistency(old - left.len(), right, false), left)
    };
    path.push(naive_root(sibling));
    path
}

struct Stored {
    records: Vec<Vec<u8>>,
    leaves: Vec<Hash>,
    nodes: HashMap<NodeId, Hash>,
    frontier: Frontier,
}

fn stored(records: Vec<Vec<u8>>) -> Stored {
    let leaves: Vec<Hash> = records.iter().map(|record| leaf_hash(record)).collect();
    let mut frontier = Frontier::new();
    let mut completed = Vec::new();
    for leaf in &leaves {
        frontier.append(*leaf, &mut completed);
        // What a restart does: the frontier goes through its parts.
        frontier = Frontier::from_parts(frontier.size(), frontier.peaks().to_vec()).unwrap();
    }
    let mut nodes: HashMap<_, _> = completed.iter().map(|node| (node.id, node.hash)).collect();
    assert_eq!(nodes.len(), completed.len(), "a node was completed twice");
    nodes.extend(
        (0..)
            .zip(&leaves)
            .map(|(index, leaf)| (NodeId { level: 0, index }, *leaf)),
    );
    Stored {
        records,
        leaves,
        nodes,
        frontier,
    }
}

#[test]
fn roots_are_those_of_the_reference_vectors() {
    assert_eq!(
        hex(&empty_root()),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    assert_eq!(Frontier::new().root(), empty_root());
    for (count, root) in (1..).zip(ROOTS) {
        let records = LEAVES.iter().take(count).map(|leaf| leaf.to_vec()).collect();
        assert_eq!(hex(&stored(records).frontier.root()), root, "{count} leaves");
    }
}

#[test]
fn figures_that_no_log_has_are_refused_and_not_computed_with() {
    let root = [0; 32];
    for size in [MOST_LEAVES + 1, u64::MAX] {
        assert!(verify_inclusion(b"", 0, size, &root, &[]).is_err());
        assert!(verify_consistency((1, &root), (size, &root), &[]).is_err());
        assert!(inclusion_needs(0, size).is_err() && consistency_needs(1, size).is_err());
        assert!(Frontier::from_parts(size, Vec::new()).is_err());
    }
    assert!(verify_inclusion(b"", 5, 5, &root, &[]).is_err());
    assert!(verify_inclusion(b"", 0, 0, &root, &[]).is_err());
    assert!(verify_consistency((2, &root), (1, &root), &[]).is_err());
    assert!(
        verify_consistency((0, &root), (1, &root), &[]).is_err(),
        "the old root is not the empty one"
    );
    assert!(verify_consistency((0, &empty_root()), (1, &root), &[]).is_ok());
    assert!(Frontier::from_parts(3, vec![root]).is_err());
    let missing = inclusion_proof(0, 2, &|_| None).unwrap_err();
    assert_eq!(missing, MerkleError::MissingNode { level: 0, index: 1 });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn proofs_are_those_of_the_definition_and_verify_only_for_what_they_prove(
        records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..4), 1..70),
        pick: prop::sample::Index, pick_old: prop::sample::Index, flip: prop::sample::Index,
    ) {
        let log = stored(records);
        let size = log.leaves.len();
        let root = log.frontier.root();
        prop_assert_eq!(root, naive_root(&log.leaves));
        let fetch = |id: NodeId| log.nodes.get(&id).copied();

        let index = pick.index(size);
        let mut proof = inclusion_proof(index as u64, size as u64, &fetch).unwrap();
        prop_assert_eq!(&proof, &naive_path(index, &log.leaves));
        prop_assert!(inclusion_needs(index as u64, size as u64).unwrap().iter().all(|id| log.nodes.contains_key(id)));
        let verify = |record: &[u8], proof: &[Hash]| verify_inclusion(record, index as u64, size as u64, &root, proof);
        verify(&log.records[index], &proof).unwrap();
        prop_assert!(verify(b"something else", &proof).is_err());
        if !proof.is_empty() {
            let at = flip.index(proof.len());
            proof[at][0] ^= 1;
            prop_assert!(verify(&log.records[index], &proof).is_err());
        }
        proof.push([0; 32]);
        prop_assert!(verify(&log.records[index], &proof).is_err());

        let old = 1 + pick_old.index(size);
        let old_root = naive_root(&log.leaves[..old]);
        let mut proof = consistency_proof(old as u64, size as u64, &fetch).unwrap();
        prop_assert_eq!(&proof, &naive_consistency(old, &log.leaves, true));
        let verify = |old_root: &Hash, proof: &[Hash]| verify_consistency((old as u64, old_root), (size as u64, &root), proof);
        verify(&old_root, &proof).unwrap();
        prop_assert!(verify(&[9; 32], &proof).is_err());
        if !proof.is_empty() {
            let at = flip.index(proof.len());
            proof[at][0] ^= 1;
            prop_assert!(verify(&old_root, &proof).is_err());
        }
    }
}
