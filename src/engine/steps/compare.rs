//! Comparing the accounts after a run with what was approved. Pure.

use keyfall_sdk::{PrincipalReading, PrincipalRef, PrincipalState, PrincipalStatus};

use super::accounts::{idle_principals, is_another, new_principal};
use crate::domain::workflow::{Run, RunKind};

/// What a comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// The approved state does not hold.
    pub(super) wrong: Vec<String>,
    /// Worth telling, and no reason to keep the run open.
    pub(super) notable: Vec<String>,
}

type Readings = [(PrincipalRef, PrincipalReading)];

pub(super) fn compare(run: &Run, readings: &Readings) -> Findings {
    let mut findings = Findings::default();
    if run.plan().kind == RunKind::Decommission {
        absent(readings, &mut findings);
        return findings;
    }
    for (principal, reading) in readings {
        if let Some(found) = is_another(principal, reading) {
            findings
                .wrong
                .push(format!("{} is another account ({found})", principal.name));
        }
    }
    old_gone(run, readings, &mut findings);
    new_there(run, readings, &mut findings);
    taken_over(run, readings, &mut findings);
    rights(run, readings, &mut findings);
    findings
}

fn absent(readings: &Readings, findings: &mut Findings) {
    for (principal, reading) in readings.iter().filter(|(_, reading)| !reading.is_absent()) {
        match is_another(principal, reading) {
            Some(found) => findings.notable.push(format!(
                "the name {} belongs to another account ({found}) already",
                principal.name
            )),
            None => findings
                .wrong
                .push(format!("the account {} still exists", principal.name)),
        }
    }
}

fn old_gone(run: &Run, readings: &Readings, findings: &mut Findings) {
    if matches!(run.plan().kind, RunKind::Provision | RunKind::Adopt | RunKind::TakeOver) {
        return;
    }
    for old in &run.plan().old {
        let Some(key_id) = &old.key_id else { continue };
        if reading_of(readings, &old.principal.name).is_some_and(|reading| reading.shows_key(key_id)) {
            findings.wrong.push(format!(
                "{} still shows the revoked credential {}",
                old.principal.name, key_id.0
            ));
        }
    }
}

fn new_there(run: &Run, readings: &Readings, findings: &mut Findings) {
    let (Some(principal), Some(issued)) = (new_principal(run), run.issued()) else {
        return;
    };
    let Some(reading) = reading_of(readings, &principal.name) else {
        findings.wrong.push(format!("{} was not read", principal.name));
        return;
    };
    for place in &reading.places {
        match &place.state {
            None => findings
                .wrong
                .push(format!("{} does not exist at {}", principal.name, place.vantage)),
            Some(state) => new_at(state, &place.vantage, issued, findings),
        }
    }
}

fn new_at(state: &PrincipalState, place: &str, issued: &keyfall_sdk::Issued, findings: &mut Findings) {
    if !state.key_ids.contains(&issued.key_id) {
        findings.wrong.push(format!(
            "{} does not show the new credential {} at {place}",
            state.name, issued.key_id.0
        ));
    }
    if state.status != PrincipalStatus::Enabled {
        findings.wrong.push(format!("{} is not enabled at {place}", state.name));
    }
    for foreign in state.key_ids.iter().filter(|key| **key != issued.key_id) {
        findings.notable.push(format!(
            "{} holds a credential at {place} that this run did not make: {}",
            state.name, foreign.0
        ));
    }
}

fn taken_over(run: &Run, readings: &Readings, findings: &mut Findings) {
    if run.plan().kind != RunKind::TakeOver {
        return;
    }
    for old in &run.plan().old {
        let reading = reading_of(readings, &old.principal.name);
        match (&old.key_id, reading) {
            (Some(key_id), Some(reading)) if reading.shows_key(key_id) => {}
            (None, Some(reading)) if !reading.is_absent() => {}
            _ => findings.wrong.push(format!(
                "{} does not show the credential that was taken over",
                old.principal.name
            )),
        }
    }
}

/// Permissions before and after. The account that consumers go to may do what the one that they came from might, unless `access` says otherwise.
fn rights(run: &Run, readings: &Readings, findings: &mut Findings) {
    let (Some(before), Some(principal)) = (run.before(), new_principal(run)) else {
        return;
    };
    let Some(after) = reading_of(readings, &principal.name).and_then(|reading| reading.states().next()) else {
        return;
    };
    let idle = idle_principals(run);
    let was = before
        .states()
        .find(|state| state.name == principal.name && idle.is_empty())
        .or_else(|| {
            before
                .states()
                .find(|state| idle.iter().any(|old| old.name == state.name))
        });
    let Some(was) = was else { return };
    if after.privileged && !was.privileged {
        findings
            .wrong
            .push(format!("{} became privileged during this run", principal.name));
    }
    let gained = minus(&after.grants, &was.grants);
    let lost = minus(&was.grants, &after.grants);
    if !gained.is_empty() || !lost.is_empty() {
        findings.notable.push(format!(
            "the rights of {} differ from those before: gained [{}], lost [{}]",
            principal.name,
            gained.join(", "),
            lost.join(", ")
        ));
    }
}

fn minus<'a>(all: &'a [String], without: &[String]) -> Vec<&'a str> {
    all.iter()
        .filter(|grant| !without.contains(grant))
        .map(String::as_str)
        .collect()
}

fn reading_of<'a>(readings: &'a Readings, name: &str) -> Option<&'a PrincipalReading> {
    readings
        .iter()
        .find(|(principal, _)| principal.name == name)
        .map(|(_, reading)| reading)
}
