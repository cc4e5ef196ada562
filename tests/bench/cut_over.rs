//! Cut-overs on PostgreSQL: issue, prove the new one by a real login, deliver. Keyfall's own share of one, and how many a second of 64 roles.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use jiff::SignedDuration;
use keyfall::domain::workflow::Step;
use keyfall_sdk::{PrincipalRef, SecretValue};
use serde_json::json;
use tokio_postgres::Client;

use super::meter::Meter;
use super::postgres::{Cluster, connect, unique, verifier};
use super::register::{Member, Register, scratch};
use super::watch::{Moment, Watched};
use super::{Size, disk, libpq, median};

const CONCURRENCY: usize = 8;
/// Cut-overs before those that are counted: connections are open then, on both sides, and have done such work before.
const WARM_UP: usize = 2 * CONCURRENCY;

/// From the end of the baseline to the beginning of what follows the delivery: every intent, record and commit of the cut-over is in it.
pub(crate) async fn own_share(size: Size) -> Result<()> {
    let folder = scratch()?;
    let cluster = Cluster::up(folder.path()).await?;
    let meter = Meter::default();
    let register = cluster.register(&meter, 1, json!({ "overlap": "1h" })).await?;
    let mut members = Vec::new();
    for _ in 0..size.runs {
        members.push(due(cluster.member(&register, &unique("app"), false).await?));
    }
    register.register(members).await?;
    let watched = Arc::new(Watched::new(register.steps(), meter.clone()));
    let engine = register.start(Arc::clone(&watched) as _, 1).await?;
    until(|| watched.count(Step::AwaitOverlap) >= size.runs).await?;
    engine.shutdown().await;
    let mut begins: HashMap<_, Moment> = HashMap::new();
    let (mut own, mut walls) = (Vec::new(), Vec::new());
    for seen in watched.seen() {
        match seen.step {
            Step::Baseline => {
                begins.insert(seen.run, seen.ended);
            }
            Step::Promote => {
                if let Some(begin) = begins.get(&seen.run) {
                    let wall = seen.began.at.duration_since(begin.at);
                    let provider = seen.began.provider.saturating_sub(begin.provider);
                    walls.push(wall.as_secs_f64() * 1e3);
                    own.push(wall.saturating_sub(provider).as_secs_f64() * 1e3);
                }
            }
            _ => {}
        }
    }
    ensure!(
        own.len() == size.runs,
        "{} of {} cut-overs were seen",
        own.len(),
        size.runs
    );
    println!(
        "cut_over runs={} own_ms={:.2} wall_ms={:.2} {}",
        size.runs,
        median(own),
        median(walls),
        disk::measure(register.folder())?
    );
    register.store.close().await?;
    Ok(())
}

/// 64 roles, 8 at once, beside the bare statement and login at the same concurrency: by libpq, and by the connector's own code.
pub(crate) async fn many(size: Size) -> Result<()> {
    let folder = scratch()?;
    let cluster = Cluster::up(folder.path()).await?;
    let statements = statements(&cluster, size.runs).await?;
    let (mut ours, mut bare, mut libpq) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..size.rounds.max(1) {
        let by_libpq = libpq::cut_overs_a_second(&cluster.servers, folder.path(), &statements, CONCURRENCY)?;
        let by_hand = bare_once(&cluster, size.runs).await?;
        let by_keyfall = keyfall_once(&cluster, size.runs).await?;
        println!("cut_overs_round keyfall_s={by_keyfall:.0} libpq_s={by_libpq:.0} bare_s={by_hand:.0}");
        libpq.push(by_libpq);
        bare.push(by_hand);
        ours.push(by_keyfall);
    }
    let (ours, libpq, bare) = (median(ours), median(libpq), median(bare));
    println!(
        "cut_overs roles={} conc={CONCURRENCY} rounds={} keyfall_s={ours:.0} libpq_s={libpq:.0} bare_s={bare:.0} per_libpq={:.2} per_bare={:.2} {}",
        size.runs,
        size.rounds,
        ours / libpq,
        ours / bare,
        disk::measure(folder.path())?
    );
    Ok(())
}

/// Roles of their own for libpq, and the statement that puts a ready verifier on each.
async fn statements(cluster: &Cluster, roles: usize) -> Result<Vec<String>> {
    let register = cluster.register(&Meter::default(), 1, json!({})).await?;
    let mut statements = Vec::new();
    for member in members(cluster, &register, roles).await? {
        if let Some(idle) = member.idle {
            let secret = register.draw_secret()?;
            statements.push(format!(
                "ALTER ROLE {} LOGIN PASSWORD '{}'",
                idle.name,
                verifier(&secret)
            ));
        }
    }
    register.store.close().await?;
    Ok(statements)
}

/// Everything before the cut-over is done when the gate opens: then all runs issue, prove and deliver.
async fn keyfall_once(cluster: &Cluster, roles: usize) -> Result<f64> {
    let meter = Meter::default();
    let register = cluster.register(&meter, 1, json!({ "overlap": "1h" })).await?;
    let all = members(cluster, &register, WARM_UP + roles).await?;
    let mut all: Vec<Member> = all.into_iter().map(due).collect();
    let counted = all.split_off(WARM_UP);
    let watched = Arc::new(Watched::new(register.steps(), meter));
    register.register(all).await?;
    let engine = register.start(Arc::clone(&watched) as _, CONCURRENCY).await?;
    until(|| watched.count(Step::AwaitOverlap) >= WARM_UP).await?;
    let wait = SignedDuration::from_secs(6);
    watched.hold_until(register.env.now() + wait);
    let opens = Instant::now() + Duration::try_from(wait)?;
    register.register(counted).await?;
    engine.ring();
    until(|| watched.count(Step::Baseline) >= WARM_UP + roles).await?;
    ensure!(
        Instant::now() < opens,
        "the gate opened before all runs stood before it"
    );
    until(|| watched.count(Step::Promote) >= WARM_UP + roles).await?;
    let took = opens.elapsed();
    engine.shutdown().await;
    register.store.close().await?;
    Ok(per_second(roles, took))
}

async fn bare_once(cluster: &Cluster, roles: usize) -> Result<f64> {
    let register = cluster.register(&Meter::default(), 1, json!({})).await?;
    let mut work = Vec::new();
    for member in members(cluster, &register, WARM_UP + roles).await? {
        let secret = register.draw_secret()?;
        if let Some(idle) = member.idle {
            work.push((idle, verifier(&secret), secret));
        }
    }
    let mut hands = Vec::new();
    for _ in 0..CONCURRENCY {
        hands.push(connect(&cluster.servers, "KEYFALL_PG_PRIMARY_PORT").await?);
    }
    let counted = work.split_off(WARM_UP);
    bare_cut_overs(cluster, &hands, work).await?;
    let began = Instant::now();
    bare_cut_overs(cluster, &hands, counted).await?;
    let took = began.elapsed();
    register.store.close().await?;
    Ok(per_second(roles, took))
}

/// A role, its new verifier, and the secret that this was made of.
type Bare = (PrincipalRef, String, SecretValue);

async fn bare_cut_overs(cluster: &Cluster, hands: &[Client], work: Vec<Bare>) -> Result<()> {
    let work = tokio::sync::Mutex::new(work);
    try_join_all(hands.iter().map(|hand| async {
        loop {
            let Some((role, ready, secret)) = work.lock().await.pop() else {
                return anyhow::Ok(());
            };
            hand.batch_execute(&format!("ALTER ROLE {} LOGIN PASSWORD '{ready}'", role.name))
                .await?;
            let accepted = cluster.login("primary", &role, &secret).await?;
            ensure!(accepted, "{} is refused", role.name);
        }
    }))
    .await?;
    Ok(())
}

async fn members(cluster: &Cluster, register: &Register, roles: usize) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    for _ in 0..roles {
        members.push(cluster.member(register, &unique("app"), false).await?);
    }
    Ok(members)
}

fn due(mut member: Member) -> Member {
    member.is_due = true;
    member
}

fn per_second(count: usize, took: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / took.as_secs_f64()
}

async fn until(is_so: impl Fn() -> bool) -> Result<()> {
    let began = Instant::now();
    let mut beat = tokio::time::interval(Duration::from_millis(1));
    while !is_so() {
        ensure!(
            began.elapsed() < Duration::from_secs(120),
            "the runs do not come so far"
        );
        beat.tick().await;
    }
    Ok(())
}
