//! Laws on a system that is not there: nothing succeeds, nothing is refused, nothing is said to have happened.

use std::fmt::Debug;

use super::examiner::{Examiner, context, fails_as};
use super::report::{Judgement, Why};
use crate::{
    Connector, EndSessionsCall, ErrorKind, InconclusiveWhy, PrincipalRef, ProbeCall, ProbePurpose, Result, RevokeCall,
    Verdict,
};

pub(super) async fn a_dead_endpoint_is_transient_and_inconclusive(examiner: &Examiner<'_>) -> Judgement {
    let dead = examiner.subject.broken.as_deref();
    let dead = dead.ok_or_else(|| Why::Skipped("the subject has no broken connector".to_owned()))?;
    // Ids that the living system gave: one of another form may be refused before anything is asked.
    let recorded = examiner.make("outage").await?.revocation();
    control_plane(examiner, dead, &recorded.principal).await?;
    endings(examiner, dead, &recorded).await?;
    for vantage in &examiner.subject.vantages {
        probe(examiner, dead, &recorded.principal, vantage).await?;
    }
    Ok(())
}

async fn control_plane(examiner: &Examiner<'_>, dead: &dyn Connector, principal: &PrincipalRef) -> Judgement {
    if let Some(inventory) = dead.inventory() {
        transient(examiner, "list", inventory.list(&context("list")).await)?;
        transient(examiner, "read", inventory.read(&context("read"), principal).await)?;
        transient(examiner, "preflight", inventory.preflight(&context("preflight")).await)?;
    }
    if let Some(issue) = dead.issue() {
        let call = examiner.issue_call(examiner.principal("outage"), examiner.placement(), "outage");
        transient(examiner, "issue", issue.issue(&context("issue"), &call).await)?;
        transient(examiner, "observe", issue.observe(&context("observe"), &call).await)?;
    }
    if let Some(suspend) = dead.suspend() {
        transient(
            examiner,
            "suspend",
            suspend.suspend(&context("suspend"), principal).await,
        )?;
        transient(examiner, "resume", suspend.resume(&context("resume"), principal).await)?;
    }
    Ok(())
}

async fn endings(examiner: &Examiner<'_>, dead: &dyn Connector, recorded: &RevokeCall) -> Judgement {
    let principal = &recorded.principal;
    if let Some(entitle) = dead.entitle() {
        transient(examiner, "strip", entitle.strip(&context("strip"), principal).await)?;
    }
    if let Some(revoke) = dead.revoke() {
        transient(examiner, "revoke", revoke.revoke(&context("revoke"), recorded).await)?;
        transient(
            examiner,
            "delete_principal",
            revoke.delete_principal(&context("delete"), principal).await,
        )?;
    }
    if let Some(sessions) = dead.sessions() {
        let call = EndSessionsCall {
            principal: principal.clone(),
            spare_younger_than: None,
        };
        transient(examiner, "count", sessions.count(&context("count"), principal).await)?;
        transient(examiner, "end", sessions.end(&context("end"), &call).await)?;
    }
    Ok(())
}

async fn probe(examiner: &Examiner<'_>, dead: &dyn Connector, principal: &PrincipalRef, vantage: &str) -> Judgement {
    let Some(probe) = dead.probe() else { return Ok(()) };
    let call = ProbeCall {
        principal: principal.clone(),
        secret: examiner.secret(),
        vantage: vantage.to_owned(),
        purpose: ProbePurpose::OldCredential,
    };
    let reading = probe.probe(&context("probe"), &call).await;
    match examiner.seen("probe", Ok(reading)) {
        Ok(reading)
            if matches!(
                reading.verdict,
                Verdict::Inconclusive {
                    why: InconclusiveWhy::Unreachable | InconclusiveWhy::Timeout,
                    ..
                }
            ) =>
        {
            Ok(())
        }
        other => Err(Why::Broken(format!(
            "a probe of a dead endpoint at {vantage} reads {other:?}"
        ))),
    }
}

fn transient<T: Debug>(examiner: &Examiner<'_>, call: &str, answer: Result<T>) -> Judgement {
    fails_as(
        &format!("{call} at a dead endpoint"),
        &examiner.seen(call, answer),
        &[ErrorKind::Transient],
    )
}
