//! How long providers were being called: connectors as they are, with a stopwatch around every call. Calls side by side count once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use keyfall_sdk::{
    Acknowledgement, AdminCredential, BoxFuture, CallContext, ConfigProblem, Confirmation, Connector, ConnectorKind,
    Deliver, DeliverCall, Delivered, Descriptor, EndSessionsCall, Entitle, Inventory, Issue, IssueCall,
    IssueObservation, Issued, PrincipalReading, PrincipalRef, PrincipalState, Probe, ProbeCall, ProbeReading, Result,
    Revoke, RevokeCall, Revoked, ServerGrants, Sessions, SessionsEnded, Suspend, SystemSpec,
};

#[derive(Debug, Default)]
struct Running {
    calls: u32,
    since: Option<Instant>,
    total: Duration,
}

/// The time during which at least one call was under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter(Arc<Mutex<Running>>);

impl Meter {
    pub(crate) fn total(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    fn begin(&self) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.calls += 1;
        running.since.get_or_insert_with(Instant::now);
    }

    fn end(&self) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.calls = running.calls.saturating_sub(1);
        if running.calls == 0
            && let Some(since) = running.since.take()
        {
            running.total += since.elapsed();
        }
    }

    fn timed<'a, T: 'a>(&'a self, call: BoxFuture<'a, T>) -> BoxFuture<'a, T> {
        Box::pin(async move {
            self.begin();
            let answer = call.await;
            self.end();
            answer
        })
    }
}

/// The registry, every connector of it on the meter.
pub(crate) fn metered_registry(meter: &Meter) -> Vec<Arc<dyn ConnectorKind>> {
    let metered = |inner| {
        Arc::new(MeteredKind {
            inner,
            meter: meter.clone(),
        }) as Arc<dyn ConnectorKind>
    };
    keyfall_connectors::registry().into_iter().map(metered).collect()
}

struct MeteredKind {
    inner: Arc<dyn ConnectorKind>,
    meter: Meter,
}

impl ConnectorKind for MeteredKind {
    fn descriptor(&self) -> &Descriptor {
        self.inner.descriptor()
    }

    fn check(&self, spec: &SystemSpec, grants: &ServerGrants) -> Vec<ConfigProblem> {
        self.inner.check(spec, grants)
    }

    fn connect(
        &self,
        spec: &SystemSpec,
        admin: Option<AdminCredential>,
        grants: &ServerGrants,
    ) -> Result<Arc<dyn Connector>> {
        Ok(Arc::new(Metered {
            inner: self.inner.connect(spec, admin, grants)?,
            meter: self.meter.clone(),
        }))
    }
}

struct Metered {
    inner: Arc<dyn Connector>,
    meter: Meter,
}

impl Metered {
    /// Who asks for an ability was shown by the method of the same name that the connector has it.
    fn lacks(&self) -> keyfall_sdk::ConnectorError {
        keyfall_sdk::ConnectorError::unsupported("the connector lacks this ability")
    }
}

impl Connector for Metered {
    fn descriptor(&self) -> &Descriptor {
        self.inner.descriptor()
    }
    fn inventory(&self) -> Option<&dyn Inventory> {
        self.inner.inventory().map(|_| self as &dyn Inventory)
    }
    fn issue(&self) -> Option<&dyn Issue> {
        self.inner.issue().map(|_| self as &dyn Issue)
    }
    fn suspend(&self) -> Option<&dyn Suspend> {
        self.inner.suspend().map(|_| self as &dyn Suspend)
    }
    fn entitle(&self) -> Option<&dyn Entitle> {
        self.inner.entitle()
    }
    fn revoke(&self) -> Option<&dyn Revoke> {
        self.inner.revoke().map(|_| self as &dyn Revoke)
    }
    fn sessions(&self) -> Option<&dyn Sessions> {
        self.inner.sessions().map(|_| self as &dyn Sessions)
    }
    fn probe(&self) -> Option<&dyn Probe> {
        self.inner.probe().map(|_| self as &dyn Probe)
    }
    fn deliver(&self) -> Option<&dyn Deliver> {
        self.inner.deliver().map(|_| self as &dyn Deliver)
    }
}

/// One call, on the meter, of an ability that the connector has.
macro_rules! metered {
    ($self:ident . $ability:ident . $method:ident ( $($argument:expr),* )) => {
        match $self.inner.$ability() {
            Some(able) => $self.meter.timed(able.$method($($argument),*)),
            None => Box::pin(async move { Err($self.lacks()) }),
        }
    };
}

impl Inventory for Metered {
    fn list<'a>(&'a self, ctx: &'a CallContext) -> BoxFuture<'a, Result<Vec<PrincipalState>>> {
        metered!(self.inventory.list(ctx))
    }
    fn read<'a>(
        &'a self,
        ctx: &'a CallContext,
        principal: &'a PrincipalRef,
    ) -> BoxFuture<'a, Result<PrincipalReading>> {
        metered!(self.inventory.read(ctx, principal))
    }
    fn preflight<'a>(&'a self, ctx: &'a CallContext) -> BoxFuture<'a, Result<Vec<String>>> {
        metered!(self.inventory.preflight(ctx))
    }
}

impl Issue for Metered {
    fn check_access(&self, access: &serde_json::Value) -> Vec<String> {
        self.inner
            .issue()
            .map(|issue| issue.check_access(access))
            .unwrap_or_default()
    }
    fn lacking(&self, access: &serde_json::Value, state: &PrincipalState) -> Vec<String> {
        let issue = self.inner.issue();
        issue.map(|issue| issue.lacking(access, state)).unwrap_or_default()
    }
    fn issue<'a>(&'a self, ctx: &'a CallContext, call: &'a IssueCall) -> BoxFuture<'a, Result<Issued>> {
        metered!(self.issue.issue(ctx, call))
    }
    fn observe<'a>(&'a self, ctx: &'a CallContext, call: &'a IssueCall) -> BoxFuture<'a, Result<IssueObservation>> {
        metered!(self.issue.observe(ctx, call))
    }
}

impl Suspend for Metered {
    fn suspend<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<()>> {
        metered!(self.suspend.suspend(ctx, principal))
    }
    fn resume<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<()>> {
        metered!(self.suspend.resume(ctx, principal))
    }
}

impl Revoke for Metered {
    fn revoke<'a>(&'a self, ctx: &'a CallContext, call: &'a RevokeCall) -> BoxFuture<'a, Result<Revoked>> {
        metered!(self.revoke.revoke(ctx, call))
    }
    fn delete_principal<'a>(
        &'a self,
        ctx: &'a CallContext,
        principal: &'a PrincipalRef,
    ) -> BoxFuture<'a, Result<Revoked>> {
        metered!(self.revoke.delete_principal(ctx, principal))
    }
}

impl Sessions for Metered {
    fn count<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<u32>> {
        metered!(self.sessions.count(ctx, principal))
    }
    fn end<'a>(&'a self, ctx: &'a CallContext, call: &'a EndSessionsCall) -> BoxFuture<'a, Result<SessionsEnded>> {
        metered!(self.sessions.end(ctx, call))
    }
}

impl Probe for Metered {
    fn probe<'a>(&'a self, ctx: &'a CallContext, call: &'a ProbeCall) -> BoxFuture<'a, ProbeReading> {
        match self.inner.probe() {
            Some(probe) => self.meter.timed(probe.probe(ctx, call)),
            None => Box::pin(std::future::pending()),
        }
    }
}

impl Deliver for Metered {
    fn check_target(&self, target: &serde_json::Value) -> Vec<String> {
        let deliver = self.inner.deliver();
        deliver.map(|deliver| deliver.check_target(target)).unwrap_or_default()
    }
    fn check_defaults(&self, defaults: &serde_json::Value) -> Vec<String> {
        let deliver = self.inner.deliver();
        deliver
            .map(|deliver| deliver.check_defaults(defaults))
            .unwrap_or_default()
    }
    fn deliver<'a>(&'a self, ctx: &'a CallContext, call: &'a DeliverCall) -> BoxFuture<'a, Result<Delivered>> {
        metered!(self.deliver.deliver(ctx, call))
    }
    fn confirm<'a>(&'a self, ctx: &'a CallContext, call: &'a DeliverCall) -> BoxFuture<'a, Result<Confirmation>> {
        metered!(self.deliver.confirm(ctx, call))
    }
    fn acknowledged<'a>(
        &'a self,
        ctx: &'a CallContext,
        target: &'a serde_json::Value,
        consumer: &'a str,
    ) -> BoxFuture<'a, Result<Acknowledgement>> {
        metered!(self.deliver.acknowledged(ctx, target, consumer))
    }
    fn withdraw<'a>(&'a self, ctx: &'a CallContext, target: &'a serde_json::Value) -> BoxFuture<'a, Result<Revoked>> {
        metered!(self.deliver.withdraw(ctx, target))
    }
}
