//! Verifying a receipt with nothing but the file and the keys that the verifier trusts.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::body::{CredentialEnd, FORMAT, ReceiptBody};
use super::file::ReceiptFile;
use super::rule::proof_holds;
use crate::domain::actor::{Actor, Approver};
use crate::domain::digest::Digest;
use crate::domain::ids::{CredentialId, PersonId};
use crate::evidence::approval::{ApprovalStatement, Decision};
use crate::evidence::checkpoint::{Checkpoint, CheckpointError};
use crate::evidence::keys::VerifierKey;
use crate::evidence::merkle::{MerkleError, verify_inclusion};
use crate::evidence::record::{AuditRecord, RecordError};

/// Clocks of two machines may differ by this much before a receipt is said to be from the future.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// Whom the verifier trusts.
#[derive(Debug, Clone)]
pub struct VerifierKeys {
    /// The name of the log that he expects.
    pub origin: String,
    /// The server's keys: one, or two while a key rolls over.
    pub server: Vec<VerifierKey>,
    /// The keys of people who may approve. `None` believes the receipt (and so the server) about whose keys they are.
    pub approvers: Option<Vec<VerifierKey>>,
}

/// A receipt in which everything holds.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedReceipt {
    pub body: ReceiptBody,
    pub body_digest: Digest,
    /// Of the closing record in the log, from 0.
    pub position: u64,
    /// The receipt holds as of this state of the log.
    pub checkpoint: Checkpoint,
    /// The credentials that are proven dead; no others are.
    pub dead: Vec<CredentialId>,
    /// What a reader should know although nothing is wrong.
    pub notes: Vec<String>,
}

/// The first thing that is wrong with a receipt.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum VerifyError {
    #[error("this is not a receipt: {why}")]
    File { why: String },
    #[error("the receipt's signature does not hold: {why}")]
    Signature { why: String },
    #[error("the receipt's body cannot be read: {why}")]
    Body { why: String },
    #[error("the receipt's checkpoint does not hold")]
    Checkpoint {
        #[source]
        source: CheckpointError,
    },
    #[error("the closing record is not in the log of the checkpoint")]
    Inclusion {
        #[source]
        source: MerkleError,
    },
    #[error("the closing record cannot be read")]
    Record {
        #[source]
        source: RecordError,
    },
    #[error("the closing record in the log is not that of this receipt: {why}")]
    Mismatch { why: &'static str },
    #[error("the approval does not hold: {why}")]
    Approval { why: String },
    #[error("the receipt does not prove what it claims: {}", problems.join("; "))]
    Proof { problems: Vec<String> },
    #[error("the receipt is from the future: the run closed at {closed_at}; check this machine's clock")]
    Future { closed_at: Timestamp },
}

/// Verifies a receipt's file. Pure: needs no server, no network and, without `now`, no clock.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify_receipt(
    file: &[u8],
    keys: &VerifierKeys,
    now: Option<Timestamp>,
) -> Result<VerifiedReceipt, VerifyError> {
    let file = ReceiptFile::parse(file).map_err(|why| VerifyError::File { why })?;
    file.verify_signature(&keys.server)
        .map_err(|why| VerifyError::Signature { why })?;
    let body: ReceiptBody =
        serde_json::from_slice(&file.body).map_err(|error| VerifyError::Body { why: error.to_string() })?;
    if body.format != FORMAT {
        let why = format!(
            "its format is `{}`, and this version of Keyfall reads `{FORMAT}`",
            body.format
        );
        return Err(VerifyError::Body { why });
    }
    let place = &file.place;
    let checkpoint = Checkpoint::verify(&place.checkpoint, &keys.origin, &keys.server)
        .map_err(|source| VerifyError::Checkpoint { source })?;
    verify_inclusion(
        &place.record,
        place.position,
        checkpoint.size,
        &checkpoint.root,
        &place.inclusion_proof,
    )
    .map_err(|source| VerifyError::Inclusion { source })?;
    let record = AuditRecord::decode(&place.record).map_err(|source| VerifyError::Record { source })?;
    let body_digest = ReceiptBody::digest_of(&file.body);
    check_record(&body, body_digest, &record).map_err(|why| VerifyError::Mismatch { why })?;
    check_approval(&body, keys.approvers.as_deref()).map_err(|why| VerifyError::Approval { why })?;
    proof_holds(&body).map_err(|problems| VerifyError::Proof { problems })?;
    let closed_at = body.run.closed_at;
    if now.is_some_and(|now| closed_at.duration_since(now) > CLOCK_TOLERANCE) {
        return Err(VerifyError::Future { closed_at });
    }
    let is_dead = |end: &CredentialEnd| matches!(end, CredentialEnd::Dead { .. });
    Ok(VerifiedReceipt {
        dead: body
            .credentials
            .iter()
            .filter(|one| is_dead(&one.end))
            .map(|one| one.id)
            .collect(),
        notes: notes(&body, keys),
        position: place.position,
        body,
        body_digest,
        checkpoint,
    })
}

/// The details of a closing record: the event's body, alone or inside the event.
#[derive(Deserialize)]
#[serde(untagged)]
enum ClosingDetails {
    Event { body: ClosingBody },
    Body(ClosingBody),
}

#[derive(Deserialize)]
struct ClosingBody {
    event: String,
    receipt_digest: Option<Digest>,
}

/// The log must commit to this very receipt.
fn check_record(body: &ReceiptBody, digest: Digest, record: &AuditRecord<'_>) -> Result<(), &'static str> {
    let details: ClosingDetails =
        serde_json::from_str(&record.details).map_err(|_| "its details are not those of a closing event")?;
    let (ClosingDetails::Event { body: closing } | ClosingDetails::Body(closing)) = details;
    if closing.event != "closed" {
        return Err("it is not the closing event of a run");
    }
    if closing.receipt_digest != Some(digest) {
        return Err("it holds the digest of another receipt");
    }
    if record.run.as_deref() != Some(body.run.id.to_string().as_str()) {
        return Err("it is of another run");
    }
    if record.outcome.as_deref() != Some(body.outcome.name()) {
        return Err("it states another outcome");
    }
    if record.plan_digest != Some(body.approval.plan_digest.0) {
        return Err("it does not name the approved plan");
    }
    Ok(())
}

fn check_approval(body: &ReceiptBody, trusted: Option<&[VerifierKey]>) -> Result<(), String> {
    let approval = &body.approval;
    let mut people = BTreeSet::new();
    let mut keys: Vec<VerifierKey> = Vec::new();
    for approver in &approval.approvers {
        let key = check_signature(body, approver)?;
        if trusted.is_some_and(|trusted| !trusted.contains(&key)) {
            return Err(format!(
                "the key of {} is not one of the approvers' keys given",
                approver.name
            ));
        }
        if !approval.solo && asked(body).any(|person| person == approver.person) {
            return Err(format!("{} approved what he or she asked for", approver.name));
        }
        if !people.insert(approver.person) || keys.iter().any(|known| known.public() == key.public()) {
            return Err(format!("{} stands for two approvers", approver.name));
        }
        keys.push(key);
    }
    // Two people stand behind whatever was signed, break-glass too: the one who asked and another one who signed.
    if people.is_empty() {
        return Err("nobody signed".to_owned());
    }
    Ok(())
}

fn check_signature(body: &ReceiptBody, approver: &Approver) -> Result<VerifierKey, String> {
    let approval = &body.approval;
    let key: VerifierKey = approver
        .public_key
        .parse()
        .map_err(|_| format!("the key of {} is damaged", approver.name))?;
    let statement = ApprovalStatement {
        plan_id: approval.plan.to_string(),
        plan_digest: approval.plan_digest.0,
        decision: Decision::Approve,
        expires_at_micros: approver.expires_at_micros,
    };
    if !statement.verifies(&key, &approver.signature) {
        return Err(format!("the signature of {} is not over this plan", approver.name));
    }
    // A standing approval expires as an offer to apply the policy; what it allows lasts until the policy changes.
    if !approval.standing && body.run.opened_at.as_microsecond() > approver.expires_at_micros {
        return Err(format!(
            "the approval of {} had expired when the run opened",
            approver.name
        ));
    }
    Ok(key)
}

/// The people who asked: for the run, and for the plan that was signed. Under a standing approval too: who signed the policy lets others ask.
fn asked(body: &ReceiptBody) -> impl Iterator<Item = PersonId> {
    let initiator = match body.run.initiator {
        Actor::Person { id, .. } => Some(id),
        Actor::Engine => None,
    };
    initiator.into_iter().chain([body.approval.requester])
}

fn notes(body: &ReceiptBody, keys: &VerifierKeys) -> Vec<String> {
    let mut notes = Vec::new();
    if body.approval.solo {
        notes.push("set up with --solo: requester and approver may be one person".to_owned());
    }
    if keys.approvers.is_none() {
        notes.push("no approvers' keys were given, so the server's word is taken for whose keys they are".to_owned());
    }
    for credential in &body.credentials {
        let (id, sessions) = (credential.id, credential.sessions);
        match &credential.end {
            CredentialEnd::Dead { .. } => {}
            CredentialEnd::Unprovable { why, .. } => notes.push(format!("{id} is not proven dead: {why}")),
            CredentialEnd::AliveAfterRevoke { .. } => {
                notes.push(format!("{id} was still accepted after it was revoked"))
            }
            CredentialEnd::NeverLive { why } => notes.push(format!("{id} is said never to have been issued: {why}")),
        }
        if let Some(left) = sessions.map(|sessions| sessions.left).filter(|left| *left > 0) {
            notes.push(format!("{left} sessions opened with {id} could not be ended"));
        }
    }
    for exception in &body.exceptions {
        notes.push(format!("exception ({}): {}", exception.cause.name(), exception.note));
    }
    notes
}
