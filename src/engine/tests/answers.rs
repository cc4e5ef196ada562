//! What a downstream that works as it should answers to the steps of a script.

use jiff::Timestamp;
use keyfall_sdk::{ErrorKind, Issued, KeyId, PrincipalRef, ProbeReading, Verdict};

use crate::domain::ids::CredentialId;
use crate::domain::proof::{ControlPlane, Round};
use crate::domain::workflow::{Observation, Run, RunPlan, StepError, StepOutput};
use crate::engine::report::{StepEnd, StepReport};

pub(super) fn overlap(run: &Run, now: Timestamp) -> StepEnd {
    let until = run.promoted_at().unwrap_or(now) + run.plan().timing.overlap;
    if until <= now {
        return StepEnd::Done(StepOutput::Nothing);
    }
    StepEnd::Wait {
        until,
        why: "overlap".to_owned(),
    }
}

pub(super) fn issued(plan: &RunPlan) -> Issued {
    Issued {
        principal: PrincipalRef {
            name: "app".to_owned(),
            immutable_id: Some("1".to_owned()),
        },
        key_id: KeyId(plan.new.as_ref().map(|new| new.id.to_string()).unwrap_or_default()),
        created_principal: false,
    }
}

pub(super) fn tried(credential: CredentialId) -> Observation {
    Observation::Tried {
        credential,
        vantage: "primary".to_owned(),
        reading: ProbeReading {
            verdict: accepted(),
            endpoint: "here".to_owned(),
        },
    }
}

pub(super) fn accepted() -> Verdict {
    Verdict::Accepted {
        principal: "app".to_owned(),
    }
}

pub(super) fn round(is_live: bool, now: Timestamp) -> Round {
    let refused = || Verdict::Refused { code: "no".to_owned() };
    Round {
        vantage: "primary".to_owned(),
        endpoint: "here".to_owned(),
        began_at: now,
        ended_at: now,
        old: if is_live { accepted() } else { refused() },
        positive: Some(accepted()),
        negative: refused(),
        control_plane: ControlPlane::CredentialGone,
    }
}

pub(super) fn failed(kind: ErrorKind) -> StepReport {
    StepReport {
        observations: Vec::new(),
        end: StepEnd::Failed(StepError {
            kind,
            message: "as the test asked".to_owned(),
            code: None,
        }),
    }
}
