//! What happens to the nodes, drawn from a seed: one fault after the other, never on all nodes at once, until enough was rotated.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::cluster::{Cluster, LEASE_SECONDS, NODES};
use super::database::Database;
use super::proxy::Cut;
use super::register::PATIENCE;
use crate::harness::wait_for;

/// Longer than any run holds on to its lease: whoever comes back finds its runs taken.
const TWICE_THE_LEASE: Duration = Duration::from_secs(2 * LEASE_SECONDS + 1);
const DEAD_FOR: Duration = Duration::from_millis(500);
/// Between two faults something is done.
const CALM: Duration = Duration::from_secs(2);

/// How often what happened.
#[derive(Debug, Default)]
pub(super) struct Happened {
    pub(super) kills: u32,
    pub(super) stops: u32,
    pub(super) cuts: u32,
    pub(super) failovers: u32,
}

/// SplitMix64.
pub(super) struct Draw(pub(super) u64);

impl Draw {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Lets time pass, with a bound.
pub(super) fn pass(time: Duration) {
    let began = Instant::now();
    wait_for("time passes", time + PATIENCE, || {
        (began.elapsed() >= time).then_some(())
    });
}

/// One fault on one node, from its beginning to its end. Every kind comes in turn, on a node that is drawn.
pub(super) fn one(cluster: &Cluster, draw: &mut Draw, turn: u32, happened: &mut Happened) {
    let node = &cluster.nodes[usize::try_from(draw.below(NODES as u64)).unwrap()];
    pass(CALM + Duration::from_millis(draw.below(1500)));
    match turn % 4 {
        0 | 2 => {
            node.kill();
            happened.kills += 1;
            pass(DEAD_FOR + Duration::from_millis(draw.below(2000)));
            node.start();
        }
        1 => {
            node.signal(Signal::STOP);
            happened.stops += 1;
            pass(TWICE_THE_LEASE);
            node.signal(Signal::CONT);
        }
        _ => {
            let cut = if draw.below(2) == 0 { Cut::Silent } else { Cut::Closed };
            node.line.cut(cut);
            happened.cuts += 1;
            pass(Duration::from_millis(1000 + draw.below(2000 * LEASE_SECONDS)));
            node.line.heal();
        }
    }
    cluster.wait_for_all();
}

/// The database's primary dies and its standby takes over. Nothing goes on before two people have looked.
pub(super) fn fail_over(cluster: &Cluster, database: &Database, happened: &mut Happened) {
    database.fail_over();
    for node in &cluster.nodes {
        node.line.lead_to(database.port());
    }
    happened.failovers += 1;
    cluster.wait_for_all();
    wait_for("the nodes stand still on the other database", PATIENCE, || {
        cluster.wait_for_all();
        let status = cluster.ask("alice", &["status"])?;
        status["frozen"].as_str().map(drop)
    });
    wait_for("two people let it go on", PATIENCE, || go_on(cluster));
    let mut retried = 0;
    wait_for("what was under way is looked at again", PATIENCE, || {
        let stuck = cluster.ask("alice", &["runs", "--status", "needs_operator"])?;
        let stuck = stuck.as_array()?;
        for run in stuck {
            let id = run["id"].as_str()?;
            retried += 1;
            cluster.ask("alice", &["retry", id, "--reason", "looked at"]);
        }
        stuck.is_empty().then_some(())
    });
    wait_for("nothing holds any more", PATIENCE, || go_on(cluster));
    println!("after the failover {retried} runs were tried again by a person");
}

/// Two people lift what holds. What was under way asks for a person at once, and where that is much of all there is, the breaker opens as well.
fn go_on(cluster: &Cluster) -> Option<()> {
    let status = cluster.ask("alice", &["status"])?;
    let command = match (&status["frozen"], &status["breaker"]) {
        (Value::Null, Value::Null) => return Some(()),
        (Value::Null, _) => "rearm",
        _ => "unfreeze",
    };
    let plan = cluster.ask("alice", &[command, "--reason", "looked at"])?;
    let plan = plan["id"].as_str()?;
    cluster.ask("bob", &["approve", plan, "--yes", "--reason", "looked at"]);
    None
}
