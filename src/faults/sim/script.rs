//! What happens in a seed's life: a time in which everything goes wrong, and a time in which nothing does any more and everything that was
//! begun must come to its end.

use std::time::Duration;

use keyfall_connectors::demo::{Flapping, Lie, VantageFaults};
use keyfall_sdk::{SecretValue, Strategy};

use super::life::LineWeather;
use super::network::NetWeather;
use super::nodes::LEASE;
use super::oracle;
use super::world::{Subject, World};
use crate::domain::due::DueReason;
use crate::domain::identity::IdentityState;
use crate::store::{Commit, Fact};

const TICK: Duration = Duration::from_millis(500);
/// Behind the last fault everything must be at rest within so many ticks.
const LIVENESS: u32 = 2_400;

/// Lives through it all. What was wrong is told by the truth.
pub(super) async fn live(world: &mut World) {
    world.start_nodes().await;
    if world.dice.permille(750) {
        come_to_rest(world, 240).await;
    }
    let weather = draw_weather(world);
    trouble(world, weather).await;
    calm(world).await;
    let is_at_rest = come_to_rest(world, LIVENESS).await;
    if !is_at_rest {
        oracle::tell_what_is_stuck(world).await;
    }
    if is_at_rest && world.dice.permille(300) {
        once_more(world).await;
    }
    oracle::judge(world).await;
}

#[derive(Clone, Copy)]
struct Weather {
    line: LineWeather,
    network: NetWeather,
}

fn draw_weather(world: &World) -> Weather {
    let dice = &world.dice;
    Weather {
        line: LineWeather {
            slow: dice.pick(&[0, 0, 10, 60]),
            lost: dice.pick(&[0, 0, 10, 40]),
            doubtful: dice.pick(&[0, 0, 10, 40]),
        },
        network: NetWeather {
            mishaps: dice.pick(&[0, 20, 60, 120, 250]),
        },
    }
}

async fn trouble(world: &mut World, weather: Weather) {
    let ticks = world.dice.between(60, 160);
    let deeds = world.dice.pick(&[80, 200, 350]);
    for node in &world.nodes {
        node.set_weather(weather.line, weather.network);
    }
    for _ in 0..ticks {
        tokio::time::sleep(TICK).await;
        if world.dice.permille(deeds) {
            deed(world, weather).await;
        }
        if world.dice.permille(60) {
            world.people.look_after_runs(&world.site).await;
        }
        oracle::glance(world).await;
    }
}

/// One thing that somebody does, or that happens.
async fn deed(world: &mut World, weather: Weather) {
    match world.dice.below(100) {
        0..=17 => ask_for_rotation(world, false).await,
        18..=27 => make_due(world).await,
        28..=32 => ask_for_rotation(world, true).await,
        33..=36 => end_an_identity(world).await,
        37..=39 => end_a_credential(world).await,
        40..=44 => cancel_something(world).await,
        45..=48 => freeze(world).await,
        49..=52 => lift_freeze(world).await,
        53..=62 => kill(world),
        63..=70 => restart(world, weather).await,
        71..=77 => stop_for_a_while(world),
        78..=82 => cut_off(world),
        83..=85 => plant_a_key(world),
        86..=93 => tell_a_lie(world),
        _ => hold_up_a_consumer(world),
    }
}

fn some_subject(world: &World) -> usize {
    usize::try_from(world.dice.below(world.subjects.len() as u64)).unwrap()
}

fn some_node(world: &World) -> usize {
    usize::try_from(world.dice.below(world.nodes.len() as u64)).unwrap()
}

async fn ask_for_rotation(world: &mut World, emergency: bool) {
    let subject = &world.subjects[some_subject(world)];
    if emergency {
        world
            .site
            .truth
            .excuse(&subject.slot, "an emergency waits for no consumer");
    }
    let asked = world.people.rotate(&subject.name, emergency).await;
    world
        .site
        .truth
        .note(|| format!("rotate {} (emergency: {emergency}): {asked:?}", subject.name));
}

async fn make_due(world: &mut World) {
    let subject = &world.subjects[some_subject(world)];
    let identity = world.site.direct.identity_named(&subject.name).await.unwrap().unwrap();
    if identity.state != IdentityState::Active {
        return;
    }
    let due = Some((world.site.clock.now(), DueReason::Requested));
    let commit = Commit {
        facts: vec![Fact::IdentityDue { id: identity.id, due }],
        ..Commit::default()
    };
    world.site.direct.commit(commit).await.unwrap();
    world.site.truth.note(|| format!("{} is due", subject.name));
}

async fn end_an_identity(world: &mut World) {
    let number = some_subject(world);
    let subject = &mut world.subjects[number];
    let is_new = world.site.truth.excuse(&subject.slot, "its identity ends");
    let asked = world.people.decommission(&subject.name).await;
    subject.is_doomed |= asked.is_ok();
    if asked.is_err() && is_new {
        world.site.truth.excuse_no_more(&subject.slot);
    }
    let name = &subject.name;
    world.site.truth.note(|| format!("decommission {name}: {asked:?}"));
}

async fn end_a_credential(world: &mut World) {
    let name = &world.subjects[some_subject(world)].name;
    let asked = world.people.revoke_some(name).await;
    world
        .site
        .truth
        .note(|| format!("revoke something of {name}: {asked:?}"));
}

async fn cancel_something(world: &mut World) {
    let runs = world.people.open_runs().await;
    if runs.is_empty() {
        return;
    }
    let run = &runs[usize::try_from(world.dice.below(runs.len() as u64)).unwrap()];
    let id = run.id().to_string();
    let (app, ada) = (&world.people.app, world.people.ada());
    let asked = app.cancel(ada, &id, "somebody changed their mind".to_owned()).await;
    world.site.truth.note(|| format!("cancel {id}: {:?}", asked.map(drop)));
}

async fn freeze(world: &mut World) {
    let (app, ada) = (&world.people.app, world.people.ada());
    app.freeze(ada, "something looks wrong".to_owned()).await.unwrap();
    let size = world.site.direct.log_state().await.unwrap().size;
    world.freezes.push((size, None));
    world.site.truth.note(|| "everything destructive is frozen".to_owned());
}

async fn lift_freeze(world: &mut World) {
    let size = world.site.direct.log_state().await.unwrap().size;
    let lifted = world.people.lift_freeze().await;
    if lifted.is_ok() {
        for freeze in world.freezes.iter_mut().filter(|freeze| freeze.1.is_none()) {
            freeze.1 = Some(size);
        }
    }
    world.site.truth.note(|| format!("the freeze is lifted: {lifted:?}"));
}

fn kill(world: &World) {
    let node = &world.nodes[some_node(world)];
    node.kill();
    world.site.truth.note(|| format!("{} is killed", node.name));
}

async fn restart(world: &mut World, weather: Weather) {
    let number = some_node(world);
    if world.nodes[number].life.is_dead() {
        world.nodes[number].restart(&world.site).await;
        world.nodes[number].set_weather(weather.line, weather.network);
    }
}

fn stop_for_a_while(world: &World) {
    let node = &world.nodes[some_node(world)];
    let longest = u64::try_from(LEASE.as_millis()).unwrap() * 2;
    let time = world.dice.millis(500, longest);
    if node.life.is_running() {
        node.pause(time);
        world.site.truth.note(|| format!("{} stops for {time:?}", node.name));
    }
}

fn cut_off(world: &World) {
    let node = &world.nodes[some_node(world)];
    let time = world.dice.millis(500, 15_000);
    node.life.cut_off(time);
    world
        .site
        .truth
        .note(|| format!("{} is cut off for {time:?}", node.name));
}

/// Somebody puts a key of their own on an account of ours.
fn plant_a_key(world: &World) {
    let subject = &world.subjects[some_subject(world)];
    let provider = &world.site.truth.providers[&subject.system];
    let account = subject.name.replace('-', "_");
    let ending = world.dice.pick(&["", "_a", "_b"]);
    let name = format!("{account}{ending}");
    let secret = SecretValue::from(format!("planted-{}", world.dice.below(u64::MAX)));
    if let Some(key) = provider.plant_key(&name, &secret) {
        world.site.truth.note(|| format!("{} is planted on {name}", key.0));
        world.site.truth.planted(&subject.system, key);
    }
}

fn tell_a_lie(world: &World) {
    let system = &world.systems[usize::try_from(world.dice.below(world.systems.len() as u64)).unwrap()];
    let provider = &world.site.truth.providers[&system.name];
    let settling = system.settling * 1000;
    let dice = &world.dice;
    let mut faults = system.faults.clone();
    match dice.below(9) {
        0 => faults.revoke_lies = Some(Lie::Forever),
        1 => faults.revoke_lies = Some(Lie::ForMs(dice.between(0, 20_000))),
        // Where the old value is gone with the new one, nobody but a person at the system can help.
        2 => {
            let has_gap = |one: &Subject| one.system == system.name && one.strategy == Strategy::InPlace;
            faults.issue_lies = !world.subjects.iter().any(has_gap);
        }
        3 => faults.list_lag_ms = dice.between(100, 1_000),
        4 => {
            let flapping = Flapping {
                every: dice.between(2, 4),
                // A node that is later than the window that the system states deceives everybody now and then.
                lag_ms: settling,
            };
            let late = VantageFaults {
                flapping: Some(flapping),
                ..VantageFaults::default()
            };
            faults.vantages.insert("replica".to_owned(), late);
        }
        5 => {
            let late = VantageFaults {
                lag_ms: dice.between(0, 15_000),
                ..VantageFaults::default()
            };
            faults.vantages.insert("replica".to_owned(), late);
        }
        6 => {
            let late = VantageFaults {
                stops_learning: true,
                ..VantageFaults::default()
            };
            faults.vantages.insert("replica".to_owned(), late);
        }
        7 => faults.disabled_looks_refused = true,
        _ => faults.slots = 1,
    }
    world.site.truth.note(|| format!("{} lies: {faults:?}", system.name));
    provider.set_faults(faults);
}

fn hold_up_a_consumer(world: &World) {
    let subject = &world.subjects[some_subject(world)];
    let uptake = match world.dice.below(3) {
        0 => None,
        _ => Some(world.dice.millis(0, 8_000)),
    };
    world
        .site
        .truth
        .note(|| format!("the consumer of {} takes deliveries up after {uptake:?}", subject.slot));
    world.site.truth.set_uptake(&subject.slot, uptake);
}

/// The last fault is over; somebody cleans up what was put there by hand.
async fn calm(world: &mut World) {
    world.site.truth.note(|| "the faults are over".to_owned());
    for number in 0..world.nodes.len() {
        world.nodes[number].calm();
        if world.nodes[number].life.is_dead() && (number == 0 || world.dice.permille(500)) {
            world.nodes[number].restart(&world.site).await;
        }
    }
    for system in &world.systems {
        let provider = &world.site.truth.providers[&system.name];
        provider.set_faults(system.faults.clone());
        for account in provider.accounts() {
            for key in account.live_keys() {
                if world.site.truth.is_planted(&system.name, &key.id) {
                    provider.take_key(&account.name, &key.id);
                }
            }
        }
    }
    for subject in &world.subjects {
        world
            .site
            .truth
            .set_uptake(&subject.slot, Some(Duration::from_millis(500)));
    }
}

/// Waits until no run is open and nothing is due. People look after what needs them.
async fn come_to_rest(world: &mut World, ticks: u32) -> bool {
    for tick in 0..ticks {
        tokio::time::sleep(TICK).await;
        if tick % 8 == 0 {
            if !world.freezes.iter().all(|freeze| freeze.1.is_some()) {
                lift_freeze(world).await;
            }
            world.people.look_after_runs(&world.site).await;
        }
        oracle::glance(world).await;
        let now = world.site.clock.now();
        let is_due = world.site.direct.count_due(now, 1).await.unwrap() > 0;
        if !is_due && world.people.is_at_rest().await {
            // What is late arrives, and consumers take up what lies there.
            tokio::time::sleep(Duration::from_secs(5)).await;
            return true;
        }
    }
    false
}

/// Whatever happened: who is active can be rotated.
async fn once_more(world: &mut World) {
    for subject in &world.subjects {
        let identity = world.site.direct.identity_named(&subject.name).await.unwrap().unwrap();
        if identity.state == IdentityState::Active {
            let asked = world.people.rotate(&subject.name, false).await;
            if let Err(error) = asked {
                world
                    .site
                    .truth
                    .violated(format!("{} cannot be rotated once more: {error}", subject.name));
            }
        }
    }
    if !come_to_rest(world, LIVENESS).await {
        oracle::tell_what_is_stuck(world).await;
    }
}
