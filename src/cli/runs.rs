//! Runs: listing them, and what a person may do with one that is stuck.

use clap::Args;
use serde_json::{Value, json};

use super::output::Column;
use super::read::listed;
use super::{CliError, Exit, Session};

#[derive(Debug, Args)]
/// List runs, the latest first
#[command(after_help = "Example:\n  keyfall runs --open --identity orders-api")]
pub struct RunsArgs {
    /// Runs of this identity
    #[arg(long)]
    identity: Option<String>,
    /// provision, rotate, emergency_rotate, revoke, decommission, adopt
    #[arg(long)]
    kind: Option<String>,
    /// open, needs_operator, completed, unwound, unprovable, alive_after_revoke
    #[arg(long)]
    status: Option<String>,
    /// Only those that are not closed
    #[arg(long)]
    open: bool,
    /// At most this many rows
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

const COLUMNS: &[Column] = &[
    ("ID", "id"),
    ("KIND", "kind"),
    ("IDENTITY", "identity"),
    ("SYSTEM", "system"),
    ("STATUS", "status"),
    ("STEP", "step"),
    ("OPENED", "opened_at"),
    ("CLOSED", "closed_at"),
    ("WAKES", "wake_at"),
];

impl RunsArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let query = [
            ("identity", self.identity),
            ("kind", self.kind),
            ("status", self.status),
            ("open_only", Some(self.open.to_string())),
        ];
        listed(session, "runs", &query, self.limit, COLUMNS).await?;
        Ok(Exit::Ok)
    }
}

#[derive(Debug, Args)]
struct Handle {
    /// The run
    run: String,
    /// Why; it goes into the audit log
    #[arg(long)]
    reason: String,
}

#[derive(Debug, Args)]
/// Try the stuck step of a run again
#[command(after_help = "Example:\n  keyfall retry run_… --reason 'the database is back'")]
pub struct RetryArgs {
    #[command(flatten)]
    handle: Handle,
}

#[derive(Debug, Args)]
/// Go on with a stuck run after the manual step that it asked for was done
#[command(after_help = "Example:\n  keyfall resume run_… --reason 'dropped the role by hand'")]
pub struct ResumeArgs {
    #[command(flatten)]
    handle: Handle,
}

#[derive(Debug, Args)]
/// Take a run back, as long as nothing was revoked
#[command(after_help = "Example:\n  keyfall cancel run_… --reason 'wrong identity'")]
pub struct CancelArgs {
    #[command(flatten)]
    handle: Handle,
}

impl RetryArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        self.handle.run(session, "retry").await
    }
}

impl ResumeArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        self.handle.run(session, "resume").await
    }
}

impl CancelArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        self.handle.run(session, "cancel").await
    }
}

impl Handle {
    async fn run(self, session: &Session, verb: &str) -> Result<Exit, CliError> {
        let body = json!({ "reason": self.reason });
        let view: Value = session.client()?.post(&["runs", &self.run, verb], &body).await?;
        let status = view.get("status").and_then(Value::as_str).unwrap_or_default();
        let text = format!("{} is {status}; follow it with `keyfall watch {}`", self.run, self.run);
        session.output.say(&view, &text)?;
        Ok(Exit::Ok)
    }
}
