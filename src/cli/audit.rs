//! The audit log: looking at it, taking it away as a file, and verifying all of it on the reader's own machine.
//!
//! An export is NDJSON: `{"position", "record", "leaf"}` for each record (base64), then `{"checkpoint"}` with the signed note over them. The
//! leaf is believed by nobody; it lets the first record that was changed be named.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::Client;
use super::output::{note, print};
use super::people::verifier_key;
use super::verify::{chain, origin, text};
use super::{CliError, Exit, Session};
use crate::evidence::checkpoint::Checkpoint;
use crate::evidence::keys::VerifierKey;
use crate::evidence::verify::verify_log;

const PAGE: u64 = 5_000;

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List records, the oldest first
    #[command(after_help = "Example:\n  keyfall audit list --from 100 --limit 20")]
    List {
        /// Position of the first record
        #[arg(long, default_value_t = 0)]
        from: u64,
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Write the whole log with a signed checkpoint to a file
    #[command(
        after_help = "Example:\n  keyfall audit export log.ndjson && keyfall audit verify log.ndjson --key keyfall.pub"
    )]
    Export {
        /// The file, which must not exist yet
        file: PathBuf,
    },
    /// Print a signed checkpoint, to be kept outside
    #[command(after_help = "Example:\n  keyfall audit checkpoint > kept.checkpoint")]
    Checkpoint,
    /// Print the proof that the log of one size goes on from the log of another
    #[command(after_help = "Example:\n  keyfall audit consistency 120 340 > proof.json")]
    Consistency {
        /// The smaller size
        from: u64,
        /// The larger size
        to: u64,
    },
    Verify(VerifyLogArgs),
}

#[derive(Debug, Args)]
/// Verify every record of the log against its signed checkpoint; names the first bad one. Exit 4 when it does not hold
#[command(
    after_help = "Example:\n  keyfall audit verify --key keyfall.pub\n  keyfall audit verify log.ndjson --key keyfall.pub --anchor kept.checkpoint"
)]
pub struct VerifyLogArgs {
    /// What `keyfall audit export` wrote (default: the server's log, fetched now and verified here)
    file: Option<PathBuf>,
    /// The server's verifier key, or a file that holds it; two while a key rolls over
    #[arg(long = "key", required = true, value_name = "PUB")]
    keys: Vec<String>,
    /// A checkpoint that you kept: the log must go on from it
    #[arg(long, value_name = "FILE")]
    anchor: Option<PathBuf>,
    /// The log's name (default: the name of the key)
    #[arg(long)]
    origin: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    position: u64,
    record: String,
    #[serde(default)]
    leaf: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LastLine {
    checkpoint: String,
}

/// Records with how their hashes began when they got their positions, where that is known.
type Records = Vec<(Vec<u8>, Option<Vec<u8>>)>;

impl AuditCommand {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        match self {
            Self::List { from, limit } => {
                let query = [("from", Some(from.to_string())), ("limit", Some(limit.to_string()))];
                let rows: Vec<Value> = session.client()?.get(&["audit"], &query).await?;
                let columns = [
                    ("POSITION", "position"),
                    ("AT", "at"),
                    ("ACTION", "record/action"),
                    ("STEP", "record/step"),
                    ("BY", "record/initiator/name"),
                    ("IDENTITY", "record/identity"),
                    ("OUTCOME", "record/outcome"),
                    ("ID", "record/id"),
                ];
                session.output.list(&rows, &columns)?;
                Ok(Exit::Ok)
            }
            Self::Export { file } => export(session, &file).await,
            Self::Checkpoint => {
                print(&checkpoint(&session.client()?).await?)?;
                Ok(Exit::Ok)
            }
            Self::Consistency { from, to } => {
                let query = [("from", Some(from.to_string())), ("to", Some(to.to_string()))];
                let proof: Value = session.client()?.get(&["audit", "consistency"], &query).await?;
                session.output.json(&proof)?;
                Ok(Exit::Ok)
            }
            Self::Verify(args) => args.run(session).await,
        }
    }
}

async fn checkpoint(client: &Client) -> Result<String, CliError> {
    let bytes = client.get_bytes(&["audit", "checkpoint"], &[]).await?;
    String::from_utf8(bytes).map_err(|_| CliError::Answer {
        what: "the checkpoint is no text".to_owned(),
    })
}

async fn export(session: &Session, file: &Path) -> Result<Exit, CliError> {
    let failed = |source| CliError::File {
        doing: "write",
        path: file.to_owned(),
        source,
    };
    let client = session.client()?;
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .map_err(failed)?;
    let mut out = BufWriter::new(opened);
    let mut count = 0_u64;
    // The checkpoint is taken first: every record that it speaks of exists by then.
    let checkpoint = checkpoint(&client).await?;
    let size = size_of(&checkpoint)?;
    while count < size {
        for (record, leaf) in page(&client, count, size).await? {
            let line = Line {
                position: count,
                leaf: leaf.map(|leaf| STANDARD.encode(leaf)),
                record: STANDARD.encode(record),
            };
            write_line(&mut out, &line).map_err(failed)?;
            count = count.saturating_add(1);
        }
    }
    write_line(&mut out, &LastLine { checkpoint }).map_err(failed)?;
    out.into_inner()
        .map_err(|error| failed(error.into_error()))?
        .sync_all()
        .map_err(failed)?;
    note(&format!(
        "{count} records and a checkpoint over them are in {}",
        file.display()
    ));
    Ok(Exit::Ok)
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// The second line of a checkpoint; whether it is signed is looked at by whoever verifies.
fn size_of(checkpoint: &str) -> Result<u64, CliError> {
    let size = checkpoint.lines().nth(1).and_then(|line| line.parse().ok());
    size.ok_or_else(|| CliError::Answer {
        what: "the checkpoint states no size".to_owned(),
    })
}

async fn page(client: &Client, from: u64, size: u64) -> Result<Records, CliError> {
    let limit = PAGE.min(size.saturating_sub(from));
    let query = [("from", Some(from.to_string())), ("limit", Some(limit.to_string()))];
    let bytes = client.get_bytes(&["audit", "raw"], &query).await?;
    let records: Records = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .zip(from..)
        .map(|(line, position)| record_of(line, position))
        .collect::<Result<_, _>>()?;
    if records.is_empty() {
        return Err(CliError::NotProven(format!(
            "record {from}: the log ends here, and its checkpoint speaks of {size} records"
        )));
    }
    Ok(records)
}

fn record_of(line: &[u8], position: u64) -> Result<(Vec<u8>, Option<Vec<u8>>), CliError> {
    let bad = |why: String| CliError::NotProven(format!("record {position}: {why}"));
    let line: Line = serde_json::from_slice(line).map_err(|error| bad(error.to_string()))?;
    if line.position != position {
        return Err(bad(format!("the record {} stands in its place", line.position)));
    }
    let decoded = |text: &str| STANDARD.decode(text).map_err(|_| bad("it is not base64".to_owned()));
    let leaf = line.leaf.as_deref().map(decoded).transpose()?;
    Ok((decoded(&line.record)?, leaf))
}

impl VerifyLogArgs {
    async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let keys: Vec<VerifierKey> = self
            .keys
            .iter()
            .map(|key| verifier_key(key))
            .collect::<Result<_, _>>()?;
        let origin = origin(self.origin.as_deref(), &keys)?;
        let believe = |note: &str, what: &str| {
            Checkpoint::verify(note, &origin, &keys)
                .map_err(|error| CliError::NotProven(format!("{what}: {}", chain(&error))))
        };
        let (records, signed) = match &self.file {
            Some(file) => from_file(file)?,
            None => from_server(&session.client()?).await?,
        };
        let checkpoint = believe(&signed, "the log's checkpoint")?;
        if let Some(anchor) = &self.anchor {
            let kept = believe(&text(anchor)?, &anchor.display().to_string())?;
            if kept.size > checkpoint.size {
                return Err(CliError::NotProven(format!(
                    "the log was rewound: the anchor speaks of {} records, the log of {}",
                    kept.size, checkpoint.size
                )));
            }
            verify_log(borrowed(&records), &kept).map_err(|bad| {
                CliError::NotProven(format!(
                    "the log does not go on from the anchor ({} records): {bad}",
                    kept.size
                ))
            })?;
        }
        verify_log(borrowed(&records), &checkpoint).map_err(|bad| CliError::NotProven(bad.to_string()))?;
        let behind = (records.len() as u64).saturating_sub(checkpoint.size);
        let mut text = format!(
            "all {} records of `{}` are those that were signed",
            checkpoint.size, checkpoint.origin
        );
        if behind > 0 {
            text.push_str(&format!("; {behind} more have no checkpoint yet"));
        }
        let view = serde_json::json!({ "holds": true, "records": checkpoint.size, "origin": checkpoint.origin });
        session.output.say(&view, &text)?;
        Ok(Exit::Ok)
    }
}

fn borrowed(records: &Records) -> impl Iterator<Item = (&[u8], Option<Vec<u8>>)> {
    records.iter().map(|(record, leaf)| (record.as_slice(), leaf.clone()))
}

async fn from_server(client: &Client) -> Result<(Records, String), CliError> {
    let signed = checkpoint(client).await?;
    let size = size_of(&signed)?;
    let mut records = Vec::new();
    while (records.len() as u64) < size {
        records.extend(page(client, records.len() as u64, size).await?);
    }
    Ok((records, signed))
}

fn from_file(file: &Path) -> Result<(Records, String), CliError> {
    let failed = |source| CliError::File {
        doing: "read",
        path: file.to_owned(),
        source,
    };
    let mut records = Vec::new();
    for line in BufReader::new(std::fs::File::open(file).map_err(failed)?).split(b'\n') {
        let line = line.map_err(failed)?;
        if let Ok(last) = serde_json::from_slice::<LastLine>(&line) {
            return Ok((records, last.checkpoint));
        }
        records.push(record_of(&line, records.len() as u64)?);
    }
    Err(CliError::NotProven(format!(
        "{}: it ends after {} records without a checkpoint: it was cut",
        file.display(),
        records.len()
    )))
}
