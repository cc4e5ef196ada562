//! Looking: lists, single things, the review, the server's state.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::output::{Column, note};
use super::{CliError, Exit, Session};

#[derive(Debug, Args)]
/// Show the server's state: frozen or not, open runs, size of the log
#[command(after_help = "Example:\n  keyfall status -o json")]
pub struct StatusArgs {}

impl StatusArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let view: Value = session.client()?.get(&["status"], &[]).await?;
        session.output.describe(&view)?;
        Ok(Exit::Ok)
    }
}

#[derive(Debug, Args)]
/// Show what a reviewer asks for: unowned, overdue, still alive, unregistered, stuck
#[command(after_help = "Example:\n  keyfall review")]
pub struct ReviewArgs {}

impl ReviewArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let view: Value = session.client()?.get(&["review"], &[]).await?;
        session.output.describe(&view)?;
        Ok(Exit::Ok)
    }
}

#[derive(Debug, Args)]
/// Check store, keys, clock and every connected system
#[command(after_help = "Example:\n  keyfall doctor || echo 'see the lines that are not ok'")]
pub struct DoctorArgs {}

impl DoctorArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let lines: Vec<Value> = session.client()?.get(&["doctor"], &[]).await?;
        session
            .output
            .list(&lines, &[("CHECK", "check"), ("OK", "ok"), ("", "text")])?;
        let all_well = lines.iter().all(|line| line.get("ok") == Some(&Value::Bool(true)));
        Ok(if all_well { Exit::Ok } else { Exit::Error })
    }
}

#[derive(Debug, Args)]
/// List identities, plans, findings, receipts, accounts and what else is registered
#[command(
    after_help = "Example:\n  keyfall get identities --system orders-db\n  keyfall get receipt rcp_… --output-file death.receipt"
)]
pub struct GetArgs {
    #[command(subcommand)]
    what: Get,
}

#[derive(Debug, Args, Default)]
struct Limit {
    /// At most this many rows
    #[arg(long, default_value_t = 1000)]
    limit: usize,
}

#[derive(Debug, Subcommand)]
enum Get {
    /// List identities, sorted by name
    #[command(
        visible_alias = "identity",
        after_help = "Example:\n  keyfall get identities --owner payments --state active"
    )]
    Identities {
        #[arg(long)]
        system: Option<String>,
        #[arg(long)]
        environment: Option<String>,
        #[arg(long)]
        owner: Option<String>,
        /// service_account, api_key, oauth_client, database_user, ci_token, agent, workload, bot
        #[arg(long)]
        kind: Option<String>,
        /// active, quarantined, decommissioning, decommissioned…
        #[arg(long)]
        state: Option<String>,
        /// Names that start with this
        #[arg(long)]
        prefix: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// List plans, the latest first
    #[command(
        visible_alias = "plan",
        after_help = "Example:\n  keyfall get plans --status proposed"
    )]
    Plans {
        /// proposed, applied, rejected, expired, stale
        #[arg(long)]
        status: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// List findings, open ones first
    #[command(
        visible_alias = "finding",
        after_help = "Example:\n  keyfall get findings --kind alive_after_revoke"
    )]
    Findings {
        #[arg(long)]
        kind: Option<String>,
        /// The identity, system or run that it is about
        #[arg(long)]
        subject: Option<String>,
        /// Also those that are resolved
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        limit: Limit,
    },
    /// List receipts, the latest first
    #[command(after_help = "Example:\n  keyfall get receipts --identity orders-api")]
    Receipts {
        #[arg(long)]
        identity: Option<String>,
        #[arg(long)]
        run: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Fetch the file of one receipt, for `keyfall verify`
    #[command(after_help = "Example:\n  keyfall get receipt rcp_… --output-file death.receipt")]
    Receipt {
        /// The receipt, or the run whose last receipt is wanted
        id: String,
        /// Where it is written (default: standard output)
        #[arg(long, value_name = "FILE")]
        output_file: Option<std::path::PathBuf>,
    },
    /// List the accounts that exist on a system, registered or not
    #[command(after_help = "Example:\n  keyfall get accounts --system orders-db")]
    Accounts {
        #[arg(long)]
        system: String,
    },
    /// List registered systems
    #[command(visible_alias = "system", after_help = "Example:\n  keyfall get systems")]
    Systems,
    /// List registered policies
    #[command(visible_alias = "policy", after_help = "Example:\n  keyfall get policies")]
    Policies,
    /// List registered destinations
    #[command(visible_alias = "destination", after_help = "Example:\n  keyfall get destinations")]
    Destinations,
    /// List registered owners
    #[command(visible_alias = "owner", after_help = "Example:\n  keyfall get owners")]
    Owners,
}

const IDENTITIES: &[Column] = &[
    ("NAME", "name"),
    ("KIND", "kind"),
    ("STATE", "state"),
    ("SYSTEM", "system"),
    ("ENVIRONMENT", "environment"),
    ("OWNER", "owner"),
    ("DUE", "due_at"),
    ("WHY", "due_reason"),
    ("EXPIRES", "expires"),
];
const PLANS: &[Column] = &[
    ("ID", "id"),
    ("STATUS", "status"),
    ("REQUESTER", "requester"),
    ("CREATED", "created_at"),
    ("EXPIRES", "expires_at"),
    ("REASON", "reason"),
];
const FINDINGS: &[Column] = &[
    ("SEVERITY", "severity"),
    ("KIND", "kind"),
    ("SUBJECT", "subject"),
    ("OWNER", "owner"),
    ("RAISED", "raised_at"),
    ("RESOLVED", "resolved_at"),
    ("", "text"),
];
const RECEIPTS: &[Column] = &[
    ("ID", "id"),
    ("IDENTITY", "identity"),
    ("OUTCOME", "outcome"),
    ("AT", "at"),
    ("POSITION", "position"),
    ("RUN", "run"),
];
const ACCOUNTS: &[Column] = &[
    ("ACCOUNT", "name"),
    ("IDENTITY", "identity"),
    ("STATUS", "status"),
    ("PRIVILEGED", "privileged"),
    ("CREDENTIALS", "credentials"),
    ("SESSIONS", "sessions"),
];
const RESOURCES: &[Column] = &[
    ("NAME", "name"),
    ("VERSION", "version"),
    ("LABELS", "labels"),
    ("APPROVED BY", "approved_by"),
];

impl GetArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        match self.what {
            Get::Identities {
                system,
                environment,
                owner,
                kind,
                state,
                prefix,
                limit,
            } => {
                let query = [
                    ("system", system),
                    ("environment", environment),
                    ("owner", owner),
                    ("kind", kind),
                    ("state", state),
                    ("prefix", prefix),
                ];
                listed(session, "identities", &query, limit.limit, IDENTITIES).await?;
            }
            Get::Plans { status, limit } => {
                listed(session, "plans", &[("status", status)], limit.limit, PLANS).await?;
            }
            Get::Findings {
                kind,
                subject,
                all,
                limit,
            } => {
                let query = [
                    ("kind", kind),
                    ("subject", subject),
                    ("open_only", Some((!all).to_string())),
                ];
                listed(session, "findings", &query, limit.limit, FINDINGS).await?;
            }
            Get::Receipts { identity, run, limit } => {
                let query = [("identity", identity), ("run", run)];
                listed(session, "receipts", &query, limit.limit, RECEIPTS).await?;
            }
            Get::Receipt { id, output_file } => receipt(session, &id, output_file.as_deref()).await?,
            Get::Accounts { system } => whole(session, &["systems", &system, "accounts"], ACCOUNTS).await?,
            Get::Systems => whole(session, &["resources", "System"], RESOURCES).await?,
            Get::Policies => whole(session, &["resources", "Policy"], RESOURCES).await?,
            Get::Destinations => whole(session, &["resources", "Destination"], RESOURCES).await?,
            Get::Owners => whole(session, &["resources", "Owner"], RESOURCES).await?,
        }
        Ok(Exit::Ok)
    }
}

/// A list that the server answers page by page.
pub(super) async fn listed(
    session: &Session,
    path: &str,
    query: &[(&str, Option<String>)],
    limit: usize,
    columns: &[Column],
) -> Result<(), CliError> {
    let rows = session.client()?.list(&[path], query, limit).await?;
    session.output.list(&rows, columns)
}

/// A list that is short enough to be answered at once.
pub(super) async fn whole(session: &Session, path: &[&str], columns: &[Column]) -> Result<(), CliError> {
    let rows: Vec<Value> = session.client()?.get(path, &[]).await?;
    session.output.list(&rows, columns)
}

async fn receipt(session: &Session, id: &str, file: Option<&std::path::Path>) -> Result<(), CliError> {
    let bytes = session.client()?.get_bytes(&["receipts", id], &[]).await?;
    let Some(file) = file else {
        let text = String::from_utf8(bytes).map_err(|_| CliError::Answer {
            what: "the receipt is no text".to_owned(),
        })?;
        return super::output::print(&text);
    };
    std::fs::write(file, bytes).map_err(|source| CliError::File {
        doing: "write the receipt to",
        path: file.to_owned(),
        source,
    })?;
    note(&format!(
        "written to {}; check it with `keyfall verify {} --key PUB`",
        file.display(),
        file.display()
    ));
    Ok(())
}

#[derive(Debug, Args)]
/// Show everything about one identity, run, plan, system, policy, destination or owner
#[command(after_help = "Example:\n  keyfall describe identity orders-api\n  keyfall describe run run_…")]
pub struct DescribeArgs {
    /// identity, run, plan, system, policy, destination or owner
    kind: String,
    /// Its name, or the id of a run or plan
    name: String,
}

impl DescribeArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let name = self.name.as_str();
        let path: &[&str] = match self.kind.as_str() {
            "identity" => &["identities", name],
            "run" => &["runs", name],
            "plan" => &["plans", name],
            "system" => &["resources", "System", name],
            "policy" => &["resources", "Policy", name],
            "destination" => &["resources", "Destination", name],
            "owner" => &["resources", "Owner", name],
            other => {
                let what = format!(
                    "there is no kind `{other}`; known are identity, run, plan, system, policy, destination, owner"
                );
                return Err(CliError::Usage(what));
            }
        };
        let view: Value = session.client()?.get(path, &[]).await?;
        session.output.describe(&view)?;
        Ok(Exit::Ok)
    }
}
