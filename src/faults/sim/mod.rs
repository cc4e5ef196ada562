//! Deterministic simulation: one seed decides a whole life of several nodes, their database, their clocks, their network and lying systems,
//! on one thread and a paused clock. The engine, its steps, its decisions and its SQL are the real ones.

mod dice;
mod life;
mod network;
mod nodes;
mod oracle;
mod people;
mod remote;
mod script;
mod tests;
mod truth;
mod witness;
mod world;

use crate::domain::digest::Digest;
use world::World;

/// What came of one seed.
struct Lived {
    violations: Vec<String>,
    trace: Vec<String>,
    /// Over every byte of the log.
    log: Digest,
    runs: usize,
}

/// Lives through a seed.
fn live(seed: u64, is_traced: bool) -> Lived {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new(seed, is_traced).await;
        script::live(&mut world).await;
        let log = world.site.direct.log(0, 100_000).await.unwrap();
        let runs = log
            .iter()
            .filter(|entry| entry.run.is_some_and(|(_, seq)| seq == 0))
            .count();
        let bytes: Vec<u8> = log.iter().flat_map(|entry| entry.bytes.clone()).collect();
        for provider in world.site.truth.providers.values() {
            keyfall_connectors::demo::forget_provider(provider.name());
        }
        Lived {
            violations: world.site.truth.violations(),
            trace: world.site.truth.trace(),
            log: Digest::of(&bytes),
            runs,
        }
    })
}
