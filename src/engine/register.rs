//! What is registered besides identities, kept for a moment: systems, policies and destinations are few, and every run asks for them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::actor::Approval;
use crate::domain::identity::Identity;
use crate::domain::ids::ResourceId;
use crate::domain::policy::{conflict_for, policy_for};
use crate::domain::resource::{Budget, DestinationSpec, Kind, PolicySpec, Resource, Spec, SystemLimits};
use crate::store::{Store, StoreError};

/// Limits that were changed are obeyed after at most this long.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// The setting that names the last change of what is registered besides identities. Whoever changes it writes this in the same commit.
pub const REGISTER_VERSION: &str = "register_version";

/// What was registered at one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    version: Option<String>,
    policies: BTreeMap<String, (PolicySpec, Option<Approval>)>,
    systems: HashMap<String, Resource>,
    pub(super) destinations: BTreeMap<String, (ResourceId, DestinationSpec)>,
}

/// The policy that holds for an identity.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holding<'a> {
    pub(super) name: &'a str,
    pub(super) policy: &'a PolicySpec,
    /// The standing approval of the rotations inside its bounds.
    pub(super) approved: Option<&'a Approval>,
}

impl Snapshot {
    pub(super) fn policy_of(&self, identity: &Identity) -> Option<Holding<'_>> {
        let all = self.policies.iter().map(|(name, (policy, _))| (name.as_str(), policy));
        let (name, policy) = policy_for(all, identity)?;
        let approved = self.policies.get(name).and_then(|(_, approved)| approved.as_ref());
        Some(Holding { name, policy, approved })
    }

    /// The policies that contradict one another about an identity, the one that holds first.
    pub(super) fn conflict_of(&self, identity: &Identity) -> Option<(&str, &str)> {
        let all = self.policies.iter().map(|(name, (policy, _))| (name.as_str(), policy));
        conflict_for(all, identity)
    }

    pub(super) fn system(&self, name: &str) -> Option<&Resource> {
        self.systems.get(name)
    }

    pub(super) fn systems(&self) -> impl Iterator<Item = (&String, &Resource)> {
        self.systems.iter()
    }

    /// The budget that is counted under a scope (`budget.rs`); the default where no policy of that name holds any more.
    pub(super) fn budget_of(&self, scope: &str) -> Budget {
        let policy = scope.split_once(':').and_then(|(_, policy)| self.policies.get(policy));
        policy.map(|(policy, _)| policy.budget.clone()).unwrap_or_default()
    }

    pub(super) fn limits_of(&self, system: &str) -> SystemLimits {
        match self.systems.get(system).map(|resource| &resource.spec) {
            Some(Spec::System(manifest)) => manifest.limits.clone(),
            _ => SystemLimits::default(),
        }
    }
}

#[derive(Default)]
pub(super) struct Register {
    kept: tokio::sync::Mutex<Option<(Instant, Arc<Snapshot>)>>,
}

impl Register {
    /// At most a second old: for limits.
    pub(super) async fn snapshot(&self, store: &dyn Store) -> Result<Arc<Snapshot>, StoreError> {
        let mut kept = self.kept.lock().await;
        match kept.as_ref().filter(|(at, _)| at.elapsed() < KEPT_FOR) {
            Some((_, snapshot)) => Ok(Arc::clone(snapshot)),
            None => renewed(&mut kept, store).await,
        }
    }

    /// As it is stored: for what is decided once and kept, such as a due time.
    pub(super) async fn current(&self, store: &dyn Store) -> Result<Arc<Snapshot>, StoreError> {
        let version = store.setting(REGISTER_VERSION).await?;
        let mut kept = self.kept.lock().await;
        match kept.as_ref().filter(|(_, snapshot)| snapshot.version == version) {
            Some((_, snapshot)) => Ok(Arc::clone(snapshot)),
            None => renewed(&mut kept, store).await,
        }
    }
}

async fn renewed(kept: &mut Option<(Instant, Arc<Snapshot>)>, store: &dyn Store) -> Result<Arc<Snapshot>, StoreError> {
    let snapshot = Arc::new(read(store).await?);
    *kept = Some((Instant::now(), Arc::clone(&snapshot)));
    Ok(snapshot)
}

async fn read(store: &dyn Store) -> Result<Snapshot, StoreError> {
    // Read first: a change that comes between makes the snapshot newer than it says, and it is read again.
    let mut snapshot = Snapshot {
        version: store.setting(REGISTER_VERSION).await?,
        ..Snapshot::default()
    };
    for resource in store.resources(Kind::Policy).await? {
        if let Spec::Policy(policy) = resource.spec {
            snapshot.policies.insert(resource.name, (policy, resource.approved));
        }
    }
    for resource in store.resources(Kind::Destination).await? {
        if let Spec::Destination(destination) = resource.spec {
            snapshot.destinations.insert(resource.name, (resource.id, destination));
        }
    }
    for resource in store.resources(Kind::System).await? {
        snapshot.systems.insert(resource.name.clone(), resource);
    }
    Ok(snapshot)
}
