//! Laws on how credentials and accounts end.

use super::examiner::{Examiner, context, failed, fails_as, foreign_key};
use super::report::{Judgement, Why};
use crate::{ErrorKind, RevokeCall, Revoked};

pub(super) async fn a_revoked_secret_is_refused_everywhere(examiner: &Examiner<'_>) -> Judgement {
    examiner.revoker()?;
    let made = examiner.make("revoked").await?;
    let name = &made.issued.principal.name;
    // No death without a life: the same bytes were accepted before.
    examiner.accepted_everywhere(name, &made.call.secret).await?;
    succeeds("revoke", examiner.revoke(&made.revocation()).await, Revoked::Revoked)?;
    examiner.refused_everywhere(name, &made.call.secret).await?;
    examiner
        .read_shows(&made.issued.principal, "no trace of the key", |reading| {
            !reading.shows_key(&made.issued.key_id)
        })
        .await
}

pub(super) async fn revoking_twice_is_success(examiner: &Examiner<'_>) -> Judgement {
    examiner.revoker()?;
    let made = examiner.make("revtwice").await?;
    succeeds("revoke", examiner.revoke(&made.revocation()).await, Revoked::Revoked)?;
    succeeds(
        "the second revoke",
        examiner.revoke(&made.revocation()).await,
        Revoked::AlreadyGone,
    )
}

/// A key id that was never there is gone already or in conflict. The key that is there stays.
pub(super) async fn a_foreign_key_id_harms_nothing(examiner: &Examiner<'_>) -> Judgement {
    examiner.revoker()?;
    let made = examiner.make("foreign").await?;
    let foreign = RevokeCall {
        key_id: foreign_key(),
        ..made.revocation()
    };
    harmless("revoke by a foreign key id", &examiner.revoke(&foreign).await)?;
    let mut misfiled = made.revocation();
    misfiled.principal.name = examiner.principal("elsewhere").name;
    harmless(
        "revoke on an account that does not exist",
        &examiner.revoke(&misfiled).await,
    )?;
    examiner
        .accepted_everywhere(&made.issued.principal.name, &made.call.secret)
        .await
}

/// What was recorded of a deleted account does not touch another account of its name.
pub(super) async fn a_namesake_is_not_harmed(examiner: &Examiner<'_>) -> Judgement {
    examiner.revoker()?;
    if !examiner.subject.ids_are_real {
        return Err(Why::Skipped("the system's ids do not tell namesakes apart".to_owned()));
    }
    let old = examiner.make("reborn").await?;
    succeeds("delete", examiner.delete(&old.issued.principal).await, Revoked::Revoked)?;
    let new = examiner
        .make_on(examiner.principal("reborn"), examiner.placement(), "reborn again")
        .await?;
    if old.issued.principal == new.issued.principal {
        return Err(Why::Broken(format!(
            "the successor has the same id, {:?}",
            new.issued.principal
        )));
    }
    let conflict = &[ErrorKind::Conflict];
    fails_as(
        "revoke by the old id",
        &examiner.revoke(&old.revocation()).await,
        conflict,
    )?;
    fails_as(
        "delete by the old id",
        &examiner.delete(&old.issued.principal).await,
        conflict,
    )?;
    let reissue = examiner.issue_call(old.issued.principal.clone(), examiner.placement(), "reborn");
    fails_as("issue by the old id", &examiner.issue(&reissue).await, conflict)?;
    if let Ok(suspender) = examiner.suspender() {
        let answer = suspender.suspend(&context("suspend"), &old.issued.principal).await;
        fails_as("suspend by the old id", &examiner.seen("suspend", answer), conflict)?;
    }
    examiner
        .accepted_everywhere(&new.issued.principal.name, &new.call.secret)
        .await
}

pub(super) async fn deleting_twice_is_success(examiner: &Examiner<'_>) -> Judgement {
    examiner.revoker()?;
    let made = examiner.make("deleted").await?;
    let principal = &made.issued.principal;
    examiner.accepted_everywhere(&principal.name, &made.call.secret).await?;
    succeeds("delete", examiner.delete(principal).await, Revoked::Revoked)?;
    succeeds(
        "the second delete",
        examiner.delete(principal).await,
        Revoked::AlreadyGone,
    )?;
    succeeds(
        "revoke on the deleted account",
        examiner.revoke(&made.revocation()).await,
        Revoked::AlreadyGone,
    )?;
    examiner.refused_everywhere(&principal.name, &made.call.secret).await?;
    examiner
        .read_shows(principal, "nobody", crate::PrincipalReading::is_absent)
        .await
}

fn succeeds(call: &str, answer: crate::Result<Revoked>, wanted: Revoked) -> Judgement {
    match answer {
        Ok(revoked) if revoked == wanted => Ok(()),
        Ok(other) => Err(Why::Broken(format!("{call} answers {other:?}, not {wanted:?}"))),
        Err(error) => Err(failed(call, &error)),
    }
}

fn harmless(call: &str, answer: &crate::Result<Revoked>) -> Judgement {
    match answer {
        Ok(Revoked::AlreadyGone) => Ok(()),
        other => fails_as(call, other, &[ErrorKind::Conflict]),
    }
}
