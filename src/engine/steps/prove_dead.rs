//! Proving deaths: rounds of probes until `domain::proof::judge` has its answer for every credential of the run. Each round ends
//! its attempt, so that it is durable before the next one is waited for. Who got in before the last system refused is sent away at the end.

use jiff::Timestamp;
use keyfall_sdk::{ErrorKind, KeyId, PrincipalRef};

use super::super::guard::GuardedConnector;
use super::super::report::StepEnd;
use super::accounts::new_principal;
use super::attempt::{Attempt, Ended, fail};
use super::budget::{REFUSED_PER_VANTAGE, Room};
use super::probes;
use super::rounds::{self, Condemned, Positive};
use super::sessions;
use crate::domain::ids::{CredentialId, SecretId};
use crate::domain::proof::{ControlPlane, Grade, ProofProgress, Round, Standing, judge};
use crate::domain::workflow::{Death, Observation, StepOutput};
use crate::sealing::SecretGenerator;

struct Target {
    credential: CredentialId,
    principal: PrincipalRef,
    key_id: Option<KeyId>,
    secret: Option<SecretId>,
}

pub(super) async fn prove_dead(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let targets = at.plan().old.iter().map(|old| Target {
        credential: old.id,
        principal: old.principal.clone(),
        key_id: old.key_id.clone(),
        secret: old.secret,
    });
    let targets = targets.collect();
    let new = at.plan().new.as_ref().map(|new| new.secret);
    let positive = new_principal(at.run).zip(new);
    let proofs = prove(at, targets, positive).await?;
    sessions::end_those_let_in_late(at).await?;
    Ok(proofs)
}

/// Of what the run itself had issued, on its way back.
pub(super) async fn prove_new_dead(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let (Some(new), Some(principal), false) = (&at.plan().new, new_principal(at.run), at.run.was_never_issued()) else {
        return Ok(StepOutput::Proofs {
            deaths: std::collections::BTreeMap::new(),
        });
    };
    let target = Target {
        credential: new.id,
        principal,
        key_id: at.run.issued().map(|issued| issued.key_id.clone()),
        secret: Some(new.secret),
    };
    // The credential that the identity goes back to, if it was seen alive in this run.
    let lives = |id: CredentialId| {
        at.run
            .progress(id)
            .is_some_and(|progress| !progress.baseline.is_empty() && progress.revoked_at.is_none())
    };
    let old = at.plan().old.iter().find(|old| lives(old.id));
    let positive = old.and_then(|old| old.secret.map(|secret| (old.principal.clone(), secret)));
    let proofs = prove(at, vec![target], positive).await?;
    sessions::end_new_let_in_late(at).await?;
    Ok(proofs)
}

async fn prove(
    at: &mut Attempt<'_>,
    targets: Vec<Target>,
    positive: Option<(PrincipalRef, SecretId)>,
) -> Ended<StepOutput> {
    let connector = at.system().await?;
    let positive = match positive {
        Some(known) => Some(known),
        None => at
            .live_control()
            .await?
            .map(|control| (control.principal, control.secret)),
    };
    let positive = match positive {
        Some((principal, secret)) => at
            .secret_if_kept(secret)
            .await?
            .map(|secret| Positive { principal, secret }),
        None => None,
    };
    let mut deaths = std::collections::BTreeMap::new();
    let mut next: Option<(Timestamp, String)> = None;
    for target in targets {
        match one(at, &connector, &target, positive.as_ref()).await? {
            Progress::Settled(death) => {
                deaths.insert(target.credential, death);
            }
            Progress::Later { until, why } => {
                if next.as_ref().is_none_or(|(at, _)| until < *at) {
                    next = Some((until, why));
                }
            }
        }
    }
    match next {
        Some((until, why)) => Err(StepEnd::Wait { until, why }),
        None => Ok(StepOutput::Proofs { deaths }),
    }
}

enum Progress {
    Settled(Death),
    Later { until: Timestamp, why: String },
}

async fn one(
    at: &mut Attempt<'_>,
    connector: &GuardedConnector,
    target: &Target,
    positive: Option<&Positive>,
) -> Ended<Progress> {
    let terms = &at.plan().proof;
    let mut progress = at.run.progress(target.credential).cloned().unwrap_or_default();
    let secret = match target.secret {
        Some(id) => at.secret_if_kept(id).await?,
        None => None,
    };
    let Some(secret) = secret else {
        let why = "its secret is not ours to try, so only the control plane can tell".to_owned();
        return Ok(Progress::Settled(Death::Unprovable {
            best: grade_without_secret(at, connector, target).await,
            why,
        }));
    };
    let condemned = Condemned {
        credential: target.credential,
        principal: target.principal.clone(),
        key_id: target.key_id.clone(),
        secret,
    };
    let now = at.now();
    if let Standing::Probe { at: when } = judge(terms, &progress, now)
        && when <= now
    {
        let budget = probes::room(at, connector, &condemned.principal.name).await;
        let vantages = affordable(&terms.vantages, &progress, budget);
        if vantages.is_empty() {
            let gives_up_at = progress.revoked_at.map(|at| terms.gives_up_at(at));
            if budget.is_shut() && gives_up_at.is_none_or(|at| at <= now) {
                return Ok(Progress::Settled(Death::Unprovable {
                    best: grade_without_secret(at, connector, target).await,
                    why: "the refused logins that the system allows leave no room for a probe with its control"
                        .to_owned(),
                }));
            }
            return Ok(Progress::Later {
                until: budget.later_than(now),
                why: format!(
                    "{} has seen enough refused logins for the time being",
                    target.principal.name
                ),
            });
        }
        let rounds = probe(at, connector, &condemned, positive, &vantages).await?;
        progress.rounds.extend(rounds);
    }
    settle(at, connector, &condemned, &progress).await
}

async fn settle(
    at: &Attempt<'_>,
    connector: &GuardedConnector,
    condemned: &Condemned,
    progress: &ProofProgress,
) -> Ended<Progress> {
    let terms = &at.plan().proof;
    Ok(match judge(terms, progress, at.now()) {
        Standing::Probe { at: until } => Progress::Later {
            until,
            why: format!(
                "{} rounds against {} so far; {} refusals in a row are wanted at each of {} vantages, the last behind the settling window",
                progress.rounds.len(),
                condemned.credential,
                terms.refusals,
                terms.vantages.len()
            ),
        },
        Standing::Proven(_) if condemned.key_id.is_none() => Progress::Settled(Death::Unprovable {
            best: Some(Grade::E3),
            why: "no key id of it was ever recorded, so it cannot be told what was revoked".to_owned(),
        }),
        Standing::Proven(proof) => Progress::Settled(Death::Proven {
            proven_at: proof.proven_at(),
        }),
        Standing::Alive { since } => Progress::Settled(Death::Alive { since }),
        Standing::Unprovable { best: None, why } if progress.rounds.is_empty() => {
            let shown = rounds::control_plane(at, connector, condemned).await;
            let all = terms.vantages.iter().map(|vantage| shown.at(vantage, condemned));
            Progress::Settled(Death::Unprovable {
                best: absent_everywhere(all),
                why,
            })
        }
        Standing::Unprovable { best, why } => Progress::Settled(Death::Unprovable { best, why }),
    })
}

async fn probe(
    at: &mut Attempt<'_>,
    connector: &GuardedConnector,
    condemned: &Condemned,
    positive: Option<&Positive>,
    vantages: &[String],
) -> Ended<Vec<Round>> {
    let random = &*at.steps.env.random;
    let wrong = SecretGenerator::new(connector.descriptor().secret_shape)
        .and_then(|generator| generator.draw_wrong(&condemned.secret, random))
        .map_err(|error| fail(ErrorKind::Transient, error.to_string()))?;
    // Spent before the logins are made: a round that is cut off has been seen by the system all the same.
    let spent = usize::try_from(REFUSED_PER_VANTAGE)
        .unwrap_or(2)
        .saturating_mul(vantages.len());
    let now = at.now();
    at.steps
        .refusals
        .spend(connector.system(), &condemned.principal.name, spent, now);
    let rounds = rounds::round(at, connector, condemned, positive, &wrong, vantages).await;
    for round in &rounds {
        at.see(Observation::ProbeRound {
            credential: condemned.credential,
            round: round.clone(),
        });
    }
    Ok(rounds)
}

/// As many vantages as there is room for, those that were tried the longest ago first.
fn affordable(vantages: &[String], progress: &ProofProgress, room: Room) -> Vec<String> {
    let last = |vantage: &String| {
        let rounds = progress.rounds.iter().filter(|round| round.vantage == *vantage);
        rounds.map(|round| round.ended_at).max()
    };
    let mut order: Vec<&String> = vantages.iter().collect();
    order.sort_by_key(|vantage| last(vantage));
    let fits = usize::try_from(room.refused / REFUSED_PER_VANTAGE).unwrap_or(usize::MAX);
    order.into_iter().take(fits).cloned().collect()
}

async fn grade_without_secret(at: &Attempt<'_>, connector: &GuardedConnector, target: &Target) -> Option<Grade> {
    let key_id = target.key_id.as_ref()?;
    let reading = connector
        .read(at.ctx(&target.principal.name), target.principal.clone())
        .await
        .ok()?;
    let gone = !reading.places.is_empty() && !reading.shows_key(key_id);
    gone.then_some(Grade::E3)
}

fn absent_everywhere(mut shown: impl Iterator<Item = ControlPlane>) -> Option<Grade> {
    let absent = |shown: ControlPlane| {
        matches!(
            shown,
            ControlPlane::CredentialGone | ControlPlane::PrincipalGone | ControlPlane::PrincipalDisabled
        )
    };
    shown.all(absent).then_some(Grade::E3)
}
