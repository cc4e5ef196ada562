//! The control identity of a system: Keyfall's own, powerless, registered together with its system.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use keyfall_sdk::{ConnectorKind, Strategy};

use crate::domain::control::CONTROL_LIFE;
use crate::domain::plan::Manifest;
use crate::domain::resource::{IdentityKind, IdentitySpec, Spec, SystemManifest};

const DAY_S: i64 = 24 * 60 * 60;
const CONTROL_ACCOUNT: &str = "keyfall_control";

/// The powerless account of Keyfall's own whose login is the positive control where no other credential lives.
pub(super) fn control_identity(
    system: &str,
    manifest: &SystemManifest,
    kind: Option<&Arc<dyn ConnectorKind>>,
    now: Timestamp,
) -> Manifest {
    let strategies = kind.map(|kind| kind.descriptor().strategies).unwrap_or_default();
    let strategy = strategies
        .iter()
        .copied()
        .find(|one| *one == Strategy::InPlace)
        .or_else(|| strategies.first().copied());
    let spec = IdentitySpec {
        kind: IdentityKind::Bot,
        system: system.to_owned(),
        environment: manifest.environment.clone(),
        owner: manifest.control_owner.clone().unwrap_or_else(|| manifest.owner.clone()),
        expires: control_expiry(now),
        account: manifest
            .control_account
            .clone()
            .unwrap_or_else(|| CONTROL_ACCOUNT.to_owned()),
        strategy,
        access: manifest.control_access.clone().unwrap_or(serde_json::Value::Null),
        privileged: false,
        deliver_to: Vec::new(),
        consumers: Vec::new(),
        purpose: "Shows that a probe works, when another credential's refusal is to be believed.".to_owned(),
    };
    Manifest {
        name: control_name(system),
        labels: BTreeMap::new(),
        spec: Spec::Identity(spec),
        origin: "keyfall".to_owned(),
    }
}

/// The same all day long, so that what is planned twice is the same plan.
fn control_expiry(now: Timestamp) -> Timestamp {
    let end = now.saturating_add(CONTROL_LIFE).unwrap_or(Timestamp::MAX).as_second();
    Timestamp::from_second(end - end.rem_euclid(DAY_S)).unwrap_or(Timestamp::MAX)
}

/// The control identity's name.
#[must_use]
pub(super) fn control_name(system: &str) -> String {
    format!("keyfall-control.{system}")
}
