//! Whether manifests can be carried out at all. Everything that can be known to fail is refused here, with the manifest's file and line, not in
//! the night. Reads what is registered and asks connectors what they accept; contacts no system.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::SignedDuration;
use keyfall_sdk::{Connector, ConnectorKind, Strategy, SystemSpec};

use super::planning::{Means, Present};
use super::positions::Problem;
use super::sharing::shared;
use crate::domain::due::check_rule;
use crate::domain::identity::{Identity, IdentityState};
use crate::domain::plan::Manifest;
use crate::domain::planner::{listed, merged};
use crate::domain::resource::{
    DeliverySpec, DestinationSpec, IdentitySpec, Kind, PolicySpec, SeenBy, Selector, Spec, SystemManifest,
};

/// The manifests of one request.
pub(super) type Given = BTreeMap<(Kind, String), Manifest>;

/// # Errors
/// All problems of all manifests.
pub(super) fn check(given: &Given, present: &Present, means: &Means<'_>) -> Result<(), Vec<Problem>> {
    let mut checks = Checks {
        present,
        means,
        problems: Vec::new(),
    };
    for manifest in given.values() {
        checks.check(manifest, given);
    }
    checks.problems.extend(shared(given, present, means));
    if checks.problems.is_empty() {
        Ok(())
    } else {
        Err(checks.problems)
    }
}

/// What is registered under the name, as it will be.
pub(super) fn spec_of<'s>(kind: Kind, name: &str, given: &'s Given, present: &'s Present) -> Option<&'s Spec> {
    let key = (kind, name.to_owned());
    given
        .get(&key)
        .map(|one| &one.spec)
        .or_else(|| present.resources.get(&key).map(|one| &one.spec))
}

/// How the identity's credentials follow one another: as it says, or as its connector prefers.
pub(super) fn strategy_of(means: &Means<'_>, spec: &IdentitySpec, system: &SystemManifest) -> Strategy {
    let kind = kind_named(means, &system.connector);
    let default = kind.and_then(|kind| kind.descriptor().strategies.first().copied());
    spec.strategy.or(default).unwrap_or(Strategy::InPlace)
}

/// A connector that delivers, as all destinations of its kind share it.
pub(super) fn destination_connector(means: &Means<'_>, name: &str) -> Option<Arc<dyn Connector>> {
    let connector = kind_named(means, name)?
        .connect(&destination_reach(name), None, means.grants)
        .ok()?;
    connector.deliver().is_some().then_some(connector)
}

/// The kind of connector of this name, among those that the server has.
pub(super) fn kind_named<'a>(means: &'a Means<'_>, name: &str) -> Option<&'a Arc<dyn ConnectorKind>> {
    means.kinds.iter().find(|kind| kind.descriptor().kind == name)
}

struct Checks<'a> {
    present: &'a Present,
    means: &'a Means<'a>,
    problems: Vec<Problem>,
}

impl Checks<'_> {
    fn problem(&mut self, manifest: &Manifest, at: &str, text: &str) {
        self.problems.push(Problem::new(manifest, at, text));
    }

    fn check(&mut self, manifest: &Manifest, given: &Given) {
        match &manifest.spec {
            Spec::Owner(_) => {}
            Spec::System(spec) => self.check_system(manifest, spec, given),
            Spec::Destination(spec) => self.check_destination(manifest, spec, given),
            Spec::Policy(spec) => self.check_policy(manifest, spec, given),
            Spec::Identity(spec) => self.check_identity(manifest, spec, given),
        }
    }

    fn check_owner(&mut self, manifest: &Manifest, owner: &str, given: &Given) {
        match spec_of(Kind::Owner, owner, given, self.present) {
            None => {
                let text = format!("owner `{owner}` is not registered; add a manifest of kind Owner with this name");
                self.problem(manifest, "owner", &text);
            }
            Some(Spec::Owner(spec)) if spec.retired && !self.is_owned_by(manifest, owner) => {
                self.problem(manifest, "owner", &format!("owner `{owner}` has retired; name another"));
            }
            Some(_) => {}
        }
    }

    /// What named an owner before the owner retired may be applied again; that it is unowned is a finding.
    fn is_owned_by(&self, manifest: &Manifest, owner: &str) -> bool {
        let key = (manifest.spec.kind(), manifest.name.clone());
        let identity = self.present.identities.get(&manifest.name);
        let before = match manifest.spec {
            Spec::Identity(_) => identity.map(|one| one.spec.owner.as_str()),
            _ => match self.present.resources.get(&key).map(|one| &one.spec) {
                Some(Spec::System(spec)) => Some(spec.owner.as_str()),
                Some(Spec::Destination(spec)) => Some(spec.owner.as_str()),
                Some(Spec::Policy(spec)) => Some(spec.owner.as_str()),
                _ => None,
            },
        };
        before == Some(owner)
    }

    fn unknown_connector(&mut self, manifest: &Manifest, name: &str) {
        let known = self
            .means
            .kinds
            .iter()
            .map(|kind| kind.descriptor().kind)
            .collect::<Vec<_>>()
            .join(", ");
        self.problem(
            manifest,
            "connector",
            &format!("unknown connector `{name}`; this server has {known}"),
        );
    }

    fn check_system(&mut self, manifest: &Manifest, spec: &SystemManifest, given: &Given) {
        self.check_owner(manifest, &spec.owner, given);
        let Some(kind) = kind_named(self.means, &spec.connector).cloned() else {
            return self.unknown_connector(manifest, &spec.connector);
        };
        if kind.descriptor().strategies.is_empty() {
            self.problem(
                manifest,
                "connector",
                "this connector is a destination; write a manifest of kind Destination",
            );
        }
        if spec.vantages.is_empty() {
            let text = "name at least one place where credentials are tried; without one no death could ever be proven";
            self.problem(manifest, "vantages", text);
        }
        let names: BTreeSet<_> = spec.vantages.iter().map(|one| &one.name).collect();
        if names.len() < spec.vantages.len() {
            self.problem(manifest, "vantages", "two vantages have the same name");
        }
        for problem in kind.check(&spec.reach(), self.means.grants) {
            self.problem(manifest, &problem.at, &problem.message);
        }
        if let Some(access) = &spec.control_access {
            self.access(manifest, "controlAccess", &kind, &spec.reach(), access);
        }
        if spec.settling.is_some_and(|settling| settling < documented(&kind)) {
            let text = format!(
                "the documented window is {:#}; it can only be widened",
                documented(&kind)
            );
            self.problem(manifest, "settling", &text);
        }
        if spec.limits.concurrency == 0
            || spec.limits.calls_per_second == 0
            || spec.limits.refused_logins_per_minute == 0
        {
            self.problem(manifest, "limits", "each limit must be at least 1");
        }
        let before = self.present.resources.get(&(Kind::System, manifest.name.clone()));
        if let Some(Spec::System(before)) = before.map(|one| &one.spec)
            && before.connector != spec.connector
        {
            self.problem(
                manifest,
                "connector",
                "a system keeps its connector; register another system and move identities to it",
            );
        }
    }

    fn check_destination(&mut self, manifest: &Manifest, spec: &DestinationSpec, given: &Given) {
        self.check_owner(manifest, &spec.owner, given);
        let Some(connector) = destination_connector(self.means, &spec.connector) else {
            return self.unknown_connector(manifest, &spec.connector);
        };
        // What is wrong with them would otherwise be told of an identity that delivers there, perhaps much later.
        let problems = connector
            .deliver()
            .map(|deliver| deliver.check_defaults(&spec.defaults))
            .unwrap_or_default();
        for problem in problems {
            self.problem(manifest, "defaults", &problem);
        }
    }

    /// An interval of zero between rounds is no problem: behind a round that was no refusal `domain::proof::SHORTEST_WAIT` is waited all the
    /// same, and a short `giveUpAfter` does not come before a round that the budget of refused logins delays.
    fn check_policy(&mut self, manifest: &Manifest, spec: &PolicySpec, given: &Given) {
        self.check_owner(manifest, &spec.owner, given);
        if let Err(bad) = check_rule(&spec.rotation) {
            self.problem(manifest, "rotation", &bad.to_string());
        }
        if spec.selector == Selector::default() {
            self.problem(
                manifest,
                "selector",
                "an empty selector holds for nothing; name environments, systems, kinds, identities or labels",
            );
        }
        if spec.proof.refusals == 0 {
            self.problem(
                manifest,
                "proof.refusals",
                "at least one refusal is needed; 3 is the default",
            );
        }
        if spec.budget.destructive == 0 || !spec.budget.per.is_positive() {
            self.problem(
                manifest,
                "budget",
                "a budget of nothing lets nothing be retired; use `keyfall freeze --reason …` to stop",
            );
        }
    }

    fn check_identity(&mut self, manifest: &Manifest, spec: &IdentitySpec, given: &Given) {
        self.check_owner(manifest, &spec.owner, given);
        if spec.expires <= self.means.now {
            self.problem(
                manifest,
                "expires",
                "lies in the past; write when this identity is to be reviewed or to end",
            );
        }
        let Some(Spec::System(system)) = spec_of(Kind::System, &spec.system, given, self.present).cloned() else {
            let text = format!(
                "system `{}` is not registered; add a manifest of kind System with this name",
                spec.system
            );
            return self.problem(manifest, "system", &text);
        };
        if system.environment != spec.environment {
            let text = format!(
                "is `{}`, but system `{}` belongs to `{}`",
                spec.environment, spec.system, system.environment
            );
            self.problem(manifest, "environment", &text);
        }
        self.check_access(manifest, spec, &system);
        self.check_sessions(manifest, spec, &system);
        for (index, delivery) in spec.deliver_to.iter().enumerate() {
            let at = format!("deliverTo[{index}]");
            self.check_delivery(manifest, spec, delivery, &at, given);
        }
        if let Some(before) = self.present.identities.get(&manifest.name) {
            self.check_unmoved(manifest, spec, &before.clone());
        }
    }

    fn check_unmoved(&mut self, manifest: &Manifest, spec: &IdentitySpec, before: &Identity) {
        if before.state == IdentityState::Decommissioned {
            self.problem(
                manifest,
                "name",
                "this identity was decommissioned and its name is not given again; choose another",
            );
        }
        for (at, moved) in [
            ("system", before.spec.system != spec.system),
            ("account", before.spec.account != spec.account),
            ("strategy", before.spec.strategy != spec.strategy),
        ] {
            if moved {
                self.problem(
                    manifest,
                    at,
                    "cannot change; decommission this identity and register another",
                );
            }
        }
    }

    /// A session of an account tells which credential opened it only where each credential has an account of its own.
    fn check_sessions(&mut self, manifest: &Manifest, spec: &IdentitySpec, system: &SystemManifest) {
        let by_sessions = spec
            .consumers
            .iter()
            .filter(|one| one.seen_by == SeenBy::Sessions)
            .count();
        let alternates = strategy_of(self.means, spec, system) == Strategy::AlternatingAccounts;
        if by_sessions > 0 && !alternates {
            let text = "`seenBy: sessions` needs alternating accounts: here old and new sessions look alike; use `acknowledgement`";
            self.problem(manifest, "consumers", text);
        }
        if by_sessions > 1 {
            let text =
                "only one consumer can be seen by sessions: a session does not say whose it is; use `acknowledgement`";
            self.problem(manifest, "consumers", text);
        }
    }

    fn check_access(&mut self, manifest: &Manifest, spec: &IdentitySpec, system: &SystemManifest) {
        let Some(kind) = kind_named(self.means, &system.connector).cloned() else {
            return;
        };
        if let Some(strategy) = spec.strategy
            && !kind.descriptor().strategies.contains(&strategy)
        {
            let text = format!(
                "connector `{}` can do {}",
                system.connector,
                listed(kind.descriptor().strategies)
            );
            self.problem(manifest, "strategy", &text);
        }
        self.access(manifest, "access", &kind, &system.reach(), &spec.access);
    }

    /// What an account may do, in the words of its system's connector. A system that is wrong itself says nothing about it.
    fn access(
        &mut self,
        manifest: &Manifest,
        at: &str,
        kind: &Arc<dyn ConnectorKind>,
        reach: &SystemSpec,
        access: &serde_json::Value,
    ) {
        let Ok(connector) = kind.connect(reach, None, self.means.grants) else {
            return;
        };
        let problems = connector
            .issue()
            .map(|issue| issue.check_access(access))
            .unwrap_or_default();
        for problem in problems {
            self.problem(manifest, at, &problem);
        }
    }

    fn check_delivery(
        &mut self,
        manifest: &Manifest,
        spec: &IdentitySpec,
        delivery: &DeliverySpec,
        at: &str,
        given: &Given,
    ) {
        let name = &delivery.destination;
        let Some(Spec::Destination(destination)) = spec_of(Kind::Destination, name, given, self.present).cloned()
        else {
            let text =
                format!("destination `{name}` is not registered; add a manifest of kind Destination with this name");
            return self.problem(manifest, at, &text);
        };
        if destination.environment != spec.environment {
            let text = format!(
                "destination `{name}` belongs to `{}`, not to `{}`",
                destination.environment, spec.environment
            );
            self.problem(manifest, at, &text);
        }
        let Some(connector) = destination_connector(self.means, &destination.connector) else {
            return;
        };
        let target = merged(&destination.defaults, &delivery.target);
        let problems = connector
            .deliver()
            .map(|deliver| deliver.check_target(&target))
            .unwrap_or_default();
        for problem in problems {
            self.problem(manifest, &format!("{at}.target"), &problem);
        }
    }
}

fn documented(kind: &Arc<dyn ConnectorKind>) -> SignedDuration {
    SignedDuration::try_from(kind.descriptor().settling.documented).unwrap_or(SignedDuration::MAX)
}

/// A destination has no endpoints of its own: its roots and commands are the server's.
fn destination_reach(connector: &str) -> SystemSpec {
    SystemSpec {
        connector: connector.to_owned(),
        vantages: Vec::new(),
        tls: keyfall_sdk::TlsMode::default(),
        tls_ca: None,
        options: serde_json::Value::Null,
    }
}
