//! Laws on how credentials begin and how they are tried.

use super::examiner::{Examiner, context, fails_as};
use super::report::{Judgement, Why};
use crate::{ErrorKind, IssueClass, IssueObservation, Placement, PrincipalStatus, ProbePurpose, Strategy, Verdict};

pub(super) async fn an_absent_account_reads_as_absent(examiner: &Examiner<'_>) -> Judgement {
    let reading = examiner.read(&examiner.principal("absent")).await?;
    if reading.is_absent() {
        Ok(())
    } else {
        Err(Why::Broken(format!("an account that nobody made reads as {reading:?}")))
    }
}

pub(super) async fn an_issue_is_observed_before_and_after(examiner: &Examiner<'_>) -> Judgement {
    observable(examiner)?;
    let call = examiner.issue_call(examiner.principal("observed"), examiner.placement(), "observed");
    let before = examiner.observe(&call).await?;
    if before != IssueObservation::NotApplied {
        return Err(Why::Broken(format!("before the issue, observe says {before:?}")));
    }
    let issued = examiner
        .issue(&call)
        .await
        .map_err(|error| super::examiner::failed("issue", &error))?;
    examiner
        .eventually(20, async || match examiner.observe(&call).await? {
            IssueObservation::Applied(seen) if seen.key_id == issued.key_id && seen.principal == issued.principal => {
                Ok(())
            }
            other => Err(Why::Broken(format!(
                "after the issue of {issued:?}, observe says {other:?}"
            ))),
        })
        .await?;
    let mut other = call.clone();
    other.secret = examiner.secret();
    match examiner.observe(&other).await? {
        IssueObservation::Applied(seen) => Err(Why::Broken(format!(
            "a secret that was never issued is observed as {seen:?}"
        ))),
        IssueObservation::NotApplied | IssueObservation::Unknown { .. } => Ok(()),
    }
}

/// Repeating as the class allows: blindly, or after a look.
pub(super) async fn issuing_twice_leaves_one_credential(examiner: &Examiner<'_>) -> Judgement {
    observable(examiner)?;
    let made = examiner.make("twice").await?;
    let again = if examiner.subject.connector.descriptor().issue_class == IssueClass::Repeatable {
        examiner
            .issue(&made.call)
            .await
            .map_err(|error| super::examiner::failed("the repeated issue", &error))?
    } else {
        match examiner.observe(&made.call).await? {
            IssueObservation::Applied(issued) => issued,
            other => return Err(Why::Broken(format!("after the issue, observe says {other:?}"))),
        }
    };
    if again.key_id != made.issued.key_id || again.principal != made.issued.principal {
        return Err(Why::Broken(format!(
            "the repetition found {again:?}, the first one {:?}",
            made.issued
        )));
    }
    examiner
        .read_shows(&made.issued.principal, "one credential", |reading| {
            reading.states().all(|state| state.key_ids.len() == 1)
        })
        .await
}

pub(super) async fn a_lost_reply_is_ambiguous_and_observable(examiner: &Examiner<'_>) -> Judgement {
    observable(examiner)?;
    let lossy = examiner.subject.lossy.as_ref();
    let lossy = lossy.ok_or_else(|| Why::Skipped("the subject has no connector that loses replies".to_owned()))?;
    let issue = lossy
        .issue()
        .ok_or_else(|| Why::Skipped("the connector has no issue".to_owned()))?;
    let call = examiner.issue_call(examiner.principal("lossy"), examiner.placement(), "lossy");
    let answer = examiner.seen("issue with a lost reply", issue.issue(&context("issue"), &call).await);
    fails_as(
        "an issue whose reply is lost",
        &answer,
        &[ErrorKind::Ambiguous, ErrorKind::Protocol],
    )?;
    match examiner.observe(&call).await? {
        IssueObservation::Applied(issued) => {
            examiner.remember(&issued.principal);
            examiner.accepted_everywhere(&issued.principal.name, &call.secret).await
        }
        IssueObservation::NotApplied => examiner.refused_everywhere(&call.principal.name, &call.secret).await,
        IssueObservation::Unknown { why } => Err(Why::Broken(format!("observe cannot tell: {why}"))),
    }
}

/// An account of the wanted name that carries another marker is somebody else's.
pub(super) async fn a_namesake_is_not_taken_over(examiner: &Examiner<'_>) -> Judgement {
    let made = examiner.make("namesake").await?;
    let call = examiner.issue_call(examiner.principal("namesake"), examiner.placement(), "another");
    let answer = examiner.issue(&call).await;
    fails_as("an issue on somebody else's account", &answer, &[ErrorKind::Conflict])?;
    if let IssueObservation::Applied(issued) = examiner.observe(&call).await? {
        return Err(Why::Broken(format!("a refused issue is observed as {issued:?}")));
    }
    examiner
        .accepted_everywhere(&made.issued.principal.name, &made.call.secret)
        .await
}

pub(super) async fn a_new_credential_is_accepted_everywhere(examiner: &Examiner<'_>) -> Judgement {
    examiner.prober()?;
    let made = examiner.make("accepted").await?;
    examiner
        .accepted_everywhere(&made.issued.principal.name, &made.call.secret)
        .await
}

pub(super) async fn a_secret_never_issued_is_refused_everywhere(examiner: &Examiner<'_>) -> Judgement {
    examiner.prober()?;
    let made = examiner.make("random").await?;
    examiner
        .refused_everywhere(&made.issued.principal.name, &examiner.secret())
        .await
}

pub(super) async fn an_unknown_vantage_says_nothing(examiner: &Examiner<'_>) -> Judgement {
    let made = examiner.make("nowhere").await?;
    let name = &made.issued.principal.name;
    let verdict = examiner
        .verdict(name, &made.call.secret, "no-such-vantage", ProbePurpose::ProveNew)
        .await?;
    if matches!(verdict, Verdict::Inconclusive { .. } | Verdict::Untestable { .. }) {
        return Ok(());
    }
    Err(Why::Broken(format!(
        "a vantage that does not exist answers {verdict:?}"
    )))
}

/// What `access` names is there on the new account, and its absence would be told.
pub(super) async fn an_account_has_what_access_names(examiner: &Examiner<'_>) -> Judgement {
    let made = examiner.make("entitled").await?;
    let (issue, access) = (examiner.issuer()?, &examiner.subject.access);
    examiner
        .read_shows(&made.issued.principal, "the rights that `access` names", |reading| {
            reading.states().all(|state| issue.lacking(access, state).is_empty())
        })
        .await?;
    let inventory = examiner.inventory()?;
    let reading = inventory.read(&context("read"), &made.issued.principal).await;
    let reading = examiner
        .seen("read", reading)
        .map_err(|error| super::examiner::failed("read", &error))?;
    let names_something = access.as_object().is_some_and(|access| !access.is_empty());
    for state in reading.states().filter(|_| names_something) {
        let mut bare = state.clone();
        bare.grants.clear();
        if issue.lacking(access, &bare).is_empty() {
            return Err(Why::Broken(
                "an account without any right lacks nothing of `access`".to_owned(),
            ));
        }
    }
    Ok(())
}

pub(super) async fn an_account_is_listed_and_read(examiner: &Examiner<'_>) -> Judgement {
    let made = examiner.make("listed").await?;
    let principal = &made.issued.principal;
    examiner
        .read_shows(principal, "the new key on the enabled account", |reading| {
            !reading.places.is_empty()
                && reading.places.iter().all(|place| {
                    place.state.as_ref().is_some_and(|state| {
                        state.name == principal.name
                            && Some(&state.immutable_id) == principal.immutable_id.as_ref()
                            && state.key_ids.contains(&made.issued.key_id)
                            && state.status == PrincipalStatus::Enabled
                    })
                })
        })
        .await?;
    let inventory = examiner.inventory()?;
    examiner
        .eventually(20, async || {
            let listed = examiner.seen("list", inventory.list(&context("list")).await);
            let listed = listed.map_err(|error| super::examiner::failed("list", &error))?;
            if !listed.is_sorted_by(|a, b| a.name <= b.name) {
                return Err(Why::Broken("the list is not sorted by name".to_owned()));
            }
            let found = listed.iter().find(|state| state.name == principal.name);
            match found {
                Some(state) if state.key_ids.contains(&made.issued.key_id) => Ok(()),
                other => Err(Why::Broken(format!("the list shows {other:?} for {}", principal.name))),
            }
        })
        .await?;
    let gaps = examiner.seen("preflight", inventory.preflight(&context("preflight")).await);
    match gaps {
        Ok(gaps) if gaps.is_empty() => Ok(()),
        other => Err(Why::Broken(format!(
            "preflight of an admin that can do all this says {other:?}"
        ))),
    }
}

/// Every strategy of the descriptor ends with the new credential accepted, the old one refused, each by its own key id.
pub(super) async fn each_strategy_replaces_a_credential(examiner: &Examiner<'_>) -> Judgement {
    for strategy in examiner.subject.connector.descriptor().strategies {
        let judgement = match strategy {
            Strategy::DualSlot => dual_slot(examiner).await,
            Strategy::AlternatingAccounts => alternating_accounts(examiner).await,
            Strategy::InPlace => in_place(examiner).await,
        };
        judgement.map_err(|why| match why {
            Why::Broken(what) => Why::Broken(format!("{strategy:?}: {what}")),
            skipped => skipped,
        })?;
    }
    Ok(())
}

async fn dual_slot(examiner: &Examiner<'_>) -> Judgement {
    let old = examiner
        .make_on(examiner.principal("dual"), Placement::Alongside, "dual")
        .await?;
    let account = old.issued.principal.clone();
    let new = examiner.make_on(account.clone(), Placement::Alongside, "dual").await?;
    differ(&old.issued.key_id, &new.issued.key_id)?;
    examiner.accepted_everywhere(&account.name, &old.call.secret).await?;
    examiner.accepted_everywhere(&account.name, &new.call.secret).await?;
    examiner
        .revoke(&old.revocation())
        .await
        .map_err(|error| super::examiner::failed("revoke", &error))?;
    examiner.refused_everywhere(&account.name, &old.call.secret).await?;
    examiner.accepted_everywhere(&account.name, &new.call.secret).await?;
    examiner
        .read_shows(&account, "the new key only", |reading| {
            reading.shows_key(&new.issued.key_id) && !reading.shows_key(&old.issued.key_id)
        })
        .await
}

async fn alternating_accounts(examiner: &Examiner<'_>) -> Judgement {
    let old = examiner
        .make_on(examiner.principal("alta"), Placement::Replace, "alternating")
        .await?;
    let new = examiner
        .make_on(examiner.principal("altb"), Placement::Replace, "alternating")
        .await?;
    examiner
        .accepted_everywhere(&old.issued.principal.name, &old.call.secret)
        .await?;
    examiner
        .accepted_everywhere(&new.issued.principal.name, &new.call.secret)
        .await?;
    examiner
        .revoke(&old.revocation())
        .await
        .map_err(|error| super::examiner::failed("revoke", &error))?;
    examiner
        .refused_everywhere(&old.issued.principal.name, &old.call.secret)
        .await?;
    examiner
        .accepted_everywhere(&new.issued.principal.name, &new.call.secret)
        .await?;
    // The next rotation comes back to the first account, which is there without a credential.
    let next = examiner
        .make_on(old.issued.principal.clone(), Placement::Replace, "alternating")
        .await?;
    differ(&old.issued.key_id, &next.issued.key_id)?;
    examiner
        .accepted_everywhere(&next.issued.principal.name, &next.call.secret)
        .await?;
    examiner
        .refused_everywhere(&old.issued.principal.name, &old.call.secret)
        .await
}

async fn in_place(examiner: &Examiner<'_>) -> Judgement {
    let old = examiner
        .make_on(examiner.principal("inplace"), Placement::Replace, "inplace")
        .await?;
    let account = old.issued.principal.clone();
    examiner.accepted_everywhere(&account.name, &old.call.secret).await?;
    let mut call = examiner.issue_call(account.clone(), Placement::Replace, "inplace");
    let answer = examiner.issue(&call).await;
    fails_as(
        "an issue in the place of a credential that nobody recorded",
        &answer,
        &[ErrorKind::Conflict],
    )?;
    examiner.accepted_everywhere(&account.name, &old.call.secret).await?;
    call.replaces = vec![old.issued.key_id.clone()];
    let new = examiner.made(call).await?;
    differ(&old.issued.key_id, &new.issued.key_id)?;
    examiner.accepted_everywhere(&account.name, &new.call.secret).await?;
    examiner.refused_everywhere(&account.name, &old.call.secret).await?;
    examiner
        .read_shows(&account, "the new key only", |reading| {
            reading.shows_key(&new.issued.key_id) && !reading.shows_key(&old.issued.key_id)
        })
        .await
}

fn differ(old: &crate::KeyId, new: &crate::KeyId) -> Judgement {
    if old == new {
        Err(Why::Broken(format!(
            "the old and the new credential have one key id, {old:?}"
        )))
    } else {
        Ok(())
    }
}

fn observable(examiner: &Examiner<'_>) -> Judgement {
    examiner.issuer()?;
    if examiner.subject.connector.descriptor().issue_class == IssueClass::Once {
        return Err(Why::Skipped("issues of class Once cannot be observed".to_owned()));
    }
    Ok(())
}
