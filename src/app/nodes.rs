//! The servers that share the store: who is alive, since when, with which version, and what each has in its hands.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::doctor::line;
use super::{App, AppError, AppSettings, Caller, DoctorLine, HeldRunView, NodeView, Verb, allow};
use crate::domain::workflow::WORKFLOW_VERSION;
use crate::engine::node_of;
use crate::store::{NodeRow, RunRow, StoreError};

/// Runs that nobody can end which are counted, and which are named.
const MOST_UNKNOWN: u32 = 1000;
const NAMED: usize = 5;
/// Held runs that are shown; what is more is counted with its node only as far as it is shown.
const MOST_RUNS: u32 = 10_000;

impl App {
    /// All that ever had a name here, by name.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn servers(&self, caller: &Caller) -> Result<Vec<NodeView>, AppError> {
        allow(caller, Verb::Read)?;
        let now = self.store.now().await?;
        let mut held: BTreeMap<String, Vec<HeldRunView>> = BTreeMap::new();
        for row in self.store.runs_in_hands(MOST_RUNS).await? {
            if let (Some(holder), Some(until)) = (row.node.clone(), row.lease_until) {
                held.entry(node_of(&holder).to_owned())
                    .or_default()
                    .push(run_view(row, until));
            }
        }
        let nodes = self.store.nodes().await?;
        let view = |row: NodeRow| {
            let runs = held.remove(&row.name).unwrap_or_default();
            node_view(row, runs, now, &self.settings)
        };
        Ok(nodes.into_iter().map(view).collect())
    }

    /// Open runs that nobody here can end: they would wait without a word.
    pub(super) async fn check_steps(&self) -> DoctorLine {
        match self.unknown_steps().await {
            Ok(runs) if runs.is_empty() => {
                line("steps", true, "a server that is alive knows how to end every open run")
            }
            Ok(runs) => {
                let named = runs
                    .iter()
                    .take(NAMED)
                    .map(|run| format!("{} of {} (list of steps {})", run.id, run.identity_name, run.workflow));
                let named = named.collect::<Vec<_>>().join(", ");
                let text = format!(
                    "no server that is alive knows the steps of {} runs: {named}; start the newer Keyfall again, which ends what it began",
                    runs.len()
                );
                line("steps", false, &text)
            }
            Err(error) => line("steps", false, &error.to_string()),
        }
    }

    async fn unknown_steps(&self) -> Result<Vec<RunRow>, StoreError> {
        let mut runs = self.store.runs_of_later_workflows(MOST_UNKNOWN).await?;
        if runs.is_empty() {
            return Ok(runs);
        }
        let now = self.store.now().await?;
        let nodes = self.store.nodes().await?;
        let alive = nodes
            .iter()
            .filter(|node| node.is_alive(now, self.settings.believed_for));
        let newest = alive.map(|node| node.workflow).fold(WORKFLOW_VERSION, u32::max);
        runs.retain(|run| run.workflow > newest);
        Ok(runs)
    }
}

fn node_view(row: NodeRow, runs: Vec<HeldRunView>, now: Timestamp, settings: &AppSettings) -> NodeView {
    let state = match row.gone_at {
        Some(_) => "stopped",
        None if !row.is_alive(now, settings.believed_for) => "silent",
        None if row.draining => "stopping",
        None => "alive",
    };
    let ahead = row.clock_ahead;
    NodeView {
        name: row.name,
        state: state.to_owned(),
        version: row.version,
        workflow: row.workflow,
        address: row.address,
        started_at: row.started_at,
        seen_at: row.seen_at,
        clock_ahead_ms: i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX),
        clock: match ahead.abs() {
            by if by > settings.clock_tolerance => format!("wrong by {ahead:#}"),
            by if by > SignedDuration::from_secs(1) => format!("off by {ahead:#}"),
            _ => "agrees".to_owned(),
        },
        holds: runs.len(),
        runs,
    }
}

fn run_view(row: RunRow, lease_until: Timestamp) -> HeldRunView {
    HeldRunView {
        run: row.id.to_string(),
        identity: row.identity_name,
        step: row.step,
        epoch: row.epoch,
        lease_until,
    }
}
