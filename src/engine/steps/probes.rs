//! Trying credentials, many vantages side by side, and what is made of the answers before a revocation.

use futures_util::future::join_all;
use keyfall_sdk::{InconclusiveWhy, PrincipalRef, ProbeCall, ProbePurpose, ProbeReading, SecretValue, Verdict};

use super::super::guard::GuardedConnector;
use super::attempt::Attempt;
use super::budget::{Room, allowances};
use super::recorded::{Asked, refused_by};
use crate::domain::ids::CredentialId;
use crate::domain::workflow::Observation;

/// A credential to be tried.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) credential: CredentialId,
    pub(super) principal: PrincipalRef,
    pub(super) secret: SecretValue,
}

/// What trying came to.
pub(super) struct Tried {
    pub(super) verdicts: Vec<(String, Verdict)>,
    /// Vantages that were left out, because a refusal there would be one too many for the account.
    pub(super) left: Vec<String>,
}

/// Tries one credential at the given vantages, as many at once as there may be refusals, and goes on where it is accepted.
pub(super) async fn try_within_budget(
    at: &mut Attempt<'_>,
    connector: &GuardedConnector,
    candidate: &Candidate,
    vantages: &[String],
    purpose: ProbePurpose,
) -> Tried {
    let mut verdicts = Vec::new();
    let mut left = vantages;
    while !left.is_empty() {
        let room = room(at, connector, &candidate.principal.name).await;
        // With nothing held against the account one login is always possible, or no credential could ever be tried there.
        let fits = room.refused.max(u32::from(room.more_at.is_none()));
        let (next, rest) = left.split_at(usize::try_from(fits).unwrap_or(usize::MAX).min(left.len()));
        if next.is_empty() {
            break;
        }
        verdicts.extend(try_at(at, connector, candidate, next, purpose).await);
        left = rest;
    }
    Tried {
        verdicts,
        left: left.to_vec(),
    }
}

/// Tries one credential at the given vantages, keeps each answer as an observation, and counts the refused ones.
async fn try_at(
    at: &mut Attempt<'_>,
    connector: &GuardedConnector,
    candidate: &Candidate,
    vantages: &[String],
    purpose: ProbePurpose,
) -> Vec<(String, Verdict)> {
    let tries = vantages.iter().map(|vantage| {
        let call = ProbeCall {
            principal: candidate.principal.clone(),
            secret: candidate.secret.clone(),
            vantage: vantage.clone(),
            purpose,
        };
        connector.probe(at.ctx(vantage), call)
    });
    let readings: Vec<ProbeReading> = join_all(tries).await;
    let refused = readings.iter().filter(|reading| reading.verdict.is_refused()).count();
    let now = at.now();
    at.steps
        .refusals
        .spend(connector.system(), &candidate.principal.name, refused, now);
    let mut verdicts = Vec::new();
    for (vantage, reading) in vantages.iter().zip(readings) {
        verdicts.push((vantage.clone(), reading.verdict.clone()));
        at.see(Observation::Tried {
            credential: candidate.credential,
            vantage: vantage.clone(),
            reading,
        });
    }
    verdicts
}

/// How many refused logins the account may still see.
pub(super) async fn room(at: &Attempt<'_>, connector: &GuardedConnector, principal: &str) -> Room {
    let allowances = allowances(connector.limits(), connector.descriptor());
    let (refusals, system, now) = (&at.steps.refusals, connector.system(), at.now());
    if let Some((since, until)) = refusals.unknown((system, principal), at.hold.claim(), &allowances, now) {
        let asked = Asked {
            identity: at.plan().identity,
            principal,
            since,
            until,
            claim: at.hold.claim(),
        };
        match at.steps.recorded.refused(asked).await {
            Ok(recorded) => refusals.learn((system, principal), at.hold.claim(), &recorded),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "recent refused logins are not known, so none is risked"
                );
                return Room::unknown(&allowances, now);
            }
        }
    }
    refusals.room(system, principal, &allowances, &refused_by(at.run, principal), now)
}

/// Vantages at which this credential has not been accepted in this run.
pub(super) fn untried(at: &Attempt<'_>, credential: CredentialId) -> Vec<String> {
    let progress = at.run.progress(credential);
    let accepted = |vantage: &String| progress.is_some_and(|progress| progress.baseline.contains_key(vantage));
    let mut vantages = at.plan().proof.vantages.clone();
    vantages.retain(|vantage| !accepted(vantage));
    vantages
}

/// The answer may well be another one if the same is asked a little later.
pub(super) fn may_pass(verdict: &Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Inconclusive {
            why: InconclusiveWhy::Timeout
                | InconclusiveWhy::Unreachable
                | InconclusiveWhy::RateLimited
                | InconclusiveWhy::ServerFault
                | InconclusiveWhy::Protocol,
            ..
        }
    )
}

/// One answer, for people.
pub(super) fn describe(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accepted { .. } => "accepted".to_owned(),
        Verdict::Refused { code } => format!("refused ({code})"),
        Verdict::Inconclusive { detail, .. } => format!("no clear answer ({detail})"),
        Verdict::Untestable { why } => format!("cannot be tried ({why})"),
    }
}

/// Answers that are not acceptances, one after the other, for people.
pub(super) fn obstacles(verdicts: &[(String, Verdict)]) -> String {
    let bad = verdicts.iter().filter(|(_, verdict)| !verdict.is_accepted());
    bad.map(|(vantage, verdict)| format!("{vantage}: {}", describe(verdict)))
        .collect::<Vec<_>>()
        .join("; ")
}
