//! This node among the others: under a name of its own it says that it lives, how its clock stands and that it is stopping. What the others do is
//! read from the runs themselves; nobody decides anything by who is alive, but for a name that is free again.
//!
//! | the last process of this name | its name is free                  | its leases                                             |
//! |-------------------------------|-----------------------------------|--------------------------------------------------------|
//! | said that it stops            | at once                           | it has given them back                                 |
//! | has ended, as this machine tells | at once                        | are given up at once: nobody is left who would act on them |
//! | is stopped, cut off, or on another machine | when it was silent for four beats | end by themselves: until then it may act on them |
//!
//! Leases are held by a process, not by a name, so that who gives up those of one that has ended gives up nobody else's.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::EngineSettings;
use super::Shared;
use crate::clock::Environment;
use crate::domain::workflow::WORKFLOW_VERSION;
use crate::store::{Heard, NodeRow, NodeSays, StoreError};

/// A node that was silent for so many beats is dead.
const BEATS: u32 = 4;

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the store does not answer")]
    Store(#[from] StoreError),
    #[error(
        "another server named `{name}` is alive at {address}, last seen {seen_at:.0}: give this one another `node` in its settings, or stop the other one"
    )]
    NameTaken {
        name: String,
        address: String,
        seen_at: Timestamp,
    },
}

/// The processes of this machine.
pub trait Processes: Send + Sync + std::fmt::Debug {
    /// What a later process may recognise this one by. `None`: it cannot.
    fn own(&self) -> Option<String>;
    /// The process of this mark does nothing more, whatever happens. Whoever is not sure says no: a process that is stopped is still there.
    fn has_ended(&self, mark: &str) -> bool;
}

/// More runs in hands than all nodes together have.
const ALL_RUNS: u32 = 100_000;

/// What tells this start from every other one, and what it holds leases under. Where processes are told apart, both hold the id of this start:
/// in the instance its mark follows, in the holder the node's name comes first, which has no space.
pub(super) fn instance(settings: &EngineSettings, env: &Environment) -> (String, String) {
    let id = env.draw_uuid().to_string();
    match settings.processes.as_ref().and_then(|processes| processes.own()) {
        Some(mark) => (format!("{id} {mark}"), holder(&settings.node, &id)),
        None => (id, settings.node.clone()),
    }
}

fn holder(name: &str, id: &str) -> String {
    format!("{name} {id}")
}

/// The name of the node that holds a lease.
#[must_use]
pub fn node_of(holder: &str) -> &str {
    holder.split(' ').next().unwrap_or(holder)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    First,
    Next,
    Last,
}

fn says(shared: &Shared, word: Word, ended: Option<String>) -> NodeSays {
    let settings = &shared.settings;
    NodeSays {
        name: settings.node.clone(),
        instance: shared.instance.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        workflow: WORKFLOW_VERSION,
        address: settings.address.clone(),
        clock_ahead: shared.watch.ahead(),
        draining: shared.is_stopping(),
        starts: word == Word::First,
        gone: word == Word::Last,
        believed_for: match settings.take_over_at_start {
            // Whoever had the name before is known to be dead.
            true => SignedDuration::MIN,
            false => believed_for(shared),
        },
        ended,
    }
}

/// Where the last process of this name is known to have ended, its leases are free, and the instance is told. Twice is once.
async fn ended(shared: &Shared) -> Result<Option<String>, StoreError> {
    let Some(processes) = &shared.settings.processes else {
        return Ok(None);
    };
    let nodes = shared.store.nodes().await?;
    let last = nodes.into_iter().find(|row| row.name == shared.settings.node);
    let Some(last) = last.filter(|row| row.gone_at.is_none() && row.instance != shared.instance) else {
        return Ok(None);
    };
    let Some((id, mark)) = last.instance.split_once(' ') else {
        return Ok(None);
    };
    if !processes.has_ended(mark) {
        return Ok(None);
    }
    let holder = holder(&last.name, id);
    let held = shared.store.runs_in_hands(ALL_RUNS).await?;
    let left = held.into_iter().filter(|run| run.node.as_ref() == Some(&holder));
    shared.inherited.take(left.map(|run| (run.id, run.epoch)));
    let released = shared.store.release_leases(&holder).await?;
    tracing::info!(
        runs = released,
        "the last process of this node has ended; what it had in its hands is free"
    );
    Ok(Some(last.instance))
}

/// Takes the name. One that somebody else had until just now is waited for: a living one is heard again meanwhile.
///
/// # Errors
/// See [`StartError`].
pub(super) async fn take_name(shared: &Shared) -> Result<(), StartError> {
    let mut heard: Option<(String, Timestamp)> = None;
    loop {
        let Heard::Taken { by } = shared
            .store
            .say(&says(shared, Word::First, ended(shared).await?))
            .await?
        else {
            return Ok(());
        };
        let seen = (by.instance, by.seen_at);
        if heard.as_ref().is_some_and(|before| *before != seen) {
            return Err(StartError::NameTaken {
                name: by.name,
                address: by.address,
                seen_at: by.seen_at,
            });
        }
        if heard.is_none() {
            tracing::info!(node = by.name, last_seen = %seen.1, "waiting until the last server of this name is known to be dead");
        }
        heard = Some(seen);
        tokio::time::sleep(shared.settings.heartbeat / 2).await;
    }
}

/// Says that this node lives, until it is to be silent. When the name is another's, everything here stops.
pub(super) async fn keep_saying(shared: Arc<Shared>) {
    let mut is_draining = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(shared.settings.heartbeat) => {}
            () = shared.silent.cancelled() => return,
            () = shared.stopping.cancelled(), if !is_draining => is_draining = true,
        }
        match shared.store.say(&says(&shared, Word::Next, None)).await {
            Ok(Heard::Ours) => {}
            Ok(Heard::Taken { by }) => {
                tracing::error!(
                    node = by.name,
                    address = by.address,
                    "this server was silent for so long that another one has taken its name; it stops"
                );
                shared.leases.lose_all();
                shared.name_lost.cancel();
                shared.stopping.cancel();
                return;
            }
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "this node could not say that it lives"
            ),
        }
        if let Some(common) = shared.common()
            && let Err(error) = shared.limits.keep(common, shared.env.now()).await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "what this node uses of the systems could not be drawn again"
            );
        }
    }
}

/// Says goodbye, so that the name is free at once.
pub(super) async fn give_name_back(shared: &Shared) {
    if shared.name_lost.is_cancelled() {
        return;
    }
    if let Err(error) = shared.store.say(&says(shared, Word::Last, None)).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "this node could not say that it stops; its name is free when it was silent for a while"
        );
    }
}

/// How long a node is believed to live after its last word.
fn believed_for(shared: &Shared) -> SignedDuration {
    shared.settings.believed_for()
}

impl EngineSettings {
    /// How long a node that beats like this one is believed to live after its last word. All that share a store beat alike.
    #[must_use]
    pub fn believed_for(&self) -> SignedDuration {
        let silent = self.heartbeat.saturating_mul(BEATS);
        SignedDuration::try_from(silent).unwrap_or(SignedDuration::MAX)
    }
}

/// The newest list of steps that a living node knows.
pub(super) async fn newest_known(shared: &Shared) -> Result<u32, StoreError> {
    let now = shared.store.now().await?;
    let nodes = shared.store.nodes().await?;
    let is_alive = |node: &&NodeRow| node.is_alive(now, believed_for(shared));
    let known = nodes.iter().filter(is_alive).map(|node| node.workflow);
    Ok(known.fold(WORKFLOW_VERSION, u32::max))
}
