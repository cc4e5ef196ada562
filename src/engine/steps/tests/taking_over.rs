//! A take-over that does not come to its end has registered nothing.

use std::collections::BTreeMap;

use keyfall_sdk::{PrincipalRef, Strategy};
use serde_json::json;

use super::{Bench, Driven, Live, uuid};
use crate::domain::ids::CredentialId;
use crate::domain::workflow::{EventBody, Outcome, RegisterChange, Run, RunKind, Step, StepOutput, register_changes};

fn found(bench: &Bench) -> Live {
    let secret = bench.draw();
    let account = bench.provider.plant_account("legacy", &bench.secret(secret), &["read"]);
    Live {
        id: CredentialId::from_uuid(uuid()),
        secret,
        principal: PrincipalRef {
            name: account.name.clone(),
            immutable_id: Some(account.immutable_id.clone()),
        },
        key_id: account.live_keys().next().unwrap().id.clone(),
    }
}

fn makes_current(driven: &Driven) -> bool {
    let mut run = Run::open(&driven.events[0]).unwrap();
    driven.events[1..].iter().any(|event| {
        run.apply(event).unwrap();
        let changes = register_changes(&run, event);
        changes.iter().any(|change| {
            matches!(
                change,
                RegisterChange::IdentityCurrent {
                    credential: Some(_),
                    ..
                }
            )
        })
    })
}

#[tokio::test]
async fn a_take_over_that_is_cancelled_at_its_last_look_registers_nothing() {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let live = found(&bench);
    let plan = bench.plan(RunKind::TakeOver, std::slice::from_ref(&live), None);
    let mut driven = bench.drive_until(plan, Step::ReadBack).await;
    assert!(bench.provider.take_key("legacy", &live.key_id));
    bench.finish(&mut driven).await;
    let reason = driven.stuck_reason().unwrap_or_else(|| panic!("{}", driven.text()));
    assert!(reason.contains("does not show the credential"), "{reason}");
    bench.take_back(&mut driven, "another one").await;
    assert!(!makes_current(&driven), "{}", driven.text());
}

#[tokio::test]
async fn a_take_over_registers_with_its_last_step() {
    let bench = Bench::new(Strategy::DualSlot, json!({})).await;
    let live = found(&bench);
    let driven = bench
        .drive(bench.plan(RunKind::TakeOver, std::slice::from_ref(&live), None))
        .await;
    assert_eq!(driven.outcome(), Some(&Outcome::Completed), "{}", driven.text());
    assert!(makes_current(&driven));
    let [.., last, _closed] = driven.events.as_slice() else {
        panic!("{}", driven.text())
    };
    let EventBody::Succeeded {
        output: StepOutput::Adopted { keys, .. },
        ..
    } = &last.body
    else {
        panic!("{}", driven.text())
    };
    assert_eq!(*keys, BTreeMap::from([(live.id, live.key_id)]));
}
