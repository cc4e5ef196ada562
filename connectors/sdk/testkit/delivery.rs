//! Laws on destinations: what was delivered is there, whole, once, and goes away again.

use std::fmt::Debug;
use std::sync::Mutex;

use super::examiner::{Secrets, context, failed, held};
use super::report::{Judgement, Why};
use super::subject::DestinationSubject;
use crate::{Confirmation, Deliver, DeliverCall, Result, Revoked, SecretShape, SecretValue};

/// Secrets that were drawn, and the answers that held one.
pub(super) struct Leaks(Mutex<Secrets>);

impl Default for Leaks {
    fn default() -> Self {
        Self(Mutex::new(Secrets::new(SecretShape::STRONG, 0)))
    }
}

impl Leaks {
    fn secret(&self, seed: u64) -> SecretValue {
        let mut secrets = held(&self.0);
        secrets.mix(seed);
        secrets.draw()
    }

    fn seen<T: Debug>(&self, call: &str, answer: Result<T>) -> Judgement<T> {
        held(&self.0).look(call, &answer);
        answer.map_err(|error| failed(call, &error))
    }

    pub(super) fn none(&self) -> Judgement {
        held(&self.0).none()
    }
}

pub(super) fn descriptor_names_a_destination(subject: &DestinationSubject) -> Judgement {
    let descriptor = subject.connector.descriptor();
    if descriptor.kind.is_empty() || descriptor.about.is_empty() {
        return Err(Why::Broken("kind and about must be filled in".to_owned()));
    }
    deliverer(subject).map(drop)
}

pub(super) fn wrong_targets_are_named(subject: &DestinationSubject) -> Judgement {
    let deliver = deliverer(subject)?;
    let problems = deliver.check_target(&subject.target);
    if !problems.is_empty() {
        return Err(Why::Broken(format!(
            "the subject's own target has problems: {problems:?}"
        )));
    }
    for part in [&serde_json::Value::Null, &serde_json::json!({}), &subject.target] {
        let problems = deliver.check_defaults(part);
        if !problems.is_empty() {
            return Err(Why::Broken(format!("the defaults {part} have problems: {problems:?}")));
        }
    }
    let unknown = serde_json::json!({ "keyfallTestkitUnknown": true });
    if deliver.check_defaults(&unknown).is_empty() {
        return Err(Why::Broken(format!(
            "the wrong defaults {unknown} are passed over in silence"
        )));
    }
    for wrong in [
        &subject.wrong_target,
        &serde_json::json!({ "keyfallTestkitUnknown": true }),
    ] {
        if deliver.check_target(wrong).is_empty() {
            return Err(Why::Broken(format!(
                "the wrong target {wrong} is passed over in silence"
            )));
        }
    }
    Ok(())
}

/// Absent, delivered, unchanged, another, withdrawn, absent.
pub(super) async fn a_delivery_lives_and_ends(subject: &DestinationSubject, leaks: &Leaks) -> Judgement {
    let deliver = deliverer(subject)?;
    let first = call(subject, leaks, "v1");
    let second = call(subject, leaks, "v2");
    confirms(deliver, leaks, &first, Confirmation::Absent).await?;
    delivers(deliver, leaks, &first, true).await?;
    confirms(deliver, leaks, &first, Confirmation::Matches).await?;
    delivers(deliver, leaks, &first, false).await?;
    confirms(deliver, leaks, &first, Confirmation::Matches).await?;
    confirms(deliver, leaks, &second, Confirmation::Differs).await?;
    delivers(deliver, leaks, &second, true).await?;
    confirms(deliver, leaks, &second, Confirmation::Matches).await?;
    confirms(deliver, leaks, &first, Confirmation::Differs).await?;
    let answer = deliver
        .acknowledged(&context("acknowledged"), &subject.target, "testkit-consumer")
        .await;
    let acknowledged = leaks.seen("acknowledged", answer)?;
    if acknowledged.consumer != "testkit-consumer" {
        return Err(Why::Broken(format!("another consumer is answered: {acknowledged:?}")));
    }
    for wanted in [Revoked::Revoked, Revoked::AlreadyGone] {
        let withdrawn = leaks.seen(
            "withdraw",
            deliver.withdraw(&context("withdraw"), &subject.target).await,
        )?;
        if withdrawn != wanted {
            return Err(Why::Broken(format!("withdraw answers {withdrawn:?}, not {wanted:?}")));
        }
    }
    confirms(deliver, leaks, &second, Confirmation::Absent).await
}

pub(super) async fn a_dead_destination_never_succeeds(subject: &DestinationSubject, leaks: &Leaks) -> Judgement {
    let dead = subject.broken.as_ref().and_then(|dead| dead.deliver());
    let dead = dead.ok_or_else(|| Why::Skipped("the subject has no broken connector".to_owned()))?;
    let first = call(subject, leaks, "v1");
    let delivered = leaks.seen("deliver", dead.deliver(&context("deliver"), &first).await);
    if let Ok(delivered) = delivered {
        return Err(Why::Broken(format!(
            "a dead destination takes a delivery: {delivered:?}"
        )));
    }
    match leaks.seen("confirm", dead.confirm(&context("confirm"), &first).await) {
        Ok(Confirmation::Matches) => Err(Why::Broken("a dead destination confirms a delivery".to_owned())),
        _ => Ok(()),
    }
}

fn call(subject: &DestinationSubject, leaks: &Leaks, version: &str) -> DeliverCall {
    DeliverCall {
        target: subject.target.clone(),
        secret: leaks.secret(subject.seed),
        fields: subject.fields.clone(),
        version: version.to_owned(),
    }
}

async fn delivers(deliver: &dyn Deliver, leaks: &Leaks, call: &DeliverCall, changes: bool) -> Judgement {
    let delivered = leaks.seen("deliver", deliver.deliver(&context("deliver"), call).await)?;
    if delivered.changed == changes && !delivered.place.is_empty() {
        return Ok(());
    }
    Err(Why::Broken(format!(
        "delivering {} answers {delivered:?}, wanted changed: {changes}",
        call.version
    )))
}

async fn confirms(deliver: &dyn Deliver, leaks: &Leaks, call: &DeliverCall, wanted: Confirmation) -> Judgement {
    let confirmation = leaks.seen("confirm", deliver.confirm(&context("confirm"), call).await)?;
    if confirmation == wanted {
        return Ok(());
    }
    Err(Why::Broken(format!(
        "confirming {} answers {confirmation:?}, not {wanted:?}",
        call.version
    )))
}

fn deliverer(subject: &DestinationSubject) -> Judgement<&dyn Deliver> {
    subject
        .connector
        .deliver()
        .ok_or_else(|| Why::Broken("the connector has no deliver".to_owned()))
}
