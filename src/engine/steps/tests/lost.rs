//! Credentials that were minted and that nobody can read any more: nothing that works is left downstream.

use keyfall_sdk::Strategy;
use serde_json::json;

use super::{Bench, fresh};
use crate::domain::identity::CredentialState;
use crate::domain::workflow::{Outcome, RegisterChange, Run, RunKind, Step, register_changes};

#[tokio::test]
async fn a_credential_whose_secret_is_lost_is_destroyed_downstream() {
    for step in [Step::ProveNew, Step::Deliver] {
        let bench = Bench::new(Strategy::AlternatingAccounts, json!({})).await;
        let old = bench.provision("app_a").await;
        let plan = bench.plan(RunKind::Rotate, std::slice::from_ref(&old), Some(fresh("app_b")));
        let new = plan.new.clone().unwrap();
        // Another node takes the run over, and does not find what the first one had in its memory.
        let mut driven = bench.drive_until(plan, step).await;
        bench.forget_secret(new.secret);
        bench.finish(&mut driven).await;
        let told = format!("{step:?}: {}", driven.text());
        assert!(matches!(driven.outcome(), Some(Outcome::Unprovable { .. })), "{told}");
        assert!(bench.provider.account("app_b").is_none(), "{told}");
        assert!(bench.accepted(&old), "{told}");
        let mut run = Run::open(&driven.events[0]).unwrap();
        let mut state = CredentialState::Issued;
        let mut seen = Vec::new();
        for event in &driven.events[1..] {
            run.apply(event).unwrap();
            for change in register_changes(&run, event) {
                if let RegisterChange::CredentialState { id, to } = change
                    && id == new.id
                {
                    state = state.to(to).unwrap();
                    seen.push(state.name());
                }
            }
        }
        assert_eq!(seen, ["lost", "revoking", "revoked", "unprovable"], "{told}");
    }
}
