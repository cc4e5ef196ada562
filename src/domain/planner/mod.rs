//! From what is registered to what a run is to do. Pure: the caller gathers the facts and draws the ids, this builds the plan or says why
//! there can be none.

mod credentials;
mod deliveries;
mod terms;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::Strategy;

use super::actor::{Actor, Approval};
use super::digest::Digest;
use super::due::DueReason;
use super::identity::{Credential, CredentialState, Identity, IdentityState};
use super::ids::{CredentialId, ResourceId, RunId, SecretId};
use super::resource::{DestinationSpec, PolicySpec, SystemManifest};
use super::revoking::CannotRevoke;
use super::workflow::{RunKind, RunPlan, Trigger, WORKFLOW_VERSION};
use credentials::{accounts, ending, new_credential};
use deliveries::{consumers, deliveries};
use terms::timing;

pub use deliveries::{delivery_fields, merged};
pub use terms::{overlap, proof_terms};

/// What is registered, as far as one run needs it.
#[derive(Debug, Clone, Copy)]
pub struct Registered<'a> {
    pub identity: &'a Identity,
    pub system_id: ResourceId,
    pub system: &'a SystemManifest,
    /// With its name. `None`: no policy selects the identity; the defaults hold.
    pub policy: Option<(&'a str, &'a PolicySpec)>,
    pub destinations: &'a BTreeMap<String, (ResourceId, DestinationSpec)>,
    /// Those that are not proven dead, the current one, and of each account the last that knows its immutable id; the oldest first. Others do
    /// no harm.
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
        "nothing of `{identity}` is downstream: apply its manifest (`keyfall apply -f MANIFEST`), which provisions it"
    )]
    NotProvisioned { identity: String },
    #[error(
        "`{identity}` has no current credential to replace: take its account over with `keyfall adopt NAME --take-over …`, or, when nothing of it is downstream any more, end it with `keyfall decommission NAME --reason …`"
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
    #[error("system `{name}` is not registered")]
    System { name: String },
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
    let policy = registered.policy.map(|(_, policy)| policy);
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
        reason: reason(identity, &request),
        due_at: None,
        initiator: request.initiator,
        approval: request.approval,
        policy: registered.policy.map(|(name, _)| name.to_owned()),
        strategy,
        access: identity.spec.access.clone(),
        new,
        old,
        accounts: accounts(registered),
        deliveries: deliveries(registered)?,
        consumers: consumers(registered),
        timing: timing(&identity.spec, policy, drawn.now),
        proof: proof_terms(registered.system, policy, registered.connector),
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
    if identity.state == IdentityState::Requested && matches!(kind, RunKind::Rotate | RunKind::EmergencyRotate) {
        return Err(CannotPlan::NotProvisioned {
            identity: identity.name.clone(),
        });
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

/// A rotation that somebody asks for does not hide that the credential is compromised: were it taken back, that would stand.
fn reason(identity: &Identity, request: &RunRequest) -> DueReason {
    let is_rotation = matches!(request.kind, RunKind::Rotate | RunKind::EmergencyRotate);
    match identity.due {
        Some((_, DueReason::Compromised)) if is_rotation => DueReason::Compromised,
        _ => request.reason,
    }
}

fn begins(kind: RunKind) -> bool {
    matches!(kind, RunKind::Provision | RunKind::Rotate | RunKind::EmergencyRotate)
}

#[cfg(test)]
mod tests;
