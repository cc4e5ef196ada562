//! The receipt's file: a DSSE envelope around the body (github.com/secure-systems-lab/dsse), and the body's place in the log beside it.
//!
//! The envelope signs the body's exact bytes; the place proves itself (record → inclusion proof → signed checkpoint). There is one way to write
//! a file, and a file that is written in another way is refused, so that no byte of it is without meaning.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::evidence::keys::{SigningKey, VerifierKey};
use crate::evidence::merkle::Hash;

const MEDIA_TYPE: &str = "application/vnd.keyfall.receipt.v1+json";
const PAYLOAD_TYPE: &str = "application/vnd.keyfall.receipt-body.v1+json";
/// More than any receipt has; a hostile file is refused before it is read.
const LONGEST: usize = 64 * 1024 * 1024;

/// The parts of a receipt, decoded and not yet believed.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceiptFile {
    pub body: Vec<u8>,
    pub place: LogPlace,
    signatures: Vec<EnvelopeSignature>,
}

/// Where the closing record of the run stands in the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPlace {
    /// The encoded audit record, as it is stored.
    pub record: Vec<u8>,
    /// Counts from 0.
    pub position: u64,
    pub inclusion_proof: Vec<Hash>,
    /// The signed note.
    pub checkpoint: String,
}

/// Why a receipt's file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the receipt's file could not be written as JSON")]
pub struct AssembleError(#[source] serde_json::Error);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Written {
    media_type: String,
    dsse_envelope: Envelope,
    log: WrittenPlace,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    /// The verifier key's text. It says which trusted key to try, and is not believed.
    keyid: String,
    sig: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WrittenPlace {
    position: u64,
    record: String,
    inclusion_proof: Vec<String>,
    checkpoint: String,
}

/// DSSE's pre-authentication encoding: what is signed, with its type, so that it can pass for nothing else.
fn signing_bytes(body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Signs the body and writes the file. Two keys sign while a key rolls over.
///
/// # Errors
/// [`AssembleError`], which does not happen for these parts.
pub fn assemble(body: &[u8], place: &LogPlace, keys: &[&SigningKey]) -> Result<Vec<u8>, AssembleError> {
    let message = signing_bytes(body);
    let sign = |key: &&SigningKey| EnvelopeSignature {
        keyid: key.verifier().to_string(),
        sig: STANDARD.encode(key.sign(&message)),
    };
    ReceiptFile {
        body: body.to_vec(),
        place: place.clone(),
        signatures: keys.iter().map(sign).collect(),
    }
    .write()
    .map_err(AssembleError)
}

impl ReceiptFile {
    /// # Errors
    /// What is wrong with the file, in plain words.
    pub(super) fn parse(file: &[u8]) -> Result<Self, String> {
        if file.len() > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        let written: Written = serde_json::from_slice(file).map_err(|error| error.to_string())?;
        if written.media_type != MEDIA_TYPE || written.dsse_envelope.payload_type != PAYLOAD_TYPE {
            return Err("its type is not one that this version of Keyfall reads".to_owned());
        }
        let decode = |text: &str, part: &str| STANDARD.decode(text).map_err(|_| format!("its {part} is not base64"));
        let hash = |text: &String| {
            Hash::try_from(decode(text, "inclusion proof")?).map_err(|_| "its inclusion proof is damaged".to_owned())
        };
        let read = Self {
            body: decode(&written.dsse_envelope.payload, "payload")?,
            place: LogPlace {
                record: decode(&written.log.record, "record")?,
                position: written.log.position,
                inclusion_proof: written.log.inclusion_proof.iter().map(hash).collect::<Result<_, _>>()?,
                checkpoint: written.log.checkpoint,
            },
            signatures: written.dsse_envelope.signatures,
        };
        if read.write().map_err(|error| error.to_string())? != file {
            return Err("it is not written in the one way in which receipts are written".to_owned());
        }
        Ok(read)
    }

    fn write(&self) -> Result<Vec<u8>, serde_json::Error> {
        let written = Written {
            media_type: MEDIA_TYPE.to_owned(),
            dsse_envelope: Envelope {
                payload_type: PAYLOAD_TYPE.to_owned(),
                payload: STANDARD.encode(&self.body),
                signatures: self.signatures.clone(),
            },
            log: WrittenPlace {
                position: self.place.position,
                record: STANDARD.encode(&self.place.record),
                inclusion_proof: self
                    .place
                    .inclusion_proof
                    .iter()
                    .map(|hash| STANDARD.encode(hash))
                    .collect(),
                checkpoint: self.place.checkpoint.clone(),
            },
        };
        let mut file = serde_json::to_vec_pretty(&written)?;
        file.push(b'\n');
        Ok(file)
    }

    /// Some trusted key signed the body, and no trusted key signed something else.
    ///
    /// # Errors
    /// Which signature is wrong, or whose signatures there are.
    pub(super) fn verify_signature(&self, trusted: &[VerifierKey]) -> Result<(), String> {
        let message = signing_bytes(&self.body);
        let mut known = false;
        for signature in &self.signatures {
            let Some(key) = trusted.iter().find(|key| key.to_string() == signature.keyid) else {
                continue;
            };
            if !STANDARD
                .decode(&signature.sig)
                .is_ok_and(|sig| key.verifies(&message, &sig))
            {
                return Err(format!(
                    "the signature by {key} is wrong: the receipt was changed after it was signed"
                ));
            }
            known = true;
        }
        if known {
            return Ok(());
        }
        let signers: Vec<_> = self
            .signatures
            .iter()
            .map(|signature| signature.keyid.as_str())
            .collect();
        Err(format!(
            "no key given signed it; it is signed by [{}]",
            signers.join(", ")
        ))
    }
}
