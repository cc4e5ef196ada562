//! Taking back what a run issued. What an unanswered issue call made is found first, and recorded before it is touched.

use std::collections::BTreeMap;

use keyfall_sdk::{ErrorKind, IssueObservation, Issued, ProbePurpose};

use super::super::guard::GuardedConnector;
use super::super::report::StepEnd;
use super::attempt::{Attempt, Ended, fail};
use super::baseline::{PATIENCE, wait_for_room};
use super::issue::issue_call;
use super::probes::{self, Candidate};
use super::{delete, revoke};
use crate::domain::workflow::{NewCredential, Observation, StepOutput};

pub(super) async fn revoke_new(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let Some(new) = &at.plan().new else {
        return Ok(StepOutput::Nothing);
    };
    let Some(issued) = at.run.issued() else {
        return find_issued(at, new).await;
    };
    let connector = at.system().await?;
    last_look(at, &connector, new, issued).await?;
    let outcome = revoke::revoke(at, &connector, issued.principal.clone(), issued.key_id.clone()).await?;
    Ok(StepOutput::Revoked {
        outcomes: BTreeMap::from([(new.id, outcome)]),
    })
}

/// No death without a life: a credential that was not accepted everywhere yet is tried once more while it lives. What is accepted is made
/// durable before the revocation; what is refused, will not be accepted by asking again; what gave no clear answer may be.
async fn last_look(
    at: &mut Attempt<'_>,
    connector: &GuardedConnector,
    new: &NewCredential,
    issued: &Issued,
) -> Ended<()> {
    let vantages = probes::untried(at, new.id);
    if vantages.is_empty() {
        return Ok(());
    }
    // Lost: there is nothing to try it with, and it goes by its immutable id all the same.
    let Some(secret) = at.secret_if_kept(new.secret).await? else {
        return Ok(());
    };
    let candidate = Candidate {
        credential: new.id,
        principal: issued.principal.clone(),
        secret,
    };
    let tried = probes::try_within_budget(at, connector, &candidate, &vantages, ProbePurpose::Baseline).await;
    if tried.verdicts.iter().any(|(_, verdict)| verdict.is_accepted()) {
        return Err(StepEnd::Wait {
            until: at.now(),
            why: "the new credential was seen alive; this is recorded before it is taken back".to_owned(),
        });
    }
    if at.number < PATIENCE && tried.verdicts.iter().any(|(_, verdict)| probes::may_pass(verdict)) {
        return Err(fail(ErrorKind::Transient, probes::obstacles(&tried.verdicts)));
    }
    wait_for_room(at, connector, &candidate.principal.name, &tried).await
}

/// Nothing is revoked in the attempt that finds it: the finding is made durable first, with the life that a proof of death will need.
async fn find_issued(at: &mut Attempt<'_>, new: &NewCredential) -> Ended<StepOutput> {
    let connector = at.system().await?;
    let call = issue_call(at, new).await?;
    let secret = call.secret.clone();
    match connector.observe(at.ctx(&new.principal.name), call).await? {
        IssueObservation::Applied(issued) => {
            let candidate = Candidate {
                credential: new.id,
                principal: issued.principal.clone(),
                secret,
            };
            let vantages = probes::untried(at, new.id);
            at.see(Observation::IssueFound { issued });
            probes::try_within_budget(at, &connector, &candidate, &vantages, ProbePurpose::Baseline).await;
            Err(StepEnd::Wait {
                until: at.now(),
                why: "the unanswered issue call did take effect; this is recorded before it is taken back".to_owned(),
            })
        }
        IssueObservation::NotApplied => {
            // A call that nobody waits for any more may still arrive, and a list may be as late as the settling window says.
            let wait = at.steps.settings.issue_grace.max(at.plan().proof.settling);
            let believed_at = at.began_at().saturating_add(wait).unwrap_or(jiff::Timestamp::MAX);
            if at.now() >= believed_at {
                return Ok(StepOutput::NeverIssued);
            }
            Err(StepEnd::Wait {
                until: believed_at,
                why: "the issue call did not take effect so far; it is looked for once more".to_owned(),
            })
        }
        IssueObservation::Unknown { why } => Err(fail(ErrorKind::Ambiguous, why)),
    }
}

pub(super) async fn delete_new_account(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let Some(issued) = at.run.issued().filter(|issued| issued.created_principal) else {
        return Ok(StepOutput::Nothing);
    };
    let connector = at.system().await?;
    delete::delete_account(at, &connector, issued.principal.clone()).await?;
    Ok(StepOutput::Nothing)
}
