//! The last look before the point of no return: what would stop a run behind it is found in front of it, where the run can still be taken back.
//! Reads nothing downstream, and leaves no event but the one that says what is missing.

use super::attempt::{Attempt, Ended};
use super::probes;
use crate::domain::workflow::{RunKind, Step};

pub(super) async fn ready(at: &Attempt<'_>) -> Ended<()> {
    if at.step == Step::RevokeOld {
        new_is_proven(at)?;
    }
    at.system().await?;
    for old in &at.plan().old {
        if let Some(secret) = old.secret {
            at.secret_if_kept(secret).await?;
        }
    }
    if let Some(new) = &at.plan().new {
        at.secret(new.secret).await?;
    }
    Ok(())
}

/// P3: nothing is taken away from consumers before its successor was let in everywhere.
pub(super) fn new_is_proven(at: &Attempt<'_>) -> Ended<()> {
    let plan = at.plan();
    let Some(new) = plan
        .new
        .as_ref()
        .filter(|_| matches!(plan.kind, RunKind::Rotate | RunKind::EmergencyRotate))
    else {
        return Ok(());
    };
    let missing = probes::untried(at, new.id);
    if missing.is_empty() {
        return Ok(());
    }
    Err(at.ask(
        format!(
            "the new credential was never accepted at {}, so the old one is kept",
            missing.join(", ")
        ),
        &at.or_cancel("find out why it is not let in", "which takes the new credential back"),
    ))
}
