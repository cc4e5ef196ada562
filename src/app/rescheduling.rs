//! A policy that changes gives the identities under it their due times anew, in the commit of the change; so does a change of an identity, which
//! may bring it under another policy.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use super::applying::Application;
use super::world::World;
use super::{App, AppError};
use crate::domain::due::{DueFacts, DueReason, next_due};
use crate::domain::identity::{Credential, Identity};
use crate::domain::ids::CredentialId;
use crate::domain::plan::ChangeTarget;
use crate::domain::planner::{ConnectorFacts, proof_terms};
use crate::domain::resource::{Kind, PolicySpec, Spec, SystemManifest};
use crate::store::{Fact, IdentityFilter, Page};

const AT_ONCE: u32 = 1000;

impl App {
    pub(super) async fn reschedule(&self, work: &mut Application<'_>) -> Result<(), AppError> {
        let policies = work.plan.changes.iter().filter(|change| change.kind == Kind::Policy);
        let changed: BTreeSet<&str> = policies.map(|change| change.name.as_str()).collect();
        if changed.is_empty() {
            return self.reschedule_changed(work).await;
        }
        let before = World::read(&*self.store).await?;
        let mut page = Page::first(AT_ONCE);
        loop {
            let found = self.store.identities(&IdentityFilter::default(), page.clone()).await?;
            let Some(last) = found.last() else { return Ok(()) };
            page.after = Some(last.name.clone());
            let touched = |identity: &&Identity| {
                let under = |world: &World| {
                    world
                        .policy_of(identity)
                        .is_some_and(|(name, ..)| changed.contains(name))
                };
                under(&work.world) || under(&before)
            };
            let touched: Vec<_> = found.iter().filter(touched).cloned().collect();
            self.reschedule_these(work, &touched).await?;
        }
    }

    /// The identities that the plan itself changes, as they will be.
    async fn reschedule_changed(&self, work: &mut Application<'_>) -> Result<(), AppError> {
        let mut identities = Vec::new();
        for change in &work.plan.changes {
            if let (ChangeTarget::Identity(id), Spec::Identity(spec)) = (change.target, &change.after)
                && let Some(identity) = self.store.identity(id).await?
            {
                identities.push(Identity {
                    spec: spec.clone(),
                    labels: change.labels.clone(),
                    ..identity
                });
            }
        }
        self.reschedule_these(work, &identities).await
    }

    async fn reschedule_these(&self, work: &mut Application<'_>, identities: &[Identity]) -> Result<(), AppError> {
        let ids: Vec<_> = identities.iter().map(|identity| identity.id).collect();
        let credentials = self.store.credentials_of_many(&ids).await?;
        let credentials: BTreeMap<CredentialId, &Credential> = credentials.iter().map(|one| (one.id, one)).collect();
        let mut systems = BTreeMap::new();
        for identity in identities {
            let current = identity.current.and_then(|id| credentials.get(&id));
            let Some(current) = current else { continue };
            let system = &identity.spec.system;
            let policy = work.world.policy_of(identity).map(|(_, policy, _)| policy);
            if policy.is_some() && !systems.contains_key(system) {
                systems.insert(system.clone(), self.facts_of(&work.world, system).await?);
            }
            // As a run under this policy would pin it.
            let holding = match (policy, systems.get(system)) {
                (Some(policy), Some((manifest, facts))) => {
                    Some((policy, proof_terms(manifest, Some(policy), facts).takes(policy.overlap)))
                }
                _ => None,
            };
            let fact = due_fact(identity, current, holding)?;
            work.commit.facts.push(fact);
        }
        Ok(())
    }

    async fn facts_of(&self, world: &World, system: &str) -> Result<(SystemManifest, ConnectorFacts), AppError> {
        let (resource, manifest) = world.system(system)?;
        let facts = self.prepare.connector_facts(resource).await;
        let facts = facts.map_err(|why| AppError::Downstream {
            system: system.to_owned(),
            why,
        })?;
        Ok((manifest.clone(), facts))
    }
}

fn due_fact(
    identity: &Identity,
    current: &Credential,
    holding: Option<(&PolicySpec, SignedDuration)>,
) -> Result<Fact, AppError> {
    let due = holding.map(|(policy, takes)| {
        let facts = DueFacts {
            identity: identity.id,
            current_since: current.proven_at.unwrap_or(current.created_at),
            compromised_at: None,
            owner_left_at: None,
            policy_changed_at: None,
            requested_at: None,
            credential_expires: None,
            takes,
        };
        next_due(&policy.rotation, &facts)
    });
    let due: Option<(jiff::Timestamp, DueReason)> = due
        .transpose()
        .map_err(|bad| AppError::invalid(format!("rotation: {bad}")))?;
    Ok(Fact::IdentityDue { id: identity.id, due })
}
