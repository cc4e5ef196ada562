//! What sets nothing off: an upgrade, a restart, a restored backup (P9). Nothing reaches a system before something is due, or before people lifted
//! the standstill.

mod restart;
mod restore;
mod upgrade;

use crate::engine::EngineHandle;
use crate::engine::tests::looks::until;
use crate::engine::tests::world::World;

/// Lets the engine make so many whole passes.
async fn passes(engine: &EngineHandle, count: usize) {
    let mut last = engine.status().last_pass.at;
    for _ in 0..count {
        engine.ring();
        last = until("a pass was made", || async {
            let pass = engine.status().last_pass;
            (pass.took.as_nanos() > 0 && pass.at > last).then_some(pass.at)
        })
        .await;
    }
}

/// Calls with an effect that reached the systems.
fn effects(world: &World) -> usize {
    world.steps.called().iter().filter(|one| one.step.has_effect()).count()
}
