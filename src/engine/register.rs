//! What is registered besides identities, kept for a moment: systems, policies and destinations are few, and every run asks for them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::landscape::Landscape;
use crate::domain::resource::Kind;
use crate::store::{Store, StoreError};

/// Limits that were changed are obeyed after at most this long.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// The setting that names the last change of what is registered besides identities. Whoever changes it writes this in the same commit.
pub const REGISTER_VERSION: &str = "register_version";

/// What was registered at one moment.
struct Kept {
    read_at: Instant,
    version: Option<String>,
    landscape: Arc<Landscape>,
}

#[derive(Default)]
pub(super) struct Register {
    kept: tokio::sync::Mutex<Option<Kept>>,
}

impl Register {
    /// At most a second old: for limits.
    pub(super) async fn recent(&self, store: &dyn Store) -> Result<Arc<Landscape>, StoreError> {
        let mut kept = self.kept.lock().await;
        match kept.as_ref().filter(|kept| kept.read_at.elapsed() < KEPT_FOR) {
            Some(kept) => Ok(Arc::clone(&kept.landscape)),
            None => renewed(&mut kept, store).await,
        }
    }

    /// As it is stored: for what is decided once and kept, such as a due time.
    pub(super) async fn current(&self, store: &dyn Store) -> Result<Arc<Landscape>, StoreError> {
        let version = store.setting(REGISTER_VERSION).await?;
        let mut kept = self.kept.lock().await;
        match kept.as_ref().filter(|kept| kept.version == version) {
            Some(kept) => Ok(Arc::clone(&kept.landscape)),
            None => renewed(&mut kept, store).await,
        }
    }
}

async fn renewed(kept: &mut Option<Kept>, store: &dyn Store) -> Result<Arc<Landscape>, StoreError> {
    // Read first: a change that comes between makes the landscape newer than it says, and it is read again.
    let version = store.setting(REGISTER_VERSION).await?;
    let landscape = Arc::new(landscape(store).await?);
    *kept = Some(Kept {
        read_at: Instant::now(),
        version,
        landscape: Arc::clone(&landscape),
    });
    Ok(landscape)
}

/// What is stored besides identities.
///
/// # Errors
/// When the store cannot be read.
pub async fn landscape(store: &dyn Store) -> Result<Landscape, StoreError> {
    let mut landscape = Landscape::default();
    for kind in [Kind::System, Kind::Policy, Kind::Destination] {
        for resource in store.resources(kind).await? {
            landscape.put(resource);
        }
    }
    Ok(landscape)
}
