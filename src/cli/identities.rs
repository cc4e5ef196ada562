//! What is asked for an identity: rotation, the end of it or of one credential, taking in an account that was found, and stored secrets.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::approve::show_plan;
use super::output::{note, print};
use super::watch::{follow_plan, follow_runs};
use super::{CliError, Exit, Session};
use crate::app::{PlanView, RunView};

/// Longer than any secret; more is the wrong file.
const LONGEST_SECRET: u64 = 64 * 1024;

#[derive(Debug, Args)]
/// Replace an identity's credential, and prove that the old one is dead
#[command(
    after_help = "Example:\n  keyfall rotate orders-api --wait\n  keyfall rotate orders-api --emergency --reason 'leaked in a log'"
)]
pub struct RotateArgs {
    /// The identity
    name: String,
    /// The credential is known to strangers: do not wait for consumers. Always needs another person's approval; a rotation that is under way
    /// becomes the emergency
    #[arg(long, requires = "reason")]
    emergency: bool,
    /// Why this rotation may leave the policy's bounds; needs another person's approval
    #[arg(long, value_name = "WHY")]
    exception: Option<String>,
    /// Why; it goes into the audit log
    #[arg(long)]
    reason: Option<String>,
    /// Follow it to its end
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Args)]
/// Take an identity out of service for good, and prove that its credentials are dead
#[command(after_help = "Example:\n  keyfall decommission orders-api --reason 'service was switched off' --wait")]
pub struct DecommissionArgs {
    /// The identity
    name: String,
    /// Why, for whoever approves it
    #[arg(long)]
    reason: String,
    /// Wait until another person has approved it and it has ended
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Args)]
/// End one credential that is not the current one
#[command(after_help = "Example:\n  keyfall revoke orders-api --credential cred_… --reason 'found in a backup'")]
pub struct RevokeArgs {
    /// The identity
    name: String,
    /// The credential, as `keyfall describe identity NAME` lists it
    #[arg(long)]
    credential: String,
    /// Why, for whoever approves it
    #[arg(long)]
    reason: String,
    /// Wait until another person has approved it and it has ended
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Args)]
/// Register an account that exists already; with --take-over its credential becomes Keyfall's to rotate
#[command(
    after_help = "Example:\n  keyfall adopt legacy-report --system orders-db --account report --owner payments --environment production --expires 2027-06-30T00:00:00Z\n  keyfall adopt legacy-report --system orders-db --account report --owner payments --environment production --expires 2027-06-30T00:00:00Z --take-over --secret-from - < password.txt"
)]
pub struct AdoptArgs {
    /// The identity's name from now on
    name: String,
    #[arg(long)]
    system: String,
    /// The account's name downstream, as it is
    #[arg(long)]
    account: String,
    #[arg(long)]
    owner: String,
    #[arg(long)]
    environment: String,
    /// When it is to be reviewed or to end, as 2027-06-30T00:00:00Z
    #[arg(long, value_parser = instant)]
    expires: jiff::Timestamp,
    /// service_account, api_key, oauth_client, database_user, ci_token, agent, workload, bot
    #[arg(long, default_value = "service_account")]
    kind: String,
    /// Make its credential ours
    #[arg(long)]
    take_over: bool,
    /// File that holds the account's present secret; `-` is standard input
    #[arg(long, value_name = "FILE", requires = "take_over")]
    secret_from: Option<PathBuf>,
    /// Why, for whoever approves it
    #[arg(long, default_value = "")]
    reason: String,
    /// Wait until another person has approved it and it has ended
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Store a secret under a name that manifests refer to; it is read from standard input
    #[command(after_help = "Example:\n  keyfall secret set orders-db-admin < password.txt")]
    Set {
        /// The name
        name: String,
        /// Keep a line end at the end of the input; otherwise one is dropped
        #[arg(long)]
        exact: bool,
    },
}

/// Inside of the standing approval a run has begun; otherwise a plan waits for a signature.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Run(RunView),
    Plan(PlanView),
}

impl RotateArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let body = json!({
            "reason": self.reason.unwrap_or_default(),
            "emergency": self.emergency,
            "exception": self.exception,
        });
        let view: Value = session
            .client()?
            .post(&["identities", &self.name, "rotate"], &body)
            .await?;
        let answer = serde_json::from_value(view.clone()).map_err(|error| CliError::Answer {
            what: error.to_string(),
        })?;
        match answer {
            Answer::Plan(plan) => proposed(session, &plan, self.wait).await,
            Answer::Run(run) => {
                let text = format!("opened {}; follow it with `keyfall watch {}`", run.id, run.id);
                session.output.say(&view, &text)?;
                if self.wait {
                    return follow_runs(session, &[run.id]).await;
                }
                Ok(Exit::Ok)
            }
        }
    }
}

async fn proposed(session: &Session, plan: &PlanView, wait: bool) -> Result<Exit, CliError> {
    show_plan(session.output, plan)?;
    if wait && !plan.empty {
        return follow_plan(session, &plan.id).await;
    }
    Ok(Exit::Ok)
}

impl DecommissionArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let body = json!({ "reason": self.reason });
        let plan = session
            .client()?
            .post(&["identities", &self.name, "decommission"], &body)
            .await?;
        proposed(session, &plan, self.wait).await
    }
}

impl RevokeArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let body = json!({ "credential": self.credential, "reason": self.reason });
        let plan = session
            .client()?
            .post(&["identities", &self.name, "revoke"], &body)
            .await?;
        proposed(session, &plan, self.wait).await
    }
}

impl AdoptArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let secret = self
            .secret_from
            .as_deref()
            .map(|file| secret_text(file, false))
            .transpose()?;
        let body = json!({
            "name": self.name,
            "system": self.system,
            "account": self.account,
            "owner": self.owner,
            "environment": self.environment,
            "expires": self.expires,
            "kind": self.kind,
            "take_over": self.take_over,
            "secret": secret.as_deref(),
            "reason": self.reason,
        });
        let plan = session.client()?.post(&["adopt"], &body).await?;
        proposed(session, &plan, self.wait).await
    }
}

impl SecretCommand {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let Self::Set { name, exact } = self;
        let secret = secret_text("-".as_ref(), exact)?;
        if secret.is_empty() {
            return Err(CliError::Usage(
                "standard input is empty: give the secret there, as in `keyfall secret set NAME < FILE`".to_owned(),
            ));
        }
        let view: Value = session
            .client()?
            .put_bytes(&["secrets", &name], secret.as_bytes().to_vec())
            .await?;
        if session.output.is_json() {
            session.output.json(&view)?;
        } else {
            let version = view.get("version").cloned().unwrap_or_default();
            print(&format!("{name} is stored, version {version}\n"))?;
        }
        Ok(Exit::Ok)
    }
}

fn instant(text: &str) -> Result<jiff::Timestamp, String> {
    let instant = text.parse();
    instant.map_err(|_| "write an instant with its time zone, like 2027-06-30T00:00:00Z".to_owned())
}

fn secret_text(file: &std::path::Path, exact: bool) -> Result<Zeroizing<String>, CliError> {
    let failed = |source| CliError::File {
        doing: "read the secret from",
        path: file.to_owned(),
        source,
    };
    // One allocation of the final size: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST_SECRET as usize + 1));
    let limit = LONGEST_SECRET + 1;
    if file.as_os_str() == "-" {
        if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
            note("reading the secret from the terminal; end with Ctrl-D");
        }
        std::io::stdin().take(limit).read_to_string(&mut text).map_err(failed)?;
    } else {
        let opened = std::fs::File::open(file).map_err(failed)?;
        opened.take(limit).read_to_string(&mut text).map_err(failed)?;
    }
    if text.len() as u64 > LONGEST_SECRET {
        return Err(CliError::Usage(format!(
            "the secret is longer than {LONGEST_SECRET} bytes; is it the right file?"
        )));
    }
    if !exact && text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
