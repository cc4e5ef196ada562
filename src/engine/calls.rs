//! Every call that a connector can be asked, on its guarded form: the same words as in the contract, with owned inputs, because a call may
//! outlive the step that made it. An ability that the connector lacks is answered as `Unsupported`.

use keyfall_sdk::{
    Acknowledgement, BoxFuture, CallContext, ClockReading, Confirmation, ConnectorError, DeliverCall, Delivered,
    EndSessionsCall, IssueCall, IssueObservation, Issued, PrincipalReading, PrincipalRef, PrincipalState, ProbeCall,
    ProbeReading, Result, RevokeCall, Revoked, SessionsEnded,
};

use super::guard::{GuardedConnector, Nature, verdict_of};

impl GuardedConnector {
    /// # Errors
    /// As [`keyfall_sdk::Inventory::list`]; `Unsupported` where the connector lacks the ability. The same holds for every method here.
    pub async fn list(&self, ctx: CallContext) -> Result<Vec<PrincipalState>> {
        self.call(
            "list",
            Nature::Read,
            ctx,
            (),
            Vec::new(),
            |connector, ctx, ()| match connector.inventory() {
                Some(ability) => ability.list(ctx),
                None => lacks("list accounts"),
            },
        )
        .await
    }

    /// # Errors
    /// As [`Self::list`].
    pub async fn preflight(&self, ctx: CallContext) -> Result<Vec<String>> {
        self.call(
            "preflight",
            Nature::Read,
            ctx,
            (),
            Vec::new(),
            |connector, ctx, ()| match connector.inventory() {
                Some(ability) => ability.preflight(ctx),
                None => lacks("check our own rights"),
            },
        )
        .await
    }

    /// # Errors
    /// As [`Self::list`].
    pub async fn clocks(&self, ctx: CallContext) -> Result<Vec<ClockReading>> {
        self.call(
            "clocks",
            Nature::Read,
            ctx,
            (),
            Vec::new(),
            |connector, ctx, ()| match connector.inventory() {
                Some(ability) => ability.clocks(ctx),
                None => lacks("read the clocks"),
            },
        )
        .await
    }

    /// # Errors
    /// As [`Self::list`].
    pub async fn read(&self, ctx: CallContext, principal: PrincipalRef) -> Result<PrincipalReading> {
        self.call(
            "read",
            Nature::Read,
            ctx,
            principal,
            Vec::new(),
            |connector, ctx, principal| match connector.inventory() {
                Some(ability) => ability.read(ctx, principal),
                None => lacks("read accounts"),
            },
        )
        .await
    }

    /// # Errors
    /// As [`Self::list`].
    pub async fn issue(&self, ctx: CallContext, call: IssueCall) -> Result<Issued> {
        let secrets = vec![call.secret.clone()];
        self.call(
            "issue",
            Nature::Effect,
            ctx,
            call,
            secrets,
            |connector, ctx, call| match connector.issue() {
                Some(ability) => ability.issue(ctx, call),
                None => lacks("issue credentials"),
            },
        )
        .await
    }

    /// # Errors
    /// As [`Self::list`].
    pub async fn observe(&self, ctx: CallContext, call: IssueCall) -> Result<IssueObservation> {
        let secrets = vec![call.secret.clone()];
        self.call(
            "observe",
            Nature::Read,
            ctx,
            call,
            secrets,
            |connector, ctx, call| match connector.issue() {
                Some(ability) => ability.observe(ctx, call),
                None => lacks("observe an issue"),
            },
        )
        .await
    }

    /// # Errors
    /// As [`Self::list`].
    pub async fn marked(&self, ctx: CallContext, principal: PrincipalRef, marker: String) -> Result<Vec<Issued>> {
        self.call(
            "marked",
            Nature::Read,
            ctx,
            (principal, marker),
            Vec::new(),
            |connector, ctx, (principal, marker)| match connector.issue() {
                Some(ability) => ability.marked(ctx, principal, marker),
                None => lacks("issue credentials"),
            },
        )
        .await
    }

    /// # Errors
    /// As [`Self::list`].
    pub async fn suspend(&self, ctx: CallContext, principal: PrincipalRef) -> Result<()> {
        self.call(
            "suspend",
            Nature::Effect,
            ctx,
            principal,
            Vec::new(),
            |connector, ctx, principal| match connector.suspend() {
                Some(ability) => ability.suspend(ctx, principal),
                None => lacks("disable accounts"),
            },
        )
        .await
    }

    /// # Errors
    /// As [`Self::list`].
    pub async fn resume(&self, ctx: CallContext, principal: PrincipalRef) -> Result<()> {
        self.call(
            "resume",
            Nature::Effect,
            ctx,
            principal,
            Vec::new(),
            |connector, ctx, principal| match connector.suspend() {
                Some(ability) => ability.resume(ctx, principal),
                None => lacks("enable accounts"),
            },
        )
        .await
    }

    /// # Errors
    /// As [`Self::list`].
    pub async fn strip(&self, ctx: CallContext, principal: PrincipalRef) -> Result<Vec<String>> {
        self.call(
            "strip",
            Nature::Effect,
            ctx,
            principal,
            Vec::new(),
            |connector, ctx, principal| match connector.entitle() {
                Some(ability) => ability.strip(ctx, principal),
                None => lacks("take rights away"),
            },
        )
        .await
    }

    /// # Errors
    /// As [`Self::list`].
    pub async fn revoke(&self, ctx: CallContext, call: RevokeCall) -> Result<Revoked> {
        self.call(
            "revoke",
            Nature::Effect,
            ctx,
            call,
            Vec::new(),
            |connector, ctx, call| match connector.revoke() {
                Some(ability) => ability.revoke(ctx, call),
                None => lacks("revoke credentials"),
            },
        )
        .await
    }

    /// # Errors
    /// As [`Self::list`].
    pub async fn delete_principal(&self, ctx: CallContext, principal: PrincipalRef) -> Result<Revoked> {
        self.call(
            "delete",
            Nature::Effect,
            ctx,
            principal,
            Vec::new(),
            |connector, ctx, principal| match connector.revoke() {
                Some(ability) => ability.delete_principal(ctx, principal),
                None => lacks("delete accounts"),
            },
        )
        .await
    }

    /// # Errors
    /// As [`Self::list`].
    pub async fn count_sessions(&self, ctx: CallContext, principal: PrincipalRef) -> Result<u32> {
        self.call(
            "count_sessions",
            Nature::Read,
            ctx,
            principal,
            Vec::new(),
            |connector, ctx, principal| match connector.sessions() {
                Some(ability) => ability.count(ctx, principal),
                None => lacks("count sessions"),
            },
        )
        .await
    }

    /// # Errors
    /// As [`Self::list`].
    pub async fn end_sessions(&self, ctx: CallContext, call: EndSessionsCall) -> Result<SessionsEnded> {
        self.call(
            "end_sessions",
            Nature::Effect,
            ctx,
            call,
            Vec::new(),
            |connector, ctx, call| match connector.sessions() {
                Some(ability) => ability.end(ctx, call),
                None => lacks("end sessions"),
            },
        )
        .await
    }

    /// Tries a credential. Has no error: what went wrong is a verdict.
    pub async fn probe(&self, ctx: CallContext, call: ProbeCall) -> ProbeReading {
        let secrets = vec![call.secret.clone()];
        let vantage = call.vantage.clone();
        let outcome = self
            .call(
                "probe",
                Nature::Read,
                ctx,
                call,
                secrets.clone(),
                |connector, ctx, call| match connector.probe() {
                    Some(ability) => Box::pin(async move { Ok(ability.probe(ctx, call).await) }),
                    None => lacks("try credentials"),
                },
            )
            .await;
        match outcome {
            Ok(reading) => ProbeReading {
                verdict: self.redact_verdict(reading.verdict, &secrets),
                endpoint: reading.endpoint,
            },
            Err(error) => ProbeReading {
                verdict: verdict_of(&error),
                endpoint: vantage,
            },
        }
    }

    /// # Errors
    /// As [`Self::list`].
    pub async fn deliver(&self, ctx: CallContext, call: DeliverCall) -> Result<Delivered> {
        let secrets = vec![call.secret.clone()];
        self.call(
            "deliver",
            Nature::Effect,
            ctx,
            call,
            secrets,
            |connector, ctx, call| match connector.deliver() {
                Some(ability) => ability.deliver(ctx, call),
                None => lacks("take deliveries"),
            },
        )
        .await
    }

    /// # Errors
    /// As [`Self::list`].
    pub async fn confirm(&self, ctx: CallContext, call: DeliverCall) -> Result<Confirmation> {
        let secrets = vec![call.secret.clone()];
        self.call(
            "confirm",
            Nature::Read,
            ctx,
            call,
            secrets,
            |connector, ctx, call| match connector.deliver() {
                Some(ability) => ability.confirm(ctx, call),
                None => lacks("take deliveries"),
            },
        )
        .await
    }

    /// # Errors
    /// As [`Self::list`].
    pub async fn acknowledged(
        &self,
        ctx: CallContext,
        target: serde_json::Value,
        consumer: String,
    ) -> Result<Acknowledgement> {
        let input = (target, consumer);
        self.call(
            "acknowledged",
            Nature::Read,
            ctx,
            input,
            Vec::new(),
            |connector, ctx, (target, consumer)| match connector.deliver() {
                Some(ability) => ability.acknowledged(ctx, target, consumer),
                None => lacks("take deliveries"),
            },
        )
        .await
    }

    /// # Errors
    /// As [`Self::list`].
    pub async fn withdraw(&self, ctx: CallContext, target: serde_json::Value) -> Result<Revoked> {
        self.call(
            "withdraw",
            Nature::Effect,
            ctx,
            target,
            Vec::new(),
            |connector, ctx, target| match connector.deliver() {
                Some(ability) => ability.withdraw(ctx, target),
                None => lacks("take deliveries"),
            },
        )
        .await
    }
}

fn lacks<'a, T: Send + 'a>(what: &'static str) -> BoxFuture<'a, Result<T>> {
    Box::pin(async move { Err(ConnectorError::unsupported(format!("this connector cannot {what}"))) })
}
