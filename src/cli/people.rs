//! People, their tokens and their keys. A key is made where its owner sits; only its public half is enrolled.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::approve::show_plan;
use super::output::{note, print};
use super::watch::follow_plan;
use super::{CliError, Exit, Session};
use crate::app::PlanView;
use crate::clock::Environment;
use crate::evidence::keys::{SigningKey, VerifierKey};

#[derive(Debug, Args)]
/// List the people who may ask and approve
#[command(after_help = "Example:\n  keyfall people")]
pub struct PeopleArgs {}

#[derive(Debug, Args)]
/// Ask for another person to be enrolled; somebody already enrolled approves it
#[command(after_help = "Example:\n  keyfall enrol carol --role operator --role approver --public-key carol.pub")]
pub struct EnrolArgs {
    /// The person's name
    name: String,
    /// admin, operator, approver or auditor; can be repeated
    #[arg(long = "role", required = true)]
    roles: Vec<String>,
    /// The verifier key that `keyfall key new` printed, or a file that holds it; needed to approve
    #[arg(long)]
    public_key: Option<String>,
    /// Why, for whoever approves it
    #[arg(long, default_value = "")]
    reason: String,
    /// Wait until another person has approved it
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Args)]
/// Ask for a person's tokens and signatures to count no longer; another person approves it
#[command(after_help = "Example:\n  keyfall retire carol --reason 'left the company'")]
pub struct RetireArgs {
    /// The person's name
    name: String,
    /// Why, for whoever approves it
    #[arg(long)]
    reason: String,
    /// Wait until another person has approved it
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Issue a bearer token and write it to a file that only you can read
    #[command(after_help = "Example:\n  keyfall token new alice ci.token --label ci --ttl 30d")]
    New {
        /// The person whom it stands for
        person: String,
        /// The file, which must not exist yet
        file: PathBuf,
        /// What it is for
        #[arg(long, default_value = "")]
        label: String,
        /// How long it lasts
        #[arg(long, default_value = "90d")]
        ttl: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a signing key and print its public half
    #[command(after_help = "Example:\n  keyfall key new ~/.config/keyfall/carol.key --name carol > carol.pub")]
    New {
        /// The file, which must not exist yet
        file: PathBuf,
        /// Whose key it is
        #[arg(long)]
        name: String,
    },
}

impl PeopleArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let rows: Vec<Value> = session.client()?.get(&["people"], &[]).await?;
        let columns = [
            ("NAME", "name"),
            ("ROLES", "roles"),
            ("CAN APPROVE", "can_approve"),
            ("ENROLLED BY", "enrolled_by"),
            ("ENROLLED", "enrolled_at"),
            ("RETIRED", "retired_at"),
        ];
        session.output.list(&rows, &columns)?;
        Ok(Exit::Ok)
    }
}

impl EnrolArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let public_key = self.public_key.as_deref().map(verifier_key).transpose()?;
        let body = json!({
            "name": self.name,
            "roles": self.roles,
            "public_key": public_key.map(|key| key.to_string()),
            "reason": self.reason,
        });
        let plan: PlanView = session.client()?.post(&["people"], &body).await?;
        proposed(session, &plan, self.wait).await
    }
}

impl RetireArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let body = json!({ "reason": self.reason });
        let plan: PlanView = session.client()?.post(&["people", &self.name, "retire"], &body).await?;
        proposed(session, &plan, self.wait).await
    }
}

async fn proposed(session: &Session, plan: &PlanView, wait: bool) -> Result<Exit, CliError> {
    show_plan(session.output, plan)?;
    if wait {
        return follow_plan(session, &plan.id).await;
    }
    Ok(Exit::Ok)
}

impl TokenCommand {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let Self::New {
            person,
            file,
            label,
            ttl,
        } = self;
        let life = crate::domain::length::parse(&ttl).map_err(|why| CliError::Usage(format!("--ttl: {why}")))?;
        let failed = |source| CliError::File {
            doing: "write the token to",
            path: file.clone(),
            source,
        };
        // Opened before the token is made: a token that cannot be kept would live on unseen.
        let mut opened = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file)
            .map_err(failed)?;
        let body = json!({ "label": label, "ttl": format!("{life:#}") });
        let view: Result<Value, CliError> = session.client()?.post(&["people", &person, "tokens"], &body).await;
        let view = match view {
            Ok(view) => view,
            Err(error) => {
                // Empty and of no use; when it cannot be removed, the error that matters is still the server's.
                let _ = std::fs::remove_file(&file);
                return Err(error);
            }
        };
        let token = view
            .get("token")
            .and_then(Value::as_str)
            .ok_or_else(|| CliError::Answer {
                what: "it holds no token".to_owned(),
            })?;
        opened
            .write_all(token.as_bytes())
            .and_then(|()| opened.write_all(b"\n"))
            .and_then(|()| opened.sync_all())
            .map_err(failed)?;
        note(&format!(
            "{} holds a token for {person}; it is shown nowhere else",
            file.display()
        ));
        Ok(Exit::Ok)
    }
}

impl KeyCommand {
    pub(super) fn run(self, _session: &Session) -> Result<Exit, CliError> {
        let Self::New { file, name } = self;
        let key = SigningKey::create(&file, &name, &*Environment::of_this_machine().random)?;
        print(&format!("{}\n", key.verifier()))?;
        note(&format!(
            "{} is yours alone; the line above is what others verify with",
            file.display()
        ));
        Ok(Exit::Ok)
    }
}

/// A verifier key as text, or as a file that holds it.
pub(super) fn verifier_key(text: &str) -> Result<VerifierKey, CliError> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let held = std::fs::read_to_string(text).map_err(|source| CliError::File {
        doing: "read the verifier key",
        path: text.into(),
        source,
    })?;
    Ok(held.parse()?)
}
