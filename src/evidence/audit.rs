//! Between what happened and the record of it that is hashed. One log serves both: a run is folded from the same bytes that an auditor
//! verifies, so that neither can say what the other does not.

use std::borrow::Cow;

use keyfall_sdk::PrincipalReading;
use serde::Deserialize;

use super::record::{AuditRecord, Exception, ExceptionCause, Party, PartyKind, RecordError};
use crate::domain::actor::{Actor, Approval};
use crate::domain::due::GRACE;
use crate::domain::ids::ActId;
use crate::domain::workflow::{
    Event, EventBody, Observation, Path, Run, RunPlan, StepOutput, StuckBecause, Then, Trigger,
};

/// A stored record that should be an event and cannot be read as one.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableEvent {
    #[error("the record cannot be decoded")]
    Record(#[source] RecordError),
    #[error("the record {id} names no event number")]
    Number { id: String },
    #[error("the record {id} has a time outside of what can be represented")]
    Time { id: String },
    #[error("the details of {id} are not an event")]
    Details {
        id: String,
        #[source]
        source: serde_json::Error,
    },
}

/// The record of one event. `run` is the run after the event was applied to it. The event's time is kept to the microsecond.
#[must_use]
pub fn encode_event(plan: &RunPlan, run: &Run, event: &Event) -> Vec<u8> {
    let run_id = plan.run.to_string();
    let approval = match &event.body {
        EventBody::Hastened { hastened } => &hastened.approval,
        _ => &plan.approval,
    };
    let initiator = match &event.body {
        EventBody::Opened { .. } => party(&plan.initiator),
        EventBody::Retried { by, .. } | EventBody::Resumed { by, .. } | EventBody::CancelRequested { by, .. } => {
            party(by)
        }
        EventBody::Hastened { hastened } => party(&hastened.by),
        _ => party(&Actor::Engine),
    };
    let (before, after) = permissions(&event.body);
    let record = AuditRecord {
        id: event_id(&run_id, event.seq).into(),
        at_micros: event.at.as_microsecond(),
        run: Some(run_id.into()),
        step: event.body.step().map(|step| step.name().into()),
        action: event.body.name().into(),
        trigger: plan.trigger.name().into(),
        initiator,
        approvers: approvers(approval),
        plan_digest: Some(approval.plan_digest.0),
        rule: Some(rule(plan, run).into()),
        identity: Some(plan.identity_name.as_str().into()),
        system: Some(plan.system_name.as_str().into()),
        permissions_before: before,
        permissions_after: after,
        attempt: attempt(run, &event.body),
        exception: exception(plan, &event.body),
        outcome: outcome(&event.body).map(Cow::Borrowed),
        details: details(event).into(),
    };
    record.encode()
}

/// The event that a record holds; `None` for a record that belongs to no run.
///
/// # Errors
/// When the bytes are no record, or the record of a run's event that cannot be read back.
pub fn event_of(bytes: &[u8]) -> Result<Option<Event>, UnreadableEvent> {
    #[derive(Deserialize)]
    struct Envelope {
        epoch: u64,
    }

    let record = AuditRecord::decode(bytes).map_err(UnreadableEvent::Record)?;
    if record.run.is_none() {
        return Ok(None);
    }
    let number = record.id.rsplit_once('/').and_then(|(_, number)| number.parse().ok());
    let Some(seq) = number else {
        return Err(UnreadableEvent::Number {
            id: record.id.into_owned(),
        });
    };
    let Ok(at) = jiff::Timestamp::from_microsecond(record.at_micros) else {
        return Err(UnreadableEvent::Time {
            id: record.id.into_owned(),
        });
    };
    let unreadable = |source| UnreadableEvent::Details {
        id: record.id.to_string(),
        source,
    };
    let Envelope { epoch } = serde_json::from_str(&record.details).map_err(unreadable)?;
    let body: EventBody = serde_json::from_str(&record.details).map_err(unreadable)?;
    Ok(Some(Event { seq, at, epoch, body }))
}

/// The event in the record of a run, for the store, which keeps the bytes and knows no encoding.
///
/// # Errors
/// When there is none, with the whole chain of reasons as one text.
pub fn decode_event(bytes: &[u8]) -> Result<Event, String> {
    match event_of(bytes) {
        Ok(Some(event)) => Ok(event),
        Ok(None) => Err("the record belongs to no run".to_owned()),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|source| format!(": {source}"));
            Err(format!("{error}{}", cause.unwrap_or_default()))
        }
    }
}

/// Something that a person or the engine did outside of a run: a use case, a freeze, a finding.
#[derive(Debug, Clone)]
pub struct Act<'a> {
    pub id: ActId,
    pub at: jiff::Timestamp,
    /// The use case's name: `plan_approved`, `secret_set`, `frozen`.
    pub action: &'a str,
    pub by: &'a Actor,
    pub trigger: &'a str,
    pub identity: Option<&'a str>,
    pub system: Option<&'a str>,
    /// What allowed it, when it needed an approval.
    pub approval: Option<&'a Approval>,
    pub exception: Option<(ExceptionCause, String)>,
    pub outcome: &'a str,
    /// JSON; no secret.
    pub details: serde_json::Value,
}

impl<'a> Act<'a> {
    /// What the engine has done by itself, about no identity and no system.
    #[must_use]
    pub fn of_engine(id: ActId, at: jiff::Timestamp, action: &'a str, details: serde_json::Value) -> Self {
        Self {
            id,
            at,
            action,
            by: &Actor::Engine,
            trigger: "schedule",
            identity: None,
            system: None,
            approval: None,
            exception: None,
            outcome: "done",
            details,
        }
    }
}

/// The record of an act outside of a run.
#[must_use]
pub fn encode_act(act: Act<'_>) -> Vec<u8> {
    let record = AuditRecord {
        id: act.id.to_string().into(),
        at_micros: act.at.as_microsecond(),
        run: None,
        step: None,
        action: act.action.into(),
        trigger: act.trigger.into(),
        initiator: party(act.by),
        approvers: act.approval.map(approvers).unwrap_or_default(),
        plan_digest: act.approval.map(|approval| approval.plan_digest.0),
        rule: None,
        identity: act.identity.map(Cow::Borrowed),
        system: act.system.map(Cow::Borrowed),
        permissions_before: None,
        permissions_after: None,
        attempt: 0,
        exception: act.exception.map(|(cause, note)| Exception {
            cause,
            note: note.into(),
        }),
        outcome: Some(act.outcome.into()),
        details: act.details.to_string().into(),
    };
    record.encode()
}

fn event_id(run: &str, seq: u32) -> String {
    format!("{run}/{seq}")
}

fn party(actor: &Actor) -> Party<'_> {
    match actor {
        Actor::Person { id, name } => Party {
            kind: PartyKind::Person,
            id: id.to_string().into(),
            name: name.as_str().into(),
        },
        Actor::Engine => Party {
            kind: PartyKind::Engine,
            id: "keyfall".into(),
            name: "keyfall".into(),
        },
    }
}

fn approvers(approval: &Approval) -> Vec<Cow<'static, str>> {
    let ids = approval.approvers.iter().map(|one| one.person.to_string().into());
    ids.collect()
}

/// Why the run exists, under whose rules and what kind of approval, and which way it goes.
fn rule(plan: &RunPlan, run: &Run) -> String {
    let path = match run.path() {
        Path::Forward => "forward",
        Path::Unwinding => "unwinding",
    };
    let standing = if plan.approval.standing { "standing" } else { "own" };
    let policy = match &plan.policy {
        Some(policy) => format!("policy {policy}"),
        None => "no policy".to_owned(),
    };
    format!(
        "{}: {}, {policy}, {standing} approval, {path}",
        plan.kind.name(),
        plan.reason.name()
    )
}

fn attempt(run: &Run, body: &EventBody) -> u32 {
    match body {
        EventBody::Started { attempt, .. } => *attempt,
        EventBody::Failed { .. } => run.attempts(),
        _ => 0,
    }
}

type Permissions<'a> = Option<Vec<Cow<'a, str>>>;

fn permissions(body: &EventBody) -> (Permissions<'_>, Permissions<'_>) {
    fn grants(reading: &PrincipalReading) -> Permissions<'_> {
        let grants = reading.states().flat_map(|state| &state.grants);
        let mut grants: Vec<_> = grants.map(|grant| Cow::Borrowed(grant.as_str())).collect();
        grants.sort();
        grants.dedup();
        Some(grants)
    }
    let before = body.seen().iter().find_map(|seen| match seen {
        Observation::Before { reading } => grants(reading),
        _ => None,
    });
    let after = match body {
        EventBody::Succeeded {
            output: StepOutput::Read { reading } | StepOutput::Adopted { reading, .. },
            ..
        } => grants(reading),
        _ => None,
    };
    (before, after)
}

fn exception<'a>(plan: &'a RunPlan, body: &'a EventBody) -> Option<Exception<'a>> {
    let (cause, note) = match body {
        EventBody::Opened { plan } => exception_of_opening(plan)?,
        EventBody::Failed { error, then, .. } if !matches!(then, Then::RetryAt { .. }) => {
            (cause_of(error.kind), error.message.as_str().into())
        }
        EventBody::NeedsOperator { reason, because, .. } => (cause_of_asking(*because), reason.as_str().into()),
        EventBody::Retried { reason, .. }
        | EventBody::Resumed { reason, .. }
        | EventBody::CancelRequested { reason, .. } => (ExceptionCause::HumanOverride, reason.as_str().into()),
        EventBody::Hastened { hastened } => (ExceptionCause::BreakGlass, hastened.reason.as_str().into()),
        _ => return None,
    };
    let note = if note.is_empty() { plan.kind.name().into() } else { note };
    Some(Exception { cause, note })
}

fn exception_of_opening(plan: &RunPlan) -> Option<(ExceptionCause, Cow<'_, str>)> {
    let exception = plan.exception.as_deref();
    if plan.trigger == Trigger::BreakGlass {
        return Some((ExceptionCause::BreakGlass, exception.unwrap_or_default().into()));
    }
    if let Some(exception) = exception {
        return Some((ExceptionCause::HumanOverride, exception.into()));
    }
    let due_at = late_since(plan)?;
    let opened_at = plan.timing.opened_at;
    let note = format!("due since {due_at:.0}, and opened at {opened_at:.0}");
    Some((ExceptionCause::DisconnectedTrigger, note.into()))
}

/// When it was due, for a scheduled run that nothing set off in time.
fn late_since(plan: &RunPlan) -> Option<jiff::Timestamp> {
    plan.due_at
        .filter(|due_at| plan.timing.opened_at.duration_since(*due_at) > GRACE)
}

fn cause_of_asking(because: StuckBecause) -> ExceptionCause {
    match because {
        StuckBecause::System { kind } => cause_of(kind),
        StuckBecause::Drift => ExceptionCause::Drift,
        StuckBecause::Consumer => ExceptionCause::ConsumerFault,
        StuckBecause::Approval => ExceptionCause::ApprovalLapsed,
        StuckBecause::Data => ExceptionCause::MissingData,
        StuckBecause::Ourselves => ExceptionCause::OwnFault,
    }
}

fn cause_of(kind: keyfall_sdk::ErrorKind) -> ExceptionCause {
    use keyfall_sdk::ErrorKind;
    match kind {
        ErrorKind::Conflict | ErrorKind::NotFound => ExceptionCause::Drift,
        ErrorKind::Denied | ErrorKind::Unsupported => ExceptionCause::MissingData,
        ErrorKind::Transient | ErrorKind::RateLimited { .. } | ErrorKind::Protocol | ErrorKind::Ambiguous => {
            ExceptionCause::ProviderFault
        }
    }
}

fn outcome(body: &EventBody) -> Option<&'static str> {
    match body {
        EventBody::Started { .. } | EventBody::Opened { .. } => None,
        EventBody::Succeeded { .. } => Some("succeeded"),
        EventBody::Failed { .. } => Some("failed"),
        EventBody::Closed { outcome, .. } => Some(outcome.name()),
        other => Some(other.name()),
    }
}

/// Nearly all bodies find room in it, so that their text does not move while it grows.
const USUAL_DETAILS: usize = 1024;

/// The event's body as JSON with the epoch behind it, written once.
fn details(event: &Event) -> String {
    let mut details = Vec::with_capacity(USUAL_DETAILS);
    // A body holds nothing that JSON cannot: its maps have ids as keys. Were it otherwise, the empty text would be refused when it is
    // read back, and loudly.
    if serde_json::to_writer(&mut details, &event.body).is_err() || details.pop() != Some(b'}') {
        return String::new();
    }
    details.extend_from_slice(format!(",\"epoch\":{}}}", event.epoch).as_bytes());
    String::from_utf8(details).unwrap_or_default()
}

#[cfg(test)]
#[path = "histories_tests.rs"]
mod histories;
#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
