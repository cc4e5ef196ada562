//! A policy that changes gives the identities under it their due times anew, in the commit of the change; so does a change of an identity, which
//! may bring it under another policy.

use std::collections::{BTreeMap, BTreeSet};

use super::applying::Application;
use super::landscape::system_in;
use super::{App, AppError};
use crate::domain::due::{DueFacts, DueTerms, rescheduled};
use crate::domain::identity::{Credential, Identity};
use crate::domain::ids::CredentialId;
use crate::domain::landscape::Landscape;
use crate::domain::plan::ChangeTarget;
use crate::domain::planner::{ConnectorFacts, overlap, proof_terms};
use crate::domain::resource::{Kind, Spec, SystemManifest};
use crate::store::{Fact, IdentityFilter, Page};

const AT_ONCE: u32 = 1000;

impl App {
    pub(super) async fn reschedule(&self, work: &mut Application<'_>) -> Result<(), AppError> {
        let policies = work.plan.changes.iter().filter(|change| change.kind == Kind::Policy);
        let changed: BTreeSet<&str> = policies.map(|change| change.name.as_str()).collect();
        let before = self.landscape().await?;
        let own = self.changed_identities(work).await?;
        self.reschedule_these(work, &before, &own).await?;
        if changed.is_empty() {
            return Ok(());
        }
        let own: BTreeSet<_> = own.iter().map(|(identity, _)| identity.id).collect();
        let mut page = Page::first(AT_ONCE);
        loop {
            let found = self.store.identities(&IdentityFilter::default(), page.clone()).await?;
            let Some(last) = found.last() else { return Ok(()) };
            page.after = Some(last.name.clone());
            let touched = |identity: &&Identity| {
                let under = |landscape: &Landscape| {
                    landscape
                        .policy_of(identity)
                        .is_some_and(|holding| changed.contains(holding.name))
                };
                !own.contains(&identity.id) && (under(&work.landscape) || under(&before))
            };
            let touched: Vec<_> = found
                .iter()
                .filter(touched)
                .map(|one| (one.clone(), one.clone()))
                .collect();
            self.reschedule_these(work, &before, &touched).await?;
        }
    }

    /// The identities that the plan itself changes, as they are and as they will be.
    async fn changed_identities(&self, work: &Application<'_>) -> Result<Vec<(Identity, Identity)>, AppError> {
        let mut identities = Vec::new();
        for change in &work.plan.changes {
            if let (ChangeTarget::Identity(id), Spec::Identity(spec)) = (change.target, &change.after)
                && let Some(identity) = self.store.identity(id).await?
            {
                let changed = Identity {
                    spec: spec.clone(),
                    labels: change.labels.clone(),
                    ..identity.clone()
                };
                identities.push((identity, changed));
            }
        }
        Ok(identities)
    }

    async fn reschedule_these(
        &self,
        work: &mut Application<'_>,
        before: &Landscape,
        identities: &[(Identity, Identity)],
    ) -> Result<(), AppError> {
        let ids: Vec<_> = identities.iter().filter_map(|(_, is)| is.current).collect();
        let credentials = self.store.credentials_with(&ids).await?;
        let credentials: BTreeMap<CredentialId, &Credential> = credentials.iter().map(|one| (one.id, one)).collect();
        let mut systems = Systems::new();
        for (was, is) in identities {
            let current = is.current.and_then(|id| credentials.get(&id));
            let Some(current) = current else { continue };
            let system = &is.spec.system;
            let has_policy = [before, &work.landscape]
                .into_iter()
                .zip([was, is])
                .any(|(landscape, identity)| landscape.policy_of(identity).is_some());
            if has_policy && !systems.contains_key(system) {
                systems.insert(system.clone(), self.facts_of(&work.landscape, system).await?);
            }
            let due = rescheduled(
                was.due,
                (terms(before, was, &systems), &DueFacts::standing(was, current)),
                (terms(&work.landscape, is, &systems), &DueFacts::standing(is, current)),
                work.now,
            );
            let due = due.map_err(|bad| AppError::invalid(format!("rotation: {bad}")))?;
            work.commit.facts.push(Fact::IdentityDue { id: is.id, due });
        }
        Ok(())
    }

    async fn facts_of(
        &self,
        landscape: &Landscape,
        system: &str,
    ) -> Result<(SystemManifest, ConnectorFacts), AppError> {
        let (resource, manifest) = system_in(landscape, system)?;
        let facts = self.prepare.connector_facts(resource).await;
        let facts = facts.map_err(|why| AppError::Downstream {
            system: system.to_owned(),
            why,
        })?;
        Ok((manifest.clone(), facts))
    }
}

type Systems = BTreeMap<String, (SystemManifest, ConnectorFacts)>;

/// The terms of the policy that holds in this landscape, as a run under it would pin them.
fn terms<'a>(landscape: &'a Landscape, identity: &Identity, systems: &Systems) -> Option<DueTerms<'a>> {
    let policy = landscape.policy_of(identity)?.policy;
    let (manifest, facts) = systems.get(&identity.spec.system)?;
    let proof = proof_terms(manifest, Some(policy), facts);
    let terms = DueTerms::new(&policy.rotation, overlap(&identity.spec, Some(policy)), &proof);
    Some(terms.spread_over(policy.spread_window()))
}
