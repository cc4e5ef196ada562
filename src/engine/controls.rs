//! Which credential of Keyfall's own is alive on a system at this moment. It is asked for when a probe is made, never remembered with a run:
//! a control identity may be provisioned, and rotated, while the runs of its system are under way. It opens no secret.

use std::sync::Arc;

use keyfall_sdk::{BoxFuture, PrincipalRef};

use crate::domain::identity::CredentialState;
use crate::domain::ids::SecretId;
use crate::store::{Store, StoreError};

/// The powerless account whose accepted login shows that a probe works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlCredential {
    pub principal: PrincipalRef,
    pub secret: SecretId,
}

/// Where steps learn of the positive control where no other credential lives.
pub trait LiveControls: Send + Sync {
    /// `None` while the system's control identity has no active credential.
    fn live<'a>(&'a self, system: &'a str) -> BoxFuture<'a, Result<Option<ControlCredential>, StoreError>>;
}

/// The control identities of the register.
pub struct RegisteredControls(pub Arc<dyn Store>);

impl LiveControls for RegisteredControls {
    fn live<'a>(&'a self, system: &'a str) -> BoxFuture<'a, Result<Option<ControlCredential>, StoreError>> {
        Box::pin(async move {
            let identity = self.0.control_identity(system).await?;
            let Some(current) = identity.and_then(|identity| identity.current) else {
                return Ok(None);
            };
            let credential = self.0.credential(current).await?;
            let live = credential.filter(|credential| matches!(credential.state, CredentialState::Active));
            Ok(live.and_then(|credential| {
                Some(ControlCredential {
                    principal: credential.principal,
                    secret: credential.secret?,
                })
            }))
        })
    }
}
