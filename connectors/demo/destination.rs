//! The demo destination: an in-memory place where secrets are delivered, read by consumers that acknowledge at once, late
//! or never. What it holds is lost with the process. It knows nothing of the provider beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use keyfall_sdk::{
    Acknowledgement, AdminCredential, BoxFuture, CallContext, ConfigProblem, Confirmation, Connector, ConnectorError,
    ConnectorKind, Deliver, DeliverCall, Delivered, Descriptor, IssueClass, Result, Revoked, SecretShape, SecretValue,
    ServerGrants, SettlingWindow, SystemSpec,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::connector::{AfterEffect, before_effect};
use super::faults::{Faults, Operation};
use super::provider::held;

const DESCRIPTOR: Descriptor = Descriptor {
    kind: "demo-destination",
    about: "An in-memory destination whose consumers acknowledge at once, late or never.",
    strategies: &[],
    issue_class: IssueClass::Repeatable,
    secret_shape: SecretShape::STRONG,
    settling: SettlingWindow {
        documented: Duration::ZERO,
        source: "in memory: a delivery holds at once",
    },
    lockout: None,
    sessions_survive: false,
    answers: &[],
};

/// When a consumer takes up what was delivered, and says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Uptake {
    #[default]
    AtOnce,
    AfterMs(u64),
    Never,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Options {
    /// Systems that name the same destination share what it holds. `demo` when it is not given.
    destination: Option<String>,
    uptake: Option<Uptake>,
    /// Consumers that differ from `uptake`, by name.
    consumers: BTreeMap<String, Uptake>,
    faults: Option<Faults>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Target {
    slot: String,
}

#[derive(Debug)]
struct Held {
    secret: SecretValue,
    version: String,
    delivered_at: Instant,
    /// What was there before, for consumers that are still on it.
    before: Option<(String, Instant)>,
}

#[derive(Debug, Default)]
struct Behaviour {
    uptake: Uptake,
    consumers: BTreeMap<String, Uptake>,
    faults: Arc<Faults>,
    /// Slots that keep asterisks for whatever is delivered.
    redacted: BTreeSet<String>,
}

/// What one demo destination truly holds, for tests and for simulated consumers.
#[derive(Debug, Default)]
pub struct Destination {
    name: String,
    slots: Mutex<BTreeMap<String, Held>>,
    behaviour: Mutex<Behaviour>,
    calls: Mutex<BTreeMap<Operation, u64>>,
}

static DESTINATIONS: LazyLock<Mutex<BTreeMap<String, Arc<Destination>>>> = LazyLock::new(Mutex::default);

/// The destination of this name in this process, made at first use.
#[must_use]
pub fn destination(name: &str) -> Arc<Destination> {
    let mut destinations = held(&DESTINATIONS);
    if let Some(destination) = destinations.get(name) {
        return Arc::clone(destination);
    }
    let destination = Arc::new(Destination {
        name: name.to_owned(),
        ..Destination::default()
    });
    destinations.insert(name.to_owned(), Arc::clone(&destination));
    destination
}

impl Destination {
    /// What a consumer reads from a slot now.
    #[must_use]
    pub fn read(&self, slot: &str) -> Option<SecretValue> {
        held(&self.slots).get(slot).map(|held| held.secret.clone())
    }

    /// Changes when one consumer takes up a delivery.
    pub fn set_consumer(&self, consumer: &str, uptake: Uptake) {
        held(&self.behaviour).consumers.insert(consumer.to_owned(), uptake);
    }

    /// From here on this slot keeps asterisks for whatever is delivered, and answers success.
    pub fn redact(&self, slot: &str) {
        held(&self.behaviour).redacted.insert(slot.to_owned());
    }

    pub fn set_faults(&self, faults: Faults) {
        held(&self.behaviour).faults = Arc::new(faults);
    }

    /// How often an operation was called, failed calls included.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        held(&self.calls).get(&operation).copied().unwrap_or(0)
    }

    fn put(&self, slot: &str, call: &DeliverCall) -> bool {
        let mut slots = held(&self.slots);
        let before = match slots.get(slot) {
            Some(there) if there.secret.matches(&call.secret) && there.version == call.version => return false,
            Some(there) => Some((there.version.clone(), there.delivered_at)),
            None => None,
        };
        let secret = if held(&self.behaviour).redacted.contains(slot) {
            SecretValue::from("********".to_owned())
        } else {
            call.secret.clone()
        };
        let now_held = Held {
            secret,
            version: call.version.clone(),
            delivered_at: Instant::now(),
            before,
        };
        slots.insert(slot.to_owned(), now_held);
        true
    }

    fn acknowledged(&self, slot: &str, consumer: &str) -> Option<String> {
        let behaviour = held(&self.behaviour);
        let uptake = behaviour.consumers.get(consumer).copied().unwrap_or(behaviour.uptake);
        drop(behaviour);
        let wait = match uptake {
            Uptake::AtOnce => Duration::ZERO,
            Uptake::AfterMs(millis) => Duration::from_millis(millis),
            Uptake::Never => return None,
        };
        let slots = held(&self.slots);
        let there = slots.get(slot)?;
        if there.delivered_at.elapsed() >= wait {
            return Some(there.version.clone());
        }
        let (version, delivered_at) = there.before.as_ref()?;
        (delivered_at.elapsed() >= wait).then(|| version.clone())
    }
}

/// Makes connectors to demo destinations.
#[derive(Debug, Default)]
pub struct DestinationKind;

struct DestinationConnector(Arc<Destination>);

impl ConnectorKind for DestinationKind {
    fn descriptor(&self) -> &Descriptor {
        &DESCRIPTOR
    }

    fn check(&self, spec: &SystemSpec, _grants: &ServerGrants) -> Vec<ConfigProblem> {
        parse(spec).err().into_iter().collect()
    }

    fn connect(
        &self,
        spec: &SystemSpec,
        _admin: Option<AdminCredential>,
        _grants: &ServerGrants,
    ) -> Result<Arc<dyn Connector>> {
        let options = parse(spec).map_err(|problem| problem.refused(&DESCRIPTOR))?;
        let destination = destination(options.destination.as_deref().unwrap_or("demo"));
        let mut behaviour = held(&destination.behaviour);
        if let Some(uptake) = options.uptake {
            behaviour.uptake = uptake;
        }
        behaviour.consumers.extend(options.consumers);
        if let Some(faults) = options.faults {
            behaviour.faults = Arc::new(faults);
        }
        drop(behaviour);
        Ok(Arc::new(DestinationConnector(destination)))
    }
}

fn parse(spec: &SystemSpec) -> std::result::Result<Options, ConfigProblem> {
    if spec.options.is_null() {
        return Ok(Options::default());
    }
    Options::deserialize(&spec.options).map_err(|error| ConfigProblem {
        at: "options".to_owned(),
        message: format!("{error}; connectors/demo/README.md lists what can be written here"),
    })
}

fn slot_of(target: &serde_json::Value) -> std::result::Result<String, String> {
    let target = Target::deserialize(target)
        .map_err(|error| format!("{error}; a demo destination takes `slot`, the name of the place"))?;
    if target.slot.is_empty() {
        return Err("`slot` is empty; name the place".to_owned());
    }
    Ok(target.slot)
}

impl Connector for DestinationConnector {
    fn descriptor(&self) -> &Descriptor {
        &DESCRIPTOR
    }
    fn deliver(&self) -> Option<&dyn Deliver> {
        Some(self)
    }
}

impl DestinationConnector {
    fn call<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        target: &'a serde_json::Value,
        effect: impl FnOnce(&Destination, &str) -> T + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        Box::pin(async move {
            let slot = slot_of(target).map_err(ConnectorError::conflict)?;
            let faults = Arc::clone(&held(&self.0.behaviour).faults);
            let number = {
                let mut calls = held(&self.0.calls);
                let number = calls.entry(operation).or_default();
                *number += 1;
                *number
            };
            let fault = faults.decide(operation, number, &slot, None);
            if let Some(latency) = faults.latency(operation) {
                tokio::time::sleep(latency).await;
            }
            let after = before_effect(fault)?;
            let answer = effect(&self.0, &slot);
            match after {
                None => Ok(answer),
                Some(AfterEffect::Answer(error)) => Err(error),
                Some(AfterEffect::Silence) => std::future::pending().await,
                Some(AfterEffect::Late(by)) => {
                    tokio::time::sleep(by).await;
                    Ok(answer)
                }
            }
        })
    }
}

impl Deliver for DestinationConnector {
    fn check_target(&self, target: &serde_json::Value) -> Vec<String> {
        slot_of(target).err().into_iter().collect()
    }

    fn check_defaults(&self, defaults: &serde_json::Value) -> Vec<String> {
        match defaults.as_object() {
            _ if defaults.is_null() => Vec::new(),
            // What is missing is each delivery's own.
            Some(none) if none.is_empty() => Vec::new(),
            _ => self.check_target(defaults),
        }
    }

    fn deliver<'a>(&'a self, _ctx: &'a CallContext, call: &'a DeliverCall) -> BoxFuture<'a, Result<Delivered>> {
        self.call(Operation::Deliver, &call.target, |destination, slot| Delivered {
            changed: destination.put(slot, call),
            place: format!("demo://{}/{slot}", destination.name),
        })
    }

    fn confirm<'a>(&'a self, _ctx: &'a CallContext, call: &'a DeliverCall) -> BoxFuture<'a, Result<Confirmation>> {
        self.call(Operation::Confirm, &call.target, |destination, slot| {
            match held(&destination.slots).get(slot) {
                None => Confirmation::Absent,
                Some(there) if there.secret.matches(&call.secret) => Confirmation::Matches,
                Some(_) => Confirmation::Differs,
            }
        })
    }

    fn acknowledged<'a>(
        &'a self,
        _ctx: &'a CallContext,
        target: &'a serde_json::Value,
        consumer: &'a str,
    ) -> BoxFuture<'a, Result<Acknowledgement>> {
        self.call(Operation::Acknowledged, target, move |destination, slot| {
            Acknowledgement {
                consumer: consumer.to_owned(),
                version: destination.acknowledged(slot, consumer),
            }
        })
    }

    fn withdraw<'a>(&'a self, _ctx: &'a CallContext, target: &'a serde_json::Value) -> BoxFuture<'a, Result<Revoked>> {
        self.call(Operation::Withdraw, target, |destination, slot| {
            match held(&destination.slots).remove(slot) {
                Some(_) => Revoked::Revoked,
                None => Revoked::AlreadyGone,
            }
        })
    }
}
