//! Nodes: one living process to a name, one sum of what all of them use of a system, and no run of steps that a binary does not know.

use jiff::SignedDuration;

use super::rows::{entry, opening, run_row};
use super::support::{BOTH, Opened, at};
use crate::domain::ids::RunId;
use crate::store::{Commit, Fact, Heard, NodeSays, Share, ShareAsk};

const BELIEVED: SignedDuration = SignedDuration::from_secs(15);

fn says(instance: &str, starts: bool) -> NodeSays {
    NodeSays {
        name: "node-1".to_owned(),
        instance: instance.to_owned(),
        version: "0.1.0".to_owned(),
        workflow: 1,
        address: "https://node-1:7411".to_owned(),
        clock_ahead: SignedDuration::from_millis(-20),
        draining: false,
        starts,
        gone: false,
        believed_for: BELIEVED,
        ended: None,
    }
}

async fn say(test: &Opened, second: i64, says: NodeSays) -> Option<String> {
    test.set_clock(second);
    match test.store.say(&says).await.unwrap() {
        Heard::Ours => None,
        Heard::Taken { by } => Some(by.instance),
    }
}

/// Row 2.
#[tokio::test]
async fn a_name_is_one_living_process() {
    for on in BOTH {
        let test = on.opened().await;
        assert_eq!(say(&test, 0, says("one", true)).await, None);
        assert_eq!(say(&test, 10, says("one", false)).await, None);
        assert_eq!(
            say(&test, 25, says("two", true)).await.as_deref(),
            Some("one"),
            "it was heard 15 s ago"
        );
        assert_eq!(
            say(&test, 26, says("two", true)).await,
            None,
            "it was silent for longer"
        );
        assert_eq!(
            say(&test, 27, says("one", false)).await.as_deref(),
            Some("two"),
            "back from the dead"
        );
        let last = NodeSays {
            gone: true,
            ..says("two", false)
        };
        assert_eq!(say(&test, 30, last).await, None);
        let gone = test.store.nodes().await.unwrap();
        assert_eq!((gone[0].gone_at, gone[0].started_at), (Some(at(30)), at(26)));
        // A word that was on its way when the last one was said.
        assert_eq!(say(&test, 31, says("two", false)).await, None);
        assert_eq!(test.store.nodes().await.unwrap()[0].gone_at, Some(at(30)));
        assert_eq!(say(&test, 31, says("three", true)).await, None, "the last one has left");
        let now = test.store.nodes().await.unwrap();
        assert_eq!(
            (now.len(), now[0].gone_at, now[0].instance.as_str()),
            (1, None, "three")
        );
        assert_eq!(now[0].clock_ahead, SignedDuration::from_millis(-20));
    }
}

fn ask(node: &str, slots: u32, calls: u32) -> ShareAsk {
    ShareAsk {
        system: "db".to_owned(),
        node: node.to_owned(),
        slots: Some(slots),
        concurrency: 8,
        slots_for: SignedDuration::from_secs(30),
        calls,
        calls_per_second: 10,
        leave_alone_for: None,
    }
}

/// Row 2.
#[tokio::test]
async fn the_name_of_one_that_is_known_to_have_ended_is_free_at_once() {
    for on in BOTH {
        let test = on.opened().await;
        assert_eq!(say(&test, 0, says("one", true)).await, None);
        let heir = |of: &str| NodeSays {
            ended: Some(of.to_owned()),
            ..says("two", true)
        };
        let refused = say(&test, 1, heir("another")).await;
        assert_eq!(refused.as_deref(), Some("one"), "that was not who has the name");
        assert_eq!(say(&test, 1, heir("one")).await, None);
        assert_eq!(say(&test, 2, says("one", false)).await.as_deref(), Some("two"));
    }
}

/// Row 29.
#[tokio::test]
async fn what_nodes_use_of_a_system_is_one_sum() {
    for on in BOTH {
        let test = on.opened().await;
        let draw = async |second, ask: ShareAsk| -> Share {
            test.set_clock(second);
            test.store.draw_share(&ask).await.unwrap()
        };
        let first = draw(0, ask("a", 5, 6)).await;
        assert_eq!((first.slots, first.calls), (5, 6));
        let second = draw(0, ask("b", 5, 6)).await;
        assert_eq!((second.slots, second.calls), (3, 4), "what the first left");
        let third = draw(0, ask("c", 5, 6)).await;
        assert_eq!((third.slots, third.calls), (0, 0));
        assert!(third.more_calls_in > SignedDuration::ZERO && third.more_calls_in < SignedDuration::from_millis(101));
        let other = ShareAsk {
            system: "cache".to_owned(),
            ..ask("c", 5, 6)
        };
        assert_eq!(draw(0, other).await.slots, 5, "another system has room of its own");
        let fewer = draw(1, ask("a", 1, 0)).await;
        assert_eq!(fewer.slots, 1);
        assert_eq!(draw(1, ask("c", 5, 20)).await.slots, 4);
        // A node that says nothing more gives its slots back by the time.
        assert_eq!(draw(31, ask("c", 8, 1)).await.slots, 8);
    }
}

/// Row 29.
#[tokio::test]
async fn a_system_that_fails_for_one_node_is_left_alone_by_all() {
    for on in BOTH {
        let test = on.opened().await;
        let fails = ShareAsk {
            leave_alone_for: Some(SignedDuration::from_secs(8)),
            ..ask("a", 1, 0)
        };
        test.store.draw_share(&fails).await.unwrap();
        test.set_clock(3);
        let seen = test.store.draw_share(&ask("b", 1, 0)).await.unwrap();
        assert_eq!(seen.left_alone_for, Some(SignedDuration::from_secs(5)));
        let shorter = ShareAsk {
            leave_alone_for: Some(SignedDuration::from_secs(1)),
            ..ask("b", 1, 0)
        };
        let seen = test.store.draw_share(&shorter).await.unwrap();
        assert_eq!(
            seen.left_alone_for,
            Some(SignedDuration::from_secs(5)),
            "the longer pause stands"
        );
        test.set_clock(8);
        assert_eq!(
            test.store.draw_share(&ask("b", 1, 0)).await.unwrap().left_alone_for,
            None
        );
    }
}

/// Row 34.
#[tokio::test]
async fn a_run_of_steps_that_are_not_known_is_left_to_who_knows_them() {
    for on in BOTH {
        let test = on.opened().await;
        let known = test.run("known", 5).await;
        let identity = test.identity("newer").await;
        let mut row = run_row(RunId::from_uuid(test.uuid()), &identity, 1);
        row.workflow = crate::domain::workflow::WORKFLOW_VERSION + 1;
        let commit = Commit {
            facts: vec![Fact::RunOpened(row.clone())],
            log: vec![entry(&row, &opening(&row))],
            ..Commit::default()
        };
        test.store.commit(commit).await.unwrap();
        assert_eq!(
            test.store.next_wake().await.unwrap(),
            Some(at(5)),
            "nobody is woken for it"
        );
        assert_eq!(test.claim("node-1", 10, 10).await, [known.id]);
        assert_eq!(test.claim("node-1", 11, 10).await, []);
        let later = test.store.runs_of_later_workflows(10).await.unwrap();
        assert_eq!(later.iter().map(|row| row.id).collect::<Vec<_>>(), [row.id]);
        let held = test.store.runs_in_hands(10).await.unwrap();
        assert_eq!(held.iter().map(|row| row.id).collect::<Vec<_>>(), [known.id]);
    }
}
