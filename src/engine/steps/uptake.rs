//! Waiting until every consumer is seen on a credential: on the new one before the old goes, on the old one before the new goes.

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::PrincipalRef;

use super::super::report::StepEnd;
use super::accounts::new_principal;
use super::attempt::{Attempt, Ended};
use crate::domain::resource::SeenBy;
use crate::domain::workflow::{ConsumerPlan, Observation, Step, StepOutput};

/// Consumers are not looked at more often than this, whatever the policy says: each look is a call downstream and an event.
const SHORTEST_PAUSE: SignedDuration = SignedDuration::from_millis(100);

pub(super) async fn await_uptake(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let principal = new_principal(at.run);
    let new = at.plan().new.as_ref().map(|new| new.id.to_string());
    let exception = at.plan().exception.clone();
    await_all(at, principal, new, exception).await
}

pub(super) async fn await_return(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let old = at.plan().old.first();
    let principal = old.map(|old| old.principal.clone());
    // An exception is about the credential that goes; it never covers cutting consumers off the one that they are on.
    await_all(at, principal, old.map(|old| old.id.to_string()), None).await
}

async fn await_all(
    at: &mut Attempt<'_>,
    principal: Option<PrincipalRef>,
    credential: Option<String>,
    exception: Option<String>,
) -> Ended<StepOutput> {
    let mut laggards = Vec::new();
    let mut seen = Vec::new();
    for consumer in &at.plan().consumers {
        let there = match consumer.seen_by {
            SeenBy::Acknowledgement => acknowledged(at, consumer, credential.as_deref()).await?,
            SeenBy::Sessions => has_session(at, principal.as_ref()).await?,
        };
        if there { &mut seen } else { &mut laggards }.push(consumer.name.clone());
    }
    if laggards.is_empty() {
        for consumer in seen {
            at.see(Observation::ConsumerSeen { consumer });
        }
        return Ok(StepOutput::Nothing);
    }
    let names = laggards.join(", ");
    if let Some(exception) = exception {
        let text = format!("not waited for, by approved exception ({exception}): {names}");
        at.note(text);
        return Ok(StepOutput::Nothing);
    }
    not_yet(at, laggards, &names)
}

fn not_yet(at: &mut Attempt<'_>, laggards: Vec<String>, names: &str) -> Ended<StepOutput> {
    let timing = &at.plan().timing;
    let now = at.now();
    let ends_at = at
        .began_at()
        .saturating_add(timing.uptake_timeout)
        .unwrap_or(Timestamp::MAX);
    if now < ends_at {
        // Each look is an event. A long wait is looked at less often, so that its log stays short and a person can write to it.
        let waited = now.duration_since(at.began_at());
        let pause = timing.uptake_interval.max(SHORTEST_PAUSE).max(waited / 100);
        let next = now.saturating_add(pause).unwrap_or(ends_at);
        return Err(StepEnd::Wait {
            until: next.min(ends_at),
            why: format!("not seen on the delivered credential yet: {names}"),
        });
    }
    for consumer in laggards {
        at.see(Observation::ConsumerAwaited { consumer });
    }
    Err(at.ask(
        format!("consumers that have not taken up the delivered credential in time: {names}"),
        &without_them(at),
    ))
}

/// The old credential is taken from consumers by a signed exception only; this is the way to one.
fn without_them(at: &Attempt<'_>) -> String {
    let again = "make them read their destination again (restart or reload them)";
    if at.step != Step::AwaitUptake || !at.run.may_be_cancelled() || at.plan().old.is_empty() {
        return again.to_owned();
    }
    let (id, name) = (at.run.id(), &at.plan().identity_name);
    format!(
        "to go on without them, run `keyfall cancel {id} --reason …`, and `keyfall rotate {name} --exception …` when it is taken back; or {again}"
    )
}

/// A consumer reads one of the places, and repeats there the version that it uses.
async fn acknowledged(at: &Attempt<'_>, consumer: &ConsumerPlan, version: Option<&str>) -> Ended<bool> {
    for delivery in &at.plan().deliveries {
        let connector = at.destination(delivery)?;
        let ctx = at.ctx(&consumer.name);
        let answer = connector
            .acknowledged(ctx, delivery.target.clone(), consumer.name.clone())
            .await?;
        if answer.version.is_some() && answer.version.as_deref() == version {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn has_session(at: &Attempt<'_>, principal: Option<&PrincipalRef>) -> Ended<bool> {
    let Some(principal) = principal else { return Ok(false) };
    let connector = at.system().await?;
    Ok(connector
        .count_sessions(at.ctx(&principal.name), principal.clone())
        .await?
        > 0)
}
