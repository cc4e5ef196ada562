//! What a test holds in its hand: the clock, the secrets, the one system, the control credential.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use keyfall_sdk::{BoxFuture, SecretValue};

use crate::clock::Clock;
use crate::domain::digest::Digest;
use crate::domain::ids::SecretId;
use crate::domain::resource::SystemManifest;
use crate::engine::controls::{ControlCredential, LiveControls};
use crate::engine::secrets::{OpenSecrets, SecretError};
use crate::engine::systems::Catalog;
use crate::store::StoreError;

pub(super) struct HeldClock(pub(super) AtomicI64);

impl Clock for HeldClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

#[derive(Default)]
pub(super) struct Secrets(pub(super) Mutex<BTreeMap<SecretId, (SecretValue, Digest)>>);

impl OpenSecrets for Secrets {
    fn open(&self, id: SecretId, endpoints: Digest) -> BoxFuture<'_, Result<SecretValue, SecretError>> {
        Box::pin(async move {
            let secrets = self.0.lock().unwrap();
            let (secret, sealed_for) = secrets.get(&id).ok_or(SecretError::Missing(id))?;
            if *sealed_for != endpoints {
                return Err(SecretError::OtherEndpoints { id });
            }
            Ok(secret.clone())
        })
    }

    fn open_named<'a>(&'a self, name: &'a str, _endpoints: Digest) -> BoxFuture<'a, Result<SecretValue, SecretError>> {
        Box::pin(async move { Err(SecretError::Unnamed(name.to_owned())) })
    }
}

pub(super) struct OneSystem(pub(super) Mutex<(u32, SystemManifest)>);

impl Catalog for OneSystem {
    fn system<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<Option<(u32, SystemManifest)>, StoreError>> {
        Box::pin(async move { Ok(Some(self.0.lock().unwrap().clone())) })
    }
}

/// The control credential that a test lets live, change and die.
#[derive(Default)]
pub(in crate::engine::steps) struct HeldControl(Mutex<Option<ControlCredential>>);

impl HeldControl {
    pub(in crate::engine::steps) fn hold(&self, control: Option<ControlCredential>) {
        *self.0.lock().unwrap() = control;
    }

    pub(in crate::engine::steps) fn held(&self) -> Option<ControlCredential> {
        self.0.lock().unwrap().clone()
    }
}

impl LiveControls for HeldControl {
    fn live<'a>(&'a self, _system: &'a str) -> BoxFuture<'a, Result<Option<ControlCredential>, StoreError>> {
        Box::pin(async move { Ok(self.held()) })
    }
}
