//! The five things that hold for every connector call, whatever the connector: it keeps the pace that its system allows, it is sent only by who
//! holds its run for longer than the call may take, it has a deadline, it is traced, and what it says is free of the secrets that it was given.
//! [`GuardedConnector`] is the only form in which steps see a connector.
//!
//! A call has owned inputs, and becomes a task of its own unless it answers at once. When its time is up the engine stops waiting and the task
//! goes on: a call that is dropped half-way leaves a state that nobody chose. What the caller is told then depends on what the call was: an effect may have happened
//! (`Ambiguous`), a read has to be repeated (`Transient`), a login got no answer (`Inconclusive(Timeout)`).
//!
//! A process that was stopped in the middle of a call wakes up in it, and does not know that the run is another node's by now. So the lease is
//! looked at each time the call goes on, too: behind its end nothing more is sent (P10). That is the one case in which a call is dropped.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::poll_immediate;
use keyfall_sdk::{
    BoxFuture, CallContext, Connector, ConnectorError, Descriptor, ErrorKind, InconclusiveWhy, PrincipalState, Result,
    SecretValue, Verdict,
};
use tracing::Instrument;

use super::lease::Hold;
use super::pace::{CommonPaces, Pace};
use crate::domain::resource::SystemLimits;

/// A connector behind pace, lease, deadline, trace and redaction. Cheap to clone; clones share their pace.
#[derive(Clone)]
pub struct GuardedConnector {
    inner: Arc<dyn Connector>,
    system: Arc<str>,
    limits: SystemLimits,
    pace: Option<Arc<Pace>>,
    hold: Hold,
    /// Never shown, whatever a connector writes into its errors.
    admin_secret: Option<SecretValue>,
}

/// What it means that no answer came in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    Effect,
    Read,
}

impl Nature {
    fn unanswered(self, operation: &str, system: &str, waited: Duration) -> ConnectorError {
        let waited = waited.as_millis();
        match self {
            Self::Effect => ConnectorError::ambiguous(format!(
                "{system} did not answer `{operation}` within {waited} ms; it may have happened, so it is looked at before it is repeated"
            )),
            Self::Read => ConnectorError::transient(format!(
                "{system} did not answer `{operation}` within {waited} ms; nothing was changed by it"
            )),
        }
    }

    fn let_go(self, operation: &str, system: &str) -> ConnectorError {
        match self {
            Self::Effect => ConnectorError::ambiguous(format!(
                "the lease on the run ended while `{operation}` was under way at {system}; it may have happened, so it is looked at before it is repeated"
            )),
            Self::Read => ConnectorError::transient(format!(
                "the lease on the run ended while `{operation}` was under way at {system}; nothing was changed by it"
            )),
        }
    }

    fn crashed(self, operation: &str, system: &str) -> ConnectorError {
        let message =
            format!("the connector of {system} failed inside `{operation}`; this is a defect of the connector");
        match self {
            Self::Effect => ConnectorError::protocol(message),
            Self::Read => ConnectorError::transient(message),
        }
    }
}

pub(super) type Ask<C, T> = for<'a> fn(&'a dyn Connector, &'a CallContext, &'a C) -> BoxFuture<'a, T>;

impl GuardedConnector {
    #[must_use]
    pub fn new(
        inner: Arc<dyn Connector>,
        system: &str,
        limits: SystemLimits,
        admin_secret: Option<SecretValue>,
    ) -> Self {
        Self {
            inner,
            system: Arc::from(system),
            pace: Pace::new(limits.calls_per_second).map(Arc::new),
            limits,
            hold: Hold::of_no_run(),
            admin_secret,
        }
    }

    /// The same, at a pace that all nodes keep together.
    #[must_use]
    pub fn drawing_from(self, common: CommonPaces) -> Self {
        Self {
            pace: Pace::common(&self.system, self.limits.calls_per_second, common).map(Arc::new),
            ..self
        }
    }

    /// The same, for what is done under this lease.
    #[must_use]
    pub fn under(self, hold: Hold) -> Self {
        Self { hold, ..self }
    }

    #[must_use]
    pub fn descriptor(&self) -> &Descriptor {
        self.inner.descriptor()
    }

    /// The name of the system or destination behind it.
    #[must_use]
    pub fn system(&self) -> &str {
        &self.system
    }

    #[must_use]
    pub fn limits(&self) -> &SystemLimits {
        &self.limits
    }

    /// What `access` names and the account does not show, one line each.
    #[must_use]
    pub fn lacking(&self, access: &serde_json::Value, state: &PrincipalState) -> Vec<String> {
        let issue = self.inner.issue();
        issue.map(|issue| issue.lacking(access, state)).unwrap_or_default()
    }

    #[must_use]
    pub fn keeps_markers(&self) -> bool {
        self.inner.issue().is_some_and(keyfall_sdk::Issue::keeps_markers)
    }

    #[must_use]
    pub fn can_suspend(&self) -> bool {
        self.inner.suspend().is_some()
    }

    #[must_use]
    pub fn can_count_sessions(&self) -> bool {
        self.inner.sessions().is_some()
    }

    pub(super) async fn call<C, T>(
        &self,
        operation: &'static str,
        nature: Nature,
        mut ctx: CallContext,
        input: C,
        secrets: Vec<SecretValue>,
        ask: Ask<C, Result<T>>,
    ) -> Result<T>
    where
        C: Send + Sync + 'static,
        T: Send + 'static,
    {
        let span = tracing::debug_span!(
            "connector_call",
            system.name = %self.system,
            connector = self.descriptor().kind,
            operation,
            run.id = %ctx.run,
            run.step = %ctx.step,
            attempt = ctx.attempt,
        );
        self.keep_pace(&mut ctx, operation).await?;
        let time_left = ctx.time_left;
        self.check_lease(nature, time_left, operation)?;
        let inner = Arc::clone(&self.inner);
        let began = tokio::time::Instant::now();
        let work = async move { ask(&*inner, &ctx, &input).await }.instrument(span.clone());
        let outcome = match answer_of(while_held(self.hold.clone(), Box::pin(work)), time_left).await {
            Answer::Given(Some(outcome)) => outcome.map_err(|error| self.redact(error, &secrets)),
            Answer::Given(None) => Err(nature.let_go(operation, &self.system)),
            Answer::Crashed => Err(nature.crashed(operation, &self.system)),
            Answer::Late => Err(nature.unanswered(operation, &self.system, time_left)),
        };
        let label = outcome.as_ref().map_or_else(|error| kind_name(error.kind()), |_| "ok");
        metrics::histogram!(
            "keyfall_connector_call_seconds",
            "connector" => self.descriptor().kind, "operation" => operation, "outcome" => label
        )
        .record(began.elapsed().as_secs_f64());
        if let Err(error) = &outcome {
            span.in_scope(|| tracing::debug!(error.kind = label, error.message = error.message(), "the call failed"));
        }
        outcome
    }

    /// Waits for the call's turn, out of the call's own time, and leaves at least half of that for the call itself.
    async fn keep_pace(&self, ctx: &mut CallContext, operation: &str) -> Result<()> {
        let Some(pace) = &self.pace else { return Ok(()) };
        let began = tokio::time::Instant::now();
        if let Err(wait) = pace.take(ctx.time_left / 2).await {
            let system = &self.system;
            return Err(ConnectorError::rate_limited(
                wait,
                format!(
                    "{system} has had the calls of this second; `{operation}` was not sent. Its `limits.callsPerSecond` says how many it gets"
                ),
            ));
        }
        ctx.time_left = ctx.time_left.saturating_sub(began.elapsed());
        Ok(())
    }

    /// An effect is sent only where its answer, or its deadline, comes while the run is still ours: whoever takes the run over afterwards meets
    /// nothing of it that is still on its way. A read needs no more than that the run is ours.
    fn check_lease(&self, nature: Nature, time_left: Duration, operation: &str) -> Result<()> {
        let is_held = match nature {
            Nature::Effect => self.hold.outlives(time_left),
            Nature::Read => self.hold.stands(),
        };
        if is_held {
            return Ok(());
        }
        let system = &self.system;
        Err(ConnectorError::transient(format!(
            "`{operation}` was not sent to {system}: the lease on the run ends before its answer must be there"
        )))
    }

    fn redact(&self, error: ConnectorError, secrets: &[SecretValue]) -> ConnectorError {
        let all: Vec<&SecretValue> = secrets.iter().chain(&self.admin_secret).collect();
        error.redacted(&all)
    }

    fn redact_text(&self, text: String, secrets: &[SecretValue]) -> String {
        self.redact(ConnectorError::protocol(text), secrets)
            .message()
            .to_owned()
    }

    pub(super) fn redact_verdict(&self, verdict: Verdict, secrets: &[SecretValue]) -> Verdict {
        match verdict {
            Verdict::Accepted { principal } => Verdict::Accepted { principal },
            Verdict::Refused { code } => Verdict::Refused {
                code: self.redact_text(code, secrets),
            },
            Verdict::Inconclusive { why, detail } => Verdict::Inconclusive {
                why,
                detail: self.redact_text(detail, secrets),
            },
            Verdict::Untestable { why } => Verdict::Untestable {
                why: self.redact_text(why, secrets),
            },
        }
    }
}

/// What became of a call.
enum Answer<T> {
    Given(T),
    /// It panicked.
    Crashed,
    /// It is still under way, as a task of its own.
    Late,
}

/// Carries the work on as long as the run is ours; `None` when it was not any more.
fn while_held<T: Send + 'static>(hold: Hold, mut work: BoxFuture<'static, T>) -> BoxFuture<'static, Option<T>> {
    Box::pin(std::future::poll_fn(move |context| {
        if !hold.stands() {
            return Poll::Ready(None);
        }
        work.as_mut().poll(context).map(Some)
    }))
}

/// Begins the work here, because many a call is answered without waiting; what does wait goes on as a task that no caller can drop.
async fn answer_of<T: Send + 'static>(mut work: BoxFuture<'static, T>, time_left: Duration) -> Answer<T> {
    match AssertUnwindSafe(poll_immediate(&mut work)).catch_unwind().await {
        Ok(Some(answer)) => return Answer::Given(answer),
        Ok(None) => {}
        Err(_) => return Answer::Crashed,
    }
    // Dropping the handle detaches the task: it is left to finish.
    match tokio::time::timeout(time_left, tokio::spawn(work)).await {
        Ok(Ok(answer)) => Answer::Given(answer),
        Ok(Err(_)) => Answer::Crashed,
        Err(_) => Answer::Late,
    }
}

pub(super) fn verdict_of(error: &ConnectorError) -> Verdict {
    let detail = error.message().to_owned();
    match error.kind() {
        ErrorKind::Unsupported => Verdict::Untestable { why: detail },
        ErrorKind::RateLimited { .. } => Verdict::Inconclusive {
            why: InconclusiveWhy::RateLimited,
            detail,
        },
        _ => Verdict::Inconclusive {
            why: InconclusiveWhy::Timeout,
            detail,
        },
    }
}

/// For labels of metrics: a closed set of words.
#[must_use]
pub fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Transient => "transient",
        ErrorKind::RateLimited { .. } => "rate_limited",
        ErrorKind::Denied => "denied",
        ErrorKind::NotFound => "not_found",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Protocol => "protocol",
        ErrorKind::Ambiguous => "ambiguous",
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn what_crashes_at_once_or_later_is_a_crash() {
        let at_once = answer_of::<()>(Box::pin(async { panic!("at once") }), LONG).await;
        assert!(matches!(at_once, Answer::Crashed));
        let later = async {
            tokio::task::yield_now().await;
            panic!("later")
        };
        assert!(matches!(answer_of::<()>(Box::pin(later), LONG).await, Answer::Crashed));
    }

    #[tokio::test]
    async fn a_call_that_nobody_waits_for_any_more_goes_on_to_its_end() {
        let (go, wait) = oneshot::channel::<()>();
        let (done, ended) = oneshot::channel();
        let work = async move {
            let _ = wait.await;
            let _ = done.send(());
        };
        let answer = answer_of(Box::pin(work), Duration::ZERO).await;
        assert!(matches!(answer, Answer::Late));
        go.send(()).unwrap();
        ended.await.unwrap();
    }
}
