//! The rule of a proven death (`src/README.md`), applied to what a receipt states. Written apart from the engine's own judgement (`domain::proof`), so that a
//! fault in one is seen by the other.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::Verdict;

use super::body::{CredentialEnd, CredentialEvidence, ReceiptBody, VantageEvidence};
use crate::domain::proof::{ControlPlane, Grade, ProofTerms, Round};
use crate::domain::workflow::{Outcome, RunKind, comes_to};

const ONE_MINUTE: SignedDuration = SignedDuration::from_secs(60);

/// Checks that everything the body claims follows from the probes that it lists.
///
/// # Errors
/// Everything that does not, in plain words.
pub fn proof_holds(body: &ReceiptBody) -> Result<(), Vec<String>> {
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for credential in &body.credentials {
        if !seen.insert(credential.id) {
            problems.push(format!("credential {} stands in the receipt twice", credential.id));
        }
        let found = match credential.end {
            CredentialEnd::Dead { proven_at } => death_problems(body, credential, proven_at),
            _ => overrated(credential),
        };
        problems.extend(
            found
                .into_iter()
                .map(|problem| format!("credential {}: {problem}", credential.id)),
        );
    }
    problems.extend(outcome_problem(body).map(str::to_owned));
    if body.run.closed_at < body.run.opened_at {
        problems.push("the run closed before it opened".to_owned());
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// The outcome of the run must be what the ends of its credentials come to, with what was taken on a person's word.
fn outcome_problem(body: &ReceiptBody) -> Option<&'static str> {
    let ending_run = matches!(
        body.run.kind,
        RunKind::Rotate | RunKind::EmergencyRotate | RunKind::Revoke | RunKind::Decommission
    );
    if body.outcome == Outcome::Completed && ending_run && body.credentials.is_empty() {
        return Some("the run is said to have ended credentials, and the receipt lists none");
    }
    let ends = body.credentials.iter().map(|credential| credential.end.end());
    let came_to = comes_to(ends, body.by_hand.iter().map(|declared| declared.step));
    (body.outcome.end() != came_to).then_some(
        "the outcome of the run is not what the ends of its credentials and the steps declared done by hand come to",
    )
}

fn death_problems(body: &ReceiptBody, credential: &CredentialEvidence, proven_at: Timestamp) -> Vec<String> {
    let mut problems = Vec::new();
    let terms = &credential.terms;
    let Some(revoked_at) = credential.revoked_at else {
        return vec!["it is called dead, and nothing says when it was revoked".to_owned()];
    };
    if credential.key_id.is_none() {
        problems.push("it is called dead without the immutable id that was revoked".to_owned());
    }
    let named: Vec<&str> = credential
        .vantages
        .iter()
        .map(|evidence| evidence.vantage.as_str())
        .collect();
    let wanted: Vec<&str> = terms.vantages.iter().map(String::as_str).collect();
    let distinct: BTreeSet<&str> = wanted.iter().copied().collect();
    if wanted.is_empty() || distinct.len() != wanted.len() || named != wanted {
        problems.push("its evidence is not for exactly the vantages that it had to die at".to_owned());
    }
    for evidence in &credential.vantages {
        if let Err(problem) = refusals_hold(terms, revoked_at, evidence) {
            problems.push(format!("at {}: {problem}", evidence.vantage));
        }
        if evidence.grade != Some(Grade::E1) {
            problems.push(format!(
                "at {}: the grade is not E1, and less is no death",
                evidence.vantage
            ));
        }
    }
    let last = credential
        .vantages
        .iter()
        .flat_map(|evidence| &evidence.rounds)
        .map(|round| round.ended_at)
        .max();
    if last.is_some_and(|last| last > proven_at) || proven_at > body.run.closed_at {
        problems.push("it is said to be proven before its last probe or after the run closed".to_owned());
    }
    problems
}

/// A credential that is not called dead may still not claim the grade of one that is.
fn overrated(credential: &CredentialEvidence) -> Vec<String> {
    let holds = |evidence: &&VantageEvidence| {
        credential
            .revoked_at
            .is_some_and(|at| refusals_hold(&credential.terms, at, evidence).is_ok())
    };
    let claims = credential
        .vantages
        .iter()
        .filter(|evidence| evidence.grade == Some(Grade::E1));
    claims
        .filter(|evidence| !holds(evidence))
        .map(|evidence| format!("at {}: grade E1 is claimed and not shown", evidence.vantage))
        .collect()
}

/// A life before the revocation, and N refusals in a row behind it, the last at or after the end of the settling window.
pub(super) fn refusals_hold(
    terms: &ProofTerms,
    revoked_at: Timestamp,
    evidence: &VantageEvidence,
) -> Result<(), String> {
    if terms.settling.is_negative() || terms.refusals == 0 {
        return Err("the terms ask for no refusal or for a negative settling window".to_owned());
    }
    match evidence.baseline_accepted_at {
        None => return Err("these bytes were never accepted here, so a refusal proves nothing".to_owned()),
        Some(at) if at >= revoked_at => {
            return Err("these bytes were not accepted here before the revocation".to_owned());
        }
        Some(_) => {}
    }
    let settled_at = revoked_at.checked_add(terms.settling).unwrap_or(Timestamp::MAX);
    let mut before: Option<&Round> = None;
    for round in &evidence.rounds {
        if round.vantage != evidence.vantage {
            return Err(format!("a round of {} stands among its rounds", round.vantage));
        }
        // The same round told twice, or rounds put in another order, are no rounds in a row.
        let follows = |before: &Round| before.ended_at <= round.began_at && before.began_at < round.began_at;
        if round.ended_at < round.began_at || !before.is_none_or(follows) {
            return Err(format!(
                "the round of {} does not follow on the one before it",
                round.began_at
            ));
        }
        if round.old.is_accepted() && round.began_at > settled_at {
            return Err(format!(
                "it was accepted at {}, after the settling window",
                round.began_at
            ));
        }
        before = Some(round);
    }
    let wanted = usize::try_from(terms.refusals).unwrap_or(usize::MAX);
    let counting = evidence.rounds.iter().rev().take(wanted);
    let mut in_a_row = 0;
    for round in counting {
        refused(round, revoked_at).map_err(|why| format!("the round of {} does not count: {why}", round.began_at))?;
        in_a_row += 1;
    }
    if in_a_row < wanted {
        return Err(format!("{in_a_row} refusals in a row, and {wanted} are needed"));
    }
    if evidence.rounds.last().is_none_or(|last| last.began_at < settled_at) {
        return Err(format!(
            "the last refusal is from before the settling window ended ({settled_at})"
        ));
    }
    Ok(())
}

/// The four things that must hold within one minute.
fn refused(round: &Round, revoked_at: Timestamp) -> Result<(), &'static str> {
    let Verdict::Refused { code } = &round.old else {
        return Err("the old credential was not refused");
    };
    if round.began_at < revoked_at {
        return Err("it was made before the revocation");
    }
    if round.ended_at.duration_since(round.began_at) > ONE_MINUTE {
        return Err("its probes lie more than a minute apart");
    }
    if !matches!(&round.positive, Some(Verdict::Accepted { .. })) {
        return Err("no live credential was accepted on the same path");
    }
    if !matches!(&round.negative, Verdict::Refused { code: random } if random == code) {
        return Err("a random credential did not get the same refusal");
    }
    if !matches!(
        round.control_plane,
        ControlPlane::CredentialGone | ControlPlane::PrincipalGone
    ) {
        return Err("the control plane does not show the credential replaced or its principal deleted");
    }
    Ok(())
}
