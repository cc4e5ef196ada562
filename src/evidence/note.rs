//! C2SP `signed-note` (c2sp.org/signed-note): a text, an empty line, and signature lines `— name base64(key id || signature)`.
//!
//! The signature covers the text with its last newline. Signatures by keys that the reader does not know are passed over, those by keys that
//! it knows must be right; at least one must be there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::keys::{KeyHash, SigningKey, VerifierKey};

/// No note of ours has more; a reader of a hostile file stops here.
const MOST_SIGNATURES: usize = 64;

/// A note as it was read. Nothing in it is to be believed before [`Note::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// With its last newline.
    text: String,
    signatures: Vec<NoteSignature>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct NoteSignature {
    name: String,
    hash: KeyHash,
    signature: Vec<u8>,
}

/// Why a note cannot be read or believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error("the text cannot be signed as a note: it must end with a newline and hold no other control character")]
    Text,
    #[error("this is not a signed note: {why}")]
    Malformed { why: &'static str },
    #[error("the signature by `{name}` is wrong: the text was changed after it was signed")]
    WrongSignature { name: String },
    #[error("no signature is by a key that is trusted here; it is signed by {signers}")]
    NoTrustedSignature { signers: String },
}

/// Signs a text with each of the keys; two while a key rolls over.
///
/// # Errors
/// [`NoteError::Text`].
pub fn sign_note(text: &str, keys: &[&SigningKey]) -> Result<String, NoteError> {
    if !well_formed(text) {
        return Err(NoteError::Text);
    }
    let mut note = format!("{text}\n");
    for key in keys {
        let bytes = [key.verifier().hash().as_slice(), &key.sign(text.as_bytes())].concat();
        note.extend(["— ", key.verifier().name(), " ", &STANDARD.encode(bytes), "\n"]);
    }
    Ok(note)
}

fn well_formed(text: &str) -> bool {
    text.ends_with('\n') && text.chars().all(|c| c == '\n' || !c.is_control())
}

impl Note {
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        let malformed = |why| NoteError::Malformed { why };
        // The signatures stand behind the *last* empty line: the text may have empty lines of its own.
        let at = note
            .rfind("\n\n")
            .ok_or_else(|| malformed("there is no empty line before the signatures"))?;
        let (text, rest) = note
            .split_at_checked(at + 1)
            .ok_or_else(|| malformed("it ends too early"))?;
        let lines = rest.strip_prefix('\n').and_then(|rest| rest.strip_suffix('\n'));
        let lines = lines.ok_or_else(|| malformed("it does not end with a signature line"))?;
        if !well_formed(text) {
            return Err(malformed("its text holds control characters"));
        }
        let signatures = lines.split('\n').map(parse_signature).collect::<Option<Vec<_>>>();
        let signatures = signatures.ok_or_else(|| malformed("a signature line is damaged"))?;
        if signatures.len() > MOST_SIGNATURES {
            return Err(malformed("it has too many signatures"));
        }
        Ok(Self {
            text: text.to_owned(),
            signatures,
        })
    }

    /// The text, once some trusted key is known to have signed it and none to have signed something else. Also who signed it.
    ///
    /// # Errors
    /// A trusted key's signature is wrong, or there is none.
    pub fn verify<'a>(&self, trusted: &'a [VerifierKey]) -> Result<(&str, Vec<&'a VerifierKey>), NoteError> {
        let mut signers = Vec::new();
        for line in &self.signatures {
            let Some(key) = trusted
                .iter()
                .find(|key| key.name() == line.name && key.hash() == line.hash)
            else {
                continue;
            };
            if !key.verifies(self.text.as_bytes(), &line.signature) {
                return Err(NoteError::WrongSignature {
                    name: line.name.clone(),
                });
            }
            signers.push(key);
        }
        if signers.is_empty() {
            let names: Vec<_> = self
                .signatures
                .iter()
                .map(|line| format!("{}+{:08x}", line.name, u32::from_be_bytes(line.hash)))
                .collect();
            return Err(NoteError::NoTrustedSignature {
                signers: names.join(", "),
            });
        }
        Ok((&self.text, signers))
    }
}

fn parse_signature(line: &str) -> Option<NoteSignature> {
    let (name, base64) = line.strip_prefix("— ")?.split_once(' ')?;
    VerifierKey::new(name, [0; 32]).ok()?;
    let bytes = STANDARD.decode(base64).ok()?;
    let (hash, signature) = bytes.split_first_chunk()?;
    (!signature.is_empty()).then(|| NoteSignature {
        name: name.to_owned(),
        hash: *hash,
        signature: signature.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::keys::tests::key;
    use super::*;

    #[test]
    fn the_note_of_the_specification_verifies() {
        // From the documentation of golang.org/x/mod/sumdb/note, which the specification was written from.
        let note = "If you think cryptography is the answer to your problem,\n\
            then you don't know what your problem is.\n\
            \n\
            — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let peter: VerifierKey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
            .parse()
            .unwrap();
        let read = Note::parse(note).unwrap();
        let (text, signers) = read.verify(std::slice::from_ref(&peter)).unwrap();
        assert!(text.starts_with("If you think") && text.ends_with("is.\n"));
        assert_eq!(signers, [&peter]);
        let changed = Note::parse(&note.replace("answer", "solver")).unwrap();
        assert!(matches!(
            changed.verify(&[peter]),
            Err(NoteError::WrongSignature { .. })
        ));
    }

    #[test]
    fn a_rollover_is_signed_by_both_keys_and_read_with_either() {
        let (old, new, other) = (key("server"), key("server"), key("server"));
        let note = Note::parse(&sign_note("hello\n\nworld\n", &[&old, &new]).unwrap()).unwrap();
        for known in [&old, &new] {
            let trusted = [known.verifier().clone()];
            assert_eq!(note.verify(&trusted).unwrap().0, "hello\n\nworld\n");
        }
        let both = [old.verifier().clone(), new.verifier().clone()];
        assert_eq!(note.verify(&both).unwrap().1.len(), 2);
        let none = note.verify(&[other.verifier().clone()]).unwrap_err();
        assert!(matches!(none, NoteError::NoTrustedSignature { .. }));
        assert!(none.to_string().contains("server+"));
    }

    #[test]
    fn what_is_not_a_note_is_said_to_be_none() {
        for bad in [
            "",
            "text\n",
            "text\n\n",
            "text\n\n— a\n",
            "text\n\n- a AAAAAAA=\n",
            "text\n\n— a AAAA",
            "t\rext\n\n— a AAAAAAA=\n",
        ] {
            assert!(matches!(Note::parse(bad), Err(NoteError::Malformed { .. })), "{bad:?}");
        }
        assert_eq!(sign_note("no newline", &[]), Err(NoteError::Text));
    }
}
