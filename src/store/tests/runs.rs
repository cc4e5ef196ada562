//! Claims, leases and what is due: a run has one holder, and a holder that lost it changes nothing (P10).

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::SignedDuration;

use super::rows::{cancel_requested, due, entry, progress, write_of};
use super::support::{BOTH, at};
use crate::domain::due::DueReason;
use crate::domain::identity::IdentityState;
use crate::domain::ids::RunId;
use crate::store::{Commit, Committed, DueIdentity, Fact, Guard, Page, RunFilter};

#[tokio::test]
async fn a_claim_brings_the_longest_overdue_first_with_their_events() {
    for on in BOTH {
        let test = on.opened().await;
        let late = test.run("late", 5).await;
        let early = test.run("early", 1).await;
        let _future = test.run("future", 100).await;
        let lease = SignedDuration::from_secs(30);
        test.set_clock(10);
        let claimed = test.store.claim_runs("node-1", lease, 10).await.unwrap();
        let seen: Vec<_> = claimed
            .iter()
            .map(|one| (one.row.id, one.epoch, one.events.len()))
            .collect();
        assert_eq!(seen, [(early.id, 1, 1), (late.id, 1, 1)]);
        assert_eq!(claimed[0].row.lease_until, Some(at(40)));
        assert_eq!(claimed[0].row.node.as_deref(), Some("node-1"));
        // Held, so nobody else gets them; over at its end.
        assert_eq!(test.claim("node-2", 11, 10).await, []);
        assert_eq!(test.claim("node-2", 40, 1).await, [early.id]);
        assert_eq!(test.store.run(early.id).await.unwrap().unwrap().row.epoch, 2);
    }
}

/// Row 2.
#[tokio::test]
async fn a_node_that_lost_its_lease_changes_nothing() {
    for on in BOTH {
        let test = on.opened().await;
        let row = test.run("billing", 0).await;
        test.claim("node-1", 0, 1).await;
        test.set_clock(1);
        let stored = test.store.commit(write_of(&row, "node-1", 1, 1)).await.unwrap();
        assert!(matches!(stored, Committed::Stored));

        // Over, although nobody has taken it yet.
        test.set_clock(30);
        let refused = test.store.commit(write_of(&row, "node-1", 1, 2)).await.unwrap();
        assert_eq!(refused, Committed::Refused { guard: 0 });
        let minute = SignedDuration::from_mins(1);
        let lost = test.store.renew_leases("node-1", &[(row.id, 1)], minute).await.unwrap();
        assert_eq!(lost, [row.id]);

        // Taken by another, and then by the same node under a new number.
        test.claim("node-2", 31, 1).await;
        let refused = test.store.commit(write_of(&row, "node-1", 1, 2)).await.unwrap();
        assert_eq!(refused, Committed::Refused { guard: 0 });
        test.claim("node-1", 61, 1).await;
        let zombie = test.store.commit(write_of(&row, "node-1", 1, 2)).await.unwrap();
        assert_eq!(zombie, Committed::Refused { guard: 0 });
        let holder = test.store.commit(write_of(&row, "node-1", 3, 2)).await.unwrap();
        assert!(matches!(holder, Committed::Stored));
        assert_eq!(test.store.run(row.id).await.unwrap().unwrap().events.len(), 3);
    }
}

#[tokio::test]
async fn leases_are_prolonged_and_given_up() {
    for on in BOTH {
        let test = on.opened().await;
        let row = test.run("billing", 0).await;
        let other = test.run("other", 0).await;
        test.claim("node-1", 0, 1).await;
        let held = [(row.id, 1), (other.id, 1)];
        assert_eq!(
            test.store
                .renew_leases("node-1", &held, SignedDuration::from_secs(90))
                .await
                .unwrap(),
            [other.id]
        );
        assert_eq!(
            test.store.run(row.id).await.unwrap().unwrap().row.lease_until,
            Some(at(90))
        );
        assert_eq!(test.claim("node-2", 60, 5).await, [other.id]);
        assert_eq!(test.store.release_leases("node-1").await.unwrap(), 1);
        assert_eq!(test.claim("node-2", 60, 5).await, [row.id]);
        // A write that releases gives it up too.
        let mut commit = write_of(&row, "node-2", 2, 1);
        commit.facts = vec![progress(&row, 2, "open", true)];
        test.store.commit(commit).await.unwrap();
        assert_eq!(test.claim("node-3", 61, 5).await, [row.id]);
    }
}

#[tokio::test]
async fn a_run_that_goes_on_keeps_its_number_and_wakes_when_it_asks_to() {
    for on in BOTH {
        let test = on.opened().await;
        let row = test.run("billing", 0).await;
        test.claim("node-1", 0, 1).await;
        let went = |next_seq, wake| Fact::RunProgress {
            run: row.id,
            status: "open".to_owned(),
            step: Some("deliver"),
            next_seq,
            wake_at: Some(at(wake)),
            release: false,
        };
        let stored = async |next_seq: u32, wake: i64| {
            test.set_clock(i64::from(next_seq));
            let mut commit = write_of(&row, "node-1", 1, next_seq - 1);
            commit.facts = vec![went(next_seq, wake)];
            commit.log[0].at = at(i64::from(next_seq));
            test.store.commit(commit).await.unwrap();
            test.store.run(row.id).await.unwrap().unwrap().row
        };
        // Awake: where the log ends is kept, and the run stays as claimable behind its lease as it was.
        let on = stored(2, 2).await;
        assert_eq!(
            (on.next_seq, on.step.as_deref(), on.wake_at),
            (2, Some("deliver"), Some(at(0)))
        );
        // A wish for later is kept to the letter, and taken back by going on.
        assert_eq!(stored(3, 500).await.wake_at, Some(at(500)));
        assert_eq!(stored(4, 4).await.wake_at, Some(at(4)));
        assert_eq!(test.claim("node-2", 60, 5).await, [row.id]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_at_once_never_overlap() {
    for on in BOTH {
        let test = Arc::new(on.opened().await);
        for number in 0..60 {
            test.run(&format!("name-{number}"), 0).await;
        }
        let claimers = (0..12).map(|node| {
            let test = Arc::clone(&test);
            tokio::spawn(async move { test.claim(&format!("node-{node}"), 1, 7).await })
        });
        let mut all = Vec::new();
        for claimer in claimers.collect::<Vec<_>>() {
            all.extend(claimer.await.unwrap());
        }
        assert_eq!(all.len(), 60);
        assert_eq!(all.iter().collect::<BTreeSet<&RunId>>().len(), 60);
    }
}

#[tokio::test]
async fn the_next_wake_is_that_of_a_free_run_or_the_end_of_a_lease() {
    for on in BOTH {
        let test = on.opened().await;
        assert_eq!(test.store.next_wake().await.unwrap(), None);
        test.run("first", 5).await;
        test.run("second", 50).await;
        assert_eq!(test.store.next_wake().await.unwrap(), Some(at(5)));
        test.claim("node-1", 10, 1).await;
        assert_eq!(test.store.next_wake().await.unwrap(), Some(at(40)));
        test.store.release_leases("node-1").await.unwrap();
        assert_eq!(test.store.next_wake().await.unwrap(), Some(at(5)));
    }
}

#[tokio::test]
async fn due_is_who_is_active_idle_and_past_its_time() {
    for on in BOTH {
        let test = on.opened().await;
        let first = test.identity("first").await;
        let second = test.identity("second").await;
        let later = test.identity("later").await;
        let quarantined = test.identity("quarantined").await;
        let busy = test.run("busy", 0).await;
        let busy_identity = test.store.identity(busy.identity).await.unwrap().unwrap();
        test.put(vec![
            due(&second, 20),
            due(&first, 10),
            due(&later, 1000),
            due(&quarantined, 5),
            due(&busy_identity, 5),
            Fact::IdentityState {
                id: quarantined.id,
                to: IdentityState::Quarantined,
            },
        ])
        .await;
        let expected = |identity: &crate::domain::identity::Identity, seconds| DueIdentity {
            id: identity.id,
            due_at: at(seconds),
            reason: DueReason::MaxAge,
        };
        let due_now = test.store.due_identities(at(20), None, 10).await.unwrap();
        assert_eq!(due_now, [expected(&first, 10), expected(&second, 20)]);
        let behind = test
            .store
            .due_identities(at(20), Some((at(10), first.id)), 10)
            .await
            .unwrap();
        assert_eq!(behind, [expected(&second, 20)]);
        assert_eq!(test.store.count_due(at(20), 10).await.unwrap(), 2);
        assert_eq!(test.store.count_due(at(20), 1).await.unwrap(), 1);
        // Overdue is what has been due for an hour.
        assert_eq!(test.store.overview(at(20)).await.unwrap().overdue, 0);
        assert_eq!(test.store.overview(at(20 + 3600)).await.unwrap().overdue, 2);
        // Its run is over: it is due again.
        test.put(vec![progress(&busy, 1, "unwound", false)]).await;
        let due_now = test.store.due_identities(at(20), None, 1).await.unwrap();
        assert_eq!(due_now, [expected(&busy_identity, 5)]);
    }
}

#[tokio::test]
async fn what_is_put_off_is_what_stands_as_it_was_read() {
    for on in BOTH {
        let test = on.opened().await;
        let was = (at(5), DueReason::MaxAge);
        let late = test.identity("late").await;
        let rotated = test.identity("rotated").await;
        let leaked = test.identity("leaked").await;
        for one in [&late, &rotated, &leaked] {
            test.put(vec![due(one, 5)]).await;
        }
        let running = test.run("running", 0).await.identity;
        let is_due = |id, due| Fact::IdentityDue { id, due: Some(due) };
        test.put(vec![is_due(running, was)]).await;
        // What becomes of three of them between a look and the write that goes by it.
        let next = (at(9_000), DueReason::MaxAge);
        let leak = (at(5), DueReason::Compromised);
        test.put(vec![is_due(rotated.id, next), is_due(leaked.id, leak)]).await;
        let put_off = |id| Fact::IdentityPutOff { id, was, to: at(700) };
        test.put([late.id, rotated.id, leaked.id, running].map(put_off).into())
            .await;
        for (id, expected) in [
            (late.id, (at(700), DueReason::MaxAge)),
            (rotated.id, next),
            (leaked.id, leak),
            (running, was),
        ] {
            let found = test.store.identity(id).await.unwrap().unwrap();
            assert_eq!(found.due, Some(expected), "{on:?}: {}", found.name);
        }
    }
}

#[tokio::test]
async fn a_run_that_cannot_be_read_keeps_no_other_from_its_claim() {
    for on in BOTH {
        let test = on.opened().await;
        let before = test.run("before", 0).await;
        let spoilt = test.run("spoilt", 1).await;
        let behind = test.run("behind", 2).await;
        let mut bytes = entry(&spoilt, &cancel_requested(1));
        bytes.bytes = b"of a later Keyfall".to_vec();
        let guards = Vec::new();
        let log = vec![bytes];
        test.store
            .commit(Commit {
                guards,
                facts: Vec::new(),
                log,
            })
            .await
            .unwrap();

        test.set_clock(10);
        let lease = SignedDuration::from_secs(30);
        let claimed = test.store.claim_runs("node-1", lease, 10).await.unwrap();
        let seen: Vec<_> = (claimed.iter())
            .map(|one| (one.row.id, one.events.len(), one.unreadable.is_some()))
            .collect();
        assert_eq!(
            seen,
            [(before.id, 1, false), (spoilt.id, 0, true), (behind.id, 1, false)],
            "{on:?}"
        );

        // Its holder sets it aside, and nobody else could.
        let aside = |epoch| Commit {
            guards: vec![Guard::RunHeld {
                run: spoilt.id,
                node: "node-1".to_owned(),
                epoch,
            }],
            facts: vec![Fact::RunSetAside {
                run: spoilt.id,
                until: at(5_000),
            }],
            log: Vec::new(),
        };
        let refused = test.store.commit(aside(2)).await.unwrap();
        assert_eq!(refused, Committed::Refused { guard: 0 });
        assert_eq!(test.store.commit(aside(1)).await.unwrap(), Committed::Stored);
        assert_eq!(test.claim("node-2", 41, 10).await, [before.id, behind.id], "{on:?}");
        assert_eq!(test.claim("node-2", 4_999, 10).await, [before.id, behind.id], "{on:?}");
        assert!(test.claim("node-2", 5_000, 10).await.contains(&spoilt.id), "{on:?}");
        let rows = test.store.runs(&RunFilter::default(), Page::first(9)).await.unwrap();
        let row = rows.iter().find(|row| row.id == spoilt.id).unwrap();
        assert_eq!(
            (row.status.as_str(), row.next_seq),
            (spoilt.status.as_str(), spoilt.next_seq)
        );
    }
}
