//! The key-encrypting key: 32 bytes from a file that only its owner can read, or from systemd's credentials directory.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use ring::{digest, hmac};
use zeroize::Zeroizing;

use crate::clock::Chance;
use crate::owner_only::{self, OpenError, PRIVATE};

/// No key file is longer than this; more is somebody's mistake, not a key.
const LONGEST_FILE: u64 = 256;

/// Recognises a KEK without revealing it: the first 8 hexadecimal digits of SHA-256(`keyfall-kek-id` || key).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KekId(pub String);

impl fmt::Display for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why there is no KEK.
#[derive(Debug, thiserror::Error)]
pub enum KekError {
    #[error("could not read the key file {}: give the path of a file with 32 random bytes, or make one with `keyfall init DIR`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the key file {} can be read by others (mode {mode:04o}): run `chmod 600 {}` and consider the key exposed if others use this machine", path.display(), path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("the key file {} holds no key: it must hold exactly 32 raw bytes, or 64 hexadecimal digits, or the base64 of 32 bytes", path.display())]
    Malformed { path: PathBuf },
    #[error("could not create the key file {}: choose a path that does not exist yet, in a directory you can write to", path.display())]
    Create {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the operating system gave no randomness for a key")]
    Draw,
}

/// A key-encrypting key in memory. Its `Debug` prints its id only.
pub struct Kek {
    id: KekId,
    bytes: Zeroizing<[u8; 32]>,
    pub(super) cipher: LessSafeKey,
}

impl Kek {
    /// Reads a key file.
    ///
    /// # Errors
    /// The file cannot be read, can be read by its group or by others, or holds no key. The text says what to do.
    pub fn load(path: &Path) -> Result<Self, KekError> {
        let read = |source| KekError::Read {
            path: path.to_owned(),
            source,
        };
        let file = owner_only::open(path).map_err(|error| match error {
            OpenError::Read(source) => read(source),
            OpenError::Exposed { mode } => KekError::Exposed {
                path: path.to_owned(),
                mode,
            },
        })?;
        // One allocation of the final size: a growing buffer would leave copies of the key behind.
        let mut text = Zeroizing::new(Vec::with_capacity(LONGEST_FILE as usize + 1));
        file.take(LONGEST_FILE + 1).read_to_end(&mut text).map_err(read)?;
        let bytes = parse(&text).ok_or_else(|| KekError::Malformed { path: path.to_owned() })?;
        Self::from_bytes(&bytes).ok_or_else(|| KekError::Malformed { path: path.to_owned() })
    }

    /// Draws a key and writes it to a file that did not exist, for its owner only (0600), as hexadecimal digits.
    ///
    /// # Errors
    /// There is no randomness, or the path exists or cannot be written.
    pub fn create(path: &Path, random: &dyn Chance) -> Result<Self, KekError> {
        let mut bytes = Zeroizing::new([0; 32]);
        random.fill(bytes.as_mut_slice()).map_err(|_| KekError::Draw)?;
        let kek = Self::from_bytes(&bytes).ok_or(KekError::Draw)?;
        let create = |source| KekError::Create {
            path: path.to_owned(),
            source,
        };
        let mut file = owner_only::create(path, PRIVATE).map_err(create)?;
        let mut text = Zeroizing::new(Vec::with_capacity(64));
        for byte in bytes.iter() {
            write!(text, "{byte:02x}").map_err(create)?;
        }
        owner_only::fill(&mut file, &[&text, b"\n"]).map_err(create)?;
        Ok(kek)
    }

    /// `None` never happens for 32 bytes; the cipher's own constructor is fallible.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"keyfall-kek-id");
        context.update(bytes);
        let id = context
            .finish()
            .as_ref()
            .iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Some(Self {
            id: KekId(id),
            bytes: Zeroizing::new(*bytes),
            cipher: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).ok()?),
        })
    }

    #[must_use]
    pub fn id(&self) -> &KekId {
        &self.id
    }

    /// A keyed constant. Kept in the store, it tells a wrong key at start, before any row is opened.
    #[must_use]
    pub fn check_value(&self) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.bytes.as_slice());
        let mut value = [0; 32];
        value.copy_from_slice(hmac::sign(&key, b"keyfall-kek-check/v1").as_ref());
        value
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kek({})", self.id)
    }
}

/// Exactly 32 bytes are the key itself; anything else must be its text form.
fn parse(file: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    if let Ok(raw) = <[u8; 32]>::try_from(file) {
        return Some(Zeroizing::new(raw));
    }
    let text = file.trim_ascii();
    let mut key = Zeroizing::new([0; 32]);
    if text.len() == 64 {
        for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair)
                .ok()
                .filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        return Some(key);
    }
    let mut decoded = Zeroizing::new([0; 64]);
    let length = STANDARD.decode_slice(text, decoded.as_mut_slice()).ok()?;
    key.copy_from_slice(decoded.get(..length).filter(|bytes| bytes.len() == 32)?);
    Some(key)
}
