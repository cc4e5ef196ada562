//! Files that must not be opened, and damage that must not go unseen.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use rusqlite::Connection;

use super::rows::{note, progress};
use super::support::{at, decode, open_at, opened, path_in, reopen};
use crate::store::{Commit, Fact, IdentityFilter, Page, StoreError, StoreOptions};

fn change(path: &Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(sql).unwrap();
}

#[tokio::test]
async fn a_file_of_a_newer_keyfall_is_refused() {
    let test = opened().await;
    test.store.close().await.unwrap();
    change(
        &test.path(),
        "insert into refinery_schema_history (version, name, applied_on, checksum) \
         values (9999, 'later', '2030-01-01T00:00:00Z', '1')",
    );
    let error = reopen(&test.path()).await.err().unwrap();
    assert!(
        matches!(&error, StoreError::Open { why } if why.contains("newer keyfall")),
        "{error}"
    );
}

#[tokio::test]
async fn a_file_of_another_program_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = path_in(folder.path());
    change(&path, "create table theirs (x)");
    let before = std::fs::read(&path).unwrap();
    let error = open_at(&path, StoreOptions::new(decode)).await.err().unwrap();
    assert!(
        matches!(&error, StoreError::Open { why } if why.contains("another program")),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let rubbish = folder.path().join("rubbish.db");
    std::fs::write(
        &rubbish,
        b"this is no database, and long enough to be read as one".repeat(100),
    )
    .unwrap();
    let error = open_at(&rubbish, StoreOptions::new(decode)).await.err().unwrap();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

/// Every page but the first is spoiled in turn: what is read of it is damage, never another answer.
#[tokio::test]
async fn a_damaged_page_is_named_and_ends_the_store() {
    let test = opened().await;
    for number in 0..300 {
        test.identity(&format!("name-{number:03}")).await;
    }
    let filter = IdentityFilter::default();
    let all = test.store.identities(&filter, Page::first(1000)).await.unwrap();
    test.store.close().await.unwrap();
    let path = test.path();
    let pages = std::fs::metadata(&path).unwrap().len() / 8192;
    let mut noticed = 0;
    for page in 1..pages {
        let mut file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let mut good = vec![0; 8192];
        file.seek(SeekFrom::Start(page * 8192)).unwrap();
        file.read_exact(&mut good).unwrap();
        file.seek(SeekFrom::Start(page * 8192)).unwrap();
        file.write_all(&[0xA5; 8192]).unwrap();
        match reopen(&path).await {
            Err(StoreError::Damaged { .. } | StoreError::Open { .. }) => noticed += 1,
            Err(other) => panic!("page {page}: {other:?}"),
            Ok(store) => match store.identities(&filter, Page::first(1000)).await {
                Ok(found) => assert_eq!(found, all, "page {page}"),
                Err(StoreError::Damaged { .. }) => {
                    noticed += 1;
                    assert!(matches!(store.setting("x").await, Err(StoreError::Damaged { .. })));
                    let commit = store.commit(Commit::default()).await;
                    assert!(matches!(commit, Err(StoreError::Damaged { .. })), "{commit:?}");
                }
                Err(other) => panic!("page {page}: {other:?}"),
            },
        }
        file.seek(SeekFrom::Start(page * 8192)).unwrap();
        file.write_all(&good).unwrap();
        drop(file);
        let _ = std::fs::remove_file(path.with_extension("db-wal"));
        let _ = std::fs::remove_file(path.with_extension("db-shm"));
    }
    assert!(noticed > 20, "{noticed} of {pages} pages");
    assert!(reopen(&path).await.is_ok(), "the file is as it was");
}

/// What SQLite itself holds to be sound, but which does not follow from what is recorded.
#[tokio::test]
async fn the_deep_check_names_what_does_not_follow() {
    let test = opened().await;
    let row = test.run("billing", 0).await;
    for number in 0..300 {
        let log = vec![note(&format!("entry {number}"))];
        let commit = Commit {
            log,
            ..Commit::default()
        };
        test.store.commit(commit).await.unwrap();
    }
    test.put(vec![progress(&row, 1, "open", false)]).await;
    assert_eq!(test.store.check().await.unwrap(), Vec::<String>::new());
    test.store.close().await.unwrap();
    let path = test.path();
    let sound = std::fs::read(&path).unwrap();
    let unlocked = "drop trigger log_is_not_changed; drop trigger log_is_not_shortened;";
    let cases = [
        ("update log set bytes = x'00' where position = 7".to_owned(), "root"),
        ("delete from log where position = 7".to_owned(), "position 7"),
        (
            "update log_nodes set hash = zeroblob(32)".to_owned(),
            "level 8, place 0",
        ),
        (
            "update runs set status = 'completed', closed_at = 1".to_owned(),
            "its log says open",
        ),
        ("update runs set next_seq = 5".to_owned(), "its row says 5 events"),
        ("update identities set open_run = null".to_owned(), "does not say so"),
        ("update counters set amount = 9".to_owned(), "counters of identities"),
        (
            "insert into secrets values ('sec_x', null, 'k', 1, 'd', 'a', 'k', x'', x'', x'', x'', 0, null, null)"
                .to_owned(),
            "no credential names",
        ),
    ];
    for (sql, wanted) in cases {
        std::fs::write(&path, &sound).unwrap();
        change(&path, &format!("{unlocked}{sql}"));
        let store = reopen(&path).await.unwrap();
        let problems = store.check().await.unwrap();
        assert!(
            problems.iter().any(|problem| problem.contains(wanted)),
            "{sql}: {problems:?}"
        );
        store.close().await.unwrap();
    }
    // A log that was cut does not fit the tree: that is seen at once.
    std::fs::write(&path, &sound).unwrap();
    change(&path, &format!("{unlocked} delete from log where position = 300"));
    assert!(matches!(reopen(&path).await, Err(StoreError::Damaged { .. })));
}

#[tokio::test]
async fn the_log_cannot_be_changed_or_shortened_by_a_statement() {
    let test = opened().await;
    test.run("billing", 0).await;
    test.store.close().await.unwrap();
    let connection = Connection::open(test.path()).unwrap();
    for sql in ["update log set at = 0", "delete from log"] {
        let error = connection.execute(sql, []).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{error}");
    }
}

#[tokio::test]
async fn a_backup_is_a_whole_store_and_overwrites_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let test = opened().await;
    let row = test.run("billing", 0).await;
    let to = test.folder().join("backup.db");
    test.store.backup(&to).await.unwrap();
    assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(test.store.overview(at(0)).await.unwrap().last_backup_at, Some(at(0)));
    let again = test.store.backup(&to).await;
    assert!(matches!(again, Err(StoreError::Unwritable { .. })), "{again:?}");

    let copy = reopen(&to).await.unwrap();
    assert_eq!(copy.run(row.id).await.unwrap().unwrap().row, row);
    assert_eq!(copy.log_state().await.unwrap(), test.store.log_state().await.unwrap());
    assert_eq!(copy.check().await.unwrap(), Vec::<String>::new());
    let id = crate::store::STORE_ID;
    assert_eq!(copy.setting(id).await.unwrap(), test.store.setting(id).await.unwrap());
    copy.commit(Commit {
        facts: vec![Fact::Setting {
            key: "freeze",
            value: Some("restored".to_owned()),
        }],
        ..Commit::default()
    })
    .await
    .unwrap();
}
