//! Several nodes on one database at once: what locks, positions and migrations keep apart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::poll::pause;
use super::rows::{credential, identity, note, progress, write_of};
use super::support::{On, Opened, at};
use crate::domain::identity::{CredentialState, IdentityState};
use crate::domain::ids::{FindingId, IdentityId, RunId};
use crate::evidence::merkle::{Frontier, leaf_hash};
use crate::store::{BudgetSpend, Commit, Committed, Fact, FindingRow, Guard, Store};

const LEASE: SignedDuration = SignedDuration::from_secs(30);
/// More than anybody writes before its run is taken.
const MOST: u32 = 2_000;

/// A store, and the same one as another node has it open.
async fn two_nodes() -> (Arc<Opened>, [Arc<dyn Store>; 2]) {
    let test = Arc::new(On::Postgres.opened().await);
    let nodes = [Arc::clone(&test.store), test.beside().await];
    (test, nodes)
}

/// Row 2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_claimed_by_one_of_two_nodes() {
    let (test, nodes) = two_nodes().await;
    for round in 0..20 {
        let row = test.run(&format!("name-{round}"), 0).await;
        let mut claims = JoinSet::new();
        for number in 0..8 {
            let store = Arc::clone(&nodes[number % 2]);
            claims.spawn(async move { store.claim_runs(&format!("node-{number}"), LEASE, 5).await.unwrap() });
        }
        let claimed: Vec<RunId> = claims
            .join_all()
            .await
            .into_iter()
            .flatten()
            .map(|one| one.row.id)
            .collect();
        assert_eq!(claimed, [row.id], "round {round}");
        assert_eq!(test.store.run(row.id).await.unwrap().unwrap().row.epoch, 1);
    }
}

/// Row 23.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_run_was_taken_writes_nothing_more() {
    let (test, nodes) = two_nodes().await;
    let mut late = 0;
    for round in 0..30_i64 {
        let row = test.run(&format!("name-{round}"), 0).await;
        test.set_clock(round * 100);
        nodes[0].claim_runs("node-1", LEASE, 1).await.unwrap();
        let (loser, held_row) = (Arc::clone(&nodes[0]), row.clone());
        // It writes as fast as it can; its clock is behind, so that only the epoch can stop it.
        let writing = tokio::spawn(async move {
            let mut seq = 1;
            while seq < MOST && loser.commit(write_of(&held_row, "node-1", 1, seq)).await.unwrap() == Committed::Stored
            {
                seq += 1;
            }
        });
        pause(Duration::from_millis(5)).await;
        // As if the lease had run out by the clock of the database alone.
        let bare = test.database().client().await;
        let taken = "update runs set epoch = epoch + 1, node = 'node-2', lease_until = lease_until + 1 where id = $1 returning next_seq";
        let seen: i64 = bare.query_one(taken, &[&row.id.to_string()]).await.unwrap().get(0);
        writing.await.unwrap();
        let after = test.store.run(row.id).await.unwrap().unwrap();
        assert_eq!(
            i64::from(after.row.next_seq),
            seen,
            "round {round}: written after the loss"
        );
        assert_eq!(after.events.len() as i64, seen);
        late += i64::from(seen > 1);
        nodes[1]
            .commit(write_of(&row, "node-2", 2, after.row.next_seq))
            .await
            .unwrap();
        nodes[1].release_leases("node-2").await.unwrap();
        let mut closed = write_of(&row, "node-2", 2, 0);
        (closed.guards, closed.log) = (Vec::new(), Vec::new());
        closed.facts = vec![progress(&row, after.row.next_seq + 1, "closed", true)];
        nodes[1].commit(closed).await.unwrap();
    }
    assert!(late > 0, "no round had written anything when its run was taken");
}

/// Row 9 of the promises: a budget holds across nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_budget_allows_is_spent_once_however_many_ask() {
    let (_test, nodes) = two_nodes().await;
    let spend = |scope: &str| Commit {
        guards: vec![Guard::SpentBelow {
            scope: scope.to_owned(),
            since: at(-10),
            limit: 5,
        }],
        facts: vec![Fact::Spent(BudgetSpend {
            scope: scope.to_owned(),
            at: at(0),
            amount: 1,
            keep: SignedDuration::from_hours(1),
        })],
        log: Vec::new(),
    };
    for round in 0..5 {
        let scope = format!("destructive:{round}");
        let mut spending = JoinSet::new();
        for number in 0..32 {
            let (store, commit) = (Arc::clone(&nodes[number % 2]), spend(&scope));
            spending.spawn(async move { store.commit(commit).await.unwrap() });
        }
        let stored = spending
            .join_all()
            .await
            .into_iter()
            .filter(|one| *one == Committed::Stored)
            .count();
        assert_eq!(stored, 5, "round {round}");
        assert_eq!(nodes[0].spent(&scope, at(-10)).await.unwrap(), 5);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freeze_that_is_answered_is_behind_every_intent() {
    let (test, nodes) = two_nodes().await;
    let mut went_on = 0;
    for round in 0..15 {
        let setting = |value: Option<&str>| Fact::Setting {
            key: "freeze",
            value: value.map(str::to_owned),
        };
        test.put(vec![setting(None)]).await;
        let mut intents = JoinSet::new();
        for number in 0..8 {
            let store = Arc::clone(&nodes[number % 2]);
            intents.spawn(async move {
                let guards = vec![Guard::SettingIs {
                    key: "freeze",
                    value: None,
                }];
                let intent = Commit {
                    guards,
                    facts: Vec::new(),
                    log: (0..20).map(|_| note(&"intent".repeat(200))).collect(),
                };
                while store.commit(intent.clone()).await.unwrap() == Committed::Stored {}
            });
        }
        pause(Duration::from_millis(10)).await;
        test.put(vec![setting(Some("on"))]).await;
        let at_the_answer = nodes[1].log_state().await.unwrap().size;
        intents.join_all().await;
        let at_the_end = nodes[1].log_state().await.unwrap().size;
        assert_eq!(at_the_end, at_the_answer, "round {round}");
        went_on = at_the_end;
    }
    assert!(went_on > 0, "nothing was intended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_counted_at_once_is_counted_right() {
    let (test, nodes) = two_nodes().await;
    let mut tasks = JoinSet::new();
    for number in 0..60_u128 {
        let store = Arc::clone(&nodes[number as usize % 2]);
        tasks.spawn(async move {
            let one = identity(
                IdentityId::from_uuid(Uuid::from_u128(5_000 + number)),
                &format!("name-{number}"),
            );
            let its = credential(10_000 + number, one.id);
            let to = CredentialState::Issued;
            let put = |facts| Commit {
                facts,
                ..Commit::default()
            };
            store
                .commit(put(vec![Fact::Identity(one.clone()), Fact::Credential(its.clone())]))
                .await
                .unwrap();
            store
                .commit(put(vec![Fact::CredentialState { id: its.id, to }]))
                .await
                .unwrap();
        });
    }
    tasks.join_all().await;
    let overview = nodes[1].overview(at(0)).await.unwrap();
    assert_eq!(overview.identities, [("active".to_owned(), 60)]);
    assert_eq!(overview.credentials, [("issued".to_owned(), 60)]);
    assert_eq!(test.store.check().await.unwrap(), Vec::<String>::new());
}

/// One state is changed to another by one of those who try at once, and counted once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_many_change_at_once_is_counted_once() {
    let (test, nodes) = two_nodes().await;
    for round in 0..10_u128 {
        let one = test.identity(&format!("name-{round}")).await;
        let mut tasks = JoinSet::new();
        for number in 0..8 {
            let store = Arc::clone(&nodes[number % 2]);
            let to = IdentityState::Quarantined;
            let facts = vec![Fact::IdentityState { id: one.id, to }];
            tasks.spawn(async move {
                let commit = Commit {
                    facts,
                    ..Commit::default()
                };
                store.commit(commit).await.unwrap()
            });
        }
        tasks.join_all().await;
    }
    assert_eq!(test.store.check().await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_have_no_gaps_and_keep_the_order_of_each_run() {
    let (test, nodes) = two_nodes().await;
    let mut rows = Vec::new();
    for number in 0..8 {
        rows.push(test.run(&format!("name-{number}"), 0).await);
    }
    nodes[0].claim_runs("node-1", LEASE, 8).await.unwrap();
    let mut tasks = JoinSet::new();
    for (number, row) in rows.iter().cloned().enumerate() {
        let store = Arc::clone(&nodes[number % 2]);
        tasks.spawn(async move {
            for seq in 1..=60 {
                let stored = store.commit(write_of(&row, "node-1", 1, seq)).await.unwrap();
                assert_eq!(stored, Committed::Stored);
                if seq % 7 == 0 {
                    // Whoever asks sees what was committed before.
                    let page = store.log(0, 10_000).await.unwrap();
                    assert!(page.iter().any(|one| one.run == Some((row.id, seq))), "{seq}");
                }
            }
        });
    }
    tasks.join_all().await;
    let log = nodes[0].log(0, 10_000).await.unwrap();
    assert_eq!(log.len(), 8 * 61);
    let mut next: BTreeMap<RunId, u32> = BTreeMap::new();
    let mut tree = Frontier::new();
    for (position, one) in log.iter().enumerate() {
        assert_eq!(one.position, position as u64);
        let (run, seq) = one.run.unwrap();
        let wanted = next.entry(run).or_default();
        assert_eq!(seq, *wanted, "position {position}");
        *wanted += 1;
        tree.append(leaf_hash(&one.bytes), &mut Vec::new());
    }
    assert_eq!(nodes[1].log_state().await.unwrap().root, tree.root());
    // The events are no story that a run could tell, which is all that the check may say.
    let problems = test.store.check().await.unwrap();
    assert!(
        problems.iter().all(|one| one.contains("does not follow")),
        "{problems:?}"
    );
}

/// Nobody asks, and the entries get their positions all the same.
#[tokio::test]
async fn positions_are_given_within_a_second() {
    let test = On::Postgres.opened().await;
    test.run("billing", 0).await;
    let bare = test.database().client().await;
    let waiting = async || -> i64 {
        let text = "select count(*) from log where position is null";
        bare.query_one(text, &[]).await.unwrap().get(0)
    };
    let given = async {
        while waiting().await > 0 {
            pause(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), given).await.unwrap();
}

/// Of all who find at one instant that nothing was said of it, one says it; and one says that it is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finding_is_told_once_however_many_find_it() {
    let (_test, nodes) = two_nodes().await;
    let at_once = async |commit: fn(&str) -> Commit, subject: &str| {
        let mut telling = JoinSet::new();
        for number in 0..16 {
            let (store, commit) = (Arc::clone(&nodes[number % 2]), commit(subject));
            telling.spawn(async move { store.commit(commit).await.unwrap() });
        }
        let all = telling.join_all().await;
        all.into_iter().filter(|one| *one == Committed::Stored).count()
    };
    for round in 0..10 {
        let subject = format!("name-{round}");
        let before = nodes[0].log_state().await.unwrap().size;
        assert_eq!(at_once(|subject| told(subject, "late", None), &subject).await, 1);
        assert_eq!(
            at_once(|subject| told(subject, "late", Some("late")), &subject).await,
            0
        );
        // Another text is news, once.
        assert_eq!(
            at_once(|subject| told(subject, "too late", Some("too late")), &subject).await,
            1
        );
        assert_eq!(at_once(over, &subject).await, 1);
        assert_eq!(nodes[1].log_state().await.unwrap().size, before + 3);
    }
}

fn told(subject: &str, text: &str, saying: Option<&str>) -> Commit {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let row = FindingRow {
        id: FindingId::from_uuid(Uuid::from_u128(NUMBER.fetch_add(1, Ordering::Relaxed).into())),
        kind: "overdue".to_owned(),
        subject: subject.to_owned(),
        severity: "high".to_owned(),
        text: text.to_owned(),
        owner: "team-orders".to_owned(),
        raised_at: at(0),
        resolved_at: None,
    };
    let guard = Guard::FindingIsNews {
        kind: row.kind.clone(),
        subject: row.subject.clone(),
        saying: saying.map(str::to_owned),
    };
    Commit {
        guards: vec![guard],
        facts: vec![Fact::Finding(row)],
        log: vec![note("told")],
    }
}

fn over(subject: &str) -> Commit {
    let (kind, subject) = ("overdue", subject.to_owned());
    Commit {
        guards: vec![Guard::FindingIsOpen {
            kind: kind.to_owned(),
            subject: subject.clone(),
        }],
        facts: vec![Fact::FindingResolved {
            kind,
            subject,
            at: at(1),
        }],
        log: vec![note("over")],
    }
}
