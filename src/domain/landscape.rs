//! What is registered besides identities, as one value: the systems, policies and destinations among which an identity lives. A plan that is
//! being applied lays its own changes over it, so that an identity and its system can appear in one commit. It knows no store.

use std::collections::BTreeMap;

use super::actor::Approval;
use super::identity::{Credential, Identity};
use super::ids::ResourceId;
use super::plan::{Change, ChangeTarget};
use super::planner::{CannotPlan, ConnectorFacts, Drawn, Lives, Registered, RunRequest, plan_run};
use super::policy::{conflict_for, policy_for};
use super::resource::{Budget, DestinationSpec, PolicySpec, Resource, Spec, SystemLimits, SystemManifest};
use super::workflow::RunPlan;

#[derive(Debug, Default)]
pub struct Landscape {
    systems: BTreeMap<String, Resource>,
    policies: BTreeMap<String, (PolicySpec, Option<Approval>)>,
    destinations: BTreeMap<String, (ResourceId, DestinationSpec)>,
}

/// The policy that holds for an identity.
#[derive(Debug, Clone, Copy)]
pub struct Holding<'a> {
    pub name: &'a str,
    pub policy: &'a PolicySpec,
    /// The standing approval of the rotations inside its bounds.
    pub approved: Option<&'a Approval>,
}

impl Landscape {
    /// Adds a resource, in the place of another one of its kind and name. Owners and identities are no part of it.
    pub fn put(&mut self, resource: Resource) {
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

    /// As it will be when these changes are stored.
    #[must_use]
    pub fn with(mut self, changes: &[Change], approval: Option<&Approval>) -> Self {
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

    /// The system as a resource, and what its manifest says.
    #[must_use]
    pub fn system(&self, name: &str) -> Option<(&Resource, &SystemManifest)> {
        manifest(self.systems.get(name)?)
    }

    pub fn systems(&self) -> impl Iterator<Item = (&Resource, &SystemManifest)> {
        self.systems.values().filter_map(manifest)
    }

    #[must_use]
    pub fn destination(&self, name: &str) -> Option<&DestinationSpec> {
        self.destinations.get(name).map(|(_, destination)| destination)
    }

    #[must_use]
    pub fn policy_of(&self, identity: &Identity) -> Option<Holding<'_>> {
        let (name, policy) = policy_for(self.named_policies(), identity)?;
        let approved = self.policies.get(name).and_then(|(_, approved)| approved.as_ref());
        Some(Holding { name, policy, approved })
    }

    /// The policies that contradict one another about the identity with equal right, the one that holds first.
    #[must_use]
    pub fn conflict_of(&self, identity: &Identity) -> Option<(&str, &str)> {
        conflict_for(self.named_policies(), identity)
    }

    fn named_policies(&self) -> impl Iterator<Item = (&str, &PolicySpec)> + Clone {
        self.policies.iter().map(|(name, (policy, _))| (name.as_str(), policy))
    }

    /// The budget of a policy; the default where none of that name holds any more.
    #[must_use]
    pub fn budget_of(&self, policy: &str) -> Budget {
        let policy = self.policies.get(policy);
        policy.map(|(policy, _)| policy.budget.clone()).unwrap_or_default()
    }

    /// The limits of a system; the default where none of that name is registered any more.
    #[must_use]
    pub fn limits_of(&self, system: &str) -> SystemLimits {
        let system = self.system(system);
        system.map(|(_, manifest)| manifest.limits.clone()).unwrap_or_default()
    }

    /// The plan of a run for this identity.
    ///
    /// # Errors
    /// When its system is not registered, or its state, its credentials or its system do not allow it.
    pub fn plan_run(
        &self,
        identity: &Identity,
        (credentials, lives): (&[Credential], &Lives),
        connector: &ConnectorFacts,
        request: RunRequest,
        drawn: Drawn,
    ) -> Result<RunPlan, CannotPlan> {
        let name = &identity.spec.system;
        let (resource, system) = self
            .system(name)
            .ok_or_else(|| CannotPlan::System { name: name.clone() })?;
        let registered = Registered {
            identity,
            system_id: resource.id,
            system,
            policy: self.policy_of(identity).map(|holding| (holding.name, holding.policy)),
            destinations: &self.destinations,
            credentials,
            connector,
            lives,
        };
        plan_run(&registered, request, drawn)
    }
}

fn manifest(resource: &Resource) -> Option<(&Resource, &SystemManifest)> {
    match &resource.spec {
        Spec::System(manifest) => Some((resource, manifest)),
        _ => None,
    }
}
