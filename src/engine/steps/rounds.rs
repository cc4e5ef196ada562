//! One round of probes against one credential that is to be dead: the old secret, the positive control, a random secret of the same shape
//! and the control plane, side by side at every vantage, on fresh connections. What a round is worth is judged in `domain::proof`.

use futures_util::future::{join, join_all};
use keyfall_sdk::{
    IssueCall, IssueObservation, KeyId, Placement, PrincipalReading, PrincipalRef, PrincipalStatus, ProbeCall,
    ProbePurpose, SecretValue, Verdict,
};

use super::super::guard::GuardedConnector;
use super::attempt::Attempt;
use crate::domain::ids::CredentialId;
use crate::domain::proof::{ControlPlane, Round};

/// A credential that was revoked.
pub(super) struct Condemned {
    pub(super) credential: CredentialId,
    pub(super) principal: PrincipalRef,
    pub(super) key_id: Option<KeyId>,
    pub(super) secret: SecretValue,
}

/// Another live credential, tried on the same path.
pub(super) struct Positive {
    pub(super) principal: PrincipalRef,
    pub(super) secret: SecretValue,
}

struct Answers {
    vantage: String,
    endpoint: String,
    old: Verdict,
    positive: Option<Verdict>,
    negative: Verdict,
}

pub(super) async fn round(
    at: &Attempt<'_>,
    connector: &GuardedConnector,
    condemned: &Condemned,
    positive: Option<&Positive>,
    wrong: &SecretValue,
    vantages: &[String],
) -> Vec<Round> {
    let began_at = at.now();
    let tries = vantages
        .iter()
        .map(|vantage| one_vantage(at, connector, condemned, positive, wrong, vantage));
    let (answers, shown) = join(join_all(tries), control_plane(at, connector, condemned)).await;
    let ended_at = at.now();
    let rounds = answers.into_iter().map(|answers| Round {
        control_plane: shown.at(&answers.vantage, condemned),
        vantage: answers.vantage,
        endpoint: answers.endpoint,
        began_at,
        ended_at,
        old: answers.old,
        positive: answers.positive,
        negative: answers.negative,
    });
    rounds.collect()
}

async fn one_vantage(
    at: &Attempt<'_>,
    connector: &GuardedConnector,
    condemned: &Condemned,
    positive: Option<&Positive>,
    wrong: &SecretValue,
    vantage: &str,
) -> Answers {
    let call = |principal: &PrincipalRef, secret: &SecretValue, purpose| {
        let call = ProbeCall {
            principal: principal.clone(),
            secret: secret.clone(),
            vantage: vantage.to_owned(),
            purpose,
        };
        connector.probe(at.ctx(vantage), call)
    };
    let old = call(&condemned.principal, &condemned.secret, ProbePurpose::OldCredential);
    let negative = call(&condemned.principal, wrong, ProbePurpose::NegativeControl);
    let good = async {
        match positive {
            Some(good) => Some(call(&good.principal, &good.secret, ProbePurpose::PositiveControl).await),
            None => None,
        }
    };
    let ((old, negative), good) = join(join(old, negative), good).await;
    Answers {
        vantage: vantage.to_owned(),
        endpoint: old.endpoint,
        old: old.verdict,
        positive: good.map(|reading| reading.verdict),
        negative: negative.verdict,
    }
}

/// What the control plane answered, before it is asked for one vantage.
pub(super) struct Shown {
    reading: Result<PrincipalReading, String>,
    /// For a credential whose key id was never learned: whether its own secret is on the account.
    held: Option<Result<bool, String>>,
}

pub(super) async fn control_plane(at: &Attempt<'_>, connector: &GuardedConnector, condemned: &Condemned) -> Shown {
    let name = &condemned.principal.name;
    let reading = connector.read(at.ctx(name), condemned.principal.clone()).await;
    let held = match condemned.key_id {
        Some(_) => None,
        None => Some(is_held(at, connector, &condemned.principal, &condemned.secret).await),
    };
    Shown {
        reading: reading.map_err(|error| error.to_string()),
        held,
    }
}

async fn is_held(
    at: &Attempt<'_>,
    connector: &GuardedConnector,
    principal: &PrincipalRef,
    secret: &SecretValue,
) -> Result<bool, String> {
    let call = IssueCall {
        principal: principal.clone(),
        secret: secret.clone(),
        placement: Placement::Alongside,
        replaces: Vec::new(),
        marker: at.run.id().to_string(),
        access: at.plan().access.clone(),
    };
    match connector.observe(at.ctx(&principal.name), call).await {
        Ok(IssueObservation::Applied(_)) => Ok(true),
        Ok(IssueObservation::NotApplied) => Ok(false),
        Ok(IssueObservation::Unknown { why }) => Err(why),
        Err(error) => Err(error.to_string()),
    }
}

impl Shown {
    /// A place of its own for the vantage where nodes keep accounts of their own; otherwise the worst of all places.
    pub(super) fn at(&self, vantage: &str, condemned: &Condemned) -> ControlPlane {
        let reading = match &self.reading {
            Ok(reading) => reading,
            Err(why) => return ControlPlane::Unread { why: why.clone() },
        };
        let own = reading.places.iter().any(|place| place.vantage == vantage);
        let places = reading.places.iter().filter(|place| !own || place.vantage == vantage);
        places
            .map(|place| self.judge(place.state.as_ref(), condemned))
            .max_by_key(badness)
            .unwrap_or(ControlPlane::Unread {
                why: "the reading names no place".to_owned(),
            })
    }

    fn judge(&self, state: Option<&keyfall_sdk::PrincipalState>, condemned: &Condemned) -> ControlPlane {
        let Some(state) = state else {
            return ControlPlane::PrincipalGone;
        };
        let recorded = condemned.principal.immutable_id.as_deref();
        // Another account of the same name: the recorded one is gone.
        if recorded.is_some_and(|recorded| recorded != state.immutable_id) {
            return ControlPlane::PrincipalGone;
        }
        let there = match (&condemned.key_id, &self.held) {
            (Some(key_id), _) => Ok(state.key_ids.contains(key_id)),
            (None, Some(held)) => held.clone(),
            (None, None) => Err("the credential has no recorded key id".to_owned()),
        };
        match there {
            Err(why) => ControlPlane::Unread { why },
            Ok(true) => ControlPlane::CredentialStillThere,
            Ok(false) if state.status == PrincipalStatus::Enabled => ControlPlane::CredentialGone,
            Ok(false) => ControlPlane::PrincipalDisabled,
        }
    }
}

/// How little a reading helps a proof.
fn badness(shown: &ControlPlane) -> u8 {
    match shown {
        ControlPlane::PrincipalGone => 0,
        ControlPlane::CredentialGone => 1,
        ControlPlane::PrincipalDisabled => 2,
        ControlPlane::Unread { .. } => 3,
        ControlPlane::CredentialStillThere => 4,
    }
}
