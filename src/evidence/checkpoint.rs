//! Checkpoints of the log, as in C2SP `tlog-checkpoint` (c2sp.org/tlog-checkpoint): three lines (origin, number of records, base64 of the
//! root) in a signed note.
//!
//! The origin is the log's name for ever; whoever verifies says which one he expects.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::keys::{SigningKey, VerifierKey};
use super::merkle::{Hash, MOST_LEAVES};
use super::note::{Note, NoteError, sign_note};

/// What a log was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub origin: String,
    pub size: u64,
    pub root: Hash,
}

/// Why a checkpoint cannot be made or believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    #[error("the checkpoint cannot be signed")]
    Sign {
        #[source]
        source: NoteError,
    },
    #[error("the checkpoint's signature does not hold")]
    Signature {
        #[source]
        source: NoteError,
    },
    #[error("the checkpoint's {part} is damaged")]
    Malformed { part: &'static str },
    #[error("the checkpoint is of the log `{found}`, and `{expected}` was expected")]
    Origin { expected: String, found: String },
}

impl Checkpoint {
    /// The signed form: what is written to the anchor file, to outside holders and into receipts.
    ///
    /// # Errors
    /// The origin is empty or holds a newline or another control character.
    pub fn sign(&self, keys: &[&SigningKey]) -> Result<String, CheckpointError> {
        if self.origin.is_empty() || self.origin.contains('\n') {
            return Err(CheckpointError::Malformed { part: "origin" });
        }
        let text = format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root));
        sign_note(&text, keys).map_err(|source| CheckpointError::Sign { source })
    }

    /// Reads a signed checkpoint of the log `origin`. Lines behind the third are extensions, which are signed but mean nothing here.
    ///
    /// # Errors
    /// It is damaged, of another log, or not signed by a trusted key.
    pub fn verify(note: &str, origin: &str, trusted: &[VerifierKey]) -> Result<Self, CheckpointError> {
        let note = Note::parse(note).map_err(|source| CheckpointError::Signature { source })?;
        let (text, _) = note
            .verify(trusted)
            .map_err(|source| CheckpointError::Signature { source })?;
        let checkpoint = Self::parse_text(text)?;
        if checkpoint.origin != origin {
            return Err(CheckpointError::Origin {
                expected: origin.to_owned(),
                found: checkpoint.origin,
            });
        }
        Ok(checkpoint)
    }

    fn parse_text(text: &str) -> Result<Self, CheckpointError> {
        let malformed = |part| CheckpointError::Malformed { part };
        let mut lines = text.lines();
        let mut line = |part| {
            lines
                .next()
                .filter(|line| !line.is_empty())
                .ok_or_else(|| malformed(part))
        };
        let origin = line("origin")?.to_owned();
        let digits = line("size")?;
        let size = digits
            .parse()
            .ok()
            .filter(|size: &u64| *size <= MOST_LEAVES && size.to_string() == digits)
            .ok_or_else(|| malformed("size"))?;
        let root = STANDARD.decode(line("root")?).ok();
        let root = root
            .and_then(|root| root.try_into().ok())
            .ok_or_else(|| malformed("root"))?;
        Ok(Self { origin, size, root })
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::tests::key;
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            origin: "keyfall.example/log".to_owned(),
            size: 20_852_163,
            root: [5; 32],
        }
    }

    #[test]
    fn a_checkpoint_is_written_as_the_specification_says_and_reads_back() {
        let key = key("keyfall.example/log");
        let note = checkpoint().sign(&[&key]).unwrap();
        let text =
            "keyfall.example/log\n20852163\nBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU=\n\n— keyfall.example/log ";
        assert!(note.starts_with(text), "{note}");
        let trusted = [key.verifier().clone()];
        assert_eq!(
            Checkpoint::verify(&note, "keyfall.example/log", &trusted),
            Ok(checkpoint())
        );
        let other = Checkpoint::verify(&note, "other.example/log", &trusted).unwrap_err();
        assert!(matches!(other, CheckpointError::Origin { .. }));
    }

    #[test]
    fn every_flipped_byte_of_a_checkpoint_is_seen() {
        let key = key("log");
        let note = checkpoint().sign(&[&key]).unwrap();
        let trusted = [key.verifier().clone()];
        for at in 0..note.len() {
            for mask in [1, 0x20, 0x80] {
                let mut bytes = note.clone().into_bytes();
                bytes[at] ^= mask;
                if let Ok(changed) = String::from_utf8(bytes) {
                    assert!(
                        Checkpoint::verify(&changed, &checkpoint().origin, &trusted).is_err(),
                        "byte {at}"
                    );
                }
            }
        }
    }

    #[test]
    fn signed_nonsense_is_refused() {
        let key = key("log");
        let trusted = [key.verifier().clone()];
        for (text, part) in [
            ("log\n", "size"),
            ("log\n007\nAAAA\n", "size"),
            ("log\n-1\nAAAA\n", "size"),
            ("log\n18446744073709551615\nAAAA\n", "size"),
            ("log\n7\nAAAA\n", "root"),
            ("log\n7\n\n", "root"),
        ] {
            let note = sign_note(text, &[&key]).unwrap();
            let error = Checkpoint::verify(&note, "log", &trusted).unwrap_err();
            assert_eq!(error, CheckpointError::Malformed { part }, "{text:?}");
        }
        let odd = Checkpoint {
            origin: "a\nb".to_owned(),
            ..checkpoint()
        };
        assert!(odd.sign(&[&key]).is_err());
    }
}
