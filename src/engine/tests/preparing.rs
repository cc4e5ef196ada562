//! What the scripted downstream says when runs are prepared, and when nothing runs.

use jiff::SignedDuration;
use keyfall_sdk::{BoxFuture, KeyId, PrincipalReading, PrincipalRef};

use super::script::Script;
use crate::clock::Environment;
use crate::domain::actor::Approval;
use crate::domain::digest::Digest;
use crate::domain::planner::ConnectorFacts;
use crate::domain::resource::Resource;
use crate::domain::workflow::RunPlan;
use crate::engine::report::PrepareRuns;
use crate::store::SecretRow;

impl PrepareRuns for Script {
    fn connector_facts<'a>(&'a self, system: &'a Resource) -> BoxFuture<'a, Result<ConnectorFacts, String>> {
        Box::pin(async {
            let samples = self.store.settling(&system.name, 9).await.unwrap();
            Ok(ConnectorFacts {
                strategies: vec![keyfall_sdk::Strategy::DualSlot],
                settling: SignedDuration::ZERO,
                settling_source: "documented".to_owned(),
                measured: samples
                    .iter()
                    .map(|sample| SignedDuration::from_micros(sample.micros))
                    .max(),
            })
        })
    }

    fn seal_new(&self, plan: &RunPlan) -> Result<SecretRow, String> {
        let new = plan.new.as_ref().ok_or("nothing to seal")?;
        Ok(super::rows::secret_row(new.secret, self.env.now()))
    }

    fn reading<'a>(&'a self, _: &'a str, _: &'a PrincipalRef) -> BoxFuture<'a, Result<PrincipalReading, String>> {
        let keys = self.live().into_iter().map(|id| KeyId(id.to_string()));
        let shown = self.shown(keys.collect());
        let is_silent = self.is_silent();
        Box::pin(async move {
            match is_silent {
                true => Err("nobody answers".to_owned()),
                false => Ok(shown),
            }
        })
    }

    fn check_approval<'a>(&'a self, _approval: &'a Approval) -> BoxFuture<'a, Result<(), String>> {
        let answer = self.refused_approvals();
        Box::pin(async move { answer.map_or(Ok(()), Err) })
    }
}

/// An approval that nobody checks here.
pub(crate) fn approval(env: &Environment) -> Approval {
    Approval {
        plan: crate::domain::ids::PlanId::from_uuid(env.draw_uuid()),
        plan_digest: Digest::of(b"approved"),
        requester: crate::domain::ids::PersonId::from_uuid(uuid::Uuid::from_u128(77)),
        approvers: Vec::new(),
        standing: false,
        solo: true,
    }
}
