//! A connector with a hand between: the same abilities, each call passed on as far as the fault of the cell lets it.

use std::sync::Arc;

use keyfall_sdk::{
    Acknowledgement, AdminCredential, BoxFuture, CallContext, ClockReading, ConfigProblem, Confirmation, Connector,
    ConnectorError, ConnectorKind, Deliver, DeliverCall, Delivered, Descriptor, EndSessionsCall, Entitle, ErrorKind,
    InconclusiveWhy, Inventory, Issue, IssueCall, IssueObservation, Issued, PrincipalReading, PrincipalRef,
    PrincipalState, Probe, ProbeCall, ProbeReading, Result, Revoke, RevokeCall, Revoked, ServerGrants, Sessions,
    SessionsEnded, Suspend, SystemSpec, Verdict,
};

use super::fault::Call;
use super::hand::{About, Hand, Life, Send_};

/// A kind of connector with a hand between.
pub(crate) struct MeddledKind {
    pub(crate) inner: Arc<dyn ConnectorKind>,
    pub(crate) hand: Arc<Hand>,
    pub(crate) life: Arc<Life>,
}

impl ConnectorKind for MeddledKind {
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
        Ok(Arc::new(Meddled {
            inner: self.inner.connect(spec, admin, grants)?,
            hand: Arc::clone(&self.hand),
            life: Arc::clone(&self.life),
        }))
    }
}

struct Meddled {
    inner: Arc<dyn Connector>,
    hand: Arc<Hand>,
    life: Arc<Life>,
}

type Ask<C, T> = for<'b> fn(&'b dyn Connector, &'b CallContext, &'b C) -> BoxFuture<'b, Result<T>>;

impl Meddled {
    fn pass<'a, C, T>(
        &'a self,
        call: Call,
        ctx: &'a CallContext,
        about: About,
        input: C,
        ask: Ask<C, T>,
    ) -> BoxFuture<'a, Result<T>>
    where
        C: Send + Sync + 'static,
        T: Send + 'static,
    {
        let (inner, sent, input) = (Arc::clone(&self.inner), ctx.clone(), Arc::new(input));
        let send: Send_<T> = Arc::new(move || {
            let (inner, ctx, input) = (Arc::clone(&inner), sent.clone(), Arc::clone(&input));
            Box::pin(async move { ask(&*inner, &ctx, &input).await })
        });
        let about = About {
            run: ctx.run.clone(),
            ..about
        };
        Box::pin(async move { self.hand.pass(&self.life, (call, ctx), about, send).await })
    }
}

fn what(name: &str) -> About {
    About {
        what: name.to_owned(),
        ..About::default()
    }
}

/// The accessors of abilities that the inner connector may lack.
macro_rules! as_inner {
    ($($accessor:ident: $ability:ident),+) => {
        $(fn $accessor(&self) -> Option<&dyn $ability> {
            self.inner.$accessor().map(|_| self as &dyn $ability)
        })+
    };
}

impl Connector for Meddled {
    fn descriptor(&self) -> &Descriptor {
        self.inner.descriptor()
    }

    as_inner!(
        inventory: Inventory,
        issue: Issue,
        suspend: Suspend,
        entitle: Entitle,
        revoke: Revoke,
        sessions: Sessions,
        probe: Probe,
        deliver: Deliver
    );
}

impl Inventory for Meddled {
    fn list<'a>(&'a self, ctx: &'a CallContext) -> BoxFuture<'a, Result<Vec<PrincipalState>>> {
        self.pass(Call::List, ctx, About::default(), (), |inner, ctx, ()| {
            inner.inventory().unwrap().list(ctx)
        })
    }

    fn read<'a>(
        &'a self,
        ctx: &'a CallContext,
        principal: &'a PrincipalRef,
    ) -> BoxFuture<'a, Result<PrincipalReading>> {
        self.pass(
            Call::Read,
            ctx,
            what(&principal.name),
            principal.clone(),
            |inner, ctx, principal| inner.inventory().unwrap().read(ctx, principal),
        )
    }

    fn preflight<'a>(&'a self, ctx: &'a CallContext) -> BoxFuture<'a, Result<Vec<String>>> {
        self.pass(Call::Preflight, ctx, About::default(), (), |inner, ctx, ()| {
            inner.inventory().unwrap().preflight(ctx)
        })
    }

    fn clocks<'a>(&'a self, ctx: &'a CallContext) -> BoxFuture<'a, Result<Vec<ClockReading>>> {
        self.pass(Call::Clocks, ctx, About::default(), (), |inner, ctx, ()| {
            inner.inventory().unwrap().clocks(ctx)
        })
    }
}

impl Issue for Meddled {
    fn check_access(&self, access: &serde_json::Value) -> Vec<String> {
        self.inner.issue().unwrap().check_access(access)
    }

    fn lacking(&self, access: &serde_json::Value, state: &PrincipalState) -> Vec<String> {
        self.inner.issue().unwrap().lacking(access, state)
    }

    fn issue<'a>(&'a self, ctx: &'a CallContext, call: &'a IssueCall) -> BoxFuture<'a, Result<Issued>> {
        self.pass(
            Call::Issue,
            ctx,
            what(&call.principal.name),
            call.clone(),
            |inner, ctx, call| inner.issue().unwrap().issue(ctx, call),
        )
    }

    fn observe<'a>(&'a self, ctx: &'a CallContext, call: &'a IssueCall) -> BoxFuture<'a, Result<IssueObservation>> {
        self.pass(
            Call::Observe,
            ctx,
            what(&call.principal.name),
            call.clone(),
            |inner, ctx, call| inner.issue().unwrap().observe(ctx, call),
        )
    }
}

impl Suspend for Meddled {
    fn suspend<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<()>> {
        self.pass(
            Call::Suspend,
            ctx,
            what(&principal.name),
            principal.clone(),
            |inner, ctx, principal| inner.suspend().unwrap().suspend(ctx, principal),
        )
    }

    fn resume<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<()>> {
        self.pass(
            Call::Resume,
            ctx,
            what(&principal.name),
            principal.clone(),
            |inner, ctx, principal| inner.suspend().unwrap().resume(ctx, principal),
        )
    }
}

impl Entitle for Meddled {
    fn strip<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<Vec<String>>> {
        self.pass(
            Call::Strip,
            ctx,
            what(&principal.name),
            principal.clone(),
            |inner, ctx, principal| inner.entitle().unwrap().strip(ctx, principal),
        )
    }
}

impl Revoke for Meddled {
    fn revoke<'a>(&'a self, ctx: &'a CallContext, call: &'a RevokeCall) -> BoxFuture<'a, Result<Revoked>> {
        let about = About {
            key: Some(call.key_id.0.clone()),
            ..what(&call.principal.name)
        };
        self.pass(Call::Revoke, ctx, about, call.clone(), |inner, ctx, call| {
            inner.revoke().unwrap().revoke(ctx, call)
        })
    }

    fn delete_principal<'a>(
        &'a self,
        ctx: &'a CallContext,
        principal: &'a PrincipalRef,
    ) -> BoxFuture<'a, Result<Revoked>> {
        self.pass(
            Call::Delete,
            ctx,
            what(&principal.name),
            principal.clone(),
            |inner, ctx, principal| inner.revoke().unwrap().delete_principal(ctx, principal),
        )
    }
}

impl Sessions for Meddled {
    fn count<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<u32>> {
        self.pass(
            Call::CountSessions,
            ctx,
            what(&principal.name),
            principal.clone(),
            |inner, ctx, principal| inner.sessions().unwrap().count(ctx, principal),
        )
    }

    fn end<'a>(&'a self, ctx: &'a CallContext, call: &'a EndSessionsCall) -> BoxFuture<'a, Result<SessionsEnded>> {
        self.pass(
            Call::EndSessions,
            ctx,
            what(&call.principal.name),
            call.clone(),
            |inner, ctx, call| inner.sessions().unwrap().end(ctx, call),
        )
    }
}

impl Probe for Meddled {
    /// A probe has no error: what the hand fails is inconclusive, as the contract says of each kind.
    fn probe<'a>(&'a self, ctx: &'a CallContext, call: &'a ProbeCall) -> BoxFuture<'a, ProbeReading> {
        let passed = self.pass(
            Call::Probe,
            ctx,
            what(&call.principal.name),
            call.clone(),
            |inner, ctx, call| Box::pin(async move { Ok(inner.probe().unwrap().probe(ctx, call).await) }),
        );
        Box::pin(async move {
            passed.await.unwrap_or_else(|error| ProbeReading {
                verdict: verdict(&error),
                endpoint: "matrix".to_owned(),
            })
        })
    }
}

fn verdict(error: &ConnectorError) -> Verdict {
    let detail = error.message().to_owned();
    let why = match error.kind() {
        ErrorKind::Unsupported => return Verdict::Untestable { why: detail },
        ErrorKind::RateLimited { .. } => InconclusiveWhy::RateLimited,
        ErrorKind::Denied => InconclusiveWhy::Policy,
        ErrorKind::Ambiguous => InconclusiveWhy::Timeout,
        ErrorKind::Transient => InconclusiveWhy::Unreachable,
        ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::Protocol => InconclusiveWhy::Protocol,
    };
    Verdict::Inconclusive { why, detail }
}

impl Deliver for Meddled {
    fn check_target(&self, target: &serde_json::Value) -> Vec<String> {
        self.inner.deliver().unwrap().check_target(target)
    }

    fn check_defaults(&self, defaults: &serde_json::Value) -> Vec<String> {
        self.inner.deliver().unwrap().check_defaults(defaults)
    }

    fn place(&self, target: &serde_json::Value) -> Option<String> {
        self.inner.deliver().unwrap().place(target)
    }

    fn deliver<'a>(&'a self, ctx: &'a CallContext, call: &'a DeliverCall) -> BoxFuture<'a, Result<Delivered>> {
        self.pass(
            Call::Deliver,
            ctx,
            what(&call.version),
            call.clone(),
            |inner, ctx, call| inner.deliver().unwrap().deliver(ctx, call),
        )
    }

    fn confirm<'a>(&'a self, ctx: &'a CallContext, call: &'a DeliverCall) -> BoxFuture<'a, Result<Confirmation>> {
        self.pass(
            Call::Confirm,
            ctx,
            what(&call.version),
            call.clone(),
            |inner, ctx, call| inner.deliver().unwrap().confirm(ctx, call),
        )
    }

    fn acknowledged<'a>(
        &'a self,
        ctx: &'a CallContext,
        target: &'a serde_json::Value,
        consumer: &'a str,
    ) -> BoxFuture<'a, Result<Acknowledgement>> {
        let input = (target.clone(), consumer.to_owned());
        self.pass(
            Call::Acknowledged,
            ctx,
            what(consumer),
            input,
            |inner, ctx, (target, consumer)| inner.deliver().unwrap().acknowledged(ctx, target, consumer),
        )
    }

    fn withdraw<'a>(&'a self, ctx: &'a CallContext, target: &'a serde_json::Value) -> BoxFuture<'a, Result<Revoked>> {
        self.pass(
            Call::Withdraw,
            ctx,
            About::default(),
            target.clone(),
            |inner, ctx, target| inner.deliver().unwrap().withdraw(ctx, target),
        )
    }
}
