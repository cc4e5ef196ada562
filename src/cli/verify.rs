//! Verifying a receipt with nothing but the file and the keys that the reader trusts: no server, no network, no Keyfall of one's own.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::output::print;
use super::people::verifier_key;
use super::{CliError, Exit, Session};
use crate::clock::{Clock, SystemClock};
use crate::domain::workflow::Outcome;
use crate::evidence::checkpoint::Checkpoint;
use crate::evidence::keys::VerifierKey;
use crate::evidence::merkle::Hash;
use crate::evidence::receipt::{CredentialEnd, CredentialEvidence, VerifiedReceipt, VerifierKeys, verify_receipt};
use crate::evidence::verify::verify_extends;

#[derive(Debug, Args)]
/// Check a receipt offline: what was proven dead, for whom, when, and how strong the proof is. Exit 4 when it does not hold
#[command(
    after_help = "Example:\n  keyfall verify death.receipt --key keyfall.pub\n  keyfall verify death.receipt --key keyfall.pub --since kept.checkpoint --consistency proof.json"
)]
pub struct VerifyArgs {
    /// The receipt
    file: PathBuf,
    /// The server's verifier key, or a file that holds it; two while a key rolls over
    #[arg(long = "key", required = true, value_name = "PUB")]
    keys: Vec<String>,
    /// Keys of the people whose approval counts; without any, the receipt is believed about whose keys they are
    #[arg(long = "approver", value_name = "PUB")]
    approvers: Vec<String>,
    /// The log's name (default: the name of the key)
    #[arg(long)]
    origin: Option<String>,
    /// A checkpoint that you kept: the receipt's log must be the same log
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// What `keyfall audit consistency` printed for the two checkpoints, where their sizes differ
    #[arg(long, value_name = "FILE", requires = "since")]
    consistency: Option<PathBuf>,
}

impl VerifyArgs {
    pub(super) fn run(self, session: &Session) -> Result<Exit, CliError> {
        let server: Vec<VerifierKey> = self
            .keys
            .iter()
            .map(|key| verifier_key(key))
            .collect::<Result<_, _>>()?;
        let approvers: Vec<_> = self
            .approvers
            .iter()
            .map(|key| verifier_key(key))
            .collect::<Result<_, _>>()?;
        let keys = VerifierKeys {
            origin: origin(self.origin.as_deref(), &server)?,
            server,
            approvers: (!approvers.is_empty()).then_some(approvers),
        };
        let file = read(&self.file)?;
        let receipt = verify_receipt(&file, &keys, Some(SystemClock.now()))
            .map_err(|error| CliError::NotProven(format!("{}: {}", self.file.display(), chain(&error))))?;
        let mut notes = receipt.notes.clone();
        if let Some(since) = &self.since {
            let kept = Checkpoint::verify(&text(since)?, &keys.origin, &keys.server)
                .map_err(|error| CliError::NotProven(format!("{}: {}", since.display(), chain(&error))))?;
            notes.push(goes_on(&kept, &receipt.checkpoint, self.consistency.as_deref())?);
        }
        if session.output.is_json() {
            session.output.json(&json!({
                "holds": true,
                "receipt": receipt.body,
                "digest": receipt.body_digest,
                "position": receipt.position,
                "log_size": receipt.checkpoint.size,
                "dead": receipt.dead,
                "notes": notes,
            }))?;
        } else {
            print(&summary(&receipt, &notes))?;
        }
        let all_dead = receipt
            .body
            .credentials
            .iter()
            .all(|one| matches!(one.end, CredentialEnd::Dead { .. } | CredentialEnd::NeverLive { .. }));
        Ok(if all_dead { Exit::Ok } else { Exit::NotProven })
    }
}

/// A log's name is the name of the key that signs its checkpoints, unless somebody says otherwise.
pub(super) fn origin(given: Option<&str>, keys: &[VerifierKey]) -> Result<String, CliError> {
    given
        .or_else(|| keys.first().map(VerifierKey::name))
        .map(str::to_owned)
        .ok_or_else(|| CliError::Usage("give the server's verifier key: --key PUB".to_owned()))
}

/// Whether two states of one log can both be true. The one that was kept may be the younger one: receipts are older than what one knows.
fn goes_on(kept: &Checkpoint, receipt: &Checkpoint, proof: Option<&std::path::Path>) -> Result<String, CliError> {
    let (older, newer) = if kept.size <= receipt.size {
        (kept, receipt)
    } else {
        (receipt, kept)
    };
    let proof = match proof {
        Some(file) => consistency(file)?,
        None if older.size == newer.size || older.size == 0 => Vec::new(),
        None => {
            return Err(CliError::NotProven(format!(
                "the kept checkpoint speaks of {} records and the receipt's of {}; give --consistency with what `keyfall audit consistency {} {}` prints",
                kept.size, receipt.size, older.size, newer.size
            )));
        }
    };
    verify_extends(older, newer, &proof).map_err(|error| CliError::NotProven(chain(&error)))?;
    Ok(format!(
        "the log is the one of the kept checkpoint ({} records)",
        kept.size
    ))
}

fn consistency(file: &std::path::Path) -> Result<Vec<Hash>, CliError> {
    let lines: Vec<String> = serde_json::from_str(&text(file)?).map_err(|error| CliError::Answer {
        what: format!("{}: {error}", file.display()),
    })?;
    lines.iter().map(|line| decode_hash(line)).collect()
}

pub(super) fn decode_hash(text: &str) -> Result<Hash, CliError> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| CliError::Answer {
            what: format!("`{text}` is not the base64 of a hash"),
        })
}

fn summary(receipt: &VerifiedReceipt, notes: &[String]) -> String {
    let body = &receipt.body;
    let mut text = format!(
        "The receipt holds.\n\
         identity:    {} ({}), owner {}, environment {}\n\
         system:      {} ({})\n\
         run:         {} ({}), asked by {}, {:.0} to {:.0}\n\
         approved by: {}{}\n\
         outcome:     {}\n",
        body.identity.name,
        body.identity.id,
        body.identity.owner,
        body.identity.environment,
        body.system.name,
        body.system.connector,
        body.run.id,
        body.run.kind.name(),
        body.run.initiator.label(),
        body.run.opened_at,
        body.run.closed_at,
        body.approval
            .approvers
            .iter()
            .map(|one| one.name.as_str())
            .collect::<Vec<_>>()
            .join(", "),
        if body.approval.standing {
            " (standing approval of the policy)"
        } else {
            ""
        },
        outcome_text(&body.outcome),
    );
    for credential in &body.credentials {
        text.push_str(&credential_lines(credential));
    }
    text.push_str(&format!(
        "in the log:  record {} of {}, as of the checkpoint of {}\n",
        receipt.position, receipt.checkpoint.size, receipt.checkpoint.origin
    ));
    for note in notes {
        text.push_str(&format!("note:        {note}\n"));
    }
    text
}

/// An end that is not what was planned says why.
fn outcome_text(outcome: &Outcome) -> String {
    let name = outcome.name();
    match outcome {
        Outcome::Completed => name.to_owned(),
        Outcome::Unwound { cause: why } | Outcome::Unprovable { why, .. } => format!("{name}: {why}"),
        Outcome::AliveAfterRevoke { since } => format!("{name} since {since:.0}"),
    }
}

fn credential_lines(credential: &CredentialEvidence) -> String {
    let end = match &credential.end {
        CredentialEnd::Dead { proven_at } => format!("proven dead at {proven_at:.0}"),
        CredentialEnd::Unprovable { why, .. } => format!("NOT proven dead: {why}"),
        CredentialEnd::AliveAfterRevoke { since } => format!("ALIVE after it was revoked, since {since:.0}"),
        CredentialEnd::NeverLive { why } => format!("was never issued: {why}"),
    };
    let mut text = format!(
        "credential:  {} of {}: {end}\n",
        credential.id, credential.principal.name
    );
    for vantage in &credential.vantages {
        let grade = vantage
            .grade
            .map_or_else(|| "no evidence".to_owned(), |grade| grade.name().to_owned());
        let baseline = vantage.baseline_accepted_at.map_or_else(
            || "never seen accepted here".to_owned(),
            |at| format!("last accepted {at:.0}"),
        );
        text.push_str(&format!(
            "  at {}: {grade}, {baseline}, {} rounds of probes\n",
            vantage.vantage,
            vantage.rounds.len()
        ));
    }
    text
}

fn read(file: &std::path::Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(file).map_err(|source| CliError::File {
        doing: "read",
        path: file.to_owned(),
        source,
    })
}

pub(super) fn text(file: &std::path::Path) -> Result<String, CliError> {
    std::fs::read_to_string(file).map_err(|source| CliError::File {
        doing: "read",
        path: file.to_owned(),
        source,
    })
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
