//! The connectors of one node, each at the other end of its network: every ability is carried there as one call, and answered by the real one.

use std::sync::Arc;

use keyfall_connectors::demo;
use keyfall_sdk::{
    Acknowledgement, AdminCredential, BoxFuture, CallContext, ConfigProblem, Confirmation, Connector, ConnectorKind,
    Deliver, DeliverCall, Delivered, Descriptor, EndSessionsCall, Entitle, InconclusiveWhy, Inventory, Issue,
    IssueCall, IssueClass, IssueObservation, Issued, PrincipalReading, PrincipalRef, PrincipalState, Probe, ProbeCall,
    ProbeReading, Result, Revoke, RevokeCall, Revoked, ServerGrants, Sessions, SessionsEnded, Suspend, SystemSpec,
    Verdict,
};

use super::network::{Nature, Network};
use super::truth::Truth;

/// A kind as one node reaches it.
pub(super) struct Reached {
    pub(super) kind: Arc<dyn ConnectorKind>,
    pub(super) network: Arc<Network>,
}

impl ConnectorKind for Reached {
    fn descriptor(&self) -> &Descriptor {
        self.kind.descriptor()
    }

    fn check(&self, spec: &SystemSpec, grants: &ServerGrants) -> Vec<ConfigProblem> {
        self.kind.check(spec, grants)
    }

    fn connect(
        &self,
        spec: &SystemSpec,
        admin: Option<AdminCredential>,
        grants: &ServerGrants,
    ) -> Result<Arc<dyn Connector>> {
        let inner = self.kind.connect(spec, admin, grants)?;
        let network = Arc::clone(&self.network);
        Ok(match inner.deliver().is_some() {
            true => Arc::new(Shelf { inner, network }),
            false => Arc::new(Remote { inner, network }),
        })
    }
}

/// The kinds that a simulation knows.
pub(super) fn kinds(network: &Arc<Network>) -> Vec<Arc<dyn ConnectorKind>> {
    let all: [Arc<dyn ConnectorKind>; 2] = [Arc::new(demo::DemoKind), Arc::new(demo::DestinationKind)];
    let reached = all.into_iter().map(|kind| -> Arc<dyn ConnectorKind> {
        Arc::new(Reached {
            kind,
            network: Arc::clone(network),
        })
    });
    reached.collect()
}

/// A system at the other end of the network.
struct Remote {
    inner: Arc<dyn Connector>,
    network: Arc<Network>,
}

impl Connector for Remote {
    fn descriptor(&self) -> &Descriptor {
        self.inner.descriptor()
    }

    keyfall_sdk::abilities!(
        inventory: Inventory,
        issue: Issue,
        suspend: Suspend,
        entitle: Entitle,
        revoke: Revoke,
        sessions: Sessions,
        probe: Probe,
    );
}

impl Remote {
    fn read<'a, C: Clone + Send + Sync + 'static, T: Send + 'static>(
        &'a self,
        operation: &'static str,
        ctx: &'a CallContext,
        call: &C,
        ask: Ask<C, T>,
    ) -> BoxFuture<'a, Result<T>> {
        Box::pin(
            self.network
                .call(operation, ctx, "", Nature::Read, self.bound(ctx, call, ask)),
        )
    }

    fn change<'a, C: Clone + Send + Sync + 'static, T: Send + 'static>(
        &'a self,
        operation: &'static str,
        ctx: &'a CallContext,
        about: &'a str,
        call: &C,
        ask: Ask<C, T>,
    ) -> BoxFuture<'a, Result<T>> {
        let is_another_each_time = operation == "issue" && self.descriptor().issue_class != IssueClass::Repeatable;
        let nature = if is_another_each_time {
            Nature::EffectOnce
        } else {
            Nature::Effect
        };
        Box::pin(
            self.network
                .call(operation, ctx, about, nature, self.bound(ctx, call, ask)),
        )
    }

    /// The call with all that it needs, for a way that outlives who sent it.
    fn bound<C: Clone + Send + Sync + 'static, T: Send + 'static>(
        &self,
        ctx: &CallContext,
        call: &C,
        ask: Ask<C, T>,
    ) -> impl Fn() -> BoxFuture<'static, Result<T>> + Send + Sync + 'static {
        let (inner, ctx, call) = (Arc::clone(&self.inner), ctx.clone(), call.clone());
        move || {
            let (inner, ctx, call) = (Arc::clone(&inner), ctx.clone(), call.clone());
            Box::pin(async move { ask(&*inner, &ctx, &call).await })
        }
    }
}

type Ask<C, T> = for<'a> fn(&'a dyn Connector, &'a CallContext, &'a C) -> BoxFuture<'a, Result<T>>;

impl Inventory for Remote {
    fn list<'a>(&'a self, ctx: &'a CallContext) -> BoxFuture<'a, Result<Vec<PrincipalState>>> {
        self.read("list", ctx, &(), |inner, ctx, ()| inner.inventory().unwrap().list(ctx))
    }

    fn read<'a>(
        &'a self,
        ctx: &'a CallContext,
        principal: &'a PrincipalRef,
    ) -> BoxFuture<'a, Result<PrincipalReading>> {
        self.read("read", ctx, principal, |inner, ctx, principal| {
            inner.inventory().unwrap().read(ctx, principal)
        })
    }

    fn preflight<'a>(&'a self, ctx: &'a CallContext) -> BoxFuture<'a, Result<Vec<String>>> {
        self.read("preflight", ctx, &(), |inner, ctx, ()| {
            inner.inventory().unwrap().preflight(ctx)
        })
    }
}

impl Issue for Remote {
    fn check_access(&self, access: &serde_json::Value) -> Vec<String> {
        self.inner.issue().unwrap().check_access(access)
    }

    fn lacking(&self, access: &serde_json::Value, state: &PrincipalState) -> Vec<String> {
        self.inner.issue().unwrap().lacking(access, state)
    }

    fn issue<'a>(&'a self, ctx: &'a CallContext, call: &'a IssueCall) -> BoxFuture<'a, Result<Issued>> {
        self.change("issue", ctx, &call.principal.name, call, |inner, ctx, call| {
            inner.issue().unwrap().issue(ctx, call)
        })
    }

    fn observe<'a>(&'a self, ctx: &'a CallContext, call: &'a IssueCall) -> BoxFuture<'a, Result<IssueObservation>> {
        self.read("observe", ctx, call, |inner, ctx, call| {
            inner.issue().unwrap().observe(ctx, call)
        })
    }

    fn keeps_markers(&self) -> bool {
        self.inner.issue().unwrap().keeps_markers()
    }

    fn marked<'a>(
        &'a self,
        ctx: &'a CallContext,
        principal: &'a PrincipalRef,
        marker: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Issued>>> {
        let asked = (principal.clone(), marker.to_owned());
        self.read("marked", ctx, &asked, |inner, ctx, (principal, marker)| {
            inner.issue().unwrap().marked(ctx, principal, marker)
        })
    }
}

impl Suspend for Remote {
    fn suspend<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<()>> {
        self.change("suspend", ctx, &principal.name, principal, |inner, ctx, principal| {
            inner.suspend().unwrap().suspend(ctx, principal)
        })
    }

    fn resume<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<()>> {
        self.change("resume", ctx, &principal.name, principal, |inner, ctx, principal| {
            inner.suspend().unwrap().resume(ctx, principal)
        })
    }
}

impl Entitle for Remote {
    fn strip<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<Vec<String>>> {
        self.change("strip", ctx, &principal.name, principal, |inner, ctx, principal| {
            inner.entitle().unwrap().strip(ctx, principal)
        })
    }
}

impl Revoke for Remote {
    fn revoke<'a>(&'a self, ctx: &'a CallContext, call: &'a RevokeCall) -> BoxFuture<'a, Result<Revoked>> {
        self.change("revoke", ctx, &call.key_id.0, call, |inner, ctx, call| {
            inner.revoke().unwrap().revoke(ctx, call)
        })
    }

    fn delete_principal<'a>(
        &'a self,
        ctx: &'a CallContext,
        principal: &'a PrincipalRef,
    ) -> BoxFuture<'a, Result<Revoked>> {
        self.change("delete", ctx, &principal.name, principal, |inner, ctx, principal| {
            inner.revoke().unwrap().delete_principal(ctx, principal)
        })
    }
}

impl Sessions for Remote {
    fn count<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<u32>> {
        self.read("count", ctx, principal, |inner, ctx, principal| {
            inner.sessions().unwrap().count(ctx, principal)
        })
    }

    fn end<'a>(&'a self, ctx: &'a CallContext, call: &'a EndSessionsCall) -> BoxFuture<'a, Result<SessionsEnded>> {
        self.change("end_sessions", ctx, &call.principal.name, call, |inner, ctx, call| {
            inner.sessions().unwrap().end(ctx, call)
        })
    }
}

impl Probe for Remote {
    fn probe<'a>(&'a self, ctx: &'a CallContext, call: &'a ProbeCall) -> BoxFuture<'a, ProbeReading> {
        Box::pin(async move {
            let ask = self.bound(ctx, call, |inner, ctx, call| {
                Box::pin(async { Ok(inner.probe().unwrap().probe(ctx, call).await) })
            });
            let answer = self.network.call("probe", ctx, &call.vantage, Nature::Read, ask).await;
            answer.unwrap_or_else(|error| ProbeReading {
                verdict: Verdict::Inconclusive {
                    why: InconclusiveWhy::Timeout,
                    detail: error.message().to_owned(),
                },
                endpoint: call.vantage.clone(),
            })
        })
    }
}

/// A destination at the other end of the network. What lies there is the truth's.
struct Shelf {
    inner: Arc<dyn Connector>,
    network: Arc<Network>,
}

impl Connector for Shelf {
    fn descriptor(&self) -> &Descriptor {
        self.inner.descriptor()
    }

    keyfall_sdk::abilities!(deliver: Deliver);
}

impl Deliver for Shelf {
    fn check_target(&self, target: &serde_json::Value) -> Vec<String> {
        self.inner.deliver().unwrap().check_target(target)
    }

    fn check_defaults(&self, defaults: &serde_json::Value) -> Vec<String> {
        self.inner.deliver().unwrap().check_defaults(defaults)
    }

    fn deliver<'a>(&'a self, ctx: &'a CallContext, call: &'a DeliverCall) -> BoxFuture<'a, Result<Delivered>> {
        let call = call.clone();
        self.at(
            ctx,
            "deliver",
            &call.target.clone(),
            Nature::Effect,
            move |truth, slot| Delivered {
                changed: truth.put(slot, &call),
                place: format!("sim://{slot}"),
            },
        )
    }

    fn confirm<'a>(&'a self, ctx: &'a CallContext, call: &'a DeliverCall) -> BoxFuture<'a, Result<Confirmation>> {
        let secret = call.secret.clone();
        self.at(
            ctx,
            "confirm",
            &call.target,
            Nature::Read,
            move |truth, slot| match truth.lies_in(slot) {
                None => Confirmation::Absent,
                Some(there) if there.secret.matches(&secret) => Confirmation::Matches,
                Some(_) => Confirmation::Differs,
            },
        )
    }

    fn acknowledged<'a>(
        &'a self,
        ctx: &'a CallContext,
        target: &'a serde_json::Value,
        consumer: &'a str,
    ) -> BoxFuture<'a, Result<Acknowledgement>> {
        let consumer = consumer.to_owned();
        self.at(ctx, "acknowledged", target, Nature::Read, move |truth, slot| {
            Acknowledgement {
                consumer: consumer.clone(),
                version: truth.used_in(slot).map(|used| used.version),
            }
        })
    }

    fn withdraw<'a>(&'a self, ctx: &'a CallContext, target: &'a serde_json::Value) -> BoxFuture<'a, Result<Revoked>> {
        self.at(ctx, "withdraw", target, Nature::Effect, |truth, slot| {
            match truth.empty(slot) {
                true => Revoked::Revoked,
                false => Revoked::AlreadyGone,
            }
        })
    }
}

impl Shelf {
    fn at<'a, T: Send + 'static>(
        &'a self,
        ctx: &'a CallContext,
        operation: &'static str,
        target: &serde_json::Value,
        nature: Nature,
        act: impl Fn(&Truth, &str) -> T + Send + Sync + 'static,
    ) -> BoxFuture<'a, Result<T>> {
        let slot = target["slot"].as_str().unwrap().to_owned();
        let about = slot.clone();
        let truth = Arc::clone(&self.network.truth);
        let act = Arc::new(act);
        let ask = move || -> BoxFuture<'static, Result<T>> {
            let (truth, slot, act) = (Arc::clone(&truth), slot.clone(), Arc::clone(&act));
            Box::pin(async move { Ok(act(&truth, &slot)) })
        };
        Box::pin(async move { self.network.call(operation, ctx, &about, nature, ask).await })
    }
}
