//! Whole rotations of the `demo` provider, all steps, on the real store: how many a second, and how many durable events a second.

use std::time::Instant;

use anyhow::{Result, ensure};
use keyfall_connectors::demo;
use keyfall_sdk::{KeyId, PrincipalRef};
use serde_json::json;

use super::register::{Account, Member, Place, Register, Wanted};
use super::{Size, cpu, disk, median};

pub(crate) async fn rotations(size: Size, concurrency: usize, place: Place) -> Result<()> {
    let mut per_second = Vec::new();
    for round in 0..size.rounds {
        per_second.push(one(size.runs, concurrency, round, place).await?);
    }
    if size.rounds > 1 {
        let median = median(per_second);
        println!(
            "{}_median conc={concurrency} rounds={} rotations_s={median:.0}",
            word(place),
            size.rounds
        );
    }
    Ok(())
}

fn word(place: Place) -> &'static str {
    match place {
        Place::Sqlite => "demo",
        Place::Postgres => "demo_pg",
    }
}

async fn one(runs: usize, concurrency: usize, round: usize, place: Place) -> Result<f64> {
    let provider_name = format!("bench-{concurrency}-{round}");
    let register = Register::new(Wanted {
        place,
        kinds: keyfall_connectors::registry(),
        system: json!({
            "environment": "bench", "owner": "bench", "connector": "demo", "options": { "provider": provider_name },
            "vantages": [{ "name": "primary", "host": "localhost", "port": 1 }, { "name": "replica", "role": "probe", "host": "localhost", "port": 2 }],
            "limits": { "concurrency": 1024, "callsPerSecond": 0, "refusedLoginsPerMinute": 1_000_000 },
        }),
        destination: json!({ "connector": "demo-destination", "environment": "bench", "owner": "bench" }),
        policy: json!({}),
        admin_password: None,
    })
    .await?;
    let provider = demo::provider(&provider_name);
    let mut members = vec![member(&register, &provider, "control", true)?];
    for number in 0..runs {
        members.push(member(&register, &provider, &format!("app-{number:06}"), false)?);
    }
    register.register(members).await?;
    let before = disk::measure(register.folder())?;
    let log_before = register.store.log_state().await?.size;

    let spent_before = cpu::seconds(cpu::OWN)?;
    let began = Instant::now();
    let engine = register.start(register.steps(), concurrency).await?;
    register.until_idle(&engine).await?;
    let seconds = began.elapsed().as_secs_f64();
    let spent = cpu::seconds(cpu::OWN)? - spent_before;

    let events = register.store.log_state().await?.size - log_before;
    engine.shutdown().await;
    let (completed, all) = register.completed().await?;
    ensure!(
        completed == runs && all == runs,
        "{completed} of {all} runs completed; {runs} were due"
    );
    let disk = disk::better(before, disk::measure(register.folder())?);
    register.store.close().await?;

    #[expect(clippy::cast_precision_loss, reason = "counts of a bench are small")]
    let (all_runs, all_events) = (runs as f64, events as f64);
    let (rotations_s, events_s) = (all_runs / seconds, all_events / seconds);
    println!(
        "{} conc={concurrency} runs={runs} seconds={seconds:.3} rotations_s={rotations_s:.0} events_s={events_s:.0} events_per_run={:.1} events_per_full_commit={:.2} cpu_ms_per_run={:.2} {disk}",
        word(place),
        events_s / rotations_s,
        events_s / disk.full_commit,
        spent * 1e3 / all_runs,
    );
    Ok(rotations_s)
}

fn member(register: &Register, provider: &demo::Provider, name: &str, is_control: bool) -> Result<Member> {
    let secret = register.draw_secret()?;
    let account = provider.plant_account(name, &secret, &[]);
    let key_id = account
        .keys
        .first()
        .map_or_else(|| KeyId(String::new()), |key| key.id.clone());
    Ok(Member {
        name: name.to_owned(),
        account: name.to_owned(),
        current: Account {
            principal: PrincipalRef {
                name: name.to_owned(),
                immutable_id: Some(account.immutable_id),
            },
            key_id,
            secret,
        },
        idle: None,
        target: json!({ "slot": name }),
        consumers: if is_control {
            json!([])
        } else {
            json!([{ "name": name, "seenBy": "acknowledgement" }])
        },
        is_control,
        is_due: !is_control,
    })
}
