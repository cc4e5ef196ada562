//! Commits: all or nothing, one caller apart from the others, durable when answered.

use std::sync::Arc;

use super::rows::{approval, cancel_requested, credential, entry, identity, note, progress};
use super::support::{BOTH, Opened, at, decode, environment, open_at, opened, opened_with, path_in, reopen};
use crate::domain::identity::{CredentialState, IdentityState};
use crate::domain::ids::{CredentialId, IdentityId};
use crate::store::{
    Commit, Committed, Creation, Fact, Guard, Page, PlanStatus, STORE_ID, StoreError, StoreOptions, open_sqlite,
};
use uuid::Uuid;

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    for on in BOTH {
        let test = on.opened().await;
        let row = test.run("billing", 0).await;
        let test = test.opened_again().await;
        let store = &test.store;
        let run = store.run(row.id).await.unwrap().unwrap();
        assert_eq!(run.row, row);
        assert_eq!(run.events.len(), 1);
        assert_eq!(store.identity_named("billing").await.unwrap().unwrap().id, row.identity);
        assert_eq!(store.open_run_of(row.identity).await.unwrap(), Some(row.id));
        assert_eq!(store.log_state().await.unwrap().size, 1);
        assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_guard_that_does_not_hold_stores_nothing_and_takes_no_position() {
    for on in BOTH {
        let test = on.opened().await;
        let row = test.run("billing", 0).await;
        let refused = test
            .store
            .commit(Commit {
                guards: vec![
                    Guard::RunAt {
                        run: row.id,
                        next_seq: 1,
                    },
                    Guard::RunAt {
                        run: row.id,
                        next_seq: 7,
                    },
                ],
                facts: vec![progress(&row, 2, "open", false)],
                log: vec![entry(&row, &cancel_requested(1))],
            })
            .await
            .unwrap();
        assert_eq!(refused, Committed::Refused { guard: 1 });
        assert_eq!(test.store.log_state().await.unwrap().size, 1);
        assert_eq!(test.store.run(row.id).await.unwrap().unwrap().row.next_seq, 1);
    }
}

async fn each(test: &Opened, cases: impl IntoIterator<Item = (Guard, bool)>) {
    for (guard, holds) in cases {
        let text = format!("{guard:?}");
        let commit = Commit {
            guards: vec![guard],
            ..Commit::default()
        };
        let committed = test.store.commit(commit).await.unwrap();
        assert_eq!(matches!(committed, Committed::Stored), holds, "{text}");
    }
}

#[tokio::test]
async fn guards_of_runs_look_at_what_they_name() {
    for on in BOTH {
        let test = on.opened().await;
        let row = test.run("billing", 0).await;
        test.claim("node-1", 0, 10).await;
        let held = |epoch, node: &str| Guard::RunHeld {
            run: row.id,
            node: node.to_owned(),
            epoch,
        };
        let run_at = |next_seq| Guard::RunAt { run: row.id, next_seq };
        let free = |identity| Guard::NoOpenRun { identity };
        let cases = [
            (held(1, "node-1"), true),
            (held(0, "node-1"), false),
            (held(1, "node-2"), false),
            (run_at(1), true),
            (run_at(2), false),
            (free(IdentityId::from_uuid(Uuid::from_u128(404))), true),
            (free(row.identity), false),
        ];
        each(&test, cases).await;
    }
}

/// Row 23.
#[tokio::test]
async fn an_identity_stands_as_it_was_read_or_not() {
    for on in BOTH {
        let test = on.opened().await;
        let identity = test.identity("billing").await;
        let credential = CredentialId::from_uuid(Uuid::from_u128(7));
        let stands = |state, current| Guard::IdentityStands {
            identity: identity.id,
            state,
            current,
        };
        let state = identity.state;
        let cases = [
            (stands(state, identity.current), true),
            (stands(state, Some(credential)), false),
            (stands(IdentityState::Decommissioned, identity.current), false),
        ];
        each(&test, cases).await;
        test.put(vec![Fact::IdentityCurrent {
            id: identity.id,
            credential: Some(credential),
        }])
        .await;
        each(
            &test,
            [
                (stands(state, identity.current), false),
                (stands(state, Some(credential)), true),
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn guards_of_the_register_look_at_what_they_name() {
    for on in BOTH {
        let test = on.opened().await;
        test.identity("billing").await;
        test.put(vec![Fact::Setting {
            key: "freeze",
            value: Some("on".to_owned()),
        }])
        .await;
        let setting = |value: Option<&str>| Guard::SettingIs {
            key: "freeze",
            value: value.map(str::to_owned),
        };
        let at_version = |name: &str, version| Guard::IdentityAt {
            name: name.to_owned(),
            version,
        };
        let resource = |version| Guard::ResourceAt {
            kind: "System",
            name: "orders-db".to_owned(),
            version,
        };
        let below = |limit| Guard::SpentBelow {
            scope: "destructive:p".to_owned(),
            since: at(0),
            limit,
        };
        let plan = Guard::PlanIs {
            plan: approval().plan,
            status: PlanStatus::Rejected,
        };
        let cases = [
            (plan, false),
            (resource(0), true),
            (resource(1), false),
            (at_version("billing", 1), true),
            (at_version("billing", 0), false),
            (at_version("nobody", 0), true),
            (setting(Some("on")), true),
            (setting(None), false),
            (below(1), true),
            (below(0), false),
        ];
        each(&test, cases).await;
    }
}

/// Many callers at once, so that they share groups; every third fails in one of three ways.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_caller_takes_nothing_of_its_neighbours_along() {
    for on in BOTH {
        let test = Arc::new(on.opened().await);
        let taken = test.identity("taken").await;
        let mut tasks = Vec::new();
        for number in 0..300_u128 {
            let test = Arc::clone(&test);
            let taken = taken.clone();
            tasks.push(tokio::spawn(async move {
                let id = IdentityId::from_uuid(Uuid::from_u128(10_000 + number));
                let mut facts = vec![Fact::Identity(identity(id, &format!("name-{number}")))];
                let mut guards = Vec::new();
                match number % 9 {
                    0 => facts.push(Fact::Identity(identity(
                        IdentityId::from_uuid(Uuid::from_u128(1 << 90)),
                        "taken",
                    ))),
                    3 => facts.push(Fact::IdentityState {
                        id: taken.id,
                        to: IdentityState::Discovered,
                    }),
                    6 => guards.push(Guard::IdentityAt {
                        name: "taken".to_owned(),
                        version: 9,
                    }),
                    _ => {}
                }
                let log = vec![note(&format!("entry {number}"))];
                (number, id, test.store.commit(Commit { guards, facts, log }).await)
            }));
        }
        for task in tasks {
            let (number, id, committed) = task.await.unwrap();
            let stored = test.store.identity(id).await.unwrap().is_some();
            match number % 9 {
                0 => assert!(matches!(committed, Err(StoreError::Conflict { .. })), "{committed:?}"),
                3 => assert!(
                    matches!(committed, Err(StoreError::IllegalTransition { .. })),
                    "{committed:?}"
                ),
                6 => assert!(
                    matches!(committed, Ok(Committed::Refused { guard: 0 })),
                    "{committed:?}"
                ),
                _ => assert!(matches!(committed, Ok(Committed::Stored)), "{committed:?}"),
            }
            assert_eq!(stored, number % 3 != 0, "{number}");
        }
        let log = test.store.log(0, 1000).await.unwrap();
        let positions: Vec<u64> = log.iter().map(|entry| entry.position).collect();
        assert_eq!(positions, (0..200).collect::<Vec<_>>());
        assert_eq!(test.store.check().await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_fact_about_something_that_is_not_there_refuses_the_commit() {
    for on in BOTH {
        let test = on.opened().await;
        let nobody = credential(77, IdentityId::from_uuid(Uuid::from_u128(5)));
        let committed = test
            .try_put(vec![
                Fact::Setting {
                    key: "freeze",
                    value: Some("on".to_owned()),
                },
                Fact::CredentialState {
                    id: nobody.id,
                    to: CredentialState::Issued,
                },
            ])
            .await;
        assert!(
            matches!(committed, Err(StoreError::Absent { what: "credential", .. })),
            "{committed:?}"
        );
        assert_eq!(test.store.setting("freeze").await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_life_has_no_edge_that_the_domain_does_not_have() {
    for on in BOTH {
        let test = on.opened().await;
        let owner = test.identity("billing").await;
        let one = credential(1, owner.id);
        test.put(vec![Fact::Credential(one.clone())]).await;
        let to = |to| Fact::CredentialState { id: one.id, to };
        let skipped = test.try_put(vec![to(CredentialState::Active)]).await;
        assert!(
            matches!(skipped, Err(StoreError::IllegalTransition { .. })),
            "{skipped:?}"
        );
        test.put(vec![to(CredentialState::Issued), to(CredentialState::Active)])
            .await;
        // A second attempt records the same state again.
        test.put(vec![to(CredentialState::Active)]).await;
        assert_eq!(
            test.store.credential(one.id).await.unwrap().unwrap().state,
            CredentialState::Active
        );
        let overview = test.store.overview(at(0)).await.unwrap();
        assert_eq!(overview.credentials, [("active".to_owned(), 1)]);
    }
}

#[tokio::test]
async fn the_second_server_on_one_file_is_refused_and_told_who_holds_it() {
    let test = opened().await;
    let error = reopen(&test.path()).await.err().unwrap().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    test.store.close().await.unwrap();
    assert!(matches!(test.store.setting("x").await, Err(StoreError::Closed)));
    assert!(matches!(test.try_put(Vec::new()).await, Err(StoreError::Closed)));
    reopen(&test.path()).await.unwrap();
}

#[tokio::test]
async fn a_server_does_not_begin_an_empty_register_by_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let missing = reopen(&path_in(folder.path())).await;
    assert!(matches!(missing, Err(StoreError::Open { .. })));
    assert!(!path_in(folder.path()).exists());

    let test = opened().await;
    let id = test.store.setting(STORE_ID).await.unwrap().unwrap();
    test.store.close().await.unwrap();
    let mut options = StoreOptions::new(decode);
    options.store_id = Some(id.clone());
    drop(open_at(&test.path(), options.clone()).await.unwrap());
    options.store_id = Some("another".to_owned());
    let error = open_at(&test.path(), options.clone()).await.err().unwrap().to_string();
    assert!(error.contains(&id) && error.contains("another"), "{error}");
    options.creation = Creation::Always;
    assert!(matches!(
        open_at(&test.path(), options).await,
        Err(StoreError::Open { .. })
    ));
}

#[tokio::test]
async fn only_the_owner_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let test = opened().await;
    test.identity("billing").await;
    let mut seen = 0;
    for file in std::fs::read_dir(test.folder()).unwrap() {
        let file = file.unwrap();
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            file.path()
        );
        seen += 1;
    }
    assert_eq!(seen, 4, "the file, its log, its shared memory, its lock");
}

/// A full disk: the commit that finds no room is not stored, half or whole, and the next one works when there is room again.
#[tokio::test]
async fn a_full_store_refuses_the_commit_and_goes_on_when_there_is_room() {
    let mut options = StoreOptions::new(decode);
    options.most_pages = Some(120);
    let test = opened_with(options).await;
    let big = |number: u32| Commit {
        facts: vec![Fact::Setting {
            key: "mark",
            value: Some(number.to_string()),
        }],
        log: vec![note(&"x".repeat(60_000))],
        ..Commit::default()
    };
    let mut stored = 0;
    let error = loop {
        match test.store.commit(big(stored)).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100);
    };
    assert!(matches!(error, StoreError::Unwritable { .. }), "{error:?}");
    assert_eq!(test.store.log_state().await.unwrap().size, u64::from(stored));
    assert_eq!(
        test.store.setting("mark").await.unwrap(),
        Some((stored - 1).to_string())
    );
    test.put(vec![Fact::Setting {
        key: "mark",
        value: Some("small".to_owned()),
    }])
    .await;
    test.store.close().await.unwrap();

    let (_, environment) = environment();
    let store = open_sqlite(&test.path(), StoreOptions::new(decode), environment)
        .await
        .unwrap();
    assert!(matches!(store.commit(big(0)).await, Ok(Committed::Stored)));
    assert_eq!(store.log_state().await.unwrap().size, u64::from(stored) + 1);
    assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
    assert!(
        store
            .identities(&Default::default(), Page::first(1))
            .await
            .unwrap()
            .is_empty()
    );
}
