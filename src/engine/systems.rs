//! Connected systems and destinations. A connector is built from the kinds that were given at wiring, by the kind that the manifest names,
//! and built again when the manifest changes. It is handed out only for the endpoints that a run was approved for (P11).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keyfall_sdk::{
    AdminCredential, BoxFuture, ConnectorError, ConnectorKind, Descriptor, IssueClass, SecretValue, ServerGrants,
    SystemSpec,
};
use tokio::time::Instant;

use super::guard::GuardedConnector;
use super::pace::CommonPaces;
use super::secrets::{OpenSecrets, SecretError};
use crate::domain::digest::Digest;
use crate::domain::resource::{Kind, Spec, SystemLimits, SystemManifest};
use crate::store::{Store, StoreError};

/// Why there is no connector to talk through.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    #[error("the system `{0}` is not registered any more")]
    Unknown(String),
    #[error("this server has no connector called `{0}`")]
    NoSuchKind(String),
    #[error("the endpoints of `{system}` are not those that this run was approved for, so no secret is sent there")]
    OtherEndpoints { system: String },
    #[error("the endpoints of `{system}` could not be hashed")]
    Hash {
        system: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the admin credential of `{system}` could not be had")]
    Admin {
        system: String,
        #[source]
        source: SecretError,
    },
    #[error("the manifest of `{system}` could not be read")]
    Read {
        system: String,
        #[source]
        source: StoreError,
    },
    #[error("`{system}` could not be connected")]
    Connect {
        system: String,
        #[source]
        source: ConnectorError,
    },
}

/// Where the manifests of systems are read.
pub trait Catalog: Send + Sync {
    /// The manifest with its version; `None` when no system has the name.
    fn system<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<(u32, SystemManifest)>, StoreError>>;
}

/// The catalog of the register.
pub struct StoredCatalog(pub Arc<dyn Store>);

impl Catalog for StoredCatalog {
    fn system<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<(u32, SystemManifest)>, StoreError>> {
        Box::pin(async move {
            let resource = self.0.resource(Kind::System, name).await?;
            Ok(resource.and_then(|resource| match resource.spec {
                Spec::System(manifest) => Some((resource.version, manifest)),
                _ => None,
            }))
        })
    }
}

struct Connected {
    version: u32,
    endpoints: Digest,
    connector: GuardedConnector,
    /// When the catalog last said that the manifest has this version.
    seen_at: Instant,
}

/// Everything that this server can talk to.
pub struct Systems {
    kinds: Vec<Arc<dyn ConnectorKind>>,
    grants: ServerGrants,
    catalog: Arc<dyn Catalog>,
    secrets: Arc<dyn OpenSecrets>,
    systems: Mutex<HashMap<String, Connected>>,
    believed_for: Duration,
    paces: Option<CommonPaces>,
    destinations: Mutex<HashMap<(String, String), GuardedConnector>>,
}

impl Systems {
    #[must_use]
    pub fn new(
        kinds: Vec<Arc<dyn ConnectorKind>>,
        grants: ServerGrants,
        catalog: Arc<dyn Catalog>,
        secrets: Arc<dyn OpenSecrets>,
    ) -> Self {
        Self {
            kinds,
            grants,
            catalog,
            secrets,
            systems: Mutex::default(),
            believed_for: Duration::ZERO,
            paces: None,
            destinations: Mutex::default(),
        }
    }

    /// For this long the catalog is not asked again, as long as the endpoints that it named are those that a run was approved for. So a
    /// changed manifest ends the runs under way a moment later, and a run that was approved for the changed one begins at once.
    #[must_use]
    pub fn believing_the_catalog_for(mut self, time: Duration) -> Self {
        self.believed_for = time;
        self
    }

    /// The calls of each system are shared with the other nodes of this store.
    #[must_use]
    pub fn sharing_paces(mut self, common: CommonPaces) -> Self {
        self.paces = Some(common);
        self
    }

    /// What is known of a kind of connector before anything is connected.
    #[must_use]
    pub fn descriptor(&self, kind: &str) -> Option<&Descriptor> {
        self.kind(kind).map(|kind| kind.descriptor())
    }

    /// What a lost reply to an issue call means: as the connected system says, or else its kind.
    #[must_use]
    pub fn issue_class(&self, name: &str, kind: &str) -> Option<IssueClass> {
        let systems = self.systems.lock().unwrap_or_else(PoisonError::into_inner);
        let connected = systems.get(name).map(|known| known.connector.descriptor().issue_class);
        connected.or_else(|| self.descriptor(kind).map(|descriptor| descriptor.issue_class))
    }

    fn kind(&self, name: &str) -> Option<&dyn ConnectorKind> {
        self.kinds
            .iter()
            .find(|kind| kind.descriptor().kind == name)
            .map(|kind| &**kind)
    }

    /// The system as its manifest has it, provided that its endpoints are the approved ones.
    ///
    /// # Errors
    /// See [`SystemError`]; nothing was sent anywhere.
    pub async fn approved(&self, name: &str, endpoints: Digest) -> Result<GuardedConnector, SystemError> {
        if let Some(connector) = self.just_seen(name, endpoints) {
            return Ok(connector);
        }
        let (connector, found) = self.connected(name).await?;
        if found == endpoints {
            return Ok(connector);
        }
        Err(SystemError::OtherEndpoints {
            system: name.to_owned(),
        })
    }

    /// The system as its manifest has it, for reading inventories and checking our own rights. With the digest of its endpoints.
    ///
    /// # Errors
    /// See [`SystemError`].
    pub async fn connected(&self, name: &str) -> Result<(GuardedConnector, Digest), SystemError> {
        let system = || name.to_owned();
        let found = self.catalog.system(name).await;
        let found = found.map_err(|source| SystemError::Read {
            system: system(),
            source,
        })?;
        let (version, manifest) = found.ok_or_else(|| SystemError::Unknown(system()))?;
        if let Some(known) = self.known(name, version) {
            return Ok(known);
        }
        let endpoints = manifest.endpoint_digest().map_err(|source| SystemError::Hash {
            system: system(),
            source,
        })?;
        let admin = self.admin(name, &manifest, endpoints).await?;
        let shown = admin.as_ref().map(|admin| admin.secret.clone());
        let connector = self.connect(name, &manifest.reach(), admin, manifest.limits.clone(), shown)?;
        let connected = Connected {
            version,
            endpoints,
            connector: connector.clone(),
            seen_at: Instant::now(),
        };
        let mut systems = self.systems.lock().unwrap_or_else(PoisonError::into_inner);
        systems.insert(system(), connected);
        Ok((connector, endpoints))
    }

    /// Forgets a connection, so that the next call reads the admin credential again.
    pub fn forget(&self, name: &str) {
        let mut systems = self.systems.lock().unwrap_or_else(PoisonError::into_inner);
        systems.remove(name);
    }

    /// A destination by its kind. What differs between destinations of a kind is in the target that each call carries.
    ///
    /// # Errors
    /// [`SystemError::NoSuchKind`] and [`SystemError::Connect`].
    pub fn destination(&self, name: &str, kind: &str) -> Result<GuardedConnector, SystemError> {
        let key = (name.to_owned(), kind.to_owned());
        let mut destinations = self.destinations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connector) = destinations.get(&key) {
            return Ok(connector.clone());
        }
        let reach = SystemSpec {
            connector: kind.to_owned(),
            vantages: Vec::new(),
            tls: keyfall_sdk::TlsMode::default(),
            tls_ca: None,
            options: serde_json::Value::Null,
        };
        // Limits are said of systems. A place for secrets gets them as they come.
        let unlimited = SystemLimits {
            calls_per_second: 0,
            ..SystemLimits::default()
        };
        let connector = self.connect(name, &reach, None, unlimited, None)?;
        destinations.insert(key, connector.clone());
        Ok(connector)
    }

    fn just_seen(&self, name: &str, endpoints: Digest) -> Option<GuardedConnector> {
        let systems = self.systems.lock().unwrap_or_else(PoisonError::into_inner);
        let known = systems.get(name).filter(|known| known.endpoints == endpoints)?;
        (known.seen_at.elapsed() < self.believed_for).then(|| known.connector.clone())
    }

    fn known(&self, name: &str, version: u32) -> Option<(GuardedConnector, Digest)> {
        let mut systems = self.systems.lock().unwrap_or_else(PoisonError::into_inner);
        let known = systems.get_mut(name).filter(|known| known.version == version)?;
        known.seen_at = Instant::now();
        Some((known.connector.clone(), known.endpoints))
    }

    async fn admin(
        &self,
        name: &str,
        manifest: &SystemManifest,
        endpoints: Digest,
    ) -> Result<Option<AdminCredential>, SystemError> {
        let Some(admin) = &manifest.admin else { return Ok(None) };
        let secret = self.secrets.open_named(&admin.secret_ref, endpoints).await;
        let secret = secret.map_err(|source| SystemError::Admin {
            system: name.to_owned(),
            source,
        })?;
        Ok(Some(AdminCredential {
            username: admin.username.clone(),
            secret,
        }))
    }

    fn connect(
        &self,
        name: &str,
        reach: &SystemSpec,
        admin: Option<AdminCredential>,
        limits: SystemLimits,
        admin_secret: Option<SecretValue>,
    ) -> Result<GuardedConnector, SystemError> {
        let kind = self
            .kind(&reach.connector)
            .ok_or_else(|| SystemError::NoSuchKind(reach.connector.clone()))?;
        let connector = kind
            .connect(reach, admin, &self.grants)
            .map_err(|source| SystemError::Connect {
                system: name.to_owned(),
                source: match &admin_secret {
                    Some(secret) => source.redacted(&[secret]),
                    None => source,
                },
            })?;
        let guarded = GuardedConnector::new(connector, name, limits, admin_secret);
        Ok(match &self.paces {
            Some(paces) => guarded.drawing_from(paces.clone()),
            None => guarded,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use serde_json::json;

    use super::*;
    use crate::domain::ids::SecretId;

    /// One system, and how often its manifest was asked for.
    struct Counted {
        held: Mutex<(u32, SystemManifest)>,
        asked: AtomicU32,
    }

    impl Catalog for Counted {
        fn system<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<Option<(u32, SystemManifest)>, StoreError>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move { Ok(Some(self.held.lock().unwrap().clone())) })
        }
    }

    struct NoSecrets;

    impl OpenSecrets for NoSecrets {
        fn open(&self, id: SecretId, _endpoints: Digest) -> BoxFuture<'_, Result<SecretValue, SecretError>> {
            Box::pin(async move { Err(SecretError::Missing(id)) })
        }

        fn open_named<'a>(
            &'a self,
            name: &'a str,
            _endpoints: Digest,
        ) -> BoxFuture<'a, Result<SecretValue, SecretError>> {
            Box::pin(async move { Err(SecretError::Unnamed(name.to_owned())) })
        }
    }

    fn manifest(host: &str) -> SystemManifest {
        let manifest = json!({
            "environment": "test", "owner": "team", "connector": "demo", "options": { "provider": "systems-believed" },
            "vantages": [{ "name": "primary", "host": host, "port": 1 }],
        });
        serde_json::from_value(manifest).unwrap()
    }

    #[tokio::test]
    async fn a_changed_manifest_is_seen_at_once_by_who_was_approved_for_it() {
        let (one, other) = (manifest("one"), manifest("other"));
        let (here, there) = (one.endpoint_digest().unwrap(), other.endpoint_digest().unwrap());
        let catalog = Arc::new(Counted {
            held: Mutex::new((1, one)),
            asked: AtomicU32::new(0),
        });
        let systems = Systems::new(
            keyfall_connectors::registry(),
            ServerGrants::default(),
            Arc::clone(&catalog) as _,
            Arc::new(NoSecrets),
        );
        let systems = systems.believing_the_catalog_for(Duration::from_secs(3_600));
        for _ in 0..3 {
            systems.approved("sys", here).await.unwrap();
        }
        assert_eq!(catalog.asked.load(Ordering::Relaxed), 1);
        *catalog.held.lock().unwrap() = (2, other);
        assert!(systems.approved("sys", here).await.is_ok(), "still believed");
        assert!(
            systems.approved("sys", there).await.is_ok(),
            "asked, as the known one is another"
        );
        assert!(matches!(
            systems.approved("sys", here).await,
            Err(SystemError::OtherEndpoints { .. })
        ));
    }
}
