//! A run closes only on a read of the downstream state that equals the approved one.

use keyfall_sdk::{ErrorKind, PrincipalReading, PrincipalRef};

use super::super::guard::GuardedConnector;
use super::accounts::{all_principals, merged, new_principal, read_each};
use super::attempt::{Attempt, Ended, fail};
use super::compare::compare;
use crate::domain::workflow::StepOutput;

/// Attempts for a control plane whose lists are late.
const PATIENCE: u32 = 3;

pub(super) async fn read_back(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let connector = at.system().await?;
    let mut principals = all_principals(at.run);
    if let Some(new) = new_principal(at.run) {
        principals.retain(|known| known.name != new.name);
        principals.push(new);
    }
    let readings = read_each(at, &connector, principals).await?;
    let mut findings = compare(at.run, &readings);
    findings.wrong.extend(lacking(at, &connector, &readings));
    for text in findings.notable {
        at.note(text);
    }
    if findings.wrong.is_empty() {
        return Ok(StepOutput::Read {
            reading: merged(&readings),
        });
    }
    let wrong = findings.wrong.join("; ");
    if at.number < PATIENCE {
        return Err(fail(ErrorKind::Transient, wrong));
    }
    Err(at.ask(
        format!("the system does not show what was approved: {wrong}"),
        "find out who changed it, and bring the account to the approved state",
    ))
}

/// The rights that the plan names and the account that consumers are on does not show. Of a credential that was made by this run only: what an
/// account may do that was found is nobody's promise.
fn lacking(
    at: &Attempt<'_>,
    connector: &GuardedConnector,
    readings: &[(PrincipalRef, PrincipalReading)],
) -> Vec<String> {
    let Some(new) = new_principal(at.run).filter(|_| at.run.issued().is_some()) else {
        return Vec::new();
    };
    let of_new = readings.iter().filter(|(principal, _)| principal.name == new.name);
    let mut lines: Vec<String> = of_new
        .flat_map(|(_, reading)| reading.states())
        .flat_map(|state| connector.lacking(&at.plan().access, state))
        .map(|line| format!("{}: {line}", new.name))
        .collect();
    lines.sort();
    lines.dedup();
    lines
}
