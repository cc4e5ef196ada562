//! A real login with the new credential at every vantage, before anybody is sent to it (P3).

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{ErrorKind, ProbePurpose, Verdict};

use super::super::report::StepEnd;
use super::accounts::new_principal;
use super::attempt::{Attempt, Ended, fail};
use super::probes::{self, Candidate};
use crate::domain::ids::CredentialId;
use crate::domain::workflow::StepOutput;

/// Attempts behind the settling window, for a vantage that is merely slow.
const PATIENCE: u32 = 4;
/// Refused logins behind the settling window, at whatever vantages, where the account can see only some at a time.
const ENOUGH: usize = PATIENCE as usize;
/// The longest pause between two looks at a vantage that has not learned of the credential yet.
const PAUSE: SignedDuration = SignedDuration::from_secs(2);

pub(super) async fn prove_new(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let (Some(new), Some(principal)) = (&at.plan().new, new_principal(at.run)) else {
        return Err(fail(
            ErrorKind::Conflict,
            "the plan of this run names no new credential",
        ));
    };
    let connector = at.system().await?;
    let candidate = Candidate {
        credential: new.id,
        principal,
        secret: at.minted_secret(new).await?,
    };
    let vantages = probes::untried(at, new.id);
    let tried = probes::try_within_budget(at, &connector, &candidate, &vantages, ProbePurpose::ProveNew).await;
    if tried.verdicts.iter().any(|(_, verdict)| !verdict.is_accepted()) {
        return Err(not_yet(at, &tried.verdicts));
    }
    if tried.left.is_empty() {
        return Ok(StepOutput::Nothing);
    }
    let name = &candidate.principal.name;
    // A wait for room is no attempt. Refusals are counted over all waits: what is refused again and again will be refused for ever.
    if refused_behind_settling(at, new.id) >= ENOUGH {
        return Err(fail(
            ErrorKind::Conflict,
            format!("the new credential of {name} goes on being refused"),
        ));
    }
    Err(StepEnd::Wait {
        until: probes::room(at, &connector, name).await.later_than(at.now()),
        why: format!("{name} has seen enough refused logins for the time being"),
    })
}

/// Inside the settling window a refusal is what a late replica says. The wait is stored and not counted as a failure.
fn not_yet(at: &Attempt<'_>, verdicts: &[(String, Verdict)]) -> StepEnd {
    let why = format!(
        "the new credential is not accepted everywhere yet: {}",
        probes::obstacles(verdicts)
    );
    let now = at.now();
    let settled_at = settled_at(at);
    if now < settled_at {
        // As long again as it has taken so far: soon for a replica that is a moment late, seldom for one that is late by minutes.
        let pause = now
            .duration_since(at.began_at())
            .clamp(SignedDuration::from_millis(100), PAUSE);
        let until = now.saturating_add(pause).unwrap_or(settled_at).min(settled_at);
        return StepEnd::Wait { until, why };
    }
    if at.number < PATIENCE {
        return fail(ErrorKind::Transient, why);
    }
    fail(ErrorKind::Conflict, why)
}

fn settled_at(at: &Attempt<'_>) -> Timestamp {
    let settled_at = at.began_at().saturating_add(at.plan().proof.settling);
    settled_at.unwrap_or(Timestamp::MAX)
}

fn refused_behind_settling(at: &Attempt<'_>, new: CredentialId) -> usize {
    let settled_at = settled_at(at);
    at.run
        .refused_at(new)
        .filter(|refused_at| *refused_at >= settled_at)
        .count()
}
