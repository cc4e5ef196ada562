//! Making the new credential live. The secret was sealed and committed before this step began, so a repetition sends the same bytes.

use jiff::Timestamp;
use keyfall_sdk::{ConnectorError, ErrorKind, IssueCall, IssueClass, IssueObservation, Issued, KeyId, ProbePurpose};

use super::super::guard::GuardedConnector;
use super::super::report::StepEnd;
use super::attempt::{Attempt, Ended, error_of, fail};
use super::probes::{self, Candidate};
use super::twins::{self, Beside};
use crate::domain::workflow::{NewCredential, Observation, OldCredential, StepError, StepOutput, changed_nothing};

pub(super) async fn issue_new(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let Some(new) = &at.plan().new else {
        return Err(fail(
            ErrorKind::Conflict,
            "the plan of this run names no new credential",
        ));
    };
    let connector = at.system().await?;
    let call = issue_call(at, new).await?;
    if let Some(refusal) = at.run.issue_refused() {
        let issued = behind_a_refusal(at, &connector, new, call, refusal).await?;
        return Ok(StepOutput::Issued { issued });
    }
    if at.observe_first {
        match connector.observe(at.ctx(&new.principal.name), call.clone()).await? {
            IssueObservation::Applied(issued) => return Ok(StepOutput::Issued { issued }),
            IssueObservation::NotApplied => nothing_seen(at, &connector, new, None).await?,
            IssueObservation::Unknown { why } => match connector.descriptor().issue_class {
                // Only where repeating is harmless by contract may an unknown outcome be repeated.
                IssueClass::Repeatable => at.note(format!("the same call is repeated: {why}")),
                IssueClass::CheckFirst => return Err(fail(ErrorKind::Ambiguous, why)),
                IssueClass::Once => nothing_seen(at, &connector, new, Some(&why)).await?,
            },
        }
    }
    match connector.issue(at.ctx(&new.principal.name), call).await {
        Ok(issued) => Ok(StepOutput::Issued { issued }),
        Err(error) if at.run.replaces_the_only_one() && changed_nothing(error.kind()) => Err(refused(at, &error)),
        // A refusal is a failure like any other: it says that nothing was replaced, so that the way back is open.
        Err(error) => Err(error.into()),
    }
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

/// This very secret is not seen on the account, or the system cannot say so (`untold`). What earlier calls left there all the same is taken away, and a
/// call that may still arrive is waited for, before another one is sent.
async fn nothing_seen(
    at: &mut Attempt<'_>,
    connector: &GuardedConnector,
    new: &NewCredential,
    untold: Option<&str>,
) -> Ended<()> {
    if connector.keeps_markers() {
        twins::clear(at, connector, new).await?;
        return missing(at, connector);
    }
    let Some(why) = untold else {
        return missing(at, connector);
    };
    // Where neither the secret nor a mark tells, a list that may still be late tells nothing either.
    let settled_at = twins::settled_at(at, at.run.issue_in_doubt_since());
    if let Some(settled_at) = settled_at.filter(|settled_at| at.now() < *settled_at) {
        return Err(look_again(at, settled_at));
    }
    let unclear = twins::clear(at, connector, new).await?;
    if unclear.is_empty() {
        return missing(at, connector);
    }
    let why = format!("an issue call got no answer, and this system cannot say what it made ({why})");
    Err(twins::ask_whose(at, &new.principal.name, &unclear, &why))
}

/// A call that nobody waits for any more may still arrive, and a list may be as late as the settling window says; behind both, its absence
/// settles what it did. Until then a system that mints another credential at each call is looked at again and not asked.
fn missing(at: &mut Attempt<'_>, connector: &GuardedConnector) -> Ended<()> {
    let Some(settled_at) = twins::settled_at(at, at.run.issue_in_doubt_since()) else {
        return Ok(());
    };
    if at.now() >= settled_at {
        at.see(Observation::IssueMissing);
        return Ok(());
    }
    if connector.descriptor().issue_class == IssueClass::Repeatable {
        return Ok(());
    }
    Err(look_again(at, settled_at))
}

fn look_again(at: &mut Attempt<'_>, settled_at: Timestamp) -> StepEnd {
    at.see(Observation::IssueUnseen);
    StepEnd::Wait {
        until: settled_at,
        why: "the unanswered issue call did not take effect so far; it is looked for once more before it is repeated"
            .to_owned(),
    }
}

/// The account holds one value. A refusal that is believed opens the way back, on which that value is taken away, and one that is wrong has put the new
/// value there: so it is believed behind a look, when no call can arrive any more.
fn refused(at: &mut Attempt<'_>, error: &ConnectorError) -> StepEnd {
    at.see(Observation::IssueRefused { error: error_of(error) });
    StepEnd::Wait {
        until: twins::settled_at(at, Some(at.now())).unwrap_or_else(|| at.now()),
        why: "the system refused the issue call; what the account holds is looked at before that is believed"
            .to_owned(),
    }
}

/// What the account lets in decides between the way forward and the way back.
async fn behind_a_refusal(
    at: &mut Attempt<'_>,
    connector: &GuardedConnector,
    new: &NewCredential,
    call: IssueCall,
    refusal: &StepError,
) -> Ended<Issued> {
    let Some(settled_at) = twins::settled_at(at, at.run.issue_in_doubt_since()) else {
        return Err(StepEnd::Failed(refusal.clone()));
    };
    if let IssueObservation::Applied(issued) = connector.observe(at.ctx(&new.principal.name), call).await? {
        return Ok(issued);
    }
    // Whatever follows, this attempt sends nothing.
    at.see(Observation::IssueUnseen);
    if at.now() < settled_at {
        return Err(StepEnd::Wait {
            until: settled_at,
            why: "the refused issue call did not take effect so far; it is looked for once more".to_owned(),
        });
    }
    if !old_is_let_in(at, connector, new).await? {
        match twins::look(at, connector, new).await? {
            Beside::Nothing => {}
            Beside::Unclear(keys) => {
                return Err(twins::ask_whose(at, &new.principal.name, &keys, &refusal.message));
            }
            Beside::Ours(made) => {
                if let Some(issued) = made.into_iter().next_back() {
                    return Ok(issued);
                }
            }
        }
    }
    at.see(Observation::IssueMissing);
    Err(StepEnd::Wait {
        until: at.now(),
        why: "the refused issue call changed nothing; this is recorded before anything is taken back".to_owned(),
    })
}

/// The value that was to be replaced still works: the bytes themselves say so, or, where they are not ours, the account shows its key id.
async fn old_is_let_in(at: &mut Attempt<'_>, connector: &GuardedConnector, new: &NewCredential) -> Ended<bool> {
    let name = &new.principal.name;
    let vantages = at.plan().proof.vantages.clone();
    for old in at.plan().old.iter().filter(|old| old.principal.name == *name) {
        let secret = match old.secret {
            Some(id) => at.secret_if_kept(id).await?,
            None => None,
        };
        let Some(secret) = secret else {
            let Some(key_id) = &old.key_id else { continue };
            let reading = connector.read(at.ctx(name), old.principal.clone()).await?;
            if reading.shows_key(key_id) {
                return Ok(true);
            }
            continue;
        };
        let candidate = Candidate {
            credential: old.id,
            principal: old.principal.clone(),
            secret,
        };
        let tried = probes::try_within_budget(at, connector, &candidate, &vantages, ProbePurpose::Baseline).await;
        if tried.verdicts.iter().any(|(_, verdict)| verdict.is_accepted()) {
            return Ok(true);
        }
        if tried.verdicts.iter().any(|(_, verdict)| probes::may_pass(verdict)) || !tried.left.is_empty() {
            return Err(fail(ErrorKind::Transient, probes::obstacles(&tried.verdicts)));
        }
    }
    Ok(false)
}
