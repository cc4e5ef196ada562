//! Sealed secrets: one table, and nothing left of what was destroyed (P8).

use super::rows::{credential, secret};
use super::support::{Opened, at, opened};
use crate::domain::digest::Digest;
use crate::store::{Commit, Committed, Fact, Guard, SCRUB_OWED, SecretRow, StoreError};

const CANARY: &[u8] = b"canary-7f3a91c4-sealed-bytes";

fn times_in_files(test: &Opened, needle: &[u8]) -> usize {
    let files = std::fs::read_dir(test.folder()).unwrap();
    let count = |bytes: Vec<u8>| bytes.windows(needle.len()).filter(|window| *window == needle).count();
    files
        .map(|file| count(std::fs::read(file.unwrap().path()).unwrap()))
        .sum()
}

#[tokio::test]
async fn a_destroyed_secret_leaves_no_byte_in_any_file() {
    let test = opened().await;
    let identity = test.identity("billing").await;
    let mut large = secret(2, CANARY);
    large.ciphertext = CANARY.repeat(400);
    let mut of_credential = credential(1, identity.id);
    of_credential.secret = Some(large.id);
    let doomed = [secret(1, CANARY), large];
    test.put(vec![
        Fact::Secret(doomed[0].clone()),
        Fact::Secret(doomed[1].clone()),
        Fact::Credential(of_credential.clone()),
    ])
    .await;
    // Once into the file itself, so that both it and the write-ahead log have held the bytes.
    test.store.scrub().await.unwrap();
    test.put(vec![Fact::SecretRewrapped {
        id: doomed[0].id,
        kek_id: "kek-2".to_owned(),
        wrapped_key: CANARY.to_vec(),
        wrap_nonce: vec![3; 12],
    }])
    .await;
    assert!(times_in_files(&test, CANARY) > 400, "the test sees what it looks for");

    for one in &doomed {
        test.put(vec![Fact::SecretDestroyed { id: one.id, at: at(9) }]).await;
    }
    test.store.scrub().await.unwrap();
    assert_eq!(times_in_files(&test, CANARY), 0);
    let left = test.store.secret(doomed[1].id).await.unwrap().unwrap();
    assert_eq!(left.destroyed_at, Some(at(9)));
    assert!(left.wrapped_key.iter().chain(&left.ciphertext).all(|byte| *byte == 0));
    assert_eq!(
        test.store.credential(of_credential.id).await.unwrap().unwrap().secret,
        None
    );
    // Destroying again keeps the first instant; wrapping what is gone is refused.
    test.put(vec![Fact::SecretDestroyed {
        id: doomed[1].id,
        at: at(99),
    }])
    .await;
    assert_eq!(
        test.store.secret(doomed[1].id).await.unwrap().unwrap().destroyed_at,
        Some(at(9))
    );
    let rewrapped = test
        .try_put(vec![Fact::SecretRewrapped {
            id: doomed[1].id,
            kek_id: "kek-2".to_owned(),
            wrapped_key: vec![1],
            wrap_nonce: vec![1],
        }])
        .await;
    assert!(matches!(rewrapped, Err(StoreError::Absent { what: "secret", .. })));
}

#[tokio::test]
async fn a_scrub_is_owed_until_it_has_succeeded() {
    let test = opened().await;
    let (first, second) = (secret(1, CANARY), secret(2, CANARY));
    test.put(vec![Fact::Secret(first.clone()), Fact::Secret(second.clone())])
        .await;
    let owed = async || test.store.setting(SCRUB_OWED).await.unwrap();
    assert_eq!(owed().await, None);
    // A long reading keeps the write-ahead log from being emptied.
    let reading = rusqlite::Connection::open(test.path()).unwrap();
    reading.execute_batch("begin; select count(*) from secrets;").unwrap();
    test.put(vec![Fact::SecretDestroyed {
        id: first.id,
        at: at(9),
    }])
    .await;
    assert!(test.store.scrub().await.is_err());
    assert_eq!(owed().await, Some(first.id.to_string()));
    drop(reading);
    test.store.scrub().await.unwrap();
    assert_eq!(owed().await, None);
    test.put(vec![Fact::SecretRewrapped {
        id: second.id,
        kek_id: "kek-2".to_owned(),
        wrapped_key: vec![1],
        wrap_nonce: vec![1],
    }])
    .await;
    assert_eq!(owed().await, Some(second.id.to_string()));
}

#[tokio::test]
async fn what_was_sealed_anew_or_put_off_meanwhile_is_not_written_over() {
    let test = opened().await;
    let mut one = secret(1, b"sealed");
    one.destroy_at = Some(at(5));
    test.put(vec![Fact::Secret(one.clone())]).await;
    let try_under = async |guard: Guard| {
        let commit = Commit {
            guards: vec![guard],
            ..Commit::default()
        };
        matches!(test.store.commit(commit).await.unwrap(), Committed::Stored)
    };
    let wrapped = || Guard::SecretWrapped {
        id: one.id,
        wrapped_key: one.wrapped_key.clone(),
    };
    let due = |seconds| Guard::SecretDue {
        id: one.id,
        now: at(seconds),
    };
    assert!(try_under(wrapped()).await);
    assert!(!try_under(due(4)).await && try_under(due(5)).await);
    let mut anew = one.clone();
    anew.wrapped_key = b"under another data key".to_vec();
    test.put(vec![Fact::SecretResealed(anew), Fact::SecretKept { id: one.id }])
        .await;
    assert!(!try_under(wrapped()).await, "it was sealed anew");
    assert!(!try_under(due(9)).await, "its deadline was put off");
}

#[tokio::test]
async fn a_secret_comes_back_as_it_was_sealed() {
    let test = opened().await;
    let mut one = secret(7, b"sealed");
    one.name = Some("orders-admin".to_owned());
    let mut newer = secret(8, b"sealed again");
    newer.name.clone_from(&one.name);
    newer.version = 2;
    test.put(vec![Fact::Secret(one.clone())]).await;
    let same = |a: &SecretRow, b: &SecretRow| {
        assert_eq!((a.id, &a.name, &a.kind, a.version), (b.id, &b.name, &b.kind, b.version));
        assert_eq!(
            (&a.wrapped_key, &a.wrap_nonce, &a.nonce),
            (&b.wrapped_key, &b.wrap_nonce, &b.nonce)
        );
        assert_eq!(
            (&a.ciphertext, &a.kek_id, &a.algorithm),
            (&b.ciphertext, &b.kek_id, &b.algorithm)
        );
        assert_eq!((a.endpoint_digest, a.created_at), (b.endpoint_digest, b.created_at));
    };
    same(&test.store.secret(one.id).await.unwrap().unwrap(), &one);
    same(&test.store.secret_named("orders-admin").await.unwrap().unwrap(), &one);
    test.put(vec![Fact::Secret(newer.clone())]).await;
    same(&test.store.secret_named("orders-admin").await.unwrap().unwrap(), &newer);
    assert!(test.store.secret_named("nobody").await.unwrap().is_none());
}

#[tokio::test]
async fn deadlines_and_keys_find_their_secrets() {
    let test = opened().await;
    for (number, kek) in [(1, "kek-1"), (2, "kek-3"), (3, "kek-2")] {
        let mut one = secret(number, b"sealed");
        one.kek_id = kek.to_owned();
        let id = one.id;
        test.put(vec![Fact::Secret(one)]).await;
        test.put(vec![Fact::SecretDestroyAt {
            id,
            at: at(100 - i64::try_from(number).unwrap()),
        }])
        .await;
    }
    let id = |number| secret(number, b"").id;
    assert_eq!(test.store.secrets_to_destroy(at(98), 10).await.unwrap(), [id(3), id(2)]);
    let others = test.store.secrets_not_under("kek-2", 10).await.unwrap();
    assert_eq!(others.iter().map(|one| one.id).collect::<Vec<_>>(), [id(1), id(2)]);
    assert_eq!(test.store.secrets_not_under("kek-2", 1).await.unwrap().len(), 1);
    test.put(vec![Fact::SecretDestroyed { id: id(3), at: at(98) }]).await;
    assert_eq!(test.store.secrets_to_destroy(at(98), 10).await.unwrap(), [id(2)]);
}

#[tokio::test]
async fn a_secret_that_is_sealed_anew_keeps_its_id_and_is_read_back_as_the_new_one() {
    let test = opened().await;
    let before = secret(7, b"for the old endpoints");
    test.put(vec![Fact::Secret(before.clone())]).await;
    let after = SecretRow {
        version: 2,
        endpoint_digest: Digest::of(b"other endpoints"),
        ..secret(7, b"for the new endpoints")
    };
    test.put(vec![Fact::SecretResealed(after.clone())]).await;
    let found = test.store.secret(before.id).await.unwrap().unwrap();
    assert_eq!(found.endpoint_digest, after.endpoint_digest);
    assert_eq!((found.version, found.ciphertext), (2, after.ciphertext.clone()));
    test.put(vec![Fact::SecretDestroyed {
        id: before.id,
        at: at(9),
    }])
    .await;
    assert!(test.try_put(vec![Fact::SecretResealed(after)]).await.is_err());
}
