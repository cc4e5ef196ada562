//! Opening sealed secrets, and sealing fresh ones. Bytes leave this file in [`SecretValue`] only. It knows rows and keys, not what a secret
//! is for, beyond the endpoints to which it may travel (P11).

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use keyfall_sdk::{BoxFuture, SecretValue};

use crate::clock::Chance;
use crate::domain::digest::Digest;
use crate::domain::ids::SecretId;
use crate::domain::resource::{Kind, Spec, SystemManifest};
use crate::sealing::{KekId, Keyring, SealContext, SealError, Sealed};
use crate::store::{SecretRow, Store, StoreError};

/// Why a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("there is no secret {0} in the store")]
    Missing(SecretId),
    #[error("no secret is stored under the name `{0}`: give it with `keyfall secret set {0}`")]
    Unnamed(String),
    #[error(
        "the secret `{0}` is not sealed for the endpoints of the systems that name it now, so it is not sent there: give it again with `keyfall secret set {0}`"
    )]
    NamedForOthers(String),
    #[error("the secret {0} was destroyed on record")]
    Destroyed(SecretId),
    #[error("the secret {id} is sealed for other endpoints than those of this run, so it is not sent there")]
    OtherEndpoints { id: SecretId },
    #[error("could not open the secret {id}")]
    Open {
        id: SecretId,
        #[source]
        source: SealError,
    },
    #[error("could not seal the secret {id}")]
    Seal {
        id: SecretId,
        #[source]
        source: SealError,
    },
    #[error("the endpoints that a secret may travel to could not be hashed")]
    Hash(#[source] serde_json::Error),
    #[error("could not read the secret from the store")]
    Read(#[source] StoreError),
}

impl SecretError {
    /// The bytes do not exist any more: nothing can be tried with them, and waiting will not bring them back.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Destroyed(_))
    }
}

/// Where steps get secrets from.
pub trait OpenSecrets: Send + Sync {
    /// Opens a credential's secret for exactly these endpoints.
    fn open(&self, id: SecretId, endpoints: Digest) -> BoxFuture<'_, Result<SecretValue, SecretError>>;

    /// Opens what `keyfall secret set NAME` stored, for these endpoints of an approved system that names it.
    fn open_named<'a>(&'a self, name: &'a str, endpoints: Digest) -> BoxFuture<'a, Result<SecretValue, SecretError>>;
}

/// The secrets of the store, opened with the server's keys.
#[derive(Clone)]
pub struct StoredSecrets {
    store: Arc<dyn Store>,
    keys: Arc<Keyring>,
}

impl StoredSecrets {
    #[must_use]
    pub fn new(store: Arc<dyn Store>, keys: Arc<Keyring>) -> Self {
        Self { store, keys }
    }

    fn open_row(&self, row: SecretRow) -> Result<SecretValue, SecretError> {
        let id = row.id;
        if row.destroyed_at.is_some() {
            return Err(SecretError::Destroyed(id));
        }
        let context = context_of(&row);
        let sealed = Sealed {
            kek_id: KekId(row.kek_id),
            wrapped_key: row.wrapped_key,
            wrap_nonce: row.wrap_nonce,
            nonce: row.nonce,
            ciphertext: row.ciphertext,
            algorithm: row.algorithm,
        };
        self.keys
            .open(&context, &sealed)
            .map_err(|source| SecretError::Open { id, source })
    }
}

impl OpenSecrets for StoredSecrets {
    fn open(&self, id: SecretId, endpoints: Digest) -> BoxFuture<'_, Result<SecretValue, SecretError>> {
        Box::pin(async move {
            let row = self.store.secret(id).await.map_err(SecretError::Read)?;
            let row = row.ok_or(SecretError::Missing(id))?;
            if row.endpoint_digest != endpoints {
                return Err(SecretError::OtherEndpoints { id });
            }
            self.open_row(row)
        })
    }

    fn open_named<'a>(&'a self, name: &'a str, endpoints: Digest) -> BoxFuture<'a, Result<SecretValue, SecretError>> {
        Box::pin(async move {
            let row = self.store.secret_named(name).await.map_err(SecretError::Read)?;
            let row = row.ok_or_else(|| SecretError::Unnamed(name.to_owned()))?;
            let systems = self.store.resources(Kind::System).await.map_err(SecretError::Read)?;
            let systems = systems.iter().filter_map(|system| match &system.spec {
                Spec::System(manifest) => Some(manifest),
                _ => None,
            });
            let reach = Reach::of(name, systems).map_err(SecretError::Hash)?;
            if !reach.0.contains(&endpoints) || row.endpoint_digest != reach.digest().map_err(SecretError::Hash)? {
                return Err(SecretError::NamedForOthers(name.to_owned()));
            }
            self.open_row(row)
        })
    }
}

/// Where a secret that was given by name may travel: the endpoints of the approved systems that are administered with it. Its seal is bound
/// to all of them together, so another system that names it gets nothing until the plan that makes it do so is carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach(BTreeSet<Digest>);

impl Reach {
    /// # Errors
    /// When a manifest cannot be written as JSON.
    pub fn of<'a>(
        name: &str,
        systems: impl IntoIterator<Item = &'a SystemManifest>,
    ) -> Result<Self, serde_json::Error> {
        let named = |system: &&SystemManifest| system.admin.as_ref().is_some_and(|admin| admin.secret_ref == name);
        let endpoints = systems.into_iter().filter(named).map(SystemManifest::endpoint_digest);
        endpoints.collect::<Result<_, _>>().map(Self)
    }

    /// What the seal is bound to. A secret that no system names is bound to none, and opens for nobody.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn digest(&self) -> Result<Digest, serde_json::Error> {
        Digest::of_value("keyfall-named-secret/v1", &self.0)
    }
}

fn context_of(row: &SecretRow) -> SealContext {
    SealContext {
        secret_id: row.id.to_string(),
        kind: row.kind.clone(),
        version: row.version,
        endpoint_digest: row.endpoint_digest.0,
    }
}

/// What a secret is sealed as.
#[derive(Debug, Clone)]
pub struct SealAs {
    pub id: SecretId,
    /// The name of a secret that an operator gave; `None` for secrets of credentials.
    pub name: Option<String>,
    /// `credential`, `admin`…
    pub kind: String,
    pub version: u32,
    pub endpoints: Digest,
    pub at: Timestamp,
}

/// Seals a secret into the row that is stored with whatever needs it, in one commit.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn seal(
    keys: &Keyring,
    seal_as: SealAs,
    secret: &SecretValue,
    random: &dyn Chance,
) -> Result<SecretRow, SecretError> {
    let id = seal_as.id;
    let context = SealContext {
        secret_id: id.to_string(),
        kind: seal_as.kind.clone(),
        version: seal_as.version,
        endpoint_digest: seal_as.endpoints.0,
    };
    let sealed = keys
        .seal(&context, secret, random)
        .map_err(|source| SecretError::Seal { id, source })?;
    Ok(SecretRow {
        id,
        name: seal_as.name,
        kind: seal_as.kind,
        version: seal_as.version,
        endpoint_digest: seal_as.endpoints,
        algorithm: sealed.algorithm,
        kek_id: sealed.kek_id.0,
        wrapped_key: sealed.wrapped_key,
        wrap_nonce: sealed.wrap_nonce,
        nonce: sealed.nonce,
        ciphertext: sealed.ciphertext,
        created_at: seal_as.at,
        destroy_at: None,
        destroyed_at: None,
    })
}
