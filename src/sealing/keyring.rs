//! Sealing and opening one row.
//!
//! A row's data key encrypts the secret with the row's context as associated data, so that a ciphertext moved to another row, another
//! version or another endpoint does not open. The KEK encrypts the data key only: changing the KEK touches 60 bytes a row and never the
//! ciphertext. Nonces are random; a KEK wraps at most 2^32 rows (NIST SP 800-38D, 8.3), so it is changed before that.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::clock::Chance;
use keyfall_sdk::SecretValue;

use super::kek::{Kek, KekId};

/// The one algorithm there is. It stands in every row, so that a second one can be added beside it.
pub const ALGORITHM: &str = "aes-256-gcm/v1";

const KEY: usize = 32;
const TAG: usize = 16;
/// Encrypted data key and its tag.
const WRAPPED: usize = KEY + TAG;

/// What a sealed secret is bound to. Opening it for anything else fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealContext {
    pub secret_id: String,
    pub kind: String,
    pub version: u32,
    /// Over the endpoints of the system that the secret may be sent to (P11).
    pub endpoint_digest: [u8; 32],
}

impl SealContext {
    /// Every part has its length before it, so no two contexts have the same bytes.
    fn associated_data(&self) -> Vec<u8> {
        const LABEL: &[u8] = b"keyfall-seal/v1";
        let mut bytes = Vec::with_capacity(LABEL.len() + self.secret_id.len() + self.kind.len() + 52);
        bytes.extend_from_slice(LABEL);
        for part in [&self.secret_id, &self.kind] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(&self.endpoint_digest);
        bytes
    }
}

/// A sealed secret as its row holds it. Nothing in it is secret without the KEK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    pub kek_id: KekId,
    /// 48 bytes: the encrypted data key (32) and its tag (16).
    pub wrapped_key: Vec<u8>,
    /// 12 bytes, of the wrap.
    pub wrap_nonce: Vec<u8>,
    /// 12 bytes, of the ciphertext.
    pub nonce: Vec<u8>,
    /// The encrypted secret with its tag (16) behind it.
    pub ciphertext: Vec<u8>,
    pub algorithm: String,
}

/// Why a secret could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error(
        "this row is sealed under key {row}, the key file given is {given}: start with the key file of {row}, or give it as a second key"
    )]
    UnknownKek { row: KekId, given: KekId },
    #[error(
        "this row is sealed with `{algorithm}`, which this version of Keyfall does not know: use the version that wrote it"
    )]
    UnknownAlgorithm { algorithm: String },
    #[error("the sealed secret does not open: its row was changed, moved, or belongs to other endpoints")]
    Tampered,
    #[error("the key file given ({given}) is not the one that this store was made with: start with the right key file")]
    WrongKek { given: KekId },
    #[error("the operating system gave no randomness, so nothing was sealed")]
    Draw,
}

/// The KEK that seals, and those that may still open while rows are moved to it.
#[derive(Debug)]
pub struct Keyring {
    active: Kek,
    others: Vec<Kek>,
}

impl Keyring {
    #[must_use]
    pub fn new(active: Kek, others: Vec<Kek>) -> Self {
        Self { active, others }
    }

    #[must_use]
    pub fn active_id(&self) -> &KekId {
        self.active.id()
    }

    /// Seals under a data key of its own, wrapped by the active KEK. Two seals of one secret have nothing in common.
    ///
    /// # Errors
    /// [`SealError::Draw`].
    pub fn seal(&self, context: &SealContext, secret: &SecretValue, random: &dyn Chance) -> Result<Sealed, SealError> {
        // One draw for the data key and its nonce: the system call is the dearest part of a seal.
        let mut drawn = Zeroizing::new([0; KEY + NONCE_LEN]);
        random.fill(drawn.as_mut_slice()).map_err(|_| SealError::Draw)?;
        let (key, nonce) = drawn.split_first_chunk::<KEY>().ok_or(SealError::Draw)?;
        let nonce = <[u8; NONCE_LEN]>::try_from(nonce).map_err(|_| SealError::Draw)?;
        let plain = secret.expose_secret();
        // The room for the tag is there from the start: a buffer that grew would leave the plain secret behind.
        let mut ciphertext = Vec::with_capacity(plain.len() + TAG);
        ciphertext.extend_from_slice(plain);
        data_cipher(key)?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context.associated_data()),
                &mut ciphertext,
            )
            .map_err(|_| SealError::Draw)?;
        let (wrapped_key, wrap_nonce) = wrap(&self.active, key, random)?;
        Ok(Sealed {
            kek_id: self.active.id().clone(),
            wrapped_key,
            wrap_nonce,
            nonce: nonce.to_vec(),
            ciphertext,
            algorithm: ALGORITHM.to_owned(),
        })
    }

    /// Opens a secret for exactly the context that it was sealed for.
    ///
    /// # Errors
    /// The KEK of the row is not on the ring, the algorithm is unknown, or anything about row or context differs.
    pub fn open(&self, context: &SealContext, sealed: &Sealed) -> Result<SecretValue, SealError> {
        let key = self.unwrap(sealed)?;
        let nonce = Nonce::try_assume_unique_for_key(&sealed.nonce).map_err(|_| SealError::Tampered)?;
        let mut bytes = Zeroizing::new(sealed.ciphertext.clone());
        let plain = data_cipher(&key)?
            .open_in_place(nonce, Aad::from(context.associated_data()), &mut bytes)
            .map_err(|_| SealError::Tampered)?;
        Ok(SecretValue::new(&*plain))
    }

    /// Wraps the row's data key under the active KEK. The ciphertext is not touched, and the new wrap is opened once before it is given
    /// out. A row that is already under the active KEK comes back as it is, so a killed KEK rotation is simply run again.
    ///
    /// # Errors
    /// As [`Keyring::open`], and [`SealError::Draw`].
    pub fn rewrap(&self, sealed: &Sealed, random: &dyn Chance) -> Result<Sealed, SealError> {
        let key = self.unwrap(sealed)?;
        if sealed.kek_id == *self.active.id() {
            return Ok(sealed.clone());
        }
        let (wrapped_key, wrap_nonce) = wrap(&self.active, &key, random)?;
        let moved = Sealed {
            kek_id: self.active.id().clone(),
            wrapped_key,
            wrap_nonce,
            ..sealed.clone()
        };
        let again = self.unwrap(&moved)?;
        if bool::from(again.as_slice().ct_eq(key.as_slice())) {
            Ok(moved)
        } else {
            Err(SealError::Tampered)
        }
    }

    /// To be kept in the store beside [`Keyring::active_id`].
    #[must_use]
    pub fn check_value(&self) -> [u8; 32] {
        self.active.check_value()
    }

    /// Whether some key on the ring made this check value.
    ///
    /// # Errors
    /// [`SealError::WrongKek`].
    pub fn verify_check_value(&self, value: &[u8]) -> Result<(), SealError> {
        let known = self
            .keys()
            .any(|kek| bool::from(kek.check_value().as_slice().ct_eq(value)));
        known.then_some(()).ok_or_else(|| SealError::WrongKek {
            given: self.active.id().clone(),
        })
    }

    fn keys(&self) -> impl Iterator<Item = &Kek> {
        std::iter::once(&self.active).chain(&self.others)
    }

    fn unwrap(&self, sealed: &Sealed) -> Result<Zeroizing<[u8; KEY]>, SealError> {
        if sealed.algorithm != ALGORITHM {
            return Err(SealError::UnknownAlgorithm {
                algorithm: sealed.algorithm.clone(),
            });
        }
        let kek = self
            .keys()
            .find(|kek| *kek.id() == sealed.kek_id)
            .ok_or_else(|| SealError::UnknownKek {
                row: sealed.kek_id.clone(),
                given: self.active.id().clone(),
            })?;
        let nonce = Nonce::try_assume_unique_for_key(&sealed.wrap_nonce).map_err(|_| SealError::Tampered)?;
        let wrapped = <[u8; WRAPPED]>::try_from(sealed.wrapped_key.as_slice()).map_err(|_| SealError::Tampered)?;
        let mut bytes = Zeroizing::new(wrapped);
        let plain = kek
            .cipher
            .open_in_place(nonce, wrap_data(kek.id()), bytes.as_mut_slice())
            .map_err(|_| SealError::Tampered)?;
        let mut key = Zeroizing::new([0; KEY]);
        key.copy_from_slice(plain);
        Ok(key)
    }
}

fn data_cipher(key: &[u8; KEY]) -> Result<LessSafeKey, SealError> {
    Ok(LessSafeKey::new(
        UnboundKey::new(&AES_256_GCM, key).map_err(|_| SealError::Tampered)?,
    ))
}

fn wrap_data(kek: &KekId) -> Aad<Vec<u8>> {
    Aad::from([b"keyfall-wrap/v1".as_slice(), kek.0.as_bytes()].concat())
}

/// The wrapped key and its nonce.
fn wrap(kek: &Kek, key: &[u8; KEY], random: &dyn Chance) -> Result<(Vec<u8>, Vec<u8>), SealError> {
    let mut nonce = [0; NONCE_LEN];
    random.fill(&mut nonce).map_err(|_| SealError::Draw)?;
    let mut encrypted = Zeroizing::new(*key);
    let tag = kek
        .cipher
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            wrap_data(kek.id()),
            encrypted.as_mut_slice(),
        )
        .map_err(|_| SealError::Draw)?;
    Ok(([encrypted.as_slice(), tag.as_ref()].concat(), nonce.to_vec()))
}
