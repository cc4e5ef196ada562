//! A real approval for the bench: a plan of one person, signed by another with a key of their own.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use jiff::SignedDuration;
use keyfall::clock::Environment;
use keyfall::domain::actor::{Approval, Approver};
use keyfall::domain::digest::Digest;
use keyfall::domain::ids::{PersonId, PlanId};
use keyfall::evidence::approval::{ApprovalStatement, Decision};
use keyfall::evidence::keys::SigningKey;
use keyfall::store::{Fact, PersonRow, PlanRow, PlanStatus, Store};

use super::register::put;

/// A plan of one person, signed by another.
pub(crate) async fn approve(folder: &Path, env: &Environment, store: &Arc<dyn Store>) -> Result<Approval> {
    let now = env.now();
    let key = SigningKey::create(
        &folder.join("approver.key"),
        "approver",
        &ring::rand::SystemRandom::new(),
    )?;
    let person = |name: &str, public_key| PersonRow {
        id: PersonId::from_uuid(env.draw_uuid()),
        name: name.to_owned(),
        roles: vec!["approver".to_owned()],
        public_key,
        enrolled_by: None,
        enrolment: None,
        enrolled_at: now,
        retired_at: None,
    };
    let asks = person("requester", None);
    let signs = person("approver", Some(key.verifier().to_string()));
    let content = b"bench".to_vec();
    let expires_at = now + SignedDuration::from_hours(24);
    let plan = PlanRow {
        id: PlanId::from_uuid(env.draw_uuid()),
        status: PlanStatus::Applied,
        digest: Digest::of(&content),
        requester: asks.id,
        approvals_needed: 1,
        content,
        created_at: now,
        expires_at,
        decided_at: Some(now),
    };
    let statement = ApprovalStatement {
        plan_id: plan.id.to_string(),
        plan_digest: plan.digest.0,
        decision: Decision::Approve,
        expires_at_micros: expires_at.as_microsecond(),
    };
    let approval = Approval {
        plan: plan.id,
        plan_digest: plan.digest,
        requester: asks.id,
        approvers: vec![Approver {
            person: signs.id,
            name: signs.name.clone(),
            public_key: key.verifier().to_string(),
            expires_at_micros: statement.expires_at_micros,
            signature: statement.sign(&key),
        }],
        standing: true,
        solo: false,
    };
    put(store, vec![Fact::Person(asks), Fact::Person(signs), Fact::Plan(plan)]).await?;
    Ok(approval)
}
