//! The servers that share a store.

use clap::Args;
use serde_json::Value;

use super::output::Column;
use super::{CliError, Exit, Session};

#[derive(Debug, Args)]
/// List the servers that share the store: who is alive, and which runs each holds
#[command(after_help = "Example:\n  keyfall nodes\n  keyfall nodes -o json")]
pub struct NodesArgs {}

const NODES: &[Column] = &[
    ("NODE", "name"),
    ("STATE", "state"),
    ("SINCE", "started_at"),
    ("SEEN", "seen_at"),
    ("VERSION", "version"),
    ("STEPS", "workflow"),
    ("CLOCK", "clock"),
    ("ADDRESS", "address"),
    ("RUNS", "holds"),
];
const RUNS: &[Column] = &[
    ("NODE", "node"),
    ("RUN", "run"),
    ("IDENTITY", "identity"),
    ("STEP", "step"),
    ("LEASE UNTIL", "lease_until"),
];

impl NodesArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let nodes: Vec<Value> = session.client()?.get(&["nodes"], &[]).await?;
        session.output.list(&nodes, NODES)?;
        let held: Vec<Value> = nodes.iter().flat_map(held_by).collect();
        if !session.output.is_json() && !held.is_empty() {
            super::output::print("\n")?;
            session.output.list(&held, RUNS)?;
        }
        Ok(Exit::Ok)
    }
}

/// The runs of a node, each with the node's name.
fn held_by(node: &Value) -> Vec<Value> {
    let runs = node.get("runs").and_then(Value::as_array).cloned().unwrap_or_default();
    let named = |mut run: Value| {
        if let (Some(run), Some(name)) = (run.as_object_mut(), node.get("name")) {
            run.insert("node".to_owned(), name.clone());
        }
        run
    };
    runs.into_iter().map(named).collect()
}
