//! Whole lives of credentials: two alternating accounts, and one in place.

use keyfall_sdk::{
    Connector, EndSessionsCall, ErrorKind, IssueObservation, Placement, PrincipalRef, PrincipalStatus, RevokeCall,
    Revoked, Verdict,
};
use serde_json::json;

use super::poll::eventually;
use super::{
    Postgres, ctx, issue, issue_call, name, new_account, postgres, probe, refused, secret, session, session_of, settle,
    sql, value,
};

/// Once, and a second time changes nothing.
async fn goes_for_good(connector: &Postgres, principal: &PrincipalRef) {
    let revoker = connector.revoke().unwrap();
    for revoked in [Revoked::Revoked, Revoked::AlreadyGone] {
        assert_eq!(revoker.delete_principal(&ctx(), principal).await.unwrap(), revoked);
    }
    let reading = connector.inventory().unwrap().read(&ctx(), principal).await.unwrap();
    assert!(reading.is_absent());
}

#[tokio::test]
async fn two_accounts_alternate_and_the_old_one_dies() {
    let connector = postgres();
    let (owner, a, b) = (name("owner"), name("a"), name("b"));
    let (one, two) = (secret("one"), secret("two"));
    let access = json!({"owner": owner});

    let first = issue(&connector, &a, &one, access.clone()).await;
    assert!(first.created_principal);
    settle(&connector, &a, &one, Verdict::is_accepted).await;
    let mut old_session = session(&connector, "primary", &a, &one).await;
    let mut old_reader = session(&connector, "replica", &a, &one).await;

    let second = issue(&connector, &b, &two, access.clone()).await;
    settle(&connector, &b, &two, Verdict::is_accepted).await;
    settle(&connector, &a, &one, Verdict::is_accepted).await;

    let revoke = RevokeCall {
        principal: first.principal.clone(),
        key_id: first.key_id.clone(),
    };
    let revoker = connector.revoke().unwrap();
    assert_eq!(revoker.revoke(&ctx(), &revoke).await.unwrap(), Revoked::Revoked);
    assert_eq!(revoker.revoke(&ctx(), &revoke).await.unwrap(), Revoked::AlreadyGone);
    settle(&connector, &a, &one, refused).await;
    settle(&connector, &a, &secret("random"), refused).await;
    assert!(probe(&connector, "primary", &b, &two).await.is_accepted());

    assert!(
        old_session.batch("SELECT 1").await.is_ok(),
        "a session outlives its credential"
    );
    let sessions = connector.sessions().unwrap();
    assert_eq!(sessions.count(&ctx(), &first.principal).await.unwrap(), 2);
    let end = EndSessionsCall {
        principal: first.principal.clone(),
        spare_younger_than: None,
    };
    let ended = sessions.end(&ctx(), &end).await.unwrap();
    assert_eq!((ended.ended, ended.left), (2, 0));
    assert!(old_session.batch("SELECT 1").await.is_err());
    assert!(old_reader.batch("SELECT 1").await.is_err());
    assert_eq!(sessions.end(&ctx(), &end).await.unwrap().ended, 0);

    // The idle account takes the next secret.
    let third = issue_call(first.principal.clone(), &secret("three"), access);
    let third = connector.issue().unwrap().issue(&ctx(), &third).await.unwrap();
    assert!(!third.created_principal);
    settle(&connector, &a, &secret("three"), Verdict::is_accepted).await;
    settle(&connector, &a, &one, refused).await;

    for principal in [&third.principal, &second.principal] {
        goes_for_good(&connector, principal).await;
    }
    settle(&connector, &b, &two, refused).await;
    sql(&connector, &format!("DROP ROLE {owner}")).await;
}

#[tokio::test]
async fn in_place_replaces_the_secret_and_spares_the_new_sessions() {
    let connector = postgres();
    let account = name("inplace");
    let issued = issue(&connector, &account, &secret("one"), json!({})).await;
    let mut replace = issue_call(issued.principal.clone(), &secret("two"), json!({}));
    let refusal = connector.issue().unwrap().issue(&ctx(), &replace).await.unwrap_err();
    assert_eq!(
        refusal.kind(),
        ErrorKind::Conflict,
        "a role has no room for a second secret"
    );

    let mut old = session(&connector, "primary", &account, &secret("one")).await;
    replace.placement = Placement::Replace;
    replace.replaces = vec![issued.key_id.clone()];
    let second = connector.issue().unwrap().issue(&ctx(), &replace).await.unwrap();
    assert_ne!(second.key_id, issued.key_id);
    assert_eq!(second.principal, issued.principal);
    settle(&connector, &account, &secret("one"), refused).await;
    settle(&connector, &account, &secret("two"), Verdict::is_accepted).await;

    // The old session must be older than the time that is spared, and the new one younger by a wide margin.
    let age = format!(
        "SELECT max(extract(epoch FROM clock_timestamp() - backend_start)) > 3 FROM pg_stat_activity WHERE usename = '{account}'"
    );
    eventually("an old session", async || {
        (value(&connector, &age).await? == "t").then_some(())
    })
    .await;
    let mut new = session(&connector, "primary", &account, &secret("two")).await;
    let end = EndSessionsCall {
        principal: issued.principal.clone(),
        spare_younger_than: Some(std::time::Duration::from_secs(3)),
    };
    assert_eq!(connector.sessions().unwrap().end(&ctx(), &end).await.unwrap().ended, 1);
    assert!(old.batch("SELECT 1").await.is_err());
    assert!(new.batch("SELECT 1").await.is_ok());
    connector
        .revoke()
        .unwrap()
        .delete_principal(&ctx(), &issued.principal)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_disabled_account_is_no_evidence_and_comes_back() {
    let connector = postgres();
    let account = name("suspended");
    let issued = issue(&connector, &account, &secret("one"), json!({})).await;
    let suspend = connector.suspend().unwrap();
    for _ in 0..2 {
        suspend.suspend(&ctx(), &issued.principal).await.unwrap();
    }
    let disabled = |verdict: &Verdict| {
        matches!(
            verdict,
            Verdict::Inconclusive {
                why: keyfall_sdk::InconclusiveWhy::Principal,
                ..
            }
        )
    };
    settle(&connector, &account, &secret("one"), disabled).await;
    settle(&connector, &account, &secret("wrong"), refused).await;
    let reading = connector
        .inventory()
        .unwrap()
        .read(&ctx(), &issued.principal)
        .await
        .unwrap();
    assert_eq!(reading.states().next().unwrap().status, PrincipalStatus::Disabled);
    assert!(
        reading.shows_key(&issued.key_id),
        "the credential sleeps, it is not gone"
    );
    let mut again = issue_call(issued.principal.clone(), &secret("two"), json!({}));
    again.placement = Placement::Replace;
    let error = connector.issue().unwrap().issue(&ctx(), &again).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Conflict,
        "a secret must not wake a disabled account"
    );
    suspend.resume(&ctx(), &issued.principal).await.unwrap();
    settle(&connector, &account, &secret("one"), Verdict::is_accepted).await;

    sql(&connector, &format!("ALTER ROLE {account} VALID UNTIL '2001-01-01'")).await;
    let reading = connector
        .inventory()
        .unwrap()
        .read(&ctx(), &issued.principal)
        .await
        .unwrap();
    let state = reading.states().next().unwrap().clone();
    assert_eq!(state.status, PrincipalStatus::Expired);
    assert_eq!(state.expires_at, Some(978_307_200_000_000));
    connector
        .revoke()
        .unwrap()
        .delete_principal(&ctx(), &issued.principal)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_lost_reply_is_read_downstream() {
    let connector = postgres();
    let account = name("lost");
    let call = issue_call(new_account(&account), &secret("one"), json!({}));
    let issuer = connector.issue().unwrap();
    assert_eq!(
        issuer.observe(&ctx(), &call).await.unwrap(),
        IssueObservation::NotApplied
    );
    let issued = issuer.issue(&ctx(), &call).await.unwrap();
    assert_eq!(
        issuer.observe(&ctx(), &call).await.unwrap(),
        IssueObservation::Applied(issued.clone())
    );
    let other = issue_call(issued.principal.clone(), &secret("two"), json!({}));
    assert_eq!(
        issuer.observe(&ctx(), &other).await.unwrap(),
        IssueObservation::NotApplied
    );

    // A change that still runs holds the lock, so that nobody reads "not applied" just before it commits.
    let own = super::admin();
    let mut straggler = session(&connector, "primary", &own.username, &own.secret).await;
    let lock = super::super::role::Role::read_locked(
        &super::super::admin::Facts::default(),
        &issued.principal,
        super::super::admin::Deadline::of(&ctx()),
    )
    .unwrap();
    straggler.ask(&lock).await.unwrap();
    let mut short = ctx();
    short.time_left = std::time::Duration::from_millis(300);
    let error = issuer.observe(&short, &call).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transient);
    straggler.batch("COMMIT").await.unwrap();
    assert_eq!(
        issuer.observe(&ctx(), &call).await.unwrap(),
        IssueObservation::Applied(issued.clone())
    );
    connector
        .revoke()
        .unwrap()
        .delete_principal(&ctx(), &issued.principal)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_made_at_once_share_an_owner_that_none_of_them_found() {
    let connector = postgres();
    let owner = name("crowd");
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let (connector, owner) = (std::sync::Arc::clone(&connector), owner.clone());
            tokio::spawn(async move {
                let account = format!("{owner}_{number}");
                issue(
                    &connector,
                    &account,
                    &secret("one"),
                    json!({"owner": owner, "memberOf": ["pg_monitor"]}),
                )
                .await
            })
        })
        .collect();
    for task in tasks {
        let issued = task.await.unwrap();
        let revoked = connector
            .revoke()
            .unwrap()
            .delete_principal(&ctx(), &issued.principal)
            .await;
        assert_eq!(revoked.unwrap(), Revoked::Revoked);
    }
    sql(&connector, &format!("DROP ROLE {owner}")).await;
}

#[tokio::test]
async fn a_probe_is_no_session_of_a_workload() {
    let connector = postgres();
    let account = name("probed");
    let one = secret("one");
    let issued = issue(&connector, &account, &one, json!({})).await;
    settle(&connector, &account, &one, Verdict::is_accepted).await;
    let application = "keyfall-probe prove-new";
    let _probe = session_of(&connector, "primary", &account, &one, "postgres", application).await;
    let sessions = connector.sessions().unwrap();
    // Those of the probes before have ended, or end in a moment; none of them counts either.
    assert_eq!(sessions.count(&ctx(), &issued.principal).await.unwrap(), 0);
    let _workload = session(&connector, "primary", &account, &one).await;
    assert_eq!(sessions.count(&ctx(), &issued.principal).await.unwrap(), 1);
    let delete = connector.revoke().unwrap();
    delete.delete_principal(&ctx(), &issued.principal).await.unwrap();
}
