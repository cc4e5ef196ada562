//! Whether somebody enrolled stands behind a person (P6): the signature of an enrolment is checked wherever the signature of the enrolled person is
//! to allow something, so that a row that was written past the use cases makes nobody a second person.

use super::prepare::{KnownSignatures, statement_of};
use crate::domain::actor::Approval;
use crate::domain::plan::{Action, Plan};
use crate::evidence::keys::VerifierKey;
use crate::store::{PersonRow, Store, StoreError};

/// # Errors
/// Why nobody stands behind the person, or that the store could not be asked.
pub(super) async fn check(store: &dyn Store, known: &KnownSignatures, person: &PersonRow) -> Result<(), String> {
    let enrolment = match (&person.enrolled_by, &person.enrolment) {
        // Those whom `init` enrolled vouch for one another by being made together.
        (None, None) => return Ok(()),
        (Some(by), Some(enrolment)) if enrolment.approvers.iter().any(|one| one.person == *by) => enrolment,
        _ => return Err(unsigned(person)),
    };
    check_plan(store, enrolment, person).await?;
    for signer in &enrolment.approvers {
        let enrolled = store.person(signer.person).await.map_err(|error| unread(&error))?;
        let enrolled = enrolled.and_then(|signer| signer.public_key);
        if enrolled.as_deref() != Some(signer.public_key.as_str()) {
            return Err(unsigned(person));
        }
        let key: VerifierKey = signer.public_key.parse().map_err(|_| unsigned(person))?;
        if !known.holds(&statement_of(enrolment, signer), &key, &signer.signature) {
            return Err(unsigned(person));
        }
    }
    Ok(())
}

/// What was signed is the enrolment of this very person with this very key, and somebody else had asked for it.
async fn check_plan(store: &dyn Store, enrolment: &Approval, person: &PersonRow) -> Result<(), String> {
    let row = store.plan(enrolment.plan).await.map_err(|error| unread(&error))?;
    let row = row.filter(|row| Plan::digest_of(&row.content) == enrolment.plan_digest);
    let row = row.ok_or_else(|| unsigned(person))?;
    let plan: Plan = serde_json::from_slice(&row.content).map_err(|_| unsigned(person))?;
    let is_of_person = |action: &Action| {
        matches!(action, Action::Enrol { person: id, public_key, .. }
            if *id == person.id && *public_key == person.public_key)
    };
    let signed_by_who_asked = enrolment.approvers.iter().any(|one| one.person == plan.requester);
    if !plan.actions.iter().any(is_of_person) || (signed_by_who_asked && !enrolment.solo) {
        return Err(unsigned(person));
    }
    Ok(())
}

fn unsigned(person: &PersonRow) -> String {
    format!(
        "no signature of somebody enrolled stands behind {}'s enrolment; retire that person, and enrol the one who is meant with `keyfall enrol NAME --role ROLE --public-key KEY`",
        person.name
    )
}

fn unread(error: &StoreError) -> String {
    format!("the enrolment could not be checked: {error}")
}
