//! Where the new secret goes, and who is seen to use it.

use std::collections::BTreeMap;

use super::super::resource::SystemManifest;
use super::super::workflow::{ConsumerPlan, DeliveryPlan};
use super::{CannotPlan, Registered};

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

pub(super) fn deliveries(registered: &Registered<'_>) -> Result<Vec<DeliveryPlan>, CannotPlan> {
    let fields = delivery_fields(registered.system, &registered.identity.name);
    let spec = &registered.identity.spec;
    let one = |delivery: &super::super::resource::DeliverySpec| {
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

pub(super) fn consumers(registered: &Registered<'_>) -> Vec<ConsumerPlan> {
    let plan = |one: &super::super::resource::ConsumerSpec| ConsumerPlan {
        name: one.name.clone(),
        seen_by: one.seen_by,
    };
    registered.identity.spec.consumers.iter().map(plan).collect()
}
