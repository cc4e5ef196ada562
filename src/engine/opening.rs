//! How a run appears: its row, its first event, what that event changes, and the sealed secret of its new credential, in one transaction.
//! A schedule and a person open a run in the same way.

use crate::domain::identity::Identity;
use crate::domain::workflow::{Event, EventBody, IllegalEvent, Run, RunPlan};
use crate::evidence::audit;
use crate::store::{Commit, Fact, Guard, LogEntry, RunRow, SecretRow};

use super::facts::{Schedule, facts_of};
use super::record::to_micros;

/// What a run was planned on still holds when it is opened. Another node may have opened a run and ended it since the identity was read, and what
/// this one takes for the credential in use is dead then.
#[must_use]
pub fn stands(identity: &Identity) -> Guard {
    Guard::IdentityStands {
        identity: identity.id,
        state: identity.state,
        current: identity.current,
    }
}

/// The commit that opens a run at `plan.timing.opened_at`. `secret` is that of `plan.new`, sealed. It is refused when the identity has an open
/// run already. The caller may add its own guards, facts and entries behind these; then it rings the engine.
///
/// # Errors
/// Never for a plan of this version: the first event of a log always folds.
pub fn opening(plan: RunPlan, secret: Option<SecretRow>) -> Result<Commit, IllegalEvent> {
    let at = to_micros(plan.timing.opened_at);
    let event = Event {
        seq: 0,
        at,
        epoch: 0,
        body: EventBody::Opened { plan: Box::new(plan) },
    };
    let run = Run::open(&event)?;
    let plan = run.plan();
    let row = RunRow {
        id: plan.run,
        kind: plan.kind,
        identity: plan.identity,
        identity_name: plan.identity_name.clone(),
        system_name: plan.system_name.clone(),
        status: run.status().name().to_owned(),
        step: run.step().map(|step| step.name().to_owned()),
        next_seq: run.next_seq(),
        epoch: 0,
        node: None,
        lease_until: None,
        wake_at: Some(at),
        opened_at: at,
        closed_at: None,
        workflow: plan.workflow_version,
    };
    let mut facts: Vec<Fact> = secret.into_iter().map(Fact::Secret).collect();
    facts.push(Fact::RunOpened(row));
    facts.extend(facts_of(&run, &event, &Schedule::default()));
    let entry = LogEntry {
        run: Some((plan.run, 0)),
        at,
        bytes: audit::encode_event(plan, &run, &event),
    };
    Ok(Commit {
        guards: vec![Guard::NoOpenRun {
            identity: plan.identity,
        }],
        facts,
        log: vec![entry],
    })
}
