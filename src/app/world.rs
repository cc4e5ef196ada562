//! What is registered besides identities, as one value: what a plan of a run is made from. A plan that is being applied lays its own changes
//! over it, so that an identity and its system can appear in one commit.

use std::collections::BTreeMap;

use super::AppError;
use crate::domain::actor::Approval;
use crate::domain::digest::Digest;
use crate::domain::identity::{Credential, Identity};
use crate::domain::ids::ResourceId;
use crate::domain::plan::{Change, ChangeTarget};
use crate::domain::planner::{ConnectorFacts, Drawn, Lives, Registered, RunRequest, plan_run};
use crate::domain::policy::{conflict_for, policy_for};
use crate::domain::resource::{DestinationSpec, Kind, PolicySpec, Resource, Spec, SystemManifest};
use crate::domain::workflow::RunPlan;
use crate::engine::secrets::Reach;
use crate::store::Store;

#[derive(Debug, Default)]
pub(super) struct World {
    systems: BTreeMap<String, Resource>,
    policies: BTreeMap<String, (PolicySpec, Option<Approval>)>,
    destinations: BTreeMap<String, (ResourceId, DestinationSpec)>,
}

impl World {
    pub(super) async fn read(store: &dyn Store) -> Result<Self, AppError> {
        let mut world = Self::default();
        for kind in [Kind::System, Kind::Policy, Kind::Destination] {
            for resource in store.resources(kind).await? {
                world.put(resource);
            }
        }
        Ok(world)
    }

    /// As it will be when these changes are stored.
    pub(super) fn with(mut self, changes: &[Change], approval: Option<&Approval>) -> Self {
        for change in changes {
            if let ChangeTarget::Resource(id) = change.target {
                self.put(Resource {
                    id,
                    name: change.name.clone(),
                    version: change.from_version.saturating_add(1),
                    labels: change.labels.clone(),
                    spec: change.after.clone(),
                    approved: approval.cloned(),
                });
            }
        }
        self
    }

    fn put(&mut self, resource: Resource) {
        match &resource.spec {
            Spec::System(_) => drop(self.systems.insert(resource.name.clone(), resource)),
            Spec::Policy(spec) => {
                let policy = (spec.clone(), resource.approved);
                drop(self.policies.insert(resource.name, policy));
            }
            Spec::Destination(spec) => {
                let destination = (resource.id, spec.clone());
                drop(self.destinations.insert(resource.name, destination));
            }
            Spec::Owner(_) | Spec::Identity(_) => {}
        }
    }

    /// The system as a resource, and what its manifest says.
    pub(super) fn system(&self, name: &str) -> Result<(&Resource, &SystemManifest), AppError> {
        let found = self.systems.get(name).and_then(|resource| match &resource.spec {
            Spec::System(manifest) => Some((resource, manifest)),
            _ => None,
        });
        found.ok_or_else(|| AppError::NotFound {
            what: "system",
            name: name.to_owned(),
        })
    }

    pub(super) fn destination(&self, name: &str) -> Option<&DestinationSpec> {
        self.destinations.get(name).map(|(_, destination)| destination)
    }

    /// What a secret that was given by name is sealed for: the endpoints of the systems that name it.
    pub(super) fn reach_of(&self, secret: &str) -> Result<Digest, AppError> {
        let systems = self.systems.values().filter_map(|resource| match &resource.spec {
            Spec::System(manifest) => Some(manifest),
            _ => None,
        });
        let reach = Reach::of(secret, systems).and_then(|reach| reach.digest());
        reach.map_err(|error| AppError::internal("endpoints could not be hashed", &error))
    }

    pub(super) fn policy_of(&self, identity: &Identity) -> Option<(&str, &PolicySpec, Option<&Approval>)> {
        let all = self.policies.iter().map(|(name, (policy, _))| (name.as_str(), policy));
        let (name, policy) = policy_for(all, identity)?;
        let approved = self.policies.get(name).and_then(|(_, approved)| approved.as_ref());
        Some((name, policy, approved))
    }

    /// Policies with equal right contradict one another about the identity.
    pub(super) fn is_contested(&self, identity: &Identity) -> bool {
        let all = self.policies.iter().map(|(name, (policy, _))| (name.as_str(), policy));
        conflict_for(all, identity).is_some()
    }

    /// The plan of a run for this identity.
    pub(super) fn plan_run(
        &self,
        identity: &Identity,
        (credentials, lives): (&[Credential], &Lives),
        connector: &ConnectorFacts,
        request: RunRequest,
        drawn: Drawn,
    ) -> Result<RunPlan, AppError> {
        let (resource, system) = self.system(&identity.spec.system)?;
        let registered = Registered {
            identity,
            system_id: resource.id,
            system,
            policy: self.policy_of(identity).map(|(name, policy, _)| (name, policy)),
            destinations: &self.destinations,
            credentials,
            connector,
            lives,
        };
        plan_run(&registered, request, drawn).map_err(|cannot| AppError::Conflict {
            why: cannot.to_string(),
        })
    }
}
