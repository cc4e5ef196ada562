//! From manifests to a plan: what would change, and what that does downstream. Pure but for the ids that it draws; the use case stores the
//! plan. Manifests that cannot be carried out never come this far (`checking.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{ConnectorKind, ServerGrants, Strategy};

use super::checking::{Given, check, kind_named, strategy_of};
use super::controls::{control_identity, control_name};
use super::following::following;
use super::positions::Problem;
use crate::clock::Environment;
use crate::domain::identity::{Identity, IdentityState};
use crate::domain::ids::{IdentityId, PlanId, ResourceId};
use crate::domain::plan::{Action, Change, ChangeTarget, Manifest};
use crate::domain::planner::account_names;
use crate::domain::resource::{DeliverySpec, IdentitySpec, Kind, Resource, Spec, SystemManifest};

/// What is registered, as far as these manifests touch it.
#[derive(Debug, Clone, Default)]
pub struct Present {
    pub resources: BTreeMap<(Kind, String), Resource>,
    pub identities: BTreeMap<String, Identity>,
    /// The identity that each account downstream belongs to, by system and account, for the systems that these manifests name.
    pub accounts: BTreeMap<(String, String), String>,
    /// Where the registered identities have their secrets delivered, when these manifests deliver anything.
    pub deliveries: Vec<(String, Vec<DeliverySpec>)>,
    /// Of these identities, the ones with a run under way.
    pub busy: BTreeSet<String>,
    /// Policies and systems whose approval was signed by somebody who has retired since, and who it was.
    pub lapsed: BTreeMap<(Kind, String), String>,
    /// Names given to `keyfall secret set`.
    pub secrets: BTreeSet<String>,
}

/// What the server brings.
pub struct Means<'a> {
    pub kinds: &'a [Arc<dyn ConnectorKind>],
    pub grants: &'a ServerGrants,
    pub env: &'a Environment,
    pub now: Timestamp,
}

/// The changes with what follows from them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draft {
    pub changes: Vec<Change>,
    pub actions: Vec<Action>,
    pub consequences: Vec<String>,
    pub warnings: Vec<String>,
}

/// Compares manifests with what is registered.
///
/// # Errors
/// All problems at once, each with its place.
pub fn draft(manifests: Vec<Manifest>, present: &Present, means: &Means<'_>) -> Result<Draft, Vec<Problem>> {
    // The map is sorted by kind in the order in which things name one another.
    let given: Given = manifests
        .into_iter()
        .map(|manifest| ((manifest.spec.kind(), manifest.name.clone()), manifest))
        .collect();
    check(&given, present, means)?;
    let mut work = Work {
        present,
        means,
        systems: given.values().filter_map(system_of).collect(),
        draft: Draft::default(),
    };
    for manifest in given.into_values() {
        work.change(manifest);
    }
    Ok(work.draft)
}

struct Work<'a> {
    present: &'a Present,
    means: &'a Means<'a>,
    /// The systems of these manifests, before those that are registered under the same name.
    systems: BTreeMap<String, SystemManifest>,
    draft: Draft,
}

impl Work<'_> {
    fn change(&mut self, manifest: Manifest) {
        match manifest.spec {
            Spec::Identity(_) => self.change_identity(manifest, false),
            _ => self.change_resource(manifest),
        }
    }

    fn change_resource(&mut self, manifest: Manifest) {
        let key = (manifest.spec.kind(), manifest.name.clone());
        let before = self.present.resources.get(&key);
        if matches!(manifest.spec, Spec::System(_)) {
            self.provision_control_again(&manifest.name);
        }
        if let Some(who) = self.present.lapsed.get(&key) {
            self.draft.consequences.push(format!(
                "{} {}: {who}, who approved it, has retired; it is approved again",
                key.0.name().to_lowercase(),
                manifest.name
            ));
        } else if before.is_some_and(|before| before.spec == manifest.spec && before.labels == manifest.labels) {
            return;
        }
        let id = before.map_or_else(|| ResourceId::from_uuid(self.means.env.draw_uuid()), |before| before.id);
        let change = Change {
            kind: manifest.spec.kind(),
            name: manifest.name.clone(),
            from_version: before.map_or(0, |before| before.version),
            target: ChangeTarget::Resource(id),
            labels_before: before.map(|before| before.labels.clone()).unwrap_or_default(),
            labels: manifest.labels,
            before: before.map(|before| before.spec.clone()),
            after: manifest.spec.clone(),
            is_control: false,
        };
        self.draft.changes.push(change);
        match manifest.spec {
            Spec::System(system) => self.system_follows(&manifest.name, &system),
            Spec::Policy(policy) => self.draft.consequences.push(format!(
                "policy {}: approving it is the standing approval of every rotation inside its bounds (autonomy: {})",
                manifest.name,
                policy.autonomy.name()
            )),
            _ => {}
        }
    }

    fn system_follows(&mut self, name: &str, system: &SystemManifest) {
        let before = match self
            .present
            .resources
            .get(&(Kind::System, name.to_owned()))
            .map(|one| &one.spec)
        {
            Some(Spec::System(before)) => Some(before),
            _ => None,
        };
        if before.is_some_and(|before| before.reach() != system.reach()) {
            let text = format!(
                "system {name}: its endpoints change; from approval on, its secrets may travel to the ones shown here"
            );
            self.draft.warnings.push(text);
        }
        self.admin_follows(name, system, before.cloned());
        if before.is_none() {
            self.change_identity(
                control_identity(name, system, kind_named(self.means, &system.connector), self.means.now),
                true,
            );
        }
    }

    /// Where the admin secret travels from approval on, so that nobody signs that away unseen (P11).
    fn admin_follows(&mut self, name: &str, system: &SystemManifest, before: Option<SystemManifest>) {
        let Some(admin) = &system.admin else { return };
        let reference = &admin.secret_ref;
        let mut warnings = Vec::new();
        if !self.present.secrets.contains(reference) {
            warnings.push(format!(
                "system {name}: secret `{reference}` is not set; run `keyfall secret set {reference}` before it is needed"
            ));
        }
        let admin_before = before.and_then(|before| before.admin);
        if admin_before.as_ref().is_some_and(|before| before != admin) {
            warnings.push(format!(
                "system {name}: from approval on it is administered as `{}` with secret `{reference}`, which travels to its endpoints",
                admin.username
            ));
        }
        let others = self.users_of(reference, name);
        if !others.is_empty() {
            warnings.push(format!(
                "system {name}: secret `{reference}` is also that of system {}; from approval on it travels to the endpoints of each of them",
                others.join(", ")
            ));
        }
        self.draft.warnings.extend(warnings);
    }

    /// The other systems that name this secret, as they will be.
    fn users_of(&self, secret: &str, but: &str) -> Vec<String> {
        let names = |spec: &Spec| match spec {
            Spec::System(system) => system.admin.as_ref().is_some_and(|admin| admin.secret_ref == secret),
            _ => false,
        };
        let changes = self.draft.changes.iter().filter(|change| change.kind == Kind::System);
        let changed: BTreeMap<_, _> = changes.map(|change| (&change.name, &change.after)).collect();
        let registered = self
            .present
            .resources
            .iter()
            .filter(|((kind, _), _)| *kind == Kind::System);
        let mut found: BTreeSet<_> = registered
            .filter(|((_, other), resource)| names(changed.get(other).copied().unwrap_or(&resource.spec)))
            .map(|((_, other), _)| other.clone())
            .collect();
        found.extend(
            changed
                .iter()
                .filter(|(_, spec)| names(spec))
                .map(|(other, _)| (*other).clone()),
        );
        found.into_iter().filter(|other| other != but).collect()
    }

    fn change_identity(&mut self, manifest: Manifest, is_control: bool) {
        let Spec::Identity(spec) = &manifest.spec else { return };
        let before = self.present.identities.get(&manifest.name);
        let is_same = before.is_some_and(|before| before.spec == *spec && before.labels == manifest.labels);
        let is_unprovisioned = before.is_none_or(|before| self.is_unprovisioned(before));
        if is_same && !is_unprovisioned {
            return;
        }
        let id = before.map_or_else(|| IdentityId::from_uuid(self.means.env.draw_uuid()), |before| before.id);
        if is_unprovisioned {
            self.draft.actions.push(Action::Provision {
                identity: id,
                name: manifest.name.clone(),
            });
            let text = self.provisioning_text(&manifest.name, spec, is_control);
            self.draft.consequences.push(text);
        }
        if is_same {
            return;
        }
        if let Some(before) = before {
            let found = following(before, spec, self.present.busy.contains(&before.name));
            self.draft.actions.extend(found.action);
            self.draft.consequences.extend(found.consequences);
            self.draft.warnings.extend(found.warnings);
        }
        if spec.privileged {
            self.draft
                .warnings
                .push(format!("identity {}: has privileged access", manifest.name));
        }
        for delivery in spec.deliver_to.iter().filter(|one| one.replace) {
            let text = format!(
                "identity {}: what lies in its place at {} is overwritten, and is not put back",
                manifest.name, delivery.destination
            );
            self.draft.warnings.push(text);
        }
        if spec.strategy == Some(Strategy::InPlace) && !is_control {
            let text = format!(
                "identity {}: holds one value; each rotation leaves a gap between the change and its delivery",
                manifest.name
            );
            self.draft.warnings.push(text);
        }
        self.draft.changes.push(Change {
            kind: Kind::Identity,
            from_version: before.map_or(0, |before| before.version),
            target: ChangeTarget::Identity(id),
            before: before.map(|before| Spec::Identity(before.spec.clone())),
            name: manifest.name,
            labels_before: before.map(|before| before.labels.clone()).unwrap_or_default(),
            labels: manifest.labels,
            after: manifest.spec,
            is_control,
        });
    }
}

impl Work<'_> {
    /// Its provisioning was taken back, and nothing else would ever begin it again.
    fn is_unprovisioned(&self, identity: &Identity) -> bool {
        identity.state == IdentityState::Requested && !self.present.busy.contains(&identity.name)
    }

    fn provisioning_text(&self, name: &str, spec: &IdentitySpec, is_control: bool) -> String {
        let registered = self.present.resources.get(&(Kind::System, spec.system.clone()));
        let system = self
            .systems
            .get(&spec.system)
            .or(match registered.map(|one| &one.spec) {
                Some(Spec::System(system)) => Some(system),
                _ => None,
            });
        let strategy = system.map(|system| strategy_of(self.means, spec, system));
        let accounts = account_names(&spec.account, strategy.or(spec.strategy).unwrap_or(Strategy::InPlace));
        provisioning_text(name, spec, &accounts, is_control)
    }

    /// A control identity has no manifest of its own: its system's stands for it.
    fn provision_control_again(&mut self, system: &str) {
        let control = self.present.identities.get(&control_name(system));
        if let Some(control) = control.filter(|control| self.is_unprovisioned(control)) {
            self.draft.actions.push(Action::Provision {
                identity: control.id,
                name: control.name.clone(),
            });
            let text = self.provisioning_text(&control.name, &control.spec, true);
            self.draft.consequences.push(text);
        }
    }
}

fn system_of(manifest: &Manifest) -> Option<(String, SystemManifest)> {
    match &manifest.spec {
        Spec::System(system) => Some((manifest.name.clone(), system.clone())),
        _ => None,
    }
}

fn provisioning_text(name: &str, spec: &IdentitySpec, accounts: &[String], is_control: bool) -> String {
    let account = accounts.first().map(String::as_str).unwrap_or_default();
    if is_control {
        return format!(
            "{}: account {account} is created, without any right, as Keyfall's own control identity",
            spec.system
        );
    }
    let places = spec
        .deliver_to
        .iter()
        .map(|one| one.destination.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    let delivered = if places.is_empty() {
        "delivered nowhere".to_owned()
    } else {
        format!("delivered to {places}")
    };
    let later = accounts
        .get(1)
        .map(|other| format!("; its first rotation adds {other}"));
    format!(
        "{}: an account for {name} is created ({account}), proven by a login, its secret {delivered}{}",
        spec.system,
        later.unwrap_or_default()
    )
}

/// A plan that nobody decides on ends by itself.
pub const PLAN_LIFE: SignedDuration = SignedDuration::from_hours(24);

/// An id for the plan.
#[must_use]
pub fn draw_plan_id(env: &Environment) -> PlanId {
    PlanId::from_uuid(env.draw_uuid())
}
