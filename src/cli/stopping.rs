//! Stopping everything destructive, going on, and the keeping of the store: backups and the key that seals.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::approve::show_plan;
use super::watch::follow_plan;
use super::{CliError, Exit, Session};
use crate::app::PlanView;

#[derive(Debug, Args)]
/// Stop everything destructive at once
#[command(after_help = "Example:\n  keyfall freeze --reason 'incident 4711'")]
pub struct FreezeArgs {
    /// Why; it goes into the audit log
    #[arg(long)]
    reason: String,
}

#[derive(Debug, Args)]
/// Ask for the end of a freeze; another person approves it
#[command(after_help = "Example:\n  keyfall unfreeze --reason 'incident 4711 is over'")]
pub struct UnfreezeArgs {
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, Args)]
/// Ask for the breaker on a suspicious due set to be armed again; another person approves it
#[command(after_help = "Example:\n  keyfall rearm --reason 'the due set is right: the policy was shortened'")]
pub struct RearmArgs {
    #[command(flatten)]
    ask: Ask,
}

#[derive(Debug, Args)]
struct Ask {
    /// Why, for whoever approves it
    #[arg(long)]
    reason: String,
    /// Wait until another person has approved it
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Args)]
/// Write a consistent copy of the store into the server's backup directory
#[command(after_help = "Example:\n  keyfall backup before-upgrade")]
pub struct BackupArgs {
    /// Name of the copy
    name: String,
}

#[derive(Debug, Subcommand)]
pub enum KekCommand {
    /// Seal every secret under the server's present key. Can be stopped anywhere and run again
    #[command(
        after_help = "Example:\n  keyfall kek rotate   # after kek_file was exchanged and the old one named in previous_kek_files"
    )]
    Rotate,
}

impl FreezeArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let view: Value = session
            .client()?
            .post(&["freeze"], &json!({ "reason": self.reason }))
            .await?;
        session.output.say(
            &view,
            "frozen: nothing destructive begins until a person asks for its end and another one approves it",
        )?;
        Ok(Exit::Ok)
    }
}

impl UnfreezeArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        self.ask.run(session, "unfreeze").await
    }
}

impl RearmArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        self.ask.run(session, "rearm").await
    }
}

impl Ask {
    async fn run(self, session: &Session, verb: &str) -> Result<Exit, CliError> {
        let plan: PlanView = session
            .client()?
            .post(&[verb], &json!({ "reason": self.reason }))
            .await?;
        show_plan(session.output, &plan)?;
        if self.wait {
            return follow_plan(session, &plan.id).await;
        }
        Ok(Exit::Ok)
    }
}

impl BackupArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let view: Value = session
            .client()?
            .post(&["backups"], &json!({ "name": self.name }))
            .await?;
        session.output.describe(&view)?;
        Ok(Exit::Ok)
    }
}

impl KekCommand {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let Self::Rotate = self;
        let view: Value = session.client()?.post(&["kek", "rotate"], &json!({})).await?;
        session.output.describe(&view)?;
        Ok(Exit::Ok)
    }
}
