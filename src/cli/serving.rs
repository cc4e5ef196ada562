//! The commands that need more than the API, as they are typed. They are carried out by the wiring.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::config::StoreAddress;

#[derive(Debug, Args)]
/// Make a directory with everything that a server needs: settings, keys, an empty store, two people
#[command(after_help = "Example:\n  keyfall init kf --name keyfall.example.com --people alice,bob")]
pub struct InitArgs {
    /// The directory; it must be absent or empty
    pub dir: PathBuf,
    /// The server's name: origin of its log, name of its signing key
    #[arg(long, default_value = "keyfall")]
    pub name: String,
    /// The people to be enrolled, each with a key and a token of their own
    #[arg(long, value_delimiter = ',', default_value = "alice,bob")]
    pub people: Vec<String>,
    /// One person only, who approves what they asked for. For trials: every receipt names it
    #[arg(long)]
    pub solo: bool,
    /// Where the server will listen
    #[arg(long, default_value = "127.0.0.1:7411")]
    pub listen: SocketAddr,
    /// The store: an empty database, postgres://USER@HOST/DATABASE, or file:PATH of a file with such an address and its password (default: a
    /// SQLite file in the directory)
    #[arg(long, value_name = "STORE", value_parser = store_here)]
    pub store: Option<StoreAddress>,
}

#[derive(Debug, Args)]
/// Run the server
#[command(after_help = "Example:\n  keyfall serve --config kf/keyfall.toml")]
pub struct ServeArgs {
    #[command(flatten)]
    pub config: ConfigFlag,
    #[command(flatten)]
    pub flags: ServeFlags,
    /// File that gets the server's URL once it answers
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ConfigFlag {
    /// The settings (default: keyfall.toml here)
    #[arg(long, short, env = "KEYFALL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Flags that beat the same settings of environment and file.
#[derive(Debug, Default, Args, Serialize)]
pub struct ServeFlags {
    /// Address and port; port 0 takes a free one
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// The store: a SQLite file, postgres://USER@HOST/DATABASE, or file:PATH of a file with such an address and its password
    #[arg(long, value_name = "STORE", value_parser = store_here)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreAddress>,
    /// The key that seals secrets
    #[arg(long, value_name = "FILE", value_parser = here)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kek_file: Option<PathBuf>,
    /// This server's name in leases and in the log
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// A path on the command line starts where the person is, not where the settings are.
fn here(text: &str) -> Result<PathBuf, std::io::Error> {
    std::path::absolute(text)
}

fn store_here(text: &str) -> Result<StoreAddress, std::io::Error> {
    Ok(StoreAddress::from(text.to_owned()).from_here(&std::env::current_dir()?))
}

#[derive(Debug, Args)]
/// Put a backup in the place of the store. The server then starts frozen, until a person has looked
#[command(
    after_help = "Example:\n  mv kf/keyfall.db kf/keyfall.db.broken && keyfall restore kf/backups/monday --config kf/keyfall.toml"
)]
pub struct RestoreArgs {
    /// The backup
    pub backup: PathBuf,
    #[command(flatten)]
    pub config: ConfigFlag,
}

#[derive(Debug, Args)]
/// Move the store into another database: a file or a PostgreSQL database, from either to either
///
/// The source is closed first and never written to again; nothing is taken away from it. Whatever interrupts the copy, the same command goes
/// on with it. The target is compared with the source row by row before it opens for work.
#[command(
    after_help = "Example:\n  keyfall migrate-store --from kf/keyfall.db --to postgres://keyfall@db.example.com/keyfall\n  keyfall migrate-store --from kf/keyfall.db --abandon"
)]
pub struct MigrateStoreArgs {
    /// The store that is there (default: `store` in the settings)
    #[arg(long, value_name = "STORE")]
    pub from: Option<String>,
    /// A file that is not there, or an empty database
    #[arg(long, value_name = "STORE", required_unless_present = "abandon")]
    pub to: Option<String>,
    /// Give an unfinished move up: the source opens for work again, and what was copied can be finished no more
    #[arg(long, conflicts_with = "to")]
    pub abandon: bool,
    #[command(flatten)]
    pub config: ConfigFlag,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with the settings, or nothing
    #[command(after_help = "Example:\n  keyfall config check --config kf/keyfall.toml")]
    Check(ConfigFlag),
    /// Print the settings as they hold, from all sources
    #[command(after_help = "Example:\n  KEYFALL_LISTEN=127.0.0.1:0 keyfall config print --config kf/keyfall.toml")]
    Print(ConfigFlag),
}
