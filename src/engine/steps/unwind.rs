//! Taking back what a run issued. What an unanswered issue call made is found first, and recorded before it is touched.

use std::collections::BTreeMap;

use keyfall_sdk::{ErrorKind, IssueClass, IssueObservation, Issued, ProbePurpose};

use super::super::guard::GuardedConnector;
use super::super::report::StepEnd;
use super::attempt::{Attempt, Ended, fail};
use super::baseline::{PATIENCE, wait_for_room};
use super::issue::issue_call;
use super::probes::{self, Candidate};
use super::twins::{self, Beside};
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
    // A call that arrived twice made two. What somebody else put there is a finding, and stays.
    if connector.keeps_markers() {
        twins::clear(at, &connector, new).await?;
    }
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

/// What an issue call without an answer, or one that was refused, made all the same.
async fn find_issued(at: &mut Attempt<'_>, new: &NewCredential) -> Ended<StepOutput> {
    let connector = at.system().await?;
    let call = issue_call(at, new).await?;
    match connector.observe(at.ctx(&new.principal.name), call).await? {
        IssueObservation::Applied(issued) => Err(found(at, &connector, new, issued).await?),
        IssueObservation::NotApplied => {
            left_behind(at, &connector, new, "the issue call was not seen to take effect").await
        }
        IssueObservation::Unknown { why } if connector.descriptor().issue_class == IssueClass::Once => {
            left_behind(at, &connector, new, &why).await
        }
        IssueObservation::Unknown { why } => Err(fail(ErrorKind::Ambiguous, why)),
    }
}

/// Nothing is revoked in the attempt that finds it: the finding is made durable first, with the life that a proof of death will need.
async fn found(
    at: &mut Attempt<'_>,
    connector: &GuardedConnector,
    new: &NewCredential,
    issued: Issued,
) -> Ended<StepEnd> {
    if at.run.replaces_the_only_one() {
        let (key, name) = (&issued.key_id.0, &issued.principal.name);
        return Ok(at.ask_to_resume(
            format!("the issue call took effect after all: {key} is the only credential of {name} that works, so it is not taken away"),
            &format!("give {name} a value of your own in the system and to its consumers"),
        ));
    }
    let secret = at.secret(new.secret).await?;
    let candidate = Candidate {
        credential: new.id,
        principal: issued.principal.clone(),
        secret,
    };
    let vantages = probes::untried(at, new.id);
    at.see(Observation::IssueFound { issued });
    probes::try_within_budget(at, connector, &candidate, &vantages, ProbePurpose::Baseline).await;
    Ok(StepEnd::Wait {
        until: at.now(),
        why: "the unanswered issue call did take effect; this is recorded before it is taken back".to_owned(),
    })
}

/// The secret is not seen on the account. What a call made all the same (a system may store other bytes than it was given) bears the run's mark, or was
/// not there before.
async fn left_behind(
    at: &mut Attempt<'_>,
    connector: &GuardedConnector,
    new: &NewCredential,
    why: &str,
) -> Ended<StepOutput> {
    let began_at = Some(at.began_at());
    let sent_at = at.run.issue_may_have_been_sent_at().max(began_at);
    let settled_at = twins::settled_at(at, sent_at).unwrap_or_else(|| at.now());
    let beside = twins::look(at, connector, new).await?;
    if let Beside::Ours(made) = beside {
        // One of several is as good as the other: it is taken back as this run's credential, and the others beside it.
        let Some(issued) = made.into_iter().next() else {
            return Ok(StepOutput::NeverIssued);
        };
        return Err(found(at, connector, new, issued).await?);
    }
    // A call that nobody waits for any more may still arrive.
    if at.now() < settled_at {
        return Err(StepEnd::Wait {
            until: settled_at,
            why: "the issue call did not take effect so far; it is looked for once more".to_owned(),
        });
    }
    match beside {
        Beside::Unclear(keys) => Err(twins::ask_whose(at, &new.principal.name, &keys, why)),
        _ => Ok(StepOutput::NeverIssued),
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
