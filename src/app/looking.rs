//! Looking before writing: what lies where a secret would be delivered for the first time, and is not ours, is overwritten only where the
//! manifest says so. A destination that cannot be read back is not judged.

use keyfall_sdk::{Confirmation, DeliverCall, SecretValue};

use super::checking::destination_connector;
use super::doctor::context;
use super::landscape::system_in;
use super::planning::Means;
use super::{App, AppError};
use crate::domain::landscape::Landscape;
use crate::domain::plan::{Action, Change, ChangeTarget};
use crate::domain::planner::{delivery_fields, merged};
use crate::domain::resource::{DeliverySpec, IdentitySpec, Spec};

/// Bytes that no destination holds, to be compared with what it holds.
const NOBODYS: &str = "keyfall looks here before it writes";

impl App {
    /// The places that are occupied by something that is not ours, of those that these changes and provisionings would write to for the first
    /// time. `landscape` is the register with the changes.
    pub(super) async fn occupied(
        &self,
        landscape: &Landscape,
        changes: &[Change],
        actions: &[Action],
    ) -> Result<Vec<String>, AppError> {
        let mut problems = Vec::new();
        for change in changes {
            let Spec::Identity(after) = &change.after else { continue };
            let before = match &change.before {
                Some(Spec::Identity(before)) => before.deliver_to.as_slice(),
                _ => &[],
            };
            let is_known = |one: &DeliverySpec| {
                before
                    .iter()
                    .any(|known| known.destination == one.destination && known.target == one.target)
            };
            for delivery in after.deliver_to.iter().filter(|one| !is_known(one)) {
                problems.extend(self.look(landscape, &change.name, after, delivery).await);
            }
        }
        for action in actions {
            let Action::Provision { identity, name } = action else {
                continue;
            };
            let is_change = |change: &Change| matches!(change.target, ChangeTarget::Identity(id) if id == *identity);
            if changes.iter().any(is_change) {
                continue;
            }
            // It was taken back, and somebody may have used the place since.
            let spec = self.registered(*identity).await?.spec;
            for delivery in &spec.deliver_to {
                problems.extend(self.look(landscape, name, &spec, delivery).await);
            }
        }
        Ok(problems)
    }

    async fn look(
        &self,
        landscape: &Landscape,
        name: &str,
        spec: &IdentitySpec,
        delivery: &DeliverySpec,
    ) -> Option<String> {
        if delivery.replace {
            return None;
        }
        let (_, system) = system_in(landscape, &spec.system).ok()?;
        let destination = landscape.destination(&delivery.destination)?;
        let means = Means {
            kinds: &self.kinds,
            grants: &self.settings.grants,
            env: &self.env,
            now: self.env.now(),
        };
        let connector = destination_connector(&means, &destination.connector)?;
        let deliver = connector.deliver()?;
        let target = merged(&destination.defaults, &delivery.target);
        let place = deliver.place(&target);
        let mut fields = delivery_fields(system, name);
        fields.insert("username".to_owned(), spec.account.clone());
        let call = DeliverCall {
            target,
            secret: SecretValue::from(NOBODYS.to_owned()),
            fields,
            version: "none".to_owned(),
        };
        match deliver.confirm(&context("look"), &call).await {
            Ok(Confirmation::Differs | Confirmation::Matches) => {
                let place = place.map(|place| format!(": {place}")).unwrap_or_default();
                Some(format!(
                    "Identity `{name}`: deliverTo {}: something that is not Keyfall's lies there already{place}; move it away, or write `replace: true` beside the target",
                    delivery.destination
                ))
            }
            Ok(Confirmation::Absent) | Err(_) => None,
        }
    }
}
