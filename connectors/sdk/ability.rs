//! The abilities that a connector may have. The engine asks for an ability and gets `None` where the connector lacks it.
//!
//! Every method is called with a context that says how long the answer is waited for. A connector never sleeps, retries,
//! logs a secret or reads a wall clock; who retries, when, and how often is the engine's to decide.

use std::future::Future;
use std::pin::Pin;

use crate::call::{
    Acknowledgement, CallContext, ClockReading, Confirmation, DeliverCall, Delivered, EndSessionsCall, IssueCall,
    IssueObservation, Issued, ProbeCall, ProbeReading, RevokeCall, Revoked, SessionsEnded,
};
use crate::descriptor::Descriptor;
use crate::error::{ConnectorError, Result};
use crate::principal::{PrincipalReading, PrincipalRef, PrincipalState};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One configured downstream instance. Cheap to share; holds its own admin connections and reconnects by itself.
pub trait Connector: Send + Sync {
    fn descriptor(&self) -> &Descriptor;

    fn inventory(&self) -> Option<&dyn Inventory> {
        None
    }
    fn issue(&self) -> Option<&dyn Issue> {
        None
    }
    fn suspend(&self) -> Option<&dyn Suspend> {
        None
    }
    fn entitle(&self) -> Option<&dyn Entitle> {
        None
    }
    fn revoke(&self) -> Option<&dyn Revoke> {
        None
    }
    fn sessions(&self) -> Option<&dyn Sessions> {
        None
    }
    fn probe(&self) -> Option<&dyn Probe> {
        None
    }
    fn deliver(&self) -> Option<&dyn Deliver> {
        None
    }
}

/// Inside `impl Connector for …`: the accessors of the abilities that the type implements, `abilities!(issue: Issue, probe: Probe)`.
#[macro_export]
macro_rules! abilities {
    ($($accessor:ident: $ability:ident),+ $(,)?) => {
        $(fn $accessor(&self) -> Option<&dyn $crate::$ability> {
            Some(self)
        })+
    };
}

/// Reading the control plane. Never changes anything.
pub trait Inventory: Send + Sync {
    /// Every account that can hold a credential, sorted by name.
    fn list<'a>(&'a self, ctx: &'a CallContext) -> BoxFuture<'a, Result<Vec<PrincipalState>>>;

    /// One account at every control point. An absent account is not an error.
    fn read<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef)
    -> BoxFuture<'a, Result<PrincipalReading>>;

    /// Whether our own admin credential has the rights that this connector needs; one line for each that is missing.
    fn preflight<'a>(&'a self, ctx: &'a CallContext) -> BoxFuture<'a, Result<Vec<String>>>;

    /// What the clock of each administered server says, for a comparison with the caller's. Servers that do not tell it are left out.
    fn clocks<'a>(&'a self, _ctx: &'a CallContext) -> BoxFuture<'a, Result<Vec<ClockReading>>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// Making a credential live.
pub trait Issue: Send + Sync {
    /// Checks the identity's `access` before anything is planned on it. Pure. One line for each problem; a key that is not known in `serde`'s
    /// words (``unknown field `x`, expected …``), by which the caller finds its line.
    fn check_access(&self, access: &serde_json::Value) -> Vec<String>;

    /// What `access` names and the account does not show, one line each. Pure. What a list of this system cannot tell
    /// (a right held through a group, a command that the server wrote in other words) is not complained of.
    fn lacking(&self, access: &serde_json::Value, state: &PrincipalState) -> Vec<String>;

    /// Has its effect once, however often it is called with the same input, for `IssueClass::Repeatable`; for the other
    /// classes the engine calls [`Issue::observe`] before repeating.
    fn issue<'a>(&'a self, ctx: &'a CallContext, call: &'a IssueCall) -> BoxFuture<'a, Result<Issued>>;

    /// Reads whether exactly this secret is on exactly this account. Never changes anything.
    fn observe<'a>(&'a self, ctx: &'a CallContext, call: &'a IssueCall) -> BoxFuture<'a, Result<IssueObservation>>;

    /// Each credential keeps the marker of the call that made it, and [`Issue::marked`] reads it. Pure.
    fn keeps_markers(&self) -> bool {
        false
    }

    /// Every credential on the account that bears this marker, the oldest first, as `issue` would have answered it; of an account that is absent,
    /// or another one than was recorded, none. Never changes anything.
    fn marked<'a>(
        &'a self,
        _ctx: &'a CallContext,
        _principal: &'a PrincipalRef,
        _marker: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Issued>>> {
        Box::pin(async { Err(ConnectorError::unsupported("this connector keeps no markers")) })
    }
}

/// Disabling an account in a way that can be undone. Idempotent, both ways.
pub trait Suspend: Send + Sync {
    fn suspend<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<()>>;
    fn resume<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<()>>;
}

/// Taking an account's rights away before the account itself goes. Idempotent.
pub trait Entitle: Send + Sync {
    /// Answers the grants that it took away, in the words of `PrincipalState::grants`.
    fn strip<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<Vec<String>>>;
}

/// Ending a credential, and an account. Idempotent: what is gone already is a success, an account that is absent included.
/// An account of the recorded name with another immutable id is a `Conflict`, here and in every change of an account.
pub trait Revoke: Send + Sync {
    fn revoke<'a>(&'a self, ctx: &'a CallContext, call: &'a RevokeCall) -> BoxFuture<'a, Result<Revoked>>;

    /// Deletes the account. What it owned goes to the owner that `access` named, never into the void.
    fn delete_principal<'a>(
        &'a self,
        ctx: &'a CallContext,
        principal: &'a PrincipalRef,
    ) -> BoxFuture<'a, Result<Revoked>>;
}

/// Sessions that outlive the credential they were opened with.
pub trait Sessions: Send + Sync {
    fn count<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<u32>>;
    fn end<'a>(&'a self, ctx: &'a CallContext, call: &'a EndSessionsCall) -> BoxFuture<'a, Result<SessionsEnded>>;
}

/// Trying a credential. Never changes anything downstream beyond what a login itself leaves in a log.
pub trait Probe: Send + Sync {
    /// A failed attempt is a verdict, not an error: this method has none.
    fn probe<'a>(&'a self, ctx: &'a CallContext, call: &'a ProbeCall) -> BoxFuture<'a, ProbeReading>;
}

/// Putting secrets where workloads read them.
pub trait Deliver: Send + Sync {
    /// Checks a target before anything is planned on it. Pure. One line for each problem; a key that is not known in `serde`'s words
    /// (``unknown field `x`, expected …``), by which the caller finds its line.
    fn check_target(&self, target: &serde_json::Value) -> Vec<String>;

    /// Checks the part of a target that a destination gives to all who deliver there. Pure. What is missing is no problem: each delivery adds
    /// it.
    fn check_defaults(&self, defaults: &serde_json::Value) -> Vec<String>;

    /// The place that a target leads to, as text: two targets with the same text are one place, and hold one secret. Pure. `None` where
    /// only the whole target tells, and for a target that has problems.
    fn place(&self, _target: &serde_json::Value) -> Option<String> {
        None
    }

    /// Replaces what the destination holds, all or nothing. Repeating it changes nothing.
    fn deliver<'a>(&'a self, ctx: &'a CallContext, call: &'a DeliverCall) -> BoxFuture<'a, Result<Delivered>>;

    /// Reads the destination back and compares. Never changes anything.
    fn confirm<'a>(&'a self, ctx: &'a CallContext, call: &'a DeliverCall) -> BoxFuture<'a, Result<Confirmation>>;

    /// What the named consumer last acknowledged at this target.
    fn acknowledged<'a>(
        &'a self,
        ctx: &'a CallContext,
        target: &'a serde_json::Value,
        consumer: &'a str,
    ) -> BoxFuture<'a, Result<Acknowledgement>>;

    /// Removes what was delivered. Idempotent.
    fn withdraw<'a>(&'a self, ctx: &'a CallContext, target: &'a serde_json::Value) -> BoxFuture<'a, Result<Revoked>>;
}
