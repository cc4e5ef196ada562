//! Laws on accounts: disabling them, taking their rights and their sessions away.

use super::examiner::{Examiner, context, failed};
use super::report::{Judgement, Why};
use crate::{EndSessionsCall, PrincipalStatus, ProbePurpose, Verdict};

/// Twice down, twice up, and the same secret works again.
pub(super) async fn suspending_is_reversible_and_idempotent(examiner: &Examiner<'_>) -> Judgement {
    let suspender = examiner.suspender()?;
    let made = examiner.make("suspended").await?;
    let principal = &made.issued.principal;
    examiner.accepted_everywhere(&principal.name, &made.call.secret).await?;
    for call in ["suspend", "the second suspend"] {
        let answer = examiner.seen(call, suspender.suspend(&context("suspend"), principal).await);
        answer.map_err(|error| failed(call, &error))?;
    }
    examiner
        .read_shows(principal, "an account that is not enabled", |reading| {
            reading.states().all(|state| state.status != PrincipalStatus::Enabled)
        })
        .await?;
    for vantage in &examiner.subject.vantages {
        examiner
            .eventually(5, async || {
                let purpose = ProbePurpose::OldCredential;
                match examiner
                    .verdict(&principal.name, &made.call.secret, vantage, purpose)
                    .await?
                {
                    Verdict::Accepted { .. } => Err(Why::Broken(format!("a suspended account logs in at {vantage}"))),
                    _ => Ok(()),
                }
            })
            .await?;
    }
    for call in ["resume", "the second resume"] {
        let answer = examiner.seen(call, suspender.resume(&context("resume"), principal).await);
        answer.map_err(|error| failed(call, &error))?;
    }
    examiner.accepted_everywhere(&principal.name, &made.call.secret).await
}

pub(super) async fn stripping_twice_is_success(examiner: &Examiner<'_>) -> Judgement {
    let entitler = examiner.entitler()?;
    let made = examiner.make("stripped").await?;
    let principal = &made.issued.principal;
    let first = examiner.seen("strip", entitler.strip(&context("strip"), principal).await);
    let first = first.map_err(|error| failed("strip", &error))?;
    let second = examiner.seen("strip", entitler.strip(&context("strip"), principal).await);
    let second = second.map_err(|error| failed("the second strip", &error))?;
    if !second.is_empty() {
        return Err(Why::Broken(format!(
            "the second strip took {second:?} away, the first one {first:?}"
        )));
    }
    examiner
        .read_shows(principal, "none of the grants that were taken away", |reading| {
            reading
                .states()
                .all(|state| state.grants.iter().all(|grant| !first.contains(grant)))
        })
        .await
}

pub(super) async fn ending_sessions_twice_is_success(examiner: &Examiner<'_>) -> Judgement {
    let sessions = examiner.sessions()?;
    let made = examiner.make("sessions").await?;
    let call = EndSessionsCall {
        principal: made.issued.principal.clone(),
        spare_younger_than: None,
    };
    for name in ["end", "the second end"] {
        let answer = examiner.seen(name, sessions.end(&context("end"), &call).await);
        let ended = answer.map_err(|error| failed(name, &error))?;
        if ended.left != 0 {
            return Err(Why::Broken(format!("{name} leaves {} sessions open", ended.left)));
        }
    }
    let open = examiner.seen("count", sessions.count(&context("count"), &call.principal).await);
    match open {
        Ok(0) => Ok(()),
        other => Err(Why::Broken(format!("after all were ended, count says {other:?}"))),
    }
}
