//! Everything is due at once: a hundred thousand identities. What is taken away stays inside its budget in every window, what is put off is spread
//! evenly, and the breaker asks a person first. Time is the test's own wherever nothing but time passes.

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use crate::domain::due::{DueFacts, DueReason, DueTerms, due_of, place_in};
use crate::domain::ids::IdentityId;
use crate::domain::resource::{PolicySpec, RotationRule};
use crate::engine::breaker::{BREAKER, Tripped};
use crate::engine::tests::looks::until;
use crate::engine::tests::world::World;
use crate::store::{BudgetSpend, Commit, Committed, Fact, Guard, Page, RunFilter};

const MANY: usize = 100_000;
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// As they are drawn: nearly in the order of time.
fn identities() -> impl Iterator<Item = IdentityId> {
    (0..MANY as u128).map(|number| {
        let random = number.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835) >> 68;
        IdentityId::from_uuid(Uuid::from_u128(
            (0x0199_0000_0000 + number / 100) << 80 | 7 << 76 | random,
        ))
    })
}

/// How many fall into each of `parts` equal parts of the window; each must be within a fifth of its share.
fn assert_flat(
    what: &str,
    from: Timestamp,
    over: SignedDuration,
    parts: usize,
    times: impl Iterator<Item = Timestamp>,
) {
    let mut counts = vec![0_usize; parts];
    let mut all = 0;
    for time in times {
        let place = time.duration_since(from).as_micros() * parts as i128 / (over.as_micros() + 1);
        counts[usize::try_from(place).unwrap()] += 1;
        all += 1;
    }
    let share = all / parts;
    for (part, count) in counts.iter().enumerate() {
        let is_flat = count.abs_diff(share) * 5 <= share;
        assert!(is_flat, "{what}: part {part} holds {count}, a flat share is {share}");
    }
}

/// Row 35.
#[test]
fn what_a_policy_spreads_is_flat() {
    let rule: RotationRule = serde_json::from_value(json!({ "every": "2160h", "spreadPercent": 50 })).unwrap();
    let policy: PolicySpec =
        serde_json::from_value(json!({ "owner": "team", "selector": {}, "rotation": { "every": "2160h" } })).unwrap();
    let proof = terms();
    let times = identities().map(|identity| {
        let terms = DueTerms::new(&rule, policy.overlap, &proof);
        let due = due_of(Some(terms), &DueFacts::fresh(identity, start())).unwrap();
        due.unwrap().0
    });
    assert_flat("a period", start() + DAY * 45, DAY * 45, 45, times);
    let places = identities().map(|identity| place_in(DAY, start(), identity));
    assert_flat("a change", start(), DAY, 24, places);
    println!("COVERED: due at once {MANY}");
}

fn terms() -> crate::domain::proof::ProofTerms {
    crate::domain::proof::ProofTerms {
        vantages: Vec::new(),
        refusals: 3,
        interval: MINUTE,
        settling: SignedDuration::ZERO,
        settling_source: "test".to_owned(),
        give_up_after: HOUR,
    }
}

const LIMIT: u32 = 1_000;

/// One asks for the room to take one thing away.
fn asking(at: Timestamp) -> Commit {
    let scope = "destructive:daily".to_owned();
    let guard = Guard::SpentBelow {
        scope: scope.clone(),
        since: at - HOUR,
        limit: LIMIT,
    };
    let spent = Fact::Spent(BudgetSpend {
        scope,
        at,
        amount: 1,
        keep: HOUR,
    });
    Commit {
        guards: vec![guard],
        facts: vec![spent],
        log: Vec::new(),
    }
}

/// A hundred thousand want something taken away, twice as fast as they may, in simulated hours, on the real store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_want_it_no_window_sees_more_than_its_budget() {
    let world = World::new().await;
    let mut granted: Vec<Timestamp> = Vec::new();
    let mut now = start();
    let mut asked = 0;
    while asked < MANY {
        // Two at each instant, as from two nodes, and bursts at the turn of each hour.
        let wishes: Vec<Timestamp> = (0..500)
            .map(|number| {
                now += SignedDuration::from_millis(if number % 2 == 0 { 3_600 } else { 0 });
                now
            })
            .collect();
        asked += wishes.len();
        let answers = join_all(wishes.iter().map(|at| world.store.commit(asking(*at)))).await;
        for (at, answer) in wishes.iter().zip(answers) {
            if !matches!(answer.unwrap(), Committed::Refused { .. }) {
                granted.push(*at);
            }
        }
    }
    for (first, beyond) in granted.iter().zip(granted.iter().skip(LIMIT as usize)) {
        // The window begins behind its first instant.
        assert!(
            beyond.duration_since(*first) >= HOUR,
            "more than {LIMIT} between {first} and {beyond}"
        );
    }
    let hours = now.duration_since(start()).as_hours();
    let flat = usize::try_from(hours).unwrap() * LIMIT as usize;
    assert!(
        granted.len() * 5 >= flat * 4,
        "{} granted in {hours} hours",
        granted.len()
    );
    println!("COVERED: budgeted actions {asked}");
}

/// Puts identities into the register that have been due for a while.
async fn due_at_once(world: &World, count: usize, overdue: SignedDuration) {
    let pattern = world.due("pattern", overdue).await;
    let pattern = world.store.identity(pattern.id).await.unwrap().unwrap();
    let all: Vec<usize> = (1..count).collect();
    for chunk in all.chunks(5_000) {
        let facts = chunk.iter().map(|number| {
            let mut identity = pattern.clone();
            identity.id = IdentityId::from_uuid(world.env.draw_uuid());
            identity.name = format!("app-{number}");
            identity.current = None;
            Fact::Identity(identity)
        });
        world.put(facts.collect()).await;
    }
}

/// Rows 1, 35.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_due_at_once_open_the_breaker_and_nothing_else_through_restarts() {
    let world = World::new().await;
    due_at_once(&world, MANY, MINUTE).await;
    for _ in 0..2 {
        let engine = world.start().await;
        let tripped = until("the breaker is open", || async {
            world.store.setting(BREAKER).await.unwrap()
        })
        .await;
        assert!(Tripped::of_setting(&tripped).due > 20_000, "{tripped}");
        engine.shutdown().await;
    }
    let runs = world.store.runs(&RunFilter::default(), Page::first(1)).await.unwrap();
    assert_eq!(runs, vec![]);
    assert_eq!(world.steps.called(), vec![]);
}

/// Row 35. The server was off while more came due than the budget lets end in one window.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_due_while_nothing_could_be_opened_is_spread_over_the_budgets_windows() {
    const COUNT: usize = 400;
    let world = World::with_policy(json!({ "budget": { "destructive": 10, "per": "1h" } })).await;
    due_at_once(&world, COUNT, HOUR * 2).await;
    let urgent = world.due("urgent", HOUR * 2).await;
    let leaked = Fact::IdentityDue {
        id: urgent.id,
        due: Some((world.env.now() - HOUR * 2, DueReason::Compromised)),
    };
    world.put(vec![leaked]).await;
    let before = world.env.now();
    let engine = world.start().await;
    world.until_status(&urgent, "completed").await;
    engine.shutdown().await;
    let after = world.env.now();
    let mut places = Vec::new();
    for number in 1..COUNT {
        let identity = world
            .store
            .identity_named(&format!("app-{number}"))
            .await
            .unwrap()
            .unwrap();
        let (at, reason) = identity.due.unwrap();
        assert_eq!(reason, DueReason::MaxAge);
        assert!(at >= before && at <= after + HOUR * 40, "{at}");
        places.push(at);
    }
    assert_flat(
        "late ones",
        before,
        HOUR * 40 + after.duration_since(before),
        4,
        places.into_iter(),
    );
    // Placed once: another start leaves each where it is.
    let engine = world.start().await;
    until("a pass was made", || async {
        (engine.status().last_pass.took.as_nanos() > 0).then_some(())
    })
    .await;
    engine.shutdown().await;
    let log = world.store.log(0, 1_000).await.unwrap();
    let spread = log
        .iter()
        .filter(|entry| String::from_utf8_lossy(&entry.bytes).contains("late_spread"));
    assert_eq!(spread.count(), 1);
}
