//! No death without a life: what is to be ended is tried first, at every vantage. A credential that is not accepted is no reason to stop a
//! rotation; its death will then be at best `unprovable`, and that is said here already.

use keyfall_sdk::{ErrorKind, ProbePurpose, Verdict};

use super::super::guard::GuardedConnector;
use super::super::report::StepEnd;
use super::attempt::{Attempt, Ended, fail};
use super::probes::{self, Candidate, Tried};
use crate::domain::due::DueReason;
use crate::domain::workflow::{OldCredential, RunKind, StepOutput};

/// Attempts after which a vantage that gives no clear answer is left as it is.
pub(super) const PATIENCE: u32 = 3;

pub(super) async fn baseline(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let connector = at.system().await?;
    for old in &at.plan().old {
        let Some(secret) = secret_of(at, old).await? else {
            continue;
        };
        let vantages = probes::untried(at, old.id);
        let candidate = Candidate {
            credential: old.id,
            principal: old.principal.clone(),
            secret,
        };
        let tried = probes::try_within_budget(at, &connector, &candidate, &vantages, ProbePurpose::Baseline).await;
        judge(at, old, &tried.verdicts)?;
        if !tried.left.is_empty() {
            wait_for_room(at, &connector, &old.principal.name, &tried).await?;
            at.note(format!(
                "{} was not tried at {}: another refused login might lock the account",
                old.id,
                tried.left.join(", ")
            ));
        }
    }
    Ok(StepOutput::Nothing)
}

/// A system that counts refused logins has counted enough of them for the time being. What is not tried now could never be proven dead, so
/// there is waited, but where somebody wants the credential ended now, proven or not.
/// Where it was refused already, waiting would change nothing.
pub(super) async fn wait_for_room(
    at: &Attempt<'_>,
    connector: &GuardedConnector,
    principal: &str,
    tried: &Tried,
) -> Ended<()> {
    if tried.left.is_empty() || tried.verdicts.iter().any(|(_, verdict)| !verdict.is_accepted()) {
        return Ok(());
    }
    let plan = at.plan();
    let room = probes::room(at, connector, principal).await;
    let hurries =
        matches!(plan.kind, RunKind::EmergencyRotate | RunKind::Revoke) || plan.reason == DueReason::Compromised;
    if hurries || room.is_shut() {
        return Ok(());
    }
    Err(StepEnd::Wait {
        until: room.later_than(at.now()),
        why: format!(
            "{principal} has seen enough refused logins for the time being, and is tried before anything of it is ended"
        ),
    })
}

async fn secret_of(at: &mut Attempt<'_>, old: &OldCredential) -> Ended<Option<keyfall_sdk::SecretValue>> {
    let secret = match old.secret {
        Some(id) => at.secret_if_kept(id).await?,
        None => None,
    };
    if secret.is_none() {
        at.note(format!(
            "the secret of {} is not ours, so it cannot be tried: its death will be at best unprovable",
            old.id
        ));
    }
    Ok(secret)
}

fn judge(at: &mut Attempt<'_>, old: &OldCredential, verdicts: &[(String, Verdict)]) -> Ended<()> {
    if verdicts.iter().all(|(_, verdict)| verdict.is_accepted()) {
        return Ok(());
    }
    let obstacles = probes::obstacles(verdicts);
    if at.number < PATIENCE && verdicts.iter().any(|(_, verdict)| probes::may_pass(verdict)) {
        return Err(fail(ErrorKind::Transient, obstacles));
    }
    if at.plan().kind == RunKind::TakeOver {
        return Err(at.ask_to_cancel(
            format!(
                "the given secret is not accepted for {}: {obstacles}",
                old.principal.name
            ),
            "give the right secret with a new `keyfall adopt NAME --take-over …`",
        ));
    }
    let everywhere = verdicts.len() == at.plan().proof.vantages.len();
    let refused = verdicts.iter().all(|(_, verdict)| verdict.is_refused());
    if everywhere && refused {
        at.note(format!("{} is refused everywhere already: {obstacles}", old.id));
    } else {
        at.note(format!(
            "{} is not accepted everywhere, so its death cannot be proven there: {obstacles}",
            old.id
        ));
    }
    Ok(())
}
