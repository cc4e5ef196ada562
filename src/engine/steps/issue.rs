//! Making the new credential live. The secret was sealed and committed before this step began, so a repetition sends the same bytes.

use keyfall_sdk::{ErrorKind, IssueCall, IssueClass, IssueObservation, KeyId};

use super::super::guard::GuardedConnector;
use super::super::report::StepEnd;
use super::attempt::{Attempt, Ended, fail};
use crate::domain::workflow::{NewCredential, Observation, OldCredential, StepOutput};

pub(super) async fn issue_new(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let Some(new) = &at.plan().new else {
        return Err(fail(
            ErrorKind::Conflict,
            "the plan of this run names no new credential",
        ));
    };
    let connector = at.system().await?;
    let call = issue_call(at, new).await?;
    if at.observe_first {
        match connector.observe(at.ctx(&new.principal.name), call.clone()).await? {
            IssueObservation::Applied(issued) => return Ok(StepOutput::Issued { issued }),
            IssueObservation::NotApplied => missing(at, &connector)?,
            IssueObservation::Unknown { why } => undecided(at, &connector, why)?,
        }
    }
    // A refusal is a failure like any other: it says that nothing was replaced, so that the way back is open.
    let issued = connector.issue(at.ctx(&new.principal.name), call).await?;
    Ok(StepOutput::Issued { issued })
}

/// What the connector was, or is to be, asked to make live.
pub(super) async fn issue_call(at: &Attempt<'_>, new: &NewCredential) -> Ended<IssueCall> {
    Ok(IssueCall {
        principal: new.principal.clone(),
        secret: at.secret(new.secret).await?,
        placement: new.placement,
        replaces: replaced(at, new),
        marker: at.run.id().to_string(),
        access: at.plan().access.clone(),
    })
}

/// What the account is recorded to hold: the only credentials that may make room.
fn replaced(at: &Attempt<'_>, new: &NewCredential) -> Vec<KeyId> {
    let on_account = |old: &&OldCredential| old.principal.name == new.principal.name;
    let old = at.plan().old.iter().filter(on_account);
    old.filter_map(|old| old.key_id.clone()).collect()
}

/// A call that nobody waits for any more may still arrive, and a list may be as late as the settling window says; behind both, its absence
/// settles what it did. Until then a system that mints another credential at each call is looked at again and not asked.
fn missing(at: &mut Attempt<'_>, connector: &GuardedConnector) -> Ended<()> {
    let Some(since) = at.run.issue_in_doubt_since() else {
        return Ok(());
    };
    let wait = at.steps.settings.issue_grace.max(at.plan().proof.settling);
    let believed_at = since.saturating_add(wait).unwrap_or(jiff::Timestamp::MAX);
    if at.now() >= believed_at {
        at.see(Observation::IssueMissing);
        return Ok(());
    }
    if connector.descriptor().issue_class == IssueClass::Repeatable {
        return Ok(());
    }
    at.see(Observation::IssueUnseen);
    Err(StepEnd::Wait {
        until: believed_at,
        why: "the unanswered issue call did not take effect so far; it is looked for once more before it is repeated"
            .to_owned(),
    })
}

/// Only where repeating is harmless by contract may an unknown outcome be repeated.
fn undecided(at: &mut Attempt<'_>, connector: &GuardedConnector, why: String) -> Ended<()> {
    match connector.descriptor().issue_class {
        IssueClass::Repeatable => {
            at.note(format!("the same call is repeated: {why}"));
            Ok(())
        }
        IssueClass::CheckFirst => Err(fail(ErrorKind::Ambiguous, why)),
        IssueClass::Once => Err(at.ask(
            format!("an issue call got no answer, and this system cannot say what it made: {why}"),
            "compare the account's credentials with the pre-image of this run and delete the one that nobody recorded",
        )),
    }
}
