//! Owners who are gone, and what follows: each identity of theirs is a finding until it has another owner, and what a policy rotates is due
//! soon, for whoever left may know the secret: each at its own instant of the policy's window, so that many never come due together. Nothing is ever decommissioned for want of an owner.

use std::collections::HashMap;

use jiff::Timestamp;

use super::findings::{self, Severity, about_identity};
use super::telling::{commit_exceptions, open_among};
use super::{Shared, record};
use crate::domain::due::{DueReason, place_in, sooner};
use crate::domain::identity::{Identity, IdentityState};
use crate::domain::landscape::Landscape;
use crate::domain::resource::{Kind, Spec};
use crate::evidence::record::ExceptionCause;
use crate::store::{Fact, IdentityFilter, Page, StoreError};

const BATCH: u32 = 500;

/// Who answers for identities, and which of them have left.
pub(super) struct Owners {
    /// By name: whether the manifest says that the owner has retired.
    registered: HashMap<String, bool>,
    /// People of these names were enrolled here, have retired, and nobody enrolled has the name.
    retired: Vec<String>,
}

impl Owners {
    pub(super) async fn read(shared: &Shared) -> Result<Self, StoreError> {
        let owners = shared.store.resources(Kind::Owner).await?;
        let registered = owners.into_iter().map(|owner| {
            let retired = matches!(&owner.spec, Spec::Owner(spec) if spec.retired);
            (owner.name, retired)
        });
        let people = shared.store.people().await?;
        let is_here = |name: &str| people.iter().any(|one| one.name == name && one.retired_at.is_none());
        let retired = people.iter().filter(|one| !is_here(&one.name));
        Ok(Self {
            registered: registered.collect(),
            retired: retired.map(|one| one.name.clone()).collect(),
        })
    }

    /// `None`: the owner is there.
    pub(super) fn why_gone(&self, owner: &str) -> Option<&'static str> {
        match self.registered.get(owner) {
            None => Some("who is not registered"),
            Some(true) => Some("who has retired"),
            Some(false) if self.retired.iter().any(|one| one == owner) => Some("a person who has retired here"),
            Some(false) => None,
        }
    }

    /// Owners are few, and each is asked for once; identities are read only where theirs is gone.
    pub(super) async fn look_for_unowned(
        &self,
        shared: &Shared,
        register: &Landscape,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut last = String::new();
        while let Some(owner) = shared.store.next_owner(&last).await? {
            if let Some(why) = self.why_gone(&owner) {
                unowned_by(shared, register, &owner, why, now).await?;
            }
            last = owner;
        }
        Ok(())
    }
}

async fn unowned_by(
    shared: &Shared,
    register: &Landscape,
    owner: &str,
    why: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let filter = IdentityFilter {
        owner: Some(owner.to_owned()),
        with_control: true,
        ..IdentityFilter::default()
    };
    let mut page = Page::first(BATCH);
    loop {
        let found = shared.store.identities(&filter, page.clone()).await?;
        let known = open_among(shared, findings::UNOWNED, &found).await?;
        let unsaid = |one: &&Identity| one.state != IdentityState::Decommissioned && !known.contains(&one.name);
        let mut facts = Vec::new();
        for identity in found.iter().filter(unsaid) {
            let text = format!(
                "`{}` names the owner `{owner}`, {why}: apply a manifest of kind Owner with this name, or give the identity another owner",
                identity.name
            );
            let wrong = about_identity(identity, findings::UNOWNED, Severity::High, text);
            facts.push(findings::raised(&shared.env, now, wrong));
            facts.extend(due_soon(identity, register, now));
        }
        commit_exceptions(shared, facts, now, ExceptionCause::FragmentedOwnership).await?;
        match found.last() {
            Some(last) if found.len() == BATCH as usize => page.after = Some(last.name.clone()),
            _ => return Ok(()),
        }
    }
}

/// Stored together with the finding, so it happens once for each owner that leaves. A control identity's secret never leaves Keyfall.
fn due_soon(identity: &Identity, register: &Landscape, now: Timestamp) -> Option<Fact> {
    let is_rotated = identity.state == IdentityState::Active && identity.current.is_some() && !identity.is_control;
    let holding = register.policy_of(identity).filter(|_| is_rotated)?;
    let at = place_in(holding.policy.spread_window(), record::to_micros(now), identity.id);
    Some(Fact::IdentityDue {
        id: identity.id,
        due: Some(sooner(identity.due, at, DueReason::OwnerLeft)),
    })
}
