//! The server's keys: those that seal, and the one that signs. A wrong one is named before anything is opened with it.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use keyfall::config::Config;
use keyfall::domain::digest::Digest;
use keyfall::evidence::keys::SigningKey;
use keyfall::sealing::{Kek, Keyring};
use keyfall::store::{Fact, Store};

/// The settings by which a start with the wrong key is noticed. `keyfall kek rotate` changes them.
pub(super) use keyfall::app::{KEK_CHECK, KEK_ID};

pub(super) struct Keys {
    pub(super) ring: Arc<Keyring>,
    pub(super) signing: Arc<SigningKey>,
}

pub(super) fn load(config: &Config) -> anyhow::Result<Keys> {
    let kek_file = config.kek_file.as_deref().context("kek_file is not set")?;
    let others = config
        .previous_kek_files
        .iter()
        .map(|file| Kek::load(file))
        .collect::<Result<_, _>>()?;
    let signing = SigningKey::load(&config.signing_key_file, None)?;
    if signing.verifier().name() != config.origin {
        bail!(
            "the signing key {} is named `{}`, and origin is `{}`: whoever verifies takes the key's name for the log's, so set origin to it",
            config.signing_key_file.display(),
            signing.verifier().name(),
            config.origin
        );
    }
    Ok(Keys {
        ring: Arc::new(Keyring::new(Kek::load(kek_file)?, others)),
        signing: Arc::new(signing),
    })
}

/// As the setting [`KEK_CHECK`] says it.
pub(super) fn check_value(ring: &Keyring) -> String {
    Digest(ring.check_value()).to_string()
}

/// What is stored of the key, so that another one is known for what it is.
pub(super) fn mark(ring: &Keyring) -> [Fact; 2] {
    [
        Fact::Setting {
            key: KEK_ID,
            value: Some(ring.active_id().to_string()),
        },
        Fact::Setting {
            key: KEK_CHECK,
            value: Some(check_value(ring)),
        },
    ]
}

/// # Errors
/// The store was made with another key than any on the ring, or does not say with which.
pub(super) async fn check(ring: &Keyring, store: &dyn Store, config: &Config) -> anyhow::Result<()> {
    let given = config
        .kek_file
        .as_deref()
        .map(|file| file.display().to_string())
        .unwrap_or_default();
    let Some(stored) = store.setting(KEK_CHECK).await? else {
        bail!(
            "the store {} does not say under which key it seals: it was not made by `keyfall init DIR`",
            config.store
        );
    };
    let id = store.setting(KEK_ID).await?.unwrap_or_default();
    let value: Digest = stored
        .parse()
        .context("the stored check value of the key cannot be read")?;
    ring.verify_check_value(&value.0).with_context(|| {
        format!("wrong key: the store is sealed under the key {id}, and {given} is another one; nothing was opened")
    })
}
