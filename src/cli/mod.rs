//! The command line: what a person or a script types, over the HTTP API. It knows the API's views, evidence and signing keys; it knows no
//! store and no engine. What needs those (`init`, `serve`, `restore`, `migrate-store`, `config`) is parsed here and carried out by the wiring in `main`.

mod approve;
mod audit;
mod client;
mod context;
mod error;
mod identities;
mod manifests;
mod nodes;
mod output;
mod people;
mod read;
mod runs;
mod serving;
mod stopping;
mod verify;
mod watch;

use clap::{Parser, Subcommand};

pub use context::ContextArgs;
pub use error::{CliError, Exit};
pub use output::{Format, Output, note, print};
pub use serving::{ConfigCommand, ConfigFlag, InitArgs, MigrateStoreArgs, RestoreArgs, ServeArgs, ServeFlags};

use client::Client;
use context::Context;

/// Register of non-human identities: rotates and decommissions their credentials, and proves that the old ones are dead.
#[derive(Debug, Parser)]
#[command(name = "keyfall", version, disable_help_subcommand = true, after_help = HELP)]
pub struct Cli {
    #[command(flatten)]
    pub context: ContextArgs,
    /// How results are printed; json is the API's view as it is
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, env = "KEYFALL_OUTPUT")]
    pub output: Format,
    #[command(subcommand)]
    pub command: Command,
}

const HELP: &str = "\
Exit codes: 0 done, 1 error, 2 changes (--detailed-exitcode), 3 refused by policy, 4 not proven, 5 server unreachable, 64 usage

Example:
  keyfall init kf && keyfall serve --config kf/keyfall.toml &
  export KEYFALL_CONTEXT=kf/people/alice.toml && keyfall status";

#[derive(Debug, Subcommand)]
pub enum Command {
    Init(InitArgs),
    Serve(ServeArgs),
    Restore(RestoreArgs),
    MigrateStore(MigrateStoreArgs),
    /// Look at the server's own settings
    #[command(subcommand, after_help = "Example:\n  keyfall config check --config kf/keyfall.toml")]
    Config(ConfigCommand),
    #[command(flatten)]
    Asking(AskingCommand),
}

/// What is carried out here: over the API, or with files alone.
#[derive(Debug, Subcommand)]
pub enum AskingCommand {
    Status(read::StatusArgs),
    Plan(manifests::PlanArgs),
    Apply(manifests::ApplyArgs),
    Get(read::GetArgs),
    Describe(read::DescribeArgs),
    Runs(runs::RunsArgs),
    Watch(watch::WatchArgs),
    Retry(runs::RetryArgs),
    Resume(runs::ResumeArgs),
    Cancel(runs::CancelArgs),
    Rotate(identities::RotateArgs),
    Decommission(identities::DecommissionArgs),
    Revoke(identities::RevokeArgs),
    Adopt(identities::AdoptArgs),
    Approve(approve::ApproveArgs),
    Reject(approve::RejectArgs),
    Review(read::ReviewArgs),
    Doctor(read::DoctorArgs),
    Nodes(nodes::NodesArgs),
    /// Store secrets that manifests refer to by name
    #[command(
        subcommand,
        after_help = "Example:\n  keyfall secret set orders-db-admin < password.txt"
    )]
    Secret(identities::SecretCommand),
    Freeze(stopping::FreezeArgs),
    Unfreeze(stopping::UnfreezeArgs),
    Rearm(stopping::RearmArgs),
    Backup(stopping::BackupArgs),
    /// Manage the key that seals secrets
    #[command(subcommand, after_help = "Example:\n  keyfall kek rotate")]
    Kek(stopping::KekCommand),
    People(people::PeopleArgs),
    Enrol(people::EnrolArgs),
    Retire(people::RetireArgs),
    /// Make, issue and revoke bearer tokens
    #[command(
        subcommand,
        after_help = "Example:\n  keyfall token new alice ci.token --label ci --ttl 30d\n  keyfall token revoke alice ci.token"
    )]
    Token(people::TokenCommand),
    /// Make signing keys
    #[command(
        subcommand,
        after_help = "Example:\n  keyfall key new ~/.config/keyfall/carol.key --name carol > carol.pub"
    )]
    Key(people::KeyCommand),
    /// Read, export and verify the audit log
    #[command(
        subcommand,
        after_help = "Example:\n  keyfall audit list --limit 20\n  keyfall audit verify --key keyfall.pub --anchor kept.checkpoint"
    )]
    Audit(audit::AuditCommand),
    Verify(verify::VerifyArgs),
}

/// What a command works with.
struct Session {
    context: Context,
    output: Output,
}

impl Session {
    fn client(&self) -> Result<Client, CliError> {
        Client::new(&self.context)
    }
}

/// Carries a command out and says how it ended.
///
/// # Errors
/// The text says what to do next; [`CliError::exit`] is the exit code.
pub async fn run(command: AskingCommand, args: &ContextArgs, output: Output) -> Result<Exit, CliError> {
    let session = Session {
        context: Context::load(args)?,
        output,
    };
    match command {
        AskingCommand::Status(args) => args.run(&session).await,
        AskingCommand::Plan(args) => args.run(&session).await,
        AskingCommand::Apply(args) => args.run(&session).await,
        AskingCommand::Get(args) => args.run(&session).await,
        AskingCommand::Describe(args) => args.run(&session).await,
        AskingCommand::Runs(args) => args.run(&session).await,
        AskingCommand::Watch(args) => args.run(&session).await,
        AskingCommand::Retry(args) => args.run(&session).await,
        AskingCommand::Resume(args) => args.run(&session).await,
        AskingCommand::Cancel(args) => args.run(&session).await,
        AskingCommand::Rotate(args) => args.run(&session).await,
        AskingCommand::Decommission(args) => args.run(&session).await,
        AskingCommand::Revoke(args) => args.run(&session).await,
        AskingCommand::Adopt(args) => args.run(&session).await,
        AskingCommand::Approve(args) => args.run(&session).await,
        AskingCommand::Reject(args) => args.run(&session).await,
        AskingCommand::Review(args) => args.run(&session).await,
        AskingCommand::Doctor(args) => args.run(&session).await,
        AskingCommand::Nodes(args) => args.run(&session).await,
        AskingCommand::Secret(command) => command.run(&session).await,
        AskingCommand::Freeze(args) => args.run(&session).await,
        AskingCommand::Unfreeze(args) => args.run(&session).await,
        AskingCommand::Rearm(args) => args.run(&session).await,
        AskingCommand::Backup(args) => args.run(&session).await,
        AskingCommand::Kek(command) => command.run(&session).await,
        AskingCommand::People(args) => args.run(&session).await,
        AskingCommand::Enrol(args) => args.run(&session).await,
        AskingCommand::Retire(args) => args.run(&session).await,
        AskingCommand::Token(command) => command.run(&session).await,
        AskingCommand::Key(command) => command.run(&session),
        AskingCommand::Audit(command) => command.run(&session).await,
        AskingCommand::Verify(args) => args.run(&session),
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod texts_tests;
