//! What belongs to one identity only: the accounts that it logs in to and the places that its secret is delivered to. Whoever rotated one of
//! two identities that share would cut the other one off. Pure; contacts no system.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use keyfall_sdk::Connector;

use super::checking::{Given, destination_connector, spec_of, strategy_of};
use super::planning::{Means, Present};
use super::positions::Problem;
use crate::domain::plan::Manifest;
use crate::domain::planner::{account_names, merged};
use crate::domain::resource::{DeliverySpec, DestinationSpec, IdentitySpec, Kind, Spec};

/// What is shared among these manifests, or with what is registered.
pub(super) fn shared(given: &Given, present: &Present, means: &Means<'_>) -> Vec<Problem> {
    let mut problems = accounts(given, present, means);
    problems.extend(places(given, present, means));
    problems
}

fn identities(given: &Given) -> impl Iterator<Item = (&Manifest, &IdentitySpec)> {
    given
        .values()
        .filter_map(|manifest| Some((manifest, manifest.identity()?)))
}

fn accounts(given: &Given, present: &Present, means: &Means<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut holders: HashMap<(&str, String), &str> = HashMap::new();
    for (manifest, spec) in identities(given) {
        let Some(Spec::System(system)) = spec_of(Kind::System, &spec.system, given, present) else {
            continue;
        };
        for account in account_names(&spec.account, strategy_of(means, spec, system)) {
            let registered = present.accounts.get(&(spec.system.clone(), account.clone()));
            let beside = holders.insert((&spec.system, account), &manifest.name);
            let holder = registered.map(String::as_str).or(beside);
            if let Some(holder) = holder.filter(|holder| *holder != manifest.name) {
                let text = format!("`{}` of `{}` belongs to identity `{holder}`", spec.account, spec.system);
                problems.push(Problem::new(manifest, "account", &text));
                break;
            }
        }
    }
    problems
}

fn places(given: &Given, present: &Present, means: &Means<'_>) -> Vec<Problem> {
    let mut places = Places {
        given,
        present,
        means,
        connectors: BTreeMap::new(),
        holders: HashMap::new(),
    };
    let mut problems = Vec::new();
    for (name, deliveries) in &present.deliveries {
        if given.contains_key(&(Kind::Identity, name.clone())) {
            continue;
        }
        for delivery in deliveries {
            // Only a destination of this request can have brought the two together.
            let destination = given.get(&(Kind::Destination, delivery.destination.clone()));
            if let (Some(holder), Some(destination)) = (places.taken_by(name, delivery), destination) {
                let text = format!("then `{name}` and `{holder}` would be delivered to one place");
                problems.push(Problem::new(destination, "defaults", &text));
            }
        }
    }
    for (manifest, spec) in identities(given) {
        for (index, delivery) in spec.deliver_to.iter().enumerate() {
            if let Some(holder) = places.taken_by(&manifest.name, delivery) {
                let text = if holder == manifest.name {
                    "two deliveries lead to one place; the second would overwrite the first".to_owned()
                } else {
                    format!(
                        "the secret of `{holder}` is delivered to this very place; give each identity a place of its own"
                    )
                };
                problems.push(Problem::new(manifest, &format!("deliverTo[{index}].target"), &text));
            }
        }
    }
    problems
}

struct Places<'a> {
    given: &'a Given,
    present: &'a Present,
    means: &'a Means<'a>,
    connectors: BTreeMap<String, Option<Arc<dyn Connector>>>,
    /// By kind of connector and place.
    holders: HashMap<(String, String), String>,
}

impl Places<'_> {
    /// Who holds the place that this delivery leads to; nobody does, and it is this identity's from here on.
    fn taken_by(&mut self, identity: &str, delivery: &DeliverySpec) -> Option<String> {
        let destination = spec_of(Kind::Destination, &delivery.destination, self.given, self.present);
        let Some(Spec::Destination(destination)) = destination else {
            return None;
        };
        let place = self.place(destination, delivery);
        let key = (destination.connector.clone(), place);
        match self.holders.get(&key) {
            Some(holder) => Some(holder.clone()),
            None => {
                self.holders.insert(key, identity.to_owned());
                None
            }
        }
    }

    fn place(&mut self, destination: &DestinationSpec, delivery: &DeliverySpec) -> String {
        let means = self.means;
        let kind = &destination.connector;
        let connector = self
            .connectors
            .entry(kind.clone())
            .or_insert_with(|| destination_connector(means, kind));
        let target = merged(&destination.defaults, &delivery.target);
        let place = connector
            .as_ref()
            .and_then(|connector| connector.deliver()?.place(&target));
        // Maps are sorted, so equal targets have equal texts.
        place.unwrap_or_else(|| target.to_string())
    }
}
