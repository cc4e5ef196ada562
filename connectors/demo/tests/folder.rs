//! The truth in a folder: what survives a kill, and what several processes make of it at once. Providers of different names on one folder stand for
//! processes: they share nothing else.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyfall_sdk::{Connector, ConnectorKind, ErrorKind, Placement, PrincipalRef, RevokeCall, ServerGrants};
use serde_json::json;
use tempfile::TempDir;

use super::{ctx, issue_call, secret, spec, verdict};
use crate::demo::{DemoKind, provider, provider_in};

fn grants(root: &TempDir) -> ServerGrants {
    ServerGrants {
        file_roots: [("state".to_owned(), root.path().to_path_buf())].into(),
        ..ServerGrants::default()
    }
}

fn process(provider: &str, root: &TempDir) -> Arc<dyn Connector> {
    let faults = json!({ "slots": 1000, "lockout": { "failures": 6, "windowMs": 600_000 } });
    let options =
        json!({ "provider": provider, "stateFolder": { "root": "state", "folder": "truth" }, "faults": faults });
    DemoKind.connect(&spec(options), None, &grants(root)).unwrap()
}

#[test]
fn a_state_folder_stays_under_its_root() {
    let root = tempfile::tempdir().unwrap();
    for folder in ["../outside", "/etc", "a/b", "..", ""] {
        let spec = spec(json!({ "stateFolder": { "root": "state", "folder": folder } }));
        assert_eq!(DemoKind.check(&spec, &grants(&root)).len(), 1, "{folder}");
    }
}

#[tokio::test]
async fn a_killed_process_meets_the_same_truth_again() {
    let root = tempfile::tempdir().unwrap();
    let before = process("killed", &root);
    let issue = before.issue().unwrap();
    let issued = issue.issue(&ctx(), &issue_call("app", "kept-secret")).await.unwrap();
    issue.issue(&ctx(), &issue_call("other", "other-secret")).await.unwrap();
    let after = process("restarted", &root);
    assert!(verdict(&*after, "app", "kept-secret", "primary").await.is_accepted());
    assert!(verdict(&*after, "app", "other-secret", "primary").await.is_refused());
    let revoke = RevokeCall {
        principal: issued.principal,
        key_id: issued.key_id,
    };
    after.revoke().unwrap().revoke(&ctx(), &revoke).await.unwrap();
    let again = process("restarted-again", &root);
    assert!(verdict(&*again, "app", "kept-secret", "primary").await.is_refused());
    let fresh = again.issue().unwrap();
    let fresh = fresh.issue(&ctx(), &issue_call("new", "new-secret")).await.unwrap();
    let accounts = provider("restarted-again").accounts();
    assert_eq!(accounts.len(), 3);
    let of_fresh = |id: &&String| Some(*id) == fresh.principal.immutable_id.as_ref();
    assert_eq!(accounts.iter().map(|one| &one.immutable_id).filter(of_fresh).count(), 1);
    for (file, text) in files(&root.path().join("truth/accounts")) {
        assert!(!text.contains("secret"), "{file} holds more than hashes");
        std::fs::write(root.path().join("truth/accounts").join(file), "{ damaged").unwrap();
    }
    let error = again.inventory().unwrap().list(&ctx()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.message().contains("truth/accounts"), "{error}");
}

fn files(folder: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}

/// Each of four processes puts ten keys on one account, all at once: none is lost, and no id is given twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_change_one_account_at_once_lose_nothing() {
    let root = tempfile::tempdir().unwrap();
    let first = process("at-once-0", &root);
    let made = first.issue().unwrap();
    let made = made.issue(&ctx(), &issue_call("app", "first-secret")).await.unwrap();
    let changing = (0..4).map(|number| {
        let connector = process(&format!("at-once-{number}"), &root);
        let principal = made.principal.clone();
        tokio::spawn(async move {
            for key in 0..10 {
                let mut call = issue_call("app", &format!("secret-{number}-{key}"));
                call.principal = principal.clone();
                connector.issue().unwrap().issue(&ctx(), &call).await.unwrap();
            }
        })
    });
    for task in changing.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let account = provider("at-once-3").account("app").unwrap();
    let mut ids: Vec<_> = account.live_keys().map(|key| key.id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 41);
    for number in 0..4 {
        let accepted = verdict(&*first, "app", &format!("secret-{number}-9"), "replica").await;
        assert!(accepted.is_accepted(), "{number}: {accepted:?}");
    }
}

#[tokio::test]
async fn what_one_process_does_the_others_see() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (process("seen-one", &root), process("seen-two", &root));
    let call = issue_call("app", "shared-secret");
    let issued = one.issue().unwrap().issue(&ctx(), &call).await.unwrap();
    // Refused logins are counted over all of them, and the account is locked for all.
    for (number, connector) in [&one, &two].into_iter().cycle().take(6).enumerate() {
        let refused = verdict(&**connector, "app", "wrong-secret", "primary").await;
        assert!(refused.is_refused(), "{number}: {refused:?}");
    }
    for connector in [&one, &two] {
        let locked = verdict(&**connector, "app", "shared-secret", "primary").await;
        assert!(!locked.is_accepted() && !locked.is_refused(), "{locked:?}");
    }
    // Somebody who only looks is a process too.
    let truth = provider_in("seen-by-a-test", &root.path().join("truth")).unwrap();
    assert_eq!(truth.honoured_keys(), [("app".to_owned(), issued.key_id.clone())]);
    truth.plant_account("stranger", &secret("planted-secret"), &["read"]);
    let named = PrincipalRef {
        name: "stranger".into(),
        immutable_id: None,
    };
    let reading = two.inventory().unwrap().read(&ctx(), &named).await.unwrap();
    let state = reading.places[0].state.as_ref().expect("the planted account is seen");
    assert_eq!(state.grants, ["read"]);
    assert!(truth.take_key("app", &issued.key_id));
    assert!(truth.honoured_keys().iter().all(|(account, _)| account != "app"));
    assert_eq!(two.inventory().unwrap().list(&ctx()).await.unwrap().len(), 2);
}

/// A process that is stopped while it holds the lock of an account keeps others from that account, and from nothing else.
#[tokio::test]
async fn a_stopped_process_holds_up_its_account_alone() {
    let root = tempfile::tempdir().unwrap();
    let connector = process("held-up", &root);
    let issue = connector.issue().unwrap();
    issue.issue(&ctx(), &issue_call("app", "app-secret")).await.unwrap();
    let stopped = provider_in("stopped", &root.path().join("truth")).unwrap();
    let turn = stopped.looked_at("app").unwrap();
    let mut held = Box::pin(verdict(&*connector, "app", "app-secret", "primary"));
    assert!(
        tokio::time::timeout(Duration::from_millis(30), &mut held)
            .await
            .is_err()
    );
    issue.issue(&ctx(), &issue_call("free", "free-secret")).await.unwrap();
    drop(turn);
    assert!(held.await.is_accepted());
}

/// What a system with thousands of accounts does in a second, in much less.
#[tokio::test]
async fn thousands_of_accounts_cost_little() {
    let root = tempfile::tempdir().unwrap();
    let connector = process("thousands", &root);
    let truth = provider_in("thousands-seen", &root.path().join("truth")).unwrap();
    for number in 0..2_000 {
        truth.plant_account(&format!("svc-{number}"), &secret("old-secret"), &[]);
    }
    let began = Instant::now();
    for number in 0..500 {
        let name = format!("svc-{number}");
        let mut call = issue_call(&name, "new-secret");
        call.placement = Placement::Alongside;
        call.principal.immutable_id = truth.account(&name).map(|account| account.immutable_id);
        connector.issue().unwrap().issue(&ctx(), &call).await.unwrap();
        assert!(verdict(&*connector, &name, "new-secret", "primary").await.is_accepted());
    }
    let took = began.elapsed();
    println!("500 changes and 1,000 looks at 2,000 accounts took {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}
