//! From what is registered to what a run is to do. Pure: the caller gathers the facts and draws the ids, this builds the plan or says why
//! there can be none.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{Placement, PrincipalRef, Strategy};

use super::actor::{Actor, Approval};
use super::digest::Digest;
use super::due::DueReason;
use super::identity::{Credential, CredentialState, Identity, IdentityState};
use super::ids::{CredentialId, ResourceId, RunId, SecretId};
use super::proof::ProofTerms;
use super::resource::{DecommissionRule, DestinationSpec, PolicySpec, ProofRule, SystemManifest, UptakeRule};
use super::revoking::{CannotRevoke, may_be_revoked, was_ended};
use super::workflow::{ConsumerPlan, DeliveryPlan, NewCredential, OldCredential, RunKind, RunPlan, Timing, Trigger};

/// Which list of steps runs are opened with.
pub const WORKFLOW_VERSION: u32 = 1;

/// What is registered, as far as one run needs it.
#[derive(Debug, Clone, Copy)]
pub struct Registered<'a> {
    pub identity: &'a Identity,
    pub system_id: ResourceId,
    pub system: &'a SystemManifest,
    /// `None`: no policy selects the identity; the defaults hold.
    pub policy: Option<&'a PolicySpec>,
    pub destinations: &'a BTreeMap<String, (ResourceId, DestinationSpec)>,
    /// All credentials that the identity ever had.
    pub credentials: &'a [Credential],
    pub connector: &'a ConnectorFacts,
    /// What earlier runs saw of credentials whose death was not proven yet; only what was seen at the present endpoints.
    pub lives: &'a Lives,
}

/// Where and when the bytes of a credential were accepted, per vantage.
pub type Lives = BTreeMap<CredentialId, BTreeMap<String, Timestamp>>;

/// What the planner must know of a connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorFacts {
    /// The default first.
    pub strategies: Vec<Strategy>,
    pub settling: SignedDuration,
    pub settling_source: String,
    /// The slowest settling that was measured here, where it exceeds what is documented.
    pub measured: Option<SignedDuration>,
}

/// Why and by whom.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRequest {
    pub kind: RunKind,
    pub trigger: Trigger,
    pub reason: DueReason,
    pub initiator: Actor,
    pub approval: Approval,
    /// For `Revoke`: the one credential to end.
    pub credential: Option<CredentialId>,
    /// A written override: consumers are not waited for.
    pub exception: Option<String>,
}

/// What was drawn for this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawn {
    pub run: RunId,
    pub credential: CredentialId,
    pub secret: SecretId,
    pub now: Timestamp,
}

/// Why there is no plan. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotPlan {
    #[error("`{identity}` is {state}, and {kind} does not start from there")]
    State {
        identity: String,
        state: &'static str,
        kind: &'static str,
    },
    #[error(
        "`{identity}` has no current credential to replace; provision it, or take its account over with `keyfall adopt --take-over`"
    )]
    NothingToReplace { identity: String },
    #[error("`{identity}` has no live credential {credential}")]
    NoSuchCredential { identity: String, credential: String },
    #[error(
        "`{identity}` has a current credential of its own ({current}), and taking an account over would leave nobody to end it: rotate the identity, or register the account under a name of its own"
    )]
    InUse { identity: String, current: CredentialId },
    #[error(transparent)]
    Revoke(#[from] CannotRevoke),
    #[error("connector {connector} cannot do {strategy}; it can do {can}")]
    Strategy {
        connector: String,
        strategy: &'static str,
        can: String,
    },
    #[error("destination `{name}` is not registered")]
    Destination { name: String },
    #[error("the system's reach cannot be written down: {why}")]
    Reach { why: String },
}

/// Builds the plan of a run.
///
/// # Errors
/// When the identity's state, its credentials or its system do not allow it.
pub fn plan_run(registered: &Registered<'_>, request: RunRequest, drawn: Drawn) -> Result<RunPlan, CannotPlan> {
    let identity = registered.identity;
    check_state(identity, request.kind)?;
    check_take_over(identity, registered.credentials, request.kind)?;
    let strategy = strategy(registered)?;
    let current = current_of(identity, registered.credentials);
    let old = ending(registered, &request, current)?;
    let new = begins(request.kind).then(|| new_credential(registered, strategy, current, drawn));
    let reach = registered.system.reach();
    let endpoint_digest = endpoint_digest(&reach).map_err(|error| CannotPlan::Reach { why: error.to_string() })?;
    Ok(RunPlan {
        run: drawn.run,
        workflow_version: WORKFLOW_VERSION,
        kind: request.kind,
        identity: identity.id,
        identity_name: identity.name.clone(),
        from: Some(identity.state),
        owner: identity.spec.owner.clone(),
        environment: identity.spec.environment.clone(),
        system: registered.system_id,
        system_name: identity.spec.system.clone(),
        connector: reach.connector.clone(),
        endpoint_digest,
        trigger: request.trigger,
        reason: request.reason,
        initiator: request.initiator,
        approval: request.approval,
        strategy,
        access: identity.spec.access.clone(),
        new,
        old,
        accounts: accounts(registered),
        deliveries: deliveries(registered)?,
        consumers: consumers(registered),
        timing: timing(registered.policy, drawn.now),
        proof: proof_terms(registered.system, registered.policy, registered.connector),
        exception: request.exception,
    })
}

/// The digest that binds approvals and sealed secrets to a system's endpoints (P11).
///
/// # Errors
/// When the options cannot be written as JSON.
pub fn endpoint_digest(reach: &keyfall_sdk::SystemSpec) -> Result<Digest, serde_json::Error> {
    Digest::of_value("keyfall-endpoints/v1", reach)
}

/// The names that an identity's accounts have downstream.
#[must_use]
pub fn account_names(account: &str, strategy: Strategy) -> Vec<String> {
    match strategy {
        Strategy::AlternatingAccounts => vec![format!("{account}_a"), format!("{account}_b")],
        Strategy::DualSlot | Strategy::InPlace => vec![account.to_owned()],
    }
}

fn check_state(identity: &Identity, kind: RunKind) -> Result<(), CannotPlan> {
    let fits = match kind {
        RunKind::Provision => identity.state == IdentityState::Requested,
        RunKind::Adopt => identity.state == IdentityState::Discovered,
        RunKind::TakeOver => matches!(identity.state, IdentityState::Discovered | IdentityState::Active),
        RunKind::Rotate | RunKind::EmergencyRotate => identity.state == IdentityState::Active,
        // Decommissioning without an open run: something of it was still accepted at the end of the one that there was.
        RunKind::Decommission => matches!(
            identity.state,
            IdentityState::Active | IdentityState::Quarantined | IdentityState::Decommissioning
        ),
        // What may be alive can be ended whatever has become of its identity.
        RunKind::Revoke => matches!(
            identity.state,
            IdentityState::Active
                | IdentityState::Quarantined
                | IdentityState::Decommissioning
                | IdentityState::Decommissioned
        ),
    };
    if fits {
        return Ok(());
    }
    Err(CannotPlan::State {
        identity: identity.name.clone(),
        state: identity.state.name(),
        kind: kind.name(),
    })
}

/// Strategies as a sentence names them.
#[must_use]
pub fn listed(strategies: &[Strategy]) -> String {
    let names: Vec<&str> = strategies.iter().map(|strategy| strategy.name()).collect();
    names.join(", ")
}

fn current_of<'a>(identity: &Identity, credentials: &'a [Credential]) -> Option<&'a Credential> {
    let current = identity.current?;
    credentials.iter().find(|one| one.id == current)
}

/// Taking over moves the pointer, and whatever it pointed to before would be ended by no rotation.
///
/// # Errors
/// When the identity has a current credential that may be live and is not a foreign one.
pub fn check_take_over(identity: &Identity, credentials: &[Credential], kind: RunKind) -> Result<(), CannotPlan> {
    let in_use = |one: &&Credential| one.state.may_be_live() && one.state != CredentialState::Foreign;
    match current_of(identity, credentials).filter(in_use) {
        Some(current) if kind == RunKind::TakeOver => Err(CannotPlan::InUse {
            identity: identity.name.clone(),
            current: current.id,
        }),
        _ => Ok(()),
    }
}

fn strategy(registered: &Registered<'_>) -> Result<Strategy, CannotPlan> {
    let can = &registered.connector.strategies;
    let wanted = registered.identity.spec.strategy.or_else(|| can.first().copied());
    match wanted {
        Some(strategy) if can.contains(&strategy) => Ok(strategy),
        other => Err(CannotPlan::Strategy {
            connector: registered.system.connector.clone(),
            strategy: other.map_or("any strategy", Strategy::name),
            can: listed(can),
        }),
    }
}

fn begins(kind: RunKind) -> bool {
    matches!(kind, RunKind::Provision | RunKind::Rotate | RunKind::EmergencyRotate)
}

/// The credentials that the run ends.
fn ending(
    registered: &Registered<'_>,
    request: &RunRequest,
    current: Option<&Credential>,
) -> Result<Vec<OldCredential>, CannotPlan> {
    let identity = registered.identity;
    let live = || registered.credentials.iter().filter(|one| one.state.may_be_live());
    match request.kind {
        RunKind::Provision => Ok(Vec::new()),
        RunKind::Rotate | RunKind::EmergencyRotate => match current {
            Some(current) => Ok(vec![old_credential(registered, current)]),
            None => Err(CannotPlan::NothingToReplace {
                identity: identity.name.clone(),
            }),
        },
        RunKind::Revoke => {
            let missing = || CannotPlan::NoSuchCredential {
                identity: identity.name.clone(),
                credential: request.credential.map(|id| id.to_string()).unwrap_or_default(),
            };
            let wanted = live()
                .find(|one| Some(one.id) == request.credential)
                .ok_or_else(missing)?;
            may_be_revoked(wanted, identity.current, registered.credentials)?;
            Ok(vec![old_credential(registered, wanted)])
        }
        RunKind::Decommission | RunKind::Adopt | RunKind::TakeOver => {
            Ok(live().map(|one| old_credential(registered, one)).collect())
        }
    }
}

fn old_credential(registered: &Registered<'_>, credential: &Credential) -> OldCredential {
    let ended_before = was_ended(&credential.state);
    let lives = registered.lives.get(&credential.id).filter(|_| ended_before);
    OldCredential {
        ended_before,
        accepted: lives.cloned().unwrap_or_default(),
        id: credential.id,
        secret: credential.secret,
        principal: credential.principal.clone(),
        key_id: credential.key_id.clone(),
        issued: !matches!(credential.state, CredentialState::Intended),
    }
}

fn new_credential(
    registered: &Registered<'_>,
    strategy: Strategy,
    current: Option<&Credential>,
    drawn: Drawn,
) -> NewCredential {
    let principal = match (strategy, current) {
        // One account: the one that is in use, which an adopted identity may have under another name than its manifest's.
        (Strategy::DualSlot | Strategy::InPlace, Some(current)) => current.principal.clone(),
        _ => {
            let names = account_names(&registered.identity.spec.account, strategy);
            let in_use = current.map(|one| one.principal.name.as_str());
            let name = names.into_iter().find(|name| Some(name.as_str()) != in_use);
            known_account(
                registered,
                name.unwrap_or_else(|| registered.identity.spec.account.clone()),
            )
        }
    };
    let placement = match strategy {
        Strategy::DualSlot => Placement::Alongside,
        Strategy::AlternatingAccounts | Strategy::InPlace => Placement::Replace,
    };
    NewCredential {
        id: drawn.credential,
        secret: drawn.secret,
        principal,
        placement,
    }
}

/// The account by the immutable id under which we last knew it; one that was never made by us has none yet.
fn known_account(registered: &Registered<'_>, name: String) -> PrincipalRef {
    let known = registered
        .credentials
        .iter()
        .rev()
        .find(|one| one.principal.name == name && one.principal.immutable_id.is_some());
    known.map_or(
        PrincipalRef {
            name,
            immutable_id: None,
        },
        |one| one.principal.clone(),
    )
}

fn accounts(registered: &Registered<'_>) -> Vec<PrincipalRef> {
    let mut accounts: Vec<PrincipalRef> = Vec::new();
    for credential in registered.credentials.iter().rev() {
        let known = accounts.iter().any(|one| one.name == credential.principal.name);
        if !known && credential.principal.immutable_id.is_some() {
            accounts.push(credential.principal.clone());
        }
    }
    accounts
}

/// What templates of deliveries may name besides the secret and its user.
#[must_use]
pub fn delivery_fields(system: &SystemManifest, identity: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    if let Some(vantage) = system.vantages.first() {
        fields.insert("host".to_owned(), vantage.host.clone());
        fields.insert("port".to_owned(), vantage.port.to_string());
    }
    fields.insert("identity".to_owned(), identity.to_owned());
    if let Some(options) = system.options.as_object() {
        // A template may use what the system's manifest says in the clear (a database's name), and nothing that is nested.
        for (key, value) in options {
            if let Some(text) = value.as_str() {
                fields.entry(key.clone()).or_insert_with(|| text.to_owned());
            }
        }
    }
    fields
}

fn deliveries(registered: &Registered<'_>) -> Result<Vec<DeliveryPlan>, CannotPlan> {
    let fields = delivery_fields(registered.system, &registered.identity.name);
    let spec = &registered.identity.spec;
    let one = |delivery: &super::resource::DeliverySpec| {
        let missing = || CannotPlan::Destination {
            name: delivery.destination.clone(),
        };
        let (id, destination) = registered.destinations.get(&delivery.destination).ok_or_else(missing)?;
        Ok(DeliveryPlan {
            destination: *id,
            destination_name: delivery.destination.clone(),
            connector: destination.connector.clone(),
            target: merged(&destination.defaults, &delivery.target),
            fields: fields.clone(),
        })
    };
    spec.deliver_to.iter().map(one).collect()
}

/// The identity's own target over the destination's defaults, key by key.
#[must_use]
pub fn merged(defaults: &serde_json::Value, target: &serde_json::Value) -> serde_json::Value {
    match (defaults, target) {
        (serde_json::Value::Object(defaults), serde_json::Value::Object(target)) => {
            let mut all = defaults.clone();
            all.extend(target.clone());
            serde_json::Value::Object(all)
        }
        (defaults, serde_json::Value::Null) => defaults.clone(),
        (_, target) => target.clone(),
    }
}

fn consumers(registered: &Registered<'_>) -> Vec<ConsumerPlan> {
    let plan = |one: &super::resource::ConsumerSpec| ConsumerPlan {
        name: one.name.clone(),
        seen_by: one.seen_by,
    };
    registered.identity.spec.consumers.iter().map(plan).collect()
}

fn timing(policy: Option<&PolicySpec>, now: Timestamp) -> Timing {
    let uptake = policy.map_or_else(UptakeRule::default, |policy| policy.uptake.clone());
    let proof = policy.map_or_else(ProofRule::default, |policy| policy.proof.clone());
    Timing {
        overlap: policy.map_or(SignedDuration::ZERO, |policy| policy.overlap),
        uptake_interval: uptake.interval,
        uptake_timeout: uptake.timeout,
        listen: policy
            .map_or_else(DecommissionRule::default, |policy| policy.decommission.clone())
            .listen,
        keep_dead_secret: proof.keep_dead_secret,
        objective: policy.map_or(SignedDuration::from_mins(15), |policy| policy.objective),
        opened_at: now,
    }
}

/// What a proof of death on this system takes. The documented window is only ever widened: by the system's manifest, by the policy, by what
/// was measured.
#[must_use]
pub fn proof_terms(system: &SystemManifest, policy: Option<&PolicySpec>, facts: &ConnectorFacts) -> ProofTerms {
    let rule = policy.map_or_else(ProofRule::default, |policy| policy.proof.clone());
    let candidates = [
        (Some(facts.settling), facts.settling_source.as_str()),
        (system.settling, "the system's manifest"),
        (rule.settling, "the policy"),
        (facts.measured, "measured here"),
    ];
    let widest = candidates
        .into_iter()
        .filter_map(|(window, source)| window.map(|window| (window, source)));
    let (settling, source) = widest
        .max_by_key(|(window, _)| *window)
        .unwrap_or((facts.settling, &facts.settling_source));
    ProofTerms {
        vantages: system.vantages.iter().map(|one| one.name.clone()).collect(),
        refusals: rule.refusals.max(1),
        interval: rule.interval,
        settling,
        settling_source: source.to_owned(),
        give_up_after: rule.give_up_after,
    }
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
