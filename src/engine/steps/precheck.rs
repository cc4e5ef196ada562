//! Reads the accounts before anything is changed, keeps what they were, and checks that the approved plan still fits them. What somebody else
//! did meanwhile is never repaired here: a person decides.

use keyfall_sdk::{PrincipalReading, PrincipalRef, PrincipalStatus, Strategy};

use super::super::report::StepEnd;
use super::accounts::{self, all_principals, is_another, merged, read_each};
use super::attempt::{Attempt, Ended};
use crate::domain::workflow::{Observation, RunKind, StepOutput, StuckBecause};

/// Credentials that an account of a dual-slot system holds at most.
const SLOTS: usize = 2;

type Readings = Vec<(PrincipalRef, PrincipalReading)>;

pub(super) async fn precheck(at: &mut Attempt<'_>) -> Ended<StepOutput> {
    let readings = read(at).await?;
    let reading = merged(&readings);
    at.see(Observation::Before {
        reading: reading.clone(),
    });
    fits(at, &readings, Some(&reading))?;
    Ok(StepOutput::Nothing)
}

/// The same look once more, for a run that may have waited for days since: what does not fit any more is met where it can be taken back.
pub(super) async fn look_again(at: &mut Attempt<'_>) -> Ended<()> {
    let readings = read(at).await?;
    fits(at, &readings, at.run.before())
}

async fn read(at: &Attempt<'_>) -> Ended<Readings> {
    let connector = at.system().await?;
    let mut principals = all_principals(at.run);
    if let Some(new) = &at.plan().new
        && !principals.iter().any(|known| known.name == new.principal.name)
    {
        principals.push(new.principal.clone());
    }
    read_each(at, &connector, principals).await
}

fn fits(at: &mut Attempt<'_>, readings: &Readings, covered: Option<&PrincipalReading>) -> Ended<()> {
    same_accounts(at, readings)?;
    old_still_there(at, readings)?;
    room_for_new(at, readings)?;
    if at.plan().kind == RunKind::Decommission {
        for one in readings {
            accounts::nothing_foreign(at, one, covered)?;
        }
    }
    power(at, readings)
}

/// An immutable id is never given to a successor: another one under the recorded name is another account.
fn same_accounts(at: &Attempt<'_>, readings: &Readings) -> Ended<()> {
    for (principal, reading) in readings {
        if let Some(found) = is_another(principal, reading) {
            return Err(at.ask(
                format!(
                    "the account {} is another one than the one that was recorded ({found} instead of {})",
                    principal.name,
                    principal.immutable_id.as_deref().unwrap_or("none")
                ),
                &at.or_cancel(
                    "find out who replaced it, and rename or remove that other account by hand",
                    "and leave it",
                ),
            ));
        }
    }
    Ok(())
}

/// A run that only takes away does not mind that something is gone already; one that replaces needs what it replaces.
fn old_still_there(at: &mut Attempt<'_>, readings: &Readings) -> Ended<()> {
    let strict = matches!(at.plan().kind, RunKind::Rotate | RunKind::TakeOver | RunKind::Adopt);
    for old in &at.plan().old {
        let Some((_, reading)) = readings
            .iter()
            .find(|(principal, _)| principal.name == old.principal.name)
        else {
            continue;
        };
        let missing = match &old.key_id {
            _ if reading.is_absent() => format!("the account {} does not exist", old.principal.name),
            Some(key_id) if old.issued && !reading.shows_key(key_id) => format!(
                "the account {} does not show the recorded credential {}; it shows {}",
                old.principal.name,
                key_id.0,
                keys_of(reading)
            ),
            _ => continue,
        };
        if strict {
            return Err(ask_who_changed_it(at, missing));
        }
        at.note(missing);
    }
    Ok(())
}

/// What a person can do about a credential that is not there any more. Nobody can put it back, as its secret never left Keyfall, and an identity
/// that is rotated already is not taken over. An emergency rotation does not need the recorded credential.
fn ask_who_changed_it(at: &Attempt<'_>, missing: String) -> StepEnd {
    let (id, name) = (at.run.id(), &at.plan().identity_name);
    let manual_step = match at.plan().kind {
        RunKind::Adopt | RunKind::TakeOver => {
            format!("find out who changed it; then `keyfall cancel {id} --reason …`, and adopt the account as it is")
        }
        _ => format!(
            "find out who changed it; then `keyfall cancel {id} --reason …` and `keyfall rotate {name} --emergency --reason …`, which replaces the credential without the recorded one and leaves alone what somebody else put on the account"
        ),
    };
    StepEnd::AskOperator {
        reason: missing,
        manual_step,
        because: StuckBecause::Drift,
    }
}

fn room_for_new(at: &mut Attempt<'_>, readings: &Readings) -> Ended<()> {
    let Some(new) = &at.plan().new else { return Ok(()) };
    let Some((_, reading)) = readings
        .iter()
        .find(|(principal, _)| principal.name == new.principal.name)
    else {
        return Ok(());
    };
    let name = &new.principal.name;
    if new.principal.immutable_id.is_none() {
        if reading.is_absent() {
            return Ok(());
        }
        return Err(at.ask(
            format!("the account {name} exists already, and Keyfall did not make it"),
            "adopt it with `keyfall adopt NAME …`, remove it, or choose another account name",
        ));
    }
    if reading.is_absent() {
        return Err(at.ask_to_cancel(
            format!("the account {name} was recorded and does not exist any more"),
            "find out who deleted it, and decommission the identity or register it anew under another name",
        ));
    }
    let recorded: Vec<_> = at.plan().old.iter().filter_map(|old| old.key_id.as_ref()).collect();
    let foreign = |state: &keyfall_sdk::PrincipalState| state.key_ids.iter().any(|key| !recorded.contains(&key));
    if !reading.states().any(foreign) {
        return Ok(());
    }
    // What we did not mint is never removed to make room (P5).
    let held = keys_of(reading);
    let full = match at.plan().strategy {
        Strategy::DualSlot => reading.states().any(|state| state.key_ids.len() >= SLOTS),
        Strategy::AlternatingAccounts | Strategy::InPlace => true,
    };
    if full {
        return Err(at.ask(
            format!(
                "the account {name} holds a credential that nobody recorded, and there is no room beside it: {held}"
            ),
            "find out who uses it, and remove it from the account by hand",
        ));
    }
    at.note(format!(
        "the account {name} holds a credential that nobody recorded: {held}"
    ));
    Ok(())
}

/// A standing approval never covers an account with power over others; an approval of this very run does.
fn power(at: &mut Attempt<'_>, readings: &Readings) -> Ended<()> {
    let privileged = |reading: &PrincipalReading| reading.states().any(|state| state.privileged);
    for (principal, _) in readings.iter().filter(|(_, reading)| privileged(reading)) {
        if at.plan().approval.standing {
            let name = &at.plan().identity_name;
            return Err(at.ask_to_cancel(
                format!(
                    "the account {} is privileged, and only the policy approved this run",
                    principal.name
                ),
                &format!(
                    "say `privileged: true` in the manifest of {name}, apply it, and ask with `keyfall rotate {name} --reason …`, which a person then approves"
                ),
            ));
        }
        at.note(format!("the account {} is privileged", principal.name));
    }
    let off = |reading: &PrincipalReading| reading.states().any(|state| state.status != PrincipalStatus::Enabled);
    let idle: Vec<_> = readings
        .iter()
        .filter(|(_, reading)| off(reading))
        .map(|(principal, _)| principal.name.clone())
        .collect();
    if !idle.is_empty() {
        at.note(format!(
            "disabled, locked or expired before this run: {}",
            idle.join(", ")
        ));
    }
    Ok(())
}

fn keys_of(reading: &PrincipalReading) -> String {
    let mut keys: Vec<&str> = reading
        .states()
        .flat_map(|state| &state.key_ids)
        .map(|key| key.0.as_str())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        return "none".to_owned();
    }
    keys.join(", ")
}
