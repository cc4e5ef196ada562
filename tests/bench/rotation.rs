//! One whole rotation on PostgreSQL, proven at a primary and a replica, beside the bare statements and logins that it needs, done by hand.
//! The waits that the settling window asks for are taken out of both.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::{try_join, try_join_all};
use keyfall::domain::workflow::EventBody;
use keyfall::store::{Page, RunFilter};
use keyfall_sdk::{PrincipalRef, SecretValue};
use serde_json::json;
use tokio_postgres::Client;

use super::meter::Meter;
use super::postgres::{Cluster, VANTAGES, connect, unique, verifier};
use super::register::{Register, scratch};
use super::{Size, disk, median};

/// Rounds of a proof.
const REFUSALS: usize = 3;

pub(crate) async fn one_beside_by_hand(size: Size) -> Result<()> {
    let folder = scratch()?;
    let cluster = Cluster::up(folder.path()).await?;
    let register = cluster.register(&Meter::default(), VANTAGES.len(), json!({})).await?;
    let hands = [
        connect(&cluster.servers, "KEYFALL_PG_PRIMARY_PORT").await?,
        connect(&cluster.servers, "KEYFALL_PG_REPLICA_PORT").await?,
    ];
    let engine = register.start(register.steps(), 1).await?;
    let (mut whole, mut by_hand) = (Vec::new(), Vec::new());
    // The first of each opens what is kept open afterwards.
    for number in 0..=size.runs {
        let bare = by_hand_once(&cluster, &register, &hands).await?;
        let ours = keyfall_once(&cluster, &register, &engine).await?;
        if number > 0 {
            by_hand.push(bare.as_secs_f64() * 1e3);
            whole.push(ours.as_secs_f64() * 1e3);
        }
    }
    engine.shutdown().await;
    let (whole, by_hand) = (median(whole), median(by_hand));
    println!(
        "rotation runs={} keyfall_ms={whole:.2} by_hand_ms={by_hand:.2} ratio={:.2} {}",
        size.runs,
        whole / by_hand,
        disk::measure(register.folder())?
    );
    register.store.close().await?;
    Ok(())
}

/// From ringing the engine to the closed run, without what the log says was waited for.
async fn keyfall_once(
    cluster: &Cluster,
    register: &Register,
    engine: &keyfall::engine::EngineHandle,
) -> Result<Duration> {
    let name = unique("app");
    register
        .register(vec![cluster.member(register, &name, false).await?])
        .await?;
    register.make_due(&name).await?;
    let began = Instant::now();
    engine.ring();
    register.until_idle(engine).await?;
    let wall = began.elapsed();
    let latest = register.store.runs(&RunFilter::default(), Page::first(1)).await?;
    let run = latest.first().context("a run was opened")?;
    ensure!(run.status == "completed", "the run closed as {}", run.status);
    let run = register.store.run(run.id).await?.context("the run is stored")?;
    let waits = run.events.iter().filter_map(|event| match &event.body {
        EventBody::Waiting { until, .. } => Duration::try_from(until.duration_since(event.at)).ok(),
        _ => None,
    });
    Ok(wall.saturating_sub(waits.sum()))
}

/// The same statements and logins, with nothing between them: no intent, no record, no delivery.
async fn by_hand_once(cluster: &Cluster, register: &Register, hands: &[Client; 2]) -> Result<Duration> {
    let member = cluster.member(register, &unique("hand"), false).await?;
    let (old, new) = (member.current.principal, member.idle.context("the idle account")?);
    let (old_secret, new_secret, wrong) = (member.current.secret, register.draw_secret()?, register.draw_secret()?);
    let ready = verifier(&new_secret);
    let [primary, _] = hands;
    let read = |principal: &PrincipalRef| {
        format!(
            "SELECT r.oid, r.rolname, r.rolcanlogin, r.rolvaliduntil, a.rolpassword FROM pg_roles r JOIN pg_authid a USING (oid) WHERE r.rolname = '{}'",
            principal.name
        )
    };
    let began = Instant::now();
    primary.batch_execute(&read(&old)).await?;
    primary.batch_execute(&read(&new)).await?;
    logins(cluster, &[(&old, &old_secret, true)]).await?;
    primary
        .batch_execute(&format!("ALTER ROLE {} LOGIN PASSWORD '{ready}'", new.name))
        .await?;
    logins(cluster, &[(&new, &new_secret, true)]).await?;
    primary
        .batch_execute(&format!("ALTER ROLE {} PASSWORD NULL", old.name))
        .await?;
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{}'",
        old.name
    );
    end_sessions(hands, &end).await?;
    let so_far = began.elapsed();
    until_refused(cluster, &old, &old_secret).await?;
    let began = Instant::now();
    for _ in 0..REFUSALS {
        let round = [
            (&old, &old_secret, false),
            (&new, &new_secret, true),
            (&old, &wrong, false),
        ];
        logins(cluster, &round).await?;
        primary.batch_execute(&read(&old)).await?;
    }
    // Whoever was let in at the replica before it refused is still there, and no refused login ends a session.
    end_sessions(hands, &end).await?;
    primary
        .batch_execute(&format!("ALTER ROLE {} NOLOGIN", old.name))
        .await?;
    primary.batch_execute(&read(&old)).await?;
    primary.batch_execute(&read(&new)).await?;
    Ok(so_far + began.elapsed())
}

/// On both servers, side by side.
async fn end_sessions([primary, replica]: &[Client; 2], end: &str) -> Result<()> {
    try_join(primary.batch_execute(end), replica.batch_execute(end)).await?;
    Ok(())
}

/// Every one of them at every vantage, side by side.
async fn logins(cluster: &Cluster, all: &[(&PrincipalRef, &SecretValue, bool)]) -> Result<()> {
    let tries = all.iter().flat_map(|one| VANTAGES.map(|vantage| (vantage, *one)));
    try_join_all(tries.map(|(vantage, (principal, secret, accepted))| async move {
        // A replica learns of a new password a moment later than the primary.
        for _ in 0..1_000 {
            if cluster.login(vantage, principal, secret).await? == accepted {
                return Ok(());
            }
        }
        anyhow::bail!("the login of {} at {vantage} did not end as it must", principal.name)
    }))
    .await?;
    Ok(())
}

/// The replica's replay is part of the settling window, which counts for nobody.
async fn until_refused(cluster: &Cluster, old: &PrincipalRef, secret: &SecretValue) -> Result<()> {
    while cluster.login("replica", old, secret).await? {
        tokio::task::yield_now().await;
    }
    Ok(())
}
