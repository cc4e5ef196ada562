//! Listening for a legitimate scream: somebody who still needs the disabled account. What a system can show of it are sessions: those
//! that are open when the listening ends stop the run. Everything else reaches a person, who cancels it, which enables the account again.

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::ErrorKind;

use super::super::report::StepEnd;
use super::accounts::all_principals;
use super::attempt::{Attempt, Ended, failed};
use crate::domain::workflow::{StepOutput, StuckBecause};

/// Looks during the time of listening.
const LOOKS: i32 = 4;

pub(super) async fn listen(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let heard = sessions(at).await?;
    let listen = at.plan().timing.listen;
    let now = at.now();
    let ends_at = at.began_at().saturating_add(listen).unwrap_or(Timestamp::MAX);
    if now >= ends_at {
        return if heard.is_empty() {
            Ok(StepOutput::Nothing)
        } else {
            Err(still_needed(at, &heard.join("; ")))
        };
    }
    for text in heard {
        at.note(text);
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

/// A disabled account lets nobody in, and who is in stays: that is a workload at work, and everything behind this step would end it.
fn still_needed(at: &Attempt<'_>, heard: &str) -> StepEnd {
    let id = at.run.id();
    StepEnd::AskOperator {
        reason: format!("somebody still uses what is to go: {heard}"),
        manual_step: format!(
            "find out who is connected. Is the account needed: `keyfall cancel {id} --reason …` enables it again. Is it not: another person than who asked for this run lets it go on, and it ends these sessions, with `keyfall resume {id} --reason …`; or end them by hand and `keyfall retry {id} --reason …` listens once more"
        ),
        because: StuckBecause::Consumer,
    }
}

/// The sessions that are open on disabled accounts, one line for each account.
async fn sessions(at: &Attempt<'_>) -> Ended<Vec<String>> {
    let connector = at.system().await?;
    let mut heard = Vec::new();
    if !connector.can_count_sessions() {
        return Ok(heard);
    }
    for principal in all_principals(at.run) {
        match connector
            .count_sessions(at.ctx(&principal.name), principal.clone())
            .await
        {
            Ok(0) => {}
            Ok(open) => heard.push(format!(
                "the disabled account {} has open sessions: {open}",
                principal.name
            )),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    Ok(heard)
}
