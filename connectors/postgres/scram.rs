//! SCRAM-SHA-256 (RFC 5802, RFC 7677) on ring: the verifier that is stored in place of a password, and the client's side
//! of a login. It knows no connection and no SQL.
//!
//! `postgres_protocol` has both, but not so that a salt can be chosen, which reading back whether a secret is on an account
//! needs, nor so that a salted key can be kept from one login to the next.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use zeroize::Zeroizing;

/// What PostgreSQL itself uses (`SCRAM_SHA_256_DEFAULT_ITERATIONS`), and RFC 7677's minimum. More rounds slow down the
/// guessing of weak passwords; ours have 256 random bits, which no number of rounds makes harder to guess, while every
/// login of every consumer would pay for them.
pub(super) const ITERATIONS: u32 = 4096;

/// A server names the rounds, so a hostile one could keep us busy for hours without this bound.
const MOST_ITERATIONS: u32 = 100_000;
const SALT_BYTES: usize = 16;
const KEY_BYTES: usize = digest::SHA256_OUTPUT_LEN;

type Key = [u8; KEY_BYTES];

/// Why an exchange or a computation stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScramError {
    #[error("the operating system gives no random bytes")]
    Randomness,
    #[error("the server's SCRAM message is malformed: {0}")]
    Malformed(&'static str),
    #[error("the server asks for {0} SCRAM iterations; at most {MOST_ITERATIONS} are computed")]
    TooManyIterations(u32),
    #[error("the server did not prove that it knows the account's verifier")]
    ServerUnproven,
}

/// What the password, the salt and the rounds give. As good as the password for logging in.
#[derive(Clone)]
pub(super) struct SaltedKey(Zeroizing<Key>);

impl SaltedKey {
    /// Costs about a millisecond at the default rounds, so callers keep it off the async threads.
    pub(super) fn derive(secret: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let prepared = prepare(secret);
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, &prepared, &mut *key);
        Self(key)
    }

    fn client_key(&self) -> Zeroizing<Key> {
        Zeroizing::new(mac(&*self.0, b"Client Key"))
    }

    fn server_key(&self) -> Key {
        mac(&*self.0, b"Server Key")
    }
}

/// SASLprep as the server and libpq do it: bytes that it cannot prepare are used as they are.
fn prepare(secret: &[u8]) -> Zeroizing<Vec<u8>> {
    let prepared = std::str::from_utf8(secret)
        .ok()
        .and_then(|text| stringprep::saslprep(text).ok())
        .map_or_else(|| secret.to_vec(), |text| text.into_owned().into_bytes());
    Zeroizing::new(prepared)
}

fn mac(key: &[u8], data: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    copy_key(tag.as_ref())
}

fn hash(data: &[u8]) -> Key {
    copy_key(digest::digest(&digest::SHA256, data).as_ref())
}

fn copy_key(bytes: &[u8]) -> Key {
    let mut key = [0; KEY_BYTES];
    for (to, from) in key.iter_mut().zip(bytes) {
        *to = *from;
    }
    key
}

/// What `pg_authid.rolpassword` holds for a SCRAM password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Verifier {
    pub(super) iterations: NonZeroU32,
    pub(super) salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

impl Verifier {
    pub(super) fn new(key: &SaltedKey, salt: Vec<u8>, iterations: NonZeroU32) -> Self {
        Self {
            iterations,
            salt,
            stored_key: hash(&*key.client_key()),
            server_key: key.server_key(),
        }
    }

    /// `None` for what is no SCRAM-SHA-256 verifier (an MD5 hash, another mechanism).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (parameters, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
        Some(Self {
            iterations: iterations.parse().ok()?,
            salt: STANDARD.decode(salt).ok()?,
            stored_key: key(stored)?,
            server_key: key(server)?,
        })
    }

    /// True when this verifier was made from this secret. Recomputes with the verifier's own salt and rounds.
    pub(super) fn is_of(&self, secret: &[u8]) -> bool {
        if self.iterations.get() > MOST_ITERATIONS {
            return false;
        }
        let key = SaltedKey::derive(secret, &self.salt, self.iterations);
        Self::new(&key, self.salt.clone(), self.iterations) == *self
    }
}

/// The stored form. It holds base64 and `$:` only, so it needs no escaping in a statement.
impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(self.stored_key),
            STANDARD.encode(self.server_key)
        )
    }
}

pub(super) fn fresh_salt() -> Result<Vec<u8>, ScramError> {
    random(SALT_BYTES)
}

fn random(length: usize) -> Result<Vec<u8>, ScramError> {
    let mut bytes = vec![0; length];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| ScramError::Randomness)?;
    Ok(bytes)
}

/// The hash of the server's certificate that ties a login to its TLS connection (RFC 5929, `tls-server-end-point`).
pub(super) type ChannelBinding = Vec<u8>;

/// The client's side of one login: [`Exchange::first`] is sent, then what [`Exchange::prove`] answers.
pub(super) struct Exchange {
    header: &'static str,
    binding: ChannelBinding,
    nonce: String,
}

/// What the server asked for in its first message.
pub(super) struct Challenge {
    pub(super) salt: Vec<u8>,
    pub(super) iterations: NonZeroU32,
    nonce: String,
    message: String,
}

/// The client's last message and what the server must answer to it.
pub(super) struct Proof {
    pub(super) message: String,
    server_key: Key,
    transcript: String,
}

impl Exchange {
    pub(super) fn new(binding: Option<ChannelBinding>) -> Result<Self, ScramError> {
        let nonce = STANDARD.encode(random(18)?);
        Ok(Self::with_nonce(binding, nonce))
    }

    fn with_nonce(binding: Option<ChannelBinding>, nonce: String) -> Self {
        let header = match binding {
            Some(_) => "p=tls-server-end-point,,",
            None => "n,,",
        };
        Self {
            header,
            binding: binding.unwrap_or_default(),
            nonce,
        }
    }

    pub(super) fn mechanism(&self) -> &'static str {
        if self.header.starts_with('p') {
            "SCRAM-SHA-256-PLUS"
        } else {
            "SCRAM-SHA-256"
        }
    }

    /// PostgreSQL takes the account's name from the start-up message and ignores the one here.
    fn first_bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    pub(super) fn first(&self) -> String {
        format!("{}{}", self.header, self.first_bare())
    }

    pub(super) fn challenge(&self, message: &[u8]) -> Result<Challenge, ScramError> {
        let message = std::str::from_utf8(message).map_err(|_| ScramError::Malformed("not UTF-8"))?;
        let mut parts = message.split(',');
        let mut part = |prefix: &str| parts.next().and_then(|part| part.strip_prefix(prefix));
        let nonce = part("r=").ok_or(ScramError::Malformed("no nonce"))?;
        let salt = part("s=").ok_or(ScramError::Malformed("no salt"))?;
        let rounds = part("i=").ok_or(ScramError::Malformed("no iteration count"))?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError::Malformed("the nonce does not extend ours"));
        }
        let iterations: NonZeroU32 = rounds
            .parse()
            .map_err(|_| ScramError::Malformed("the iteration count is no positive number"))?;
        if iterations.get() > MOST_ITERATIONS {
            return Err(ScramError::TooManyIterations(iterations.get()));
        }
        Ok(Challenge {
            salt: STANDARD
                .decode(salt)
                .map_err(|_| ScramError::Malformed("the salt is not base64"))?,
            iterations,
            nonce: nonce.to_owned(),
            message: message.to_owned(),
        })
    }

    pub(super) fn prove(&self, challenge: &Challenge, key: &SaltedKey) -> Proof {
        let mut bound = self.header.as_bytes().to_vec();
        bound.extend_from_slice(&self.binding);
        let unsigned = format!("c={},r={}", STANDARD.encode(bound), challenge.nonce);
        let transcript = format!("{},{},{unsigned}", self.first_bare(), challenge.message);
        let client_key = key.client_key();
        let signature = mac(&hash(&*client_key), transcript.as_bytes());
        let mut proof = Zeroizing::new([0; KEY_BYTES]);
        for ((to, key), sign) in proof.iter_mut().zip(client_key.iter()).zip(signature) {
            *to = key ^ sign;
        }
        Proof {
            message: format!("{unsigned},p={}", STANDARD.encode(*proof)),
            server_key: key.server_key(),
            transcript,
        }
    }
}

impl Proof {
    /// A server that cannot sign the transcript does not hold the account's verifier: it is not the server we mean.
    pub(super) fn check_server(&self, message: &[u8]) -> Result<(), ScramError> {
        let signature = std::str::from_utf8(message)
            .ok()
            .and_then(|text| text.strip_prefix("v="))
            .and_then(|text| STANDARD.decode(text).ok())
            .ok_or(ScramError::Malformed("no server signature"))?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.server_key);
        hmac::verify(&key, self.transcript.as_bytes(), &signature).map_err(|_| ScramError::ServerUnproven)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::{Exchange, SaltedKey, ScramError, Verifier};

    /// The example of RFC 7677 §3, with the user name that PostgreSQL leaves out put back into the transcript.
    #[test]
    fn the_salted_key_of_rfc_7677_signs_as_printed_there() {
        let salt = base64::Engine::decode(&super::STANDARD, "W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let key = SaltedKey::derive(b"pencil", &salt, NonZeroU32::new(4096).unwrap());
        let transcript = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
             r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
             c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let proof = super::Proof {
            message: String::new(),
            server_key: key.server_key(),
            transcript: transcript.to_owned(),
        };
        proof
            .check_server(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
            .unwrap();
        assert!(matches!(
            proof.check_server(b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
            Err(ScramError::ServerUnproven)
        ));
    }

    #[test]
    fn verifiers_of_the_protocol_crate_are_recognised() {
        for secret in ["pencil", "käse \u{2168}", "a\u{a0}b"] {
            let text = postgres_protocol::password::scram_sha_256(secret.as_bytes());
            let verifier = Verifier::parse(&text).unwrap();
            assert!(verifier.is_of(secret.as_bytes()), "{secret}");
            assert!(!verifier.is_of(b"another"));
            assert_eq!(verifier.to_string(), text);
        }
        assert!(Verifier::parse("md5a3556571e93b0d20722ba62be61e8c2d").is_none());
    }

    #[test]
    fn a_hostile_challenge_is_refused() {
        let exchange = Exchange::with_nonce(None, "abc".to_owned());
        assert!(exchange.challenge(b"r=abcdef,s=AAAA,i=4096").is_ok());
        for bad in [
            "r=abc,s=AAAA,i=4096",
            "r=xbcd,s=AAAA,i=4096",
            "r=abcd,s=?,i=1",
            "r=abcd,s=AAAA,i=0",
            "",
        ] {
            assert!(exchange.challenge(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(matches!(
            exchange.challenge(b"r=abcdef,s=AAAA,i=2000000000"),
            Err(ScramError::TooManyIterations(_))
        ));
    }
}
