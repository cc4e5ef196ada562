//! Ed25519 keys of people and of the server, and the verifier-key text by which the public half is passed on.
//!
//! A verifier key is `name+hash+base64(0x01 || public key)`, as in C2SP `signed-note`; the hash is the key id in 8 hexadecimal digits.
//! A private key is PKCS#8 in PEM, in a file that only its owner can read; the verifier key stands above it in clear, so that the file says
//! whose key it is.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::rand::SecureRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::owner_only::{self, OpenError, PRIVATE};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
/// Ed25519 in the signature types of C2SP `signed-note`.
const ED25519_TYPE: u8 = 1;
const LONGEST_FILE: u64 = 8 * 1024;

/// The id by which a signature says which key made it: the first 4 bytes of SHA-256(name || `\n` || `0x01` || public key).
pub type KeyHash = [u8; 4];

/// Why a key could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("`{name}` cannot name a key: a name is not empty and has no space, control character or plus sign")]
    Name { name: String },
    #[error(
        "`{text}` is not a verifier key: it must look like name+1a2b3c4d+base64, and its hash must fit its name and key"
    )]
    VerifierKey { text: String },
    #[error("the operating system gave no randomness for a key")]
    Draw,
    #[error("could not create the key file {}: choose a path that does not exist yet, in a directory you can write to", path.display())]
    Create {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not read the key file {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the key file {} can be read by others (mode {mode:04o}): run `chmod 600 {}`, and enrol another key if others use this machine", path.display(), path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("the key file {} holds no Ed25519 private key in PEM (PKCS#8)", path.display())]
    Malformed { path: PathBuf },
    #[error("the key file {} does not say whose key it is: give a name for it", path.display())]
    Nameless { path: PathBuf },
}

/// The public half of a key, with the name it goes by.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    public: [u8; 32],
}

impl VerifierKey {
    /// # Errors
    /// [`KeyError::Name`].
    pub fn new(name: &str, public: [u8; 32]) -> Result<Self, KeyError> {
        let bad = name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+');
        if bad {
            return Err(KeyError::Name { name: name.to_owned() });
        }
        Ok(Self {
            name: name.to_owned(),
            public,
        })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    #[must_use]
    pub fn hash(&self) -> KeyHash {
        let bytes = [self.name.as_bytes(), b"\n", &[ED25519_TYPE], &self.public].concat();
        let mut hash = [0; 4];
        hash.iter_mut()
            .zip(digest(&SHA256, &bytes).as_ref())
            .for_each(|(to, from)| *to = *from);
        hash
    }

    /// Whether this key made the signature over these bytes.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.public)
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode([[ED25519_TYPE].as_slice(), &self.public].concat());
        write!(f, "{}+{:08x}+{key}", self.name, u32::from_be_bytes(self.hash()))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let bad = || KeyError::VerifierKey { text: text.to_owned() };
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(_), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad());
        };
        let bytes = STANDARD.decode(key).map_err(|_| bad())?;
        let public = match bytes.split_first() {
            Some((&ED25519_TYPE, public)) => <[u8; 32]>::try_from(public).map_err(|_| bad())?,
            _ => return Err(bad()),
        };
        let key = Self::new(name, public).map_err(|_| bad())?;
        // One spelling only: this also compares the hash.
        if key.to_string() == text { Ok(key) } else { Err(bad()) }
    }
}

/// A key that signs. Its `Debug` prints the public half.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

impl SigningKey {
    /// Draws a key and writes it to a file that did not exist, for its owner only (0600), durably.
    ///
    /// # Errors
    /// The name cannot name a key, there is no randomness, or the path exists or cannot be written.
    pub fn create(path: &Path, name: &str, random: &dyn SecureRandom) -> Result<Self, KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(random).map_err(|_| KeyError::Draw)?;
        let key = Self::from_pkcs8(document.as_ref(), name)?.ok_or(KeyError::Draw)?;
        let base64 = Zeroizing::new(STANDARD.encode(document.as_ref()));
        let mut pem = Zeroizing::new(String::with_capacity(base64.len() + 256 + name.len()));
        pem.extend([key.verifier.to_string().as_str(), "\n", BEGIN, "\n"]);
        for (count, letter) in base64.chars().enumerate() {
            if count > 0 && count % 64 == 0 {
                pem.push('\n');
            }
            pem.push(letter);
        }
        pem.extend(["\n", END, "\n"]);
        let create = |source| KeyError::Create {
            path: path.to_owned(),
            source,
        };
        owner_only::create(path, PRIVATE)
            .and_then(|mut file| owner_only::fill(&mut file, &[pem.as_bytes()]))
            .map_err(create)?;
        Ok(key)
    }

    /// Reads a key file. The name is the one given, or else the one that the file states. Keys made by
    /// `openssl genpkey -algorithm ed25519` can be read too, with a name given.
    ///
    /// # Errors
    /// The file cannot be read, can be read by others, holds no key, or states the name of another key.
    pub fn load(path: &Path, name: Option<&str>) -> Result<Self, KeyError> {
        let read = |source| KeyError::Read {
            path: path.to_owned(),
            source,
        };
        let malformed = || KeyError::Malformed { path: path.to_owned() };
        let file = owner_only::open(path).map_err(|error| match error {
            OpenError::Read(source) => read(source),
            OpenError::Exposed { mode } => KeyError::Exposed {
                path: path.to_owned(),
                mode,
            },
        })?;
        let mut text = Zeroizing::new(String::with_capacity(LONGEST_FILE as usize));
        file.take(LONGEST_FILE).read_to_string(&mut text).map_err(read)?;
        let (preamble, rest) = text.split_once(BEGIN).ok_or_else(malformed)?;
        let (body, _) = rest.split_once(END).ok_or_else(malformed)?;
        let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
        base64.extend(body.split_ascii_whitespace());
        let der = Zeroizing::new(STANDARD.decode(base64.as_bytes()).map_err(|_| malformed())?);
        let stated = preamble.lines().find_map(|line| line.parse::<VerifierKey>().ok());
        let name = name.or(stated.as_ref().map(VerifierKey::name));
        let name = name.ok_or_else(|| KeyError::Nameless { path: path.to_owned() })?;
        let key = Self::from_pkcs8(&der, name)?.ok_or_else(malformed)?;
        if stated.is_some_and(|stated| stated.public != key.verifier.public) {
            return Err(malformed());
        }
        Ok(key)
    }

    fn from_pkcs8(der: &[u8], name: &str) -> Result<Option<Self>, KeyError> {
        let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) else {
            return Ok(None);
        };
        let Ok(public) = <[u8; 32]>::try_from(pair.public_key().as_ref()) else {
            return Ok(None);
        };
        let verifier = VerifierKey::new(name, public)?;
        Ok(Some(Self { pair, verifier }))
    }

    /// The public half, to be given to whoever verifies.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        signature
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifier)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// A key of its own for a test, without a file.
    pub(in super::super) fn key(name: &str) -> SigningKey {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        SigningKey::from_pkcs8(document.as_ref(), name).unwrap().unwrap()
    }

    #[test]
    fn a_made_key_is_private_never_overwritten_and_reads_back_under_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zoe.key");
        let made = SigningKey::create(&path, "zoe", &SystemRandom::new()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(
            SigningKey::create(&path, "zoe", &SystemRandom::new()),
            Err(KeyError::Create { .. })
        ));
        let read = SigningKey::load(&path, None).unwrap();
        assert_eq!(read.verifier(), made.verifier());
        assert!(made.verifier().verifies(b"hello", &read.sign(b"hello")));
        assert!(!made.verifier().verifies(b"hullo", &read.sign(b"hello")));
        assert_eq!(SigningKey::load(&path, Some("zoe2")).unwrap().verifier().name(), "zoe2");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(SigningKey::load(&path, None), Err(KeyError::Exposed { .. })));
    }

    #[test]
    fn a_file_with_the_key_of_somebody_else_under_a_name_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        SigningKey::create(&one, "one", &SystemRandom::new()).unwrap();
        SigningKey::create(&two, "two", &SystemRandom::new()).unwrap();
        let text = fs::read_to_string(&one).unwrap();
        let other = fs::read_to_string(&two).unwrap();
        let (preamble, _) = other.split_once(BEGIN).unwrap();
        let (_, key) = text.split_once(BEGIN).unwrap();
        fs::write(&one, format!("{preamble}{BEGIN}{key}")).unwrap();
        assert!(matches!(SigningKey::load(&one, None), Err(KeyError::Malformed { .. })));
        fs::write(&one, format!("{BEGIN}{key}")).unwrap();
        assert!(matches!(SigningKey::load(&one, None), Err(KeyError::Nameless { .. })));
        fs::write(&one, "nothing").unwrap();
        assert!(matches!(SigningKey::load(&one, None), Err(KeyError::Malformed { .. })));
    }

    #[test]
    fn the_verifier_key_of_the_specification_reads_back() {
        // golang.org/x/mod/sumdb/note and C2SP signed-note use this key in their examples.
        let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        assert_eq!(text.parse::<VerifierKey>().unwrap().to_string(), text);
        for bad in [
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeuman+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+AhpC2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3",
            "",
        ] {
            assert!(
                matches!(bad.parse::<VerifierKey>(), Err(KeyError::VerifierKey { .. })),
                "{bad}"
            );
        }
        for name in ["", "a b", "a+b", "a\nb"] {
            assert!(matches!(VerifierKey::new(name, [0; 32]), Err(KeyError::Name { .. })));
        }
    }
}
