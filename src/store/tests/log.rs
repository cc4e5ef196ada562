//! The log and the tree over it.

use super::rows::note;
use super::support::BOTH;
use crate::evidence::merkle::{
    Frontier, consistency_needs, consistency_proof, inclusion_needs, inclusion_proof, leaf_hash, verify_inclusion,
};
use crate::store::{Commit, Store};

async fn fill(store: &dyn Store, from: u64, count: u64) {
    let mut next = from;
    while next < from + count {
        let end = (next + 97).min(from + count);
        let log = (next..end).map(|number| note(&format!("entry {number}"))).collect();
        let commit = Commit {
            log,
            ..Commit::default()
        };
        store.commit(commit).await.unwrap();
        next = end;
    }
}

#[tokio::test]
async fn every_proof_can_be_made_from_what_is_stored() {
    for on in BOTH {
        let test = on.opened().await;
        let size = 256 * 5 + 77;
        fill(test.store.as_ref(), 0, 300).await;
        // The right edge is taken up where it was left.
        let test = test.opened_again().await;
        let store = &test.store;
        fill(store.as_ref(), 300, size - 300).await;

        let mut whole = Frontier::new();
        for number in 0..size {
            whole.append(leaf_hash(format!("entry {number}").as_bytes()), &mut Vec::new());
        }
        let state = store.log_state().await.unwrap();
        assert_eq!((state.size, state.root), (size, whole.root()));

        for index in [0, 1, 255, 256, 700, 1279, 1280, size - 1] {
            let needs = inclusion_needs(index, size).unwrap();
            let wanted: Vec<_> = needs.iter().map(|id| (id.level, id.index)).collect();
            let hashes = store.log_nodes(&wanted).await.unwrap();
            let fetch = |id| needs.iter().position(|need| *need == id).map(|place| hashes[place]);
            let proof = inclusion_proof(index, size, &fetch).unwrap();
            verify_inclusion(format!("entry {index}").as_bytes(), index, size, &state.root, &proof).unwrap();
        }
        let needs = consistency_needs(300, size).unwrap();
        let wanted: Vec<_> = needs.iter().map(|id| (id.level, id.index)).collect();
        let hashes = store.log_nodes(&wanted).await.unwrap();
        let fetch = |id| needs.iter().position(|need| *need == id).map(|place| hashes[place]);
        assert!(consistency_proof(300, size, &fetch).is_ok());
        assert!(
            store.log_nodes(&[(8, 5)]).await.is_err(),
            "the sixth tile is not complete"
        );
        assert!(store.log_nodes(&[(3, 200)]).await.is_err());
        assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn the_log_is_read_in_order_and_from_anywhere() {
    for on in BOTH {
        let test = on.opened().await;
        let row = test.run("billing", 0).await;
        fill(test.store.as_ref(), 1, 10).await;
        let page = test.store.log(0, 3).await.unwrap();
        assert_eq!(page.iter().map(|one| one.position).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(page[0].run, Some((row.id, 0)));
        assert_eq!((page[1].run, page[1].bytes.as_slice()), (None, b"entry 1".as_slice()));
        assert_eq!(test.store.log(9, 100).await.unwrap().len(), 2);
        assert!(test.store.log(11, 100).await.unwrap().is_empty());
    }
}
