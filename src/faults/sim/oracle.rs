//! Holds the truth, the log and the store against one another: I1 to I10 of the protocol, and that what was begun comes to an end.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{KeyId, PrincipalStatus, Strategy};

use super::nodes::keyring;
use super::people::verifier_keys;
use super::truth::works;
use super::witness::is_by_people;
use super::world::World;
use crate::domain::identity::{Credential, CredentialState, Identity, IdentityState};
use crate::domain::ids::{IdentityId, RunId};
use crate::domain::resource::{Kind, Spec};
use crate::domain::workflow::{Event, EventBody, Run, RunPlan, Step, Trigger};
use crate::engine::findings::FOREIGN;
use crate::engine::secrets::{OpenSecrets, StoredSecrets};
use crate::evidence::audit::event_of;
use crate::evidence::receipt::verify_receipt;
use crate::store::{FindingFilter, Page, ReceiptFilter};

const ALL: Page = Page {
    after: None,
    limit: 10_000,
};

/// Looked at all the time: who is said to be dead is dead, and nobody was locked out.
pub(super) async fn glance(world: &mut World) {
    let size = world.site.direct.log_state().await.unwrap().size;
    if std::mem::replace(&mut world.glanced_at, size) != size {
        look(world).await;
    }
}

async fn look(world: &World) {
    for subject in &world.subjects {
        let credentials = world.site.direct.credentials_of(subject.id).await.unwrap();
        the_dead_are_dead(world, &subject.system, &credentials);
    }
    for (system, provider) in &world.site.truth.providers {
        for account in provider.accounts() {
            if account.status() == PrincipalStatus::Locked {
                world
                    .site
                    .truth
                    .violated(format!("{} of {system} was locked by probes", account.name));
            }
        }
    }
}

fn the_dead_are_dead(world: &World, system: &str, credentials: &[Credential]) {
    let honoured: BTreeSet<KeyId> = world.site.truth.providers[system]
        .honoured_keys()
        .into_iter()
        .map(|(_, key)| key)
        .collect();
    for credential in credentials {
        let Some(key) = &credential.key_id else { continue };
        let is_gone = matches!(
            credential.state,
            CredentialState::Dead { .. } | CredentialState::NeverIssued
        );
        if is_gone && honoured.contains(key) {
            world.site.truth.violated(format!(
                "{} ({}) is said to be {} and is accepted",
                credential.id,
                key.0,
                credential.state.name()
            ));
        }
    }
}

pub(super) async fn tell_what_is_stuck(world: &World) {
    for run in world.people.open_runs().await {
        world.site.truth.violated(format!(
            "{} of {} never ends: {:?} at {:?}",
            run.id(),
            run.plan().identity_name,
            run.status(),
            run.step()
        ));
    }
    let now = world.site.clock.now();
    for due in world.site.direct.due_identities(now, None, 100).await.unwrap() {
        world
            .site
            .truth
            .violated(format!("{} is due since {} and nothing happens", due.id, due.due_at));
    }
}

/// At the end, when everything is at rest.
pub(super) async fn judge(world: &World) {
    look(world).await;
    let problems = world.site.direct.check().await.unwrap();
    for problem in problems {
        world.site.truth.violated(format!("the store: {problem}"));
    }
    for node in world.nodes.iter().filter(|node| node.life.spun()) {
        world
            .site
            .truth
            .violated(format!("{} went round in circles", node.name));
    }
    let log = Log::read(world).await;
    log.has_one_run_at_a_time(world);
    log.is_written_by_who_holds_the_run(world);
    log.keeps_to_budgets(world);
    log.stands_still_while_frozen(world);
    let exempt = exempt(world, &log);
    every_live_key_is_known(world).await;
    every_active_identity_works(world, &exempt).await;
    consumers_are_well(world, &exempt);
    receipts_verify(world).await;
}

/// Identities about which a person said that something was done by hand.
fn exempt(world: &World, log: &Log) -> BTreeSet<String> {
    let by_hand = world.people.by_hand.iter();
    by_hand
        .filter_map(|run| log.plans.get(run).map(|plan| plan.identity_name.clone()))
        .collect()
}

/// Those of the manifests, and Keyfall's own.
async fn every_identity(world: &World) -> Vec<Identity> {
    let mut all = world.site.direct.identities(&Default::default(), ALL).await.unwrap();
    for system in &world.systems {
        all.extend(world.site.direct.control_identity(&system.name).await.unwrap());
    }
    all.sort_by_key(|identity| identity.id);
    all.dedup_by_key(|identity| identity.id);
    all
}

/// I2: a live key that nobody recorded is one that somebody else made, or a finding.
async fn every_live_key_is_known(world: &World) {
    let filter = FindingFilter {
        open_only: true,
        ..FindingFilter::default()
    };
    let findings = world.site.direct.findings(&filter, ALL).await.unwrap();
    let mut known: BTreeMap<(String, KeyId), String> = BTreeMap::new();
    for identity in every_identity(world).await {
        for credential in world.site.direct.credentials_of(identity.id).await.unwrap() {
            if let Some(key) = credential.key_id {
                known.insert((identity.spec.system.clone(), key), credential.state.name().to_owned());
            }
        }
    }
    for (system, provider) in &world.site.truth.providers {
        for account in provider.accounts() {
            for key in account.keys.iter().filter(|key| key.removed_at.is_none()) {
                let is_known = known.contains_key(&(system.clone(), key.id.clone()))
                    || world.site.truth.is_planted(system, &key.id);
                let is_told = findings
                    .iter()
                    .any(|finding| finding.kind == FOREIGN && finding.text.contains(&key.id.0))
                    || is_alive_on_record(world, &key.marker).await;
                if !is_known && !is_told {
                    world.site.truth.violated(format!(
                        "{} on {} of {system} is alive and nobody knows it (marker {})",
                        key.id.0, account.name, key.marker
                    ));
                }
            }
        }
    }
}

/// What a duplicate of an issue call made holds the same bytes as what it duplicates: it is told by the proof of that one's death, which fails.
async fn is_alive_on_record(world: &World, marker: &str) -> bool {
    let Ok(run) = marker.parse::<RunId>() else {
        return false;
    };
    let Some(stored) = world.site.direct.run(run).await.unwrap() else {
        return false;
    };
    let run = Run::replay(&stored.events).unwrap();
    let Some(new) = &run.plan().new else { return false };
    let credential = world.site.direct.credential(new.id).await.unwrap();
    credential.is_some_and(|credential| {
        matches!(
            credential.state,
            CredentialState::AliveAfterRevoke { .. } | CredentialState::Unprovable { .. }
        )
    })
}

/// I3: what is current was accepted downstream, its secret is durable here, and it works.
async fn every_active_identity_works(world: &World, exempt: &BTreeSet<String>) {
    let secrets = StoredSecrets::new(std::sync::Arc::clone(&world.site.direct), keyring());
    for identity in every_identity(world).await {
        let name = &identity.name;
        if identity.state != IdentityState::Active || exempt.contains(name) {
            continue;
        }
        let violated = |what: &str| world.site.truth.violated(format!("{name} is active and {what}"));
        let Some(current) = identity.current else {
            violated("has no current credential");
            continue;
        };
        let credential = world.site.direct.credential(current).await.unwrap().unwrap();
        let system = world.site.direct.resource(Kind::System, &identity.spec.system).await;
        let Some(Spec::System(system)) = system.unwrap().map(|system| system.spec) else {
            continue;
        };
        let Some(secret) = credential.secret else {
            violated("its secret is nowhere");
            continue;
        };
        match secrets.open(secret, system.endpoint_digest().unwrap()).await {
            Err(error) => violated(&format!("its secret does not open: {error}")),
            Ok(secret) => {
                let slot = world.subjects.iter().find(|one| one.id == identity.id);
                let lies = slot.and_then(|subject| world.site.truth.lies_in(&subject.slot));
                if slot.is_some() && !lies.is_some_and(|lies| lies.secret.matches(&secret)) {
                    violated("its place does not hold its current secret");
                }
                let provider = &world.site.truth.providers[&identity.spec.system];
                if !works(provider, &credential.principal.name, &secret) {
                    violated(&format!(
                        "{} ({}) is not accepted",
                        credential.id,
                        credential.state.name()
                    ));
                }
            }
        }
    }
}

fn consumers_are_well(world: &World, exempt: &BTreeSet<String>) {
    for used in world.site.truth.broken_consumers(true) {
        let subject = world.subjects.iter().find(|one| one.slot == used.slot).unwrap();
        if !subject.is_doomed && !exempt.contains(&subject.name) {
            world.site.truth.violated(format!(
                "in the end the consumer of {} uses {} of {}, which is not accepted",
                used.slot, used.delivery.version, used.delivery.username
            ));
        }
    }
}

async fn receipts_verify(world: &World) {
    let rows = world
        .site
        .direct
        .receipts(&ReceiptFilter::default(), ALL)
        .await
        .unwrap();
    for row in rows {
        let id = row.id.to_string();
        let file = match world.people.app.receipt_file(world.people.ada(), &id).await {
            Ok(file) => file,
            Err(error) => {
                world.site.truth.violated(format!("{id} cannot be had: {error}"));
                continue;
            }
        };
        if let Err(error) = verify_receipt(&file, &verifier_keys(), Some(world.site.clock.now())) {
            world.site.truth.violated(format!("{id} does not verify: {error}"));
        }
    }
}

/// The log, in the order in which it was committed.
struct Log {
    events: Vec<(u64, RunId, Event)>,
    plans: BTreeMap<RunId, RunPlan>,
}

impl Log {
    async fn read(world: &World) -> Self {
        let mut events = Vec::new();
        let mut plans = BTreeMap::new();
        for entry in world.site.direct.log(0, 100_000).await.unwrap() {
            let Some((run, _)) = entry.run else { continue };
            let Some(event) = event_of(&entry.bytes).unwrap() else {
                continue;
            };
            if let EventBody::Opened { plan } = &event.body {
                plans.insert(run, (**plan).clone());
            }
            events.push((entry.position, run, event));
        }
        Self { events, plans }
    }

    /// I5.
    fn has_one_run_at_a_time(&self, world: &World) {
        let mut open: BTreeMap<IdentityId, RunId> = BTreeMap::new();
        for (_, run, event) in &self.events {
            let identity = self.plans[run].identity;
            match &event.body {
                EventBody::Opened { .. } => {
                    if let Some(other) = open.insert(identity, *run) {
                        world
                            .site
                            .truth
                            .violated(format!("{run} was opened while {other} of the same identity was open"));
                    }
                }
                EventBody::Closed { .. } => {
                    open.remove(&identity);
                }
                _ => {}
            }
        }
    }

    /// P10: by the claim that stood when each record was written. People write whoever holds the run.
    fn is_written_by_who_holds_the_run(&self, world: &World) {
        let claims = world.site.database.claims().unwrap();
        for (position, run, event) in self.events.iter().filter(|(_, _, event)| !is_by_people(&event.body)) {
            let claimed = claims[position];
            if event.epoch != claimed {
                world.site.truth.violated(format!(
                    "record {position} of {run} was written under epoch {} when it was claimed under {claimed}",
                    event.epoch
                ));
            }
        }
    }

    /// I9: by the instants of the first thing that each run took away.
    fn keeps_to_budgets(&self, world: &World) {
        let mut spent: BTreeMap<(bool, Option<String>), Vec<Timestamp>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut folded: BTreeMap<RunId, Run> = BTreeMap::new();
        for (_, run, event) in &self.events {
            let plan = &self.plans[run];
            let is_first = match &event.body {
                EventBody::Started { step, .. } => {
                    let replaces =
                        *step == Step::IssueNew && plan.strategy == Strategy::InPlace && !plan.old.is_empty();
                    (step.is_destructive() || replaces) && seen.insert(*run)
                }
                _ => false,
            };
            if let EventBody::Opened { .. } = &event.body {
                folded.insert(*run, Run::replay(std::slice::from_ref(event)).unwrap());
            } else if let Some(run) = folded.get_mut(run) {
                run.apply(event).unwrap();
            }
            if is_first {
                let is_emergency = folded[run].is_emergency() || plan.trigger == Trigger::BreakGlass;
                // What no policy selects has the default budget, which no seed comes near.
                spent
                    .entry((is_emergency, plan.policy.clone()))
                    .or_default()
                    .push(event.at);
            }
        }
        let most = usize::try_from(world.budget.destructive).unwrap();
        let per = SignedDuration::from_secs(i64::try_from(world.budget.per).unwrap());
        for (scope, mut times) in spent.into_iter().filter(|(scope, _)| scope.1.is_some()) {
            times.sort();
            for window in times.windows(most + 1) {
                let length = window[most].duration_since(window[0]);
                if length < per {
                    world.site.truth.violated(format!(
                        "{} destructive actions of {scope:?} within {length:#}; {most} are allowed in {per:#}",
                        window.len()
                    ));
                }
            }
        }
    }

    /// P9.
    fn stands_still_while_frozen(&self, world: &World) {
        for (position, run, event) in &self.events {
            let EventBody::Started { step, .. } = &event.body else {
                continue;
            };
            let is_frozen = world
                .freezes
                .iter()
                .any(|(from, to)| from <= position && to.is_none_or(|to| *position < to));
            if is_frozen && (step.is_destructive() || step.takes_back()) {
                world.site.truth.violated(format!(
                    "{} of {run} was begun under a freeze, in record {position}",
                    step.name()
                ));
            }
        }
    }
}
