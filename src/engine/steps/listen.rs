//! Listening for a legitimate scream: somebody who still needs the disabled account. What a system can show of it are sessions; everything
//! else reaches a person, who cancels the run, which enables the account again.

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::ErrorKind;

use super::super::report::StepEnd;
use super::accounts::all_principals;
use super::attempt::{Attempt, Ended, failed};
use crate::domain::workflow::StepOutput;

/// Looks during the time of listening.
const LOOKS: i32 = 4;

pub(super) async fn listen(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    sessions(at).await?;
    let listen = at.plan().timing.listen;
    let now = at.now();
    let ends_at = at.began_at().saturating_add(listen).unwrap_or(Timestamp::MAX);
    if now >= ends_at {
        return Ok(StepOutput::Nothing);
    }
    let pause = listen
        .checked_div(LOOKS)
        .unwrap_or(listen)
        .max(SignedDuration::from_millis(100));
    Err(StepEnd::Wait {
        until: now.saturating_add(pause).unwrap_or(ends_at).min(ends_at),
        why: "listening whether somebody still needs the account; cancel the run to enable it again".to_owned(),
    })
}

async fn sessions(at: &mut Attempt<'_>) -> Ended<()> {
    let connector = at.system().await?;
    if !connector.can_count_sessions() {
        return Ok(());
    }
    for principal in all_principals(at.run) {
        match connector
            .count_sessions(at.ctx(&principal.name), principal.clone())
            .await
        {
            Ok(0) => {}
            Ok(open) => at.note(format!(
                "the disabled account {} still has {open} open sessions",
                principal.name
            )),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    Ok(())
}
