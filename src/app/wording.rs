//! Plans, events and runs in the words of people: one line each.

use serde_json::Value;

use crate::domain::ids::CredentialId;
use crate::domain::plan::{Action, Change};
use crate::domain::workflow::{Death, Event, EventBody, Observation, RunStatus, StepOutput};

/// `+ Identity orders-api`, and under a change the fields that differ.
pub(super) fn diff_lines(change: &Change) -> Vec<String> {
    let kind = change.kind.name();
    let Some(before) = &change.before else {
        return vec![format!("+ {kind} {}", change.name)];
    };
    let mut lines = vec![format!("~ {kind} {}", change.name)];
    let (before, after) = (serde_json::to_value(before), serde_json::to_value(&change.after));
    if let (Ok(before), Ok(after)) = (before, after) {
        differences("spec", before.get("spec"), after.get("spec"), &mut lines);
    }
    let labels = (
        serde_json::to_value(&change.labels_before),
        serde_json::to_value(&change.labels),
    );
    if let (Ok(before), Ok(after)) = labels {
        differences("labels", Some(&before), Some(&after), &mut lines);
    }
    lines
}

fn differences(at: &str, before: Option<&Value>, after: Option<&Value>, lines: &mut Vec<String>) {
    match (before, after) {
        (before, after) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
            for key in keys {
                differences(&format!("{at}.{key}"), before.get(key), after.get(key), lines);
            }
        }
        (before, after) => {
            let show = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
            lines.push(format!("    {at}: {} -> {}", show(before), show(after)));
        }
    }
}

pub(super) fn action_line(action: &Action) -> String {
    let verb = action.verb();
    match action {
        Action::Provision { name, .. } | Action::Decommission { name, .. } | Action::Retire { name, .. } => {
            format!("{verb} {name}")
        }
        Action::Rotate { name, exception, .. } => match exception {
            Some(exception) => format!("{verb} {name}, without waiting for its consumers: {exception}"),
            None => format!("{verb} {name}"),
        },
        Action::EmergencyRotate {
            name, reason, breaks, ..
        } => {
            let breaks = if breaks.is_empty() {
                "no consumer is registered".to_owned()
            } else {
                breaks.join(", ")
            };
            format!("{verb} {name}: {reason}; may break: {breaks}")
        }
        Action::Revoke { name, credential, .. } => format!("{verb} {credential} of {name}"),
        Action::Adopt { name, account, .. } | Action::TakeOver { name, account, .. } => {
            format!("{verb} account {account} as {name}")
        }
        Action::Enrol { name, roles, .. } => format!("{verb} {name} as {}", roles.join(", ")),
        Action::Unfreeze { frozen_because, .. } => format!("{verb} what was frozen because: {frozen_because}"),
        Action::RearmBreaker { opened_because, .. } => format!("{verb}, which opened because: {opened_because}"),
    }
}

/// What the attempt that the event ends saw on its way, one line each, in order.
pub(super) fn seen_lines(event: &Event) -> Vec<String> {
    event.body.seen().iter().map(observation_line).collect()
}

/// An event as one sentence.
pub(super) fn event_line(event: &Event) -> String {
    match &event.body {
        EventBody::Opened { plan } => {
            format!(
                "{} of {} opened: {}",
                plan.kind.name(),
                plan.identity_name,
                plan.reason.name()
            )
        }
        EventBody::Started { attempt, .. } if *attempt > 1 => format!("attempt {attempt}"),
        EventBody::Started { .. } => "started".to_owned(),
        EventBody::Succeeded { output, .. } => output_line(output),
        EventBody::Failed { error, .. } => format!("failed: {}", error.message),
        EventBody::Waiting { until, why, .. } => format!("waits until {until:.0}: {why}"),
        EventBody::Unwinding { cause } => format!("takes back what was done: {cause}"),
        EventBody::NeedsOperator {
            reason, manual_step, ..
        } => format!("needs a person: {reason}. {manual_step}"),
        EventBody::Retried { by, reason } => format!("retried by {}: {reason}", by.label()),
        EventBody::Resumed { by, reason } => format!("resumed by {}: {reason}", by.label()),
        EventBody::CancelRequested { by, reason } => format!("cancelled by {}: {reason}", by.label()),
        EventBody::Hastened { hastened } => format!(
            "made an emergency by {}, and waits for nobody any more: {}",
            hastened.by.label(),
            hastened.reason
        ),
        EventBody::Closed { outcome, .. } => format!("closed: {}", outcome.name()),
    }
}

fn output_line(output: &StepOutput) -> String {
    match output {
        StepOutput::Nothing => "done".to_owned(),
        StepOutput::Read { .. } => "the account is as approved".to_owned(),
        StepOutput::Issued { issued } => format!("{} holds {}", issued.principal.name, issued.key_id.0),
        StepOutput::NeverIssued => "it never took effect".to_owned(),
        StepOutput::Delivered { places, .. } => format!("delivered to {}, and read back", places.join(", ")),
        StepOutput::Revoked { .. } => "revocation acknowledged; not yet believed".to_owned(),
        StepOutput::SessionsEnded { ended } => format!("{} sessions ended, {} left", ended.ended, ended.left),
        StepOutput::Stripped { grants } => format!("{} rights taken away", grants.len()),
        StepOutput::Proofs { deaths } => deaths.iter().map(death_line).collect::<Vec<_>>().join("; "),
        StepOutput::Adopted { .. } => "registered as it is".to_owned(),
    }
}

fn death_line((credential, death): (&CredentialId, &Death)) -> String {
    match death {
        Death::Proven { .. } => format!("{credential} is proven dead"),
        Death::Alive { since } => format!("{credential} is STILL ACCEPTED, as of {since:.0}"),
        Death::Unprovable { why, .. } => format!("{credential} cannot be proven dead: {why}"),
    }
}

fn observation_line(observation: &Observation) -> String {
    match observation {
        Observation::Before { .. } => "the account before the change".to_owned(),
        Observation::Tried { vantage, reading, .. } => format!("{vantage}: {}", verdict(&reading.verdict)),
        Observation::ProbeRound { round, .. } => {
            let positive = round.positive.as_ref().map_or_else(|| "none".to_owned(), verdict);
            format!(
                "{}: old {}, live control {positive}, random control {}",
                round.vantage,
                verdict(&round.old),
                verdict(&round.negative)
            )
        }
        Observation::IssueFound { issued } => {
            format!("found in place: {} holds {}", issued.principal.name, issued.key_id.0)
        }
        Observation::IssueUnseen => "the issue call that got no answer shows no effect so far".to_owned(),
        Observation::IssueMissing => "the issue call that got no answer had no effect".to_owned(),
        Observation::IssueRefused { error } => {
            format!(
                "the issue call was refused ({}); whether that changed nothing is looked at",
                error.message
            )
        }
        Observation::TwinFound { principal, key_id } => {
            format!(
                "an issue call of this run left {} on {}; it is taken away",
                key_id.0, principal.name
            )
        }
        Observation::TwinGone { key_id } => format!("{} is gone", key_id.0),
        Observation::SecretLost { credential } => {
            format!("the secret of {credential} does not exist any more, so the credential has to go")
        }
        Observation::ConsumerSeen { consumer } => format!("consumer {consumer} is on the new credential"),
        Observation::ConsumerAwaited { consumer } => format!("consumer {consumer} is awaited"),
        Observation::Note { text } => text.clone(),
    }
}

fn verdict(verdict: &keyfall_sdk::Verdict) -> String {
    match verdict {
        keyfall_sdk::Verdict::Accepted { .. } => "accepted".to_owned(),
        keyfall_sdk::Verdict::Refused { code } => format!("refused ({code})"),
        keyfall_sdk::Verdict::Inconclusive { why, .. } => format!("inconclusive ({})", why.name()),
        keyfall_sdk::Verdict::Untestable { .. } => "untestable".to_owned(),
    }
}

/// What an open run waits for, in one sentence.
pub(super) fn status_note(status: &RunStatus, last: Option<&Event>) -> Option<String> {
    match status {
        RunStatus::NeedsOperator { reason, manual_step } => Some(format!("{reason}. {manual_step}")),
        RunStatus::Open => last.map(event_line),
        RunStatus::Closed { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use keyfall_sdk::{InconclusiveWhy, ProbeReading, Verdict};
    use uuid::Uuid;

    use super::{event_line, seen_lines};
    use crate::domain::ids::CredentialId;
    use crate::domain::proof::{ControlPlane, Round};
    use crate::domain::workflow::{Event, EventBody, Observation, Step};

    fn refused() -> Verdict {
        Verdict::Refused {
            code: "28P01".to_owned(),
        }
    }

    #[test]
    fn what_an_attempt_saw_is_told_line_by_line_before_its_end() {
        let credential = CredentialId::from_uuid(Uuid::from_u128(1));
        let principal = "app".to_owned();
        let round = Round {
            vantage: "primary".to_owned(),
            endpoint: "here".to_owned(),
            began_at: Timestamp::UNIX_EPOCH,
            ended_at: Timestamp::UNIX_EPOCH,
            old: refused(),
            positive: Some(Verdict::Accepted { principal }),
            negative: refused(),
            control_plane: ControlPlane::CredentialGone,
        };
        let reading = ProbeReading {
            verdict: Verdict::Inconclusive {
                why: InconclusiveWhy::Timeout,
                detail: "no answer".to_owned(),
            },
            endpoint: "there".to_owned(),
        };
        let vantage = "replica".to_owned();
        let seen = vec![
            Observation::ProbeRound { credential, round },
            Observation::Tried {
                credential,
                vantage,
                reading,
            },
            Observation::ConsumerSeen {
                consumer: "shop".to_owned(),
            },
        ];
        let event = Event {
            seq: 1,
            at: Timestamp::UNIX_EPOCH,
            epoch: 1,
            body: EventBody::Waiting {
                step: Step::ProveDead,
                seen,
                until: Timestamp::UNIX_EPOCH,
                why: "settling".to_owned(),
            },
        };
        let lines = [
            "primary: old refused (28P01), live control accepted, random control refused (28P01)",
            "replica: inconclusive (timeout)",
            "consumer shop is on the new credential",
        ];
        assert_eq!(seen_lines(&event), lines);
        assert_eq!(event_line(&event), "waits until 1970-01-01T00:00:00Z: settling");
    }
}
