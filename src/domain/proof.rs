//! Proof of death (`src/README.md`): what one round of probes is worth, and when rounds add up to a proof. Pure: the engine probes, this judges.
//!
//! [`Proof`] has private fields and one constructor, so a credential can be called dead nowhere else in the program.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::Verdict;
use serde::{Deserialize, Serialize};

/// How strong a piece of evidence is; E1 is the strongest. A grade never rises without new evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Grade {
    /// A probe with paired controls.
    E1,
    /// The issuer's own introspection.
    E2,
    /// Absence from the control plane.
    E3,
    /// Silence in the logs for longer than their lag.
    E4,
    /// Expiry arithmetic.
    E5,
}

impl Grade {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::E1 => "E1",
            Self::E2 => "E2",
            Self::E3 => "E3",
            Self::E4 => "E4",
            Self::E5 => "E5",
        }
    }
}

/// What the control plane shows of the credential, read in the same minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "shows", rename_all = "snake_case")]
pub enum ControlPlane {
    CredentialGone,
    PrincipalGone,
    CredentialStillThere,
    /// The credential is gone, and the principal is locked, disabled or expired: it would refuse the right secret too.
    PrincipalDisabled,
    Unread {
        why: String,
    },
}

/// One round at one vantage: the dead candidate, its two controls and the control plane, on fresh connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    pub vantage: String,
    pub endpoint: String,
    pub began_at: Timestamp,
    pub ended_at: Timestamp,
    pub old: Verdict,
    /// `None` when there is no other live credential to try.
    pub positive: Option<Verdict>,
    pub negative: Verdict,
    pub control_plane: ControlPlane,
}

/// What a round says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Worth {
    Refusal,
    Accepted,
    Nothing { why: &'static str },
}

impl Round {
    /// The four things that must hold within one minute.
    #[must_use]
    pub fn worth(&self) -> Worth {
        let nothing = |why| Worth::Nothing { why };
        let code = match &self.old {
            Verdict::Accepted { .. } => return Worth::Accepted,
            Verdict::Refused { code } => code,
            Verdict::Inconclusive { .. } => return nothing("the old credential got no clear answer"),
            Verdict::Untestable { .. } => return nothing("the vantage cannot be asked"),
        };
        if self.ended_at.duration_since(self.began_at) > SignedDuration::from_secs(60) {
            return nothing("the round took longer than a minute");
        }
        match &self.positive {
            Some(Verdict::Accepted { .. }) => {}
            Some(_) => return nothing("the positive control was not accepted"),
            None => return nothing("there is no positive control"),
        }
        if !matches!(&self.negative, Verdict::Refused { code: random } if random == code) {
            return nothing("a random credential did not get the same refusal");
        }
        match self.control_plane {
            ControlPlane::CredentialGone | ControlPlane::PrincipalGone => Worth::Refusal,
            ControlPlane::CredentialStillThere => nothing("the control plane still shows the credential"),
            ControlPlane::PrincipalDisabled => nothing("the principal is disabled, so any secret is refused"),
            ControlPlane::Unread { .. } => nothing("the control plane could not be read"),
        }
    }
}

/// What must hold for a death to be proven; pinned in the run's plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofTerms {
    pub vantages: Vec<String>,
    pub refusals: u32,
    pub interval: SignedDuration,
    pub settling: SignedDuration,
    /// Where the settling window comes from, for the receipt.
    pub settling_source: String,
    pub give_up_after: SignedDuration,
}

impl ProofTerms {
    /// From when on a proof that is not there yet is not waited for.
    #[must_use]
    pub fn gives_up_at(&self, revoked_at: Timestamp) -> Timestamp {
        let wait = self.settling.saturating_add(self.give_up_after);
        revoked_at.saturating_add(wait).unwrap_or(Timestamp::MAX)
    }

    /// How long it takes from the promotion of a credential's successor to its proven death, when nothing goes wrong: due times lie earlier
    /// by this much, so that a rotation that begins in time also ends in time.
    #[must_use]
    pub fn takes(&self, overlap: SignedDuration) -> SignedDuration {
        let probing = self
            .interval
            .saturating_mul(i32::try_from(self.refusals).unwrap_or(i32::MAX));
        overlap
            .saturating_add(self.settling)
            .saturating_add(probing)
            .saturating_add(SignedDuration::from_mins(1))
    }
}

/// What was seen so far of one credential.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProofProgress {
    /// Vantages at which these very bytes were accepted before the revocation, and when.
    pub baseline: BTreeMap<String, Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub rounds: Vec<Round>,
}

/// Where a proof stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// Another round is wanted, no sooner than this.
    Probe {
        at: Timestamp,
    },
    Proven(Box<Proof>),
    /// Accepted after the settling window.
    Alive {
        since: Timestamp,
    },
    Unprovable {
        best: Option<Grade>,
        why: String,
    },
}

/// The evidence of a death. Can only be made by [`judge`], also when it is read back: what was stored is judged again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StoredProof")]
pub struct Proof {
    terms: ProofTerms,
    progress: ProofProgress,
    proven_at: Timestamp,
}

#[derive(Deserialize)]
struct StoredProof {
    terms: ProofTerms,
    progress: ProofProgress,
    proven_at: Timestamp,
}

/// What was stored as a proof proves no death.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("what is stored as a proof of death is none: its rounds do not add up to one")]
pub struct NoProof;

impl TryFrom<StoredProof> for Proof {
    type Error = NoProof;

    fn try_from(stored: StoredProof) -> Result<Self, NoProof> {
        match judge(&stored.terms, &stored.progress, stored.proven_at) {
            Standing::Proven(proof) => Ok(*proof),
            _ => Err(NoProof),
        }
    }
}

impl Proof {
    #[must_use]
    pub fn terms(&self) -> &ProofTerms {
        &self.terms
    }

    #[must_use]
    pub fn progress(&self) -> &ProofProgress {
        &self.progress
    }

    #[must_use]
    pub fn proven_at(&self) -> Timestamp {
        self.proven_at
    }
}

/// Judges what was seen. `now` decides only whether the wait is over, never what a round was worth.
#[must_use]
pub fn judge(terms: &ProofTerms, progress: &ProofProgress, now: Timestamp) -> Standing {
    let Some(revoked_at) = progress.revoked_at else {
        return Standing::Unprovable {
            best: None,
            why: "nothing was revoked".to_owned(),
        };
    };
    let settled_at = revoked_at.saturating_add(terms.settling).unwrap_or(Timestamp::MAX);
    let gives_up_at = terms.gives_up_at(revoked_at);
    if let Some(missing) = terms.vantages.iter().find(|name| {
        progress
            .baseline
            .get(*name)
            .is_none_or(|lived_at| *lived_at >= revoked_at)
    }) {
        let why = format!(
            "these bytes were never accepted at {missing} before the revocation, so a refusal there proves nothing"
        );
        return Standing::Unprovable {
            best: best_grade(progress),
            why,
        };
    }
    let alive = progress
        .rounds
        .iter()
        .find(|round| round.worth() == Worth::Accepted && round.began_at > settled_at);
    if let Some(round) = alive {
        return Standing::Alive { since: round.began_at };
    }
    if !terms.vantages.is_empty()
        && terms
            .vantages
            .iter()
            .all(|name| holds_at(terms, progress, name, settled_at))
    {
        return Standing::Proven(Box::new(Proof {
            terms: terms.clone(),
            progress: progress.clone(),
            proven_at: now,
        }));
    }
    if now >= gives_up_at
        && !terms
            .vantages
            .iter()
            .any(|name| is_owed(terms, progress, name, settled_at, gives_up_at))
    {
        let why = last_obstacle(terms, progress)
            .unwrap_or("too few refusals in a row")
            .to_owned();
        return Standing::Unprovable {
            best: best_grade(progress),
            why,
        };
    }
    Standing::Probe {
        at: next_round(terms, progress, revoked_at, settled_at),
    }
}

/// The time to give up does not cut off what was on its way. A round that was wanted before, and that a budget of refused logins or a stopped
/// server delayed, is still made; and refusals in a row are counted to their end. Both are bounded: each round pays or breaks the row.
fn is_owed(
    terms: &ProofTerms,
    progress: &ProofProgress,
    vantage: &str,
    settled_at: Timestamp,
    gives_up_at: Timestamp,
) -> bool {
    if holds_at(terms, progress, vantage, settled_at) {
        return false;
    }
    let last = progress.rounds.iter().rev().find(|round| round.vantage == vantage);
    last.is_none_or(|last| {
        let next = last
            .ended_at
            .saturating_add(pause_after(terms, last))
            .unwrap_or(Timestamp::MAX);
        last.worth() == Worth::Refusal || next < gives_up_at
    })
}

/// The shortest wait behind a round that proved nothing. Refusals are counted and come to an end by themselves; other answers do not, and
/// with an interval of zero they would be asked for without a pause.
pub const SHORTEST_WAIT: SignedDuration = SignedDuration::from_secs(1);

fn pause_after(terms: &ProofTerms, round: &Round) -> SignedDuration {
    match round.worth() {
        Worth::Refusal => terms.interval,
        Worth::Accepted | Worth::Nothing { .. } => terms.interval.max(SHORTEST_WAIT),
    }
}

/// N refusals in a row at this vantage, the last of them at or after the end of the window.
fn holds_at(terms: &ProofTerms, progress: &ProofProgress, vantage: &str, settled_at: Timestamp) -> bool {
    let rounds = || progress.rounds.iter().rev().filter(|round| round.vantage == vantage);
    let in_a_row = rounds().take_while(|round| round.worth() == Worth::Refusal).count();
    let wanted = usize::try_from(terms.refusals.max(1)).unwrap_or(usize::MAX);
    in_a_row >= wanted && rounds().next().is_some_and(|last| last.began_at >= settled_at)
}

/// Rounds are timed so that the last of N falls on the end of the window and no refused login is spent before it counts.
fn next_round(terms: &ProofTerms, progress: &ProofProgress, revoked_at: Timestamp, settled_at: Timestamp) -> Timestamp {
    let lead = terms
        .interval
        .saturating_mul(i32::try_from(terms.refusals.max(1) - 1).unwrap_or(i32::MAX));
    let first = settled_at.saturating_sub(lead).unwrap_or(revoked_at).max(revoked_at);
    let after = |round: &Round| {
        let pause = pause_after(terms, round);
        round.ended_at.saturating_add(pause).unwrap_or(Timestamp::MAX)
    };
    progress.rounds.iter().map(after).fold(first, Timestamp::max)
}

/// How long a vantage went on honouring a revoked credential: from the revocation to the end of the first refusal behind the last round that
/// was accepted there. `None` where no round was accepted: when the first round was made says when it was scheduled, and a length of that
/// kind would widen the next window, which schedules the next round later still. `None` as well where nobody looked for long between the two.
#[must_use]
pub fn measured_settling(terms: &ProofTerms, progress: &ProofProgress, vantage: &str) -> Option<SignedDuration> {
    let revoked_at = progress.revoked_at?;
    let mut rounds = progress.rounds.iter().filter(|round| round.vantage == vantage).rev();
    let mut refused = None;
    let accepted = loop {
        let round = rounds.next()?;
        match round.worth() {
            Worth::Refusal => refused = Some(round),
            Worth::Accepted => break round,
            Worth::Nothing { .. } => {}
        }
    };
    let refused = refused?;
    let unseen = refused.began_at.duration_since(accepted.ended_at);
    let longest = terms.interval.saturating_mul(2).max(SignedDuration::from_mins(1));
    (unseen <= longest).then(|| refused.ended_at.duration_since(revoked_at))
}

fn best_grade(progress: &ProofProgress) -> Option<Grade> {
    let absent = |round: &Round| {
        matches!(
            round.control_plane,
            ControlPlane::CredentialGone | ControlPlane::PrincipalGone | ControlPlane::PrincipalDisabled
        )
    };
    progress.rounds.last().filter(|round| absent(round)).map(|_| Grade::E3)
}

fn last_obstacle(terms: &ProofTerms, progress: &ProofProgress) -> Option<&'static str> {
    terms.vantages.iter().find_map(|name| {
        progress
            .rounds
            .iter()
            .rev()
            .find(|round| round.vantage == *name)
            .and_then(|round| match round.worth() {
                Worth::Nothing { why } => Some(why),
                Worth::Accepted => Some("the credential was accepted inside the settling window"),
                Worth::Refusal => None,
            })
    })
}

#[cfg(test)]
#[path = "settling_tests.rs"]
mod settling_tests;
#[cfg(test)]
#[path = "proof_tests.rs"]
mod tests;
