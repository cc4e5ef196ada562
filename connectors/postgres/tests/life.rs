//! Whole lives of credentials: two alternating accounts, and one in place.

use keyfall_sdk::{
    Connector, EndSessionsCall, ErrorKind, IssueObservation, Placement, PrincipalRef, PrincipalStatus, RevokeCall,
    Revoked, Verdict,
};
use serde_json::json;

use super::{
    ctx, issue, issue_call, name, new_account, postgres, postgres_with, probe, refused, secret, session, session_in,
    settle, sql, value,
};

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
        assert_eq!(
            revoker.delete_principal(&ctx(), principal).await.unwrap(),
            Revoked::Revoked
        );
        assert_eq!(
            revoker.delete_principal(&ctx(), principal).await.unwrap(),
            Revoked::AlreadyGone
        );
        let reading = connector.inventory().unwrap().read(&ctx(), principal).await.unwrap();
        assert!(reading.is_absent());
    }
    settle(&connector, &b, &two, refused).await;
    sql(&connector, &format!("DROP ROLE {owner}")).await;
}

#[tokio::test]
async fn what_the_accounts_create_belongs_to_the_owner_in_every_database() {
    let database = name("db");
    let connector = postgres();
    sql(&connector, &format!("CREATE DATABASE {database}")).await;
    let there = postgres_with(json!({"database": database, "adminDatabase": "postgres"}));
    let (owner, account) = (name("owner"), name("acct"));
    let issued = issue(
        &there,
        &account,
        &secret("one"),
        json!({"owner": owner, "memberOf": ["pg_monitor"]}),
    )
    .await;
    sql(&connector, &format!("GRANT ALL ON DATABASE {database} TO {owner}")).await;

    let mut consumer = session_in(&there, "primary", &account, &secret("one"), &database).await;
    consumer
        .batch("CREATE SCHEMA made CREATE TABLE made.t (x int)")
        .await
        .unwrap();
    let owns = "SELECT tableowner FROM pg_tables WHERE tablename = 't'";
    assert_eq!(
        consumer.batch(owns).await.unwrap()[0][0][0].as_deref(),
        Some(owner.as_str())
    );
    assert!(
        consumer
            .batch("RESET ROLE; SET ROLE NONE; CREATE SCHEMA escaped")
            .await
            .is_err()
    );

    // What somebody made under the account itself is handed over, and what it was granted goes.
    let own = super::admin();
    let mut root = session_in(&there, "primary", &own.username, &own.secret, &database).await;
    root.batch(&format!(
        "CREATE TABLE public.stray (x int); ALTER TABLE public.stray OWNER TO {account}; \
         CREATE TABLE public.other (x int); GRANT SELECT ON public.other TO {account}"
    ))
    .await
    .unwrap();
    let reading = connector
        .inventory()
        .unwrap()
        .read(&ctx(), &issued.principal)
        .await
        .unwrap();
    let grants = &reading.states().next().unwrap().grants;
    assert_eq!(
        *grants,
        [
            format!("direct privileges in database {database}"),
            format!("member of {owner}")
        ]
    );

    let stripped = there.entitle().unwrap().strip(&ctx(), &issued.principal).await.unwrap();
    assert_eq!(stripped, [format!("member of {owner}")]);
    assert!(
        there
            .entitle()
            .unwrap()
            .strip(&ctx(), &issued.principal)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        there
            .revoke()
            .unwrap()
            .delete_principal(&ctx(), &issued.principal)
            .await
            .unwrap(),
        Revoked::Revoked
    );
    let stray = root
        .batch("SELECT tableowner FROM pg_tables WHERE tablename = 'stray'")
        .await
        .unwrap();
    assert_eq!(stray[0][0][0].as_deref(), Some(owner.as_str()));
    drop((root, consumer));
    sql(&connector, &format!("DROP DATABASE {database} WITH (FORCE)")).await;
    sql(&connector, &format!("DROP ROLE {owner}")).await;
}

#[tokio::test]
async fn an_account_without_an_heir_keeps_what_it_owns() {
    let connector = postgres();
    let account = name("heirless");
    let issued = issue(&connector, &account, &secret("one"), json!({})).await;
    let table = name("table");
    sql(
        &connector,
        &format!("CREATE TABLE public.{table} (x int); ALTER TABLE public.{table} OWNER TO {account}"),
    )
    .await;
    let error = connector
        .revoke()
        .unwrap()
        .delete_principal(&ctx(), &issued.principal)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("1 object(s) in database postgres"), "{error}");
    assert!(
        probe(&connector, "primary", &account, &secret("one"))
            .await
            .is_accepted()
    );
    sql(&connector, &format!("DROP TABLE public.{table}")).await;
    assert_eq!(
        connector
            .revoke()
            .unwrap()
            .delete_principal(&ctx(), &issued.principal)
            .await
            .unwrap(),
        Revoked::Revoked
    );
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
    let second = connector.issue().unwrap().issue(&ctx(), &replace).await.unwrap();
    assert_ne!(second.key_id, issued.key_id);
    assert_eq!(second.principal, issued.principal);
    settle(&connector, &account, &secret("one"), refused).await;
    settle(&connector, &account, &secret("two"), Verdict::is_accepted).await;

    let age =
        "SELECT extract(epoch FROM clock_timestamp() - backend_start) * 1000000 FROM pg_stat_activity WHERE usename = ";
    let mut new = session(&connector, "primary", &account, &secret("two")).await;
    let old_age: f64 = value(
        &connector,
        &format!("{age}'{account}' ORDER BY backend_start DESC LIMIT 1"),
    )
    .await
    .unwrap()
    .parse()
    .unwrap();
    let end = EndSessionsCall {
        principal: issued.principal.clone(),
        // Between the two: the old session is older than what is measured here by every round trip since.
        spare_younger_than: Some(std::time::Duration::from_micros(old_age as u64)),
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
    let lock =
        super::super::role::Role::read_locked(&super::super::admin::Facts::default(), &issued.principal).unwrap();
    straggler.batch(&lock).await.unwrap();
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

#[tokio::test]
async fn other_peoples_changes_are_conflicts_and_nothing_is_touched() {
    let connector = postgres();
    let account = name("foreign");
    let issued = issue(&connector, &account, &secret("one"), json!({})).await;
    let revoke = RevokeCall {
        principal: issued.principal.clone(),
        key_id: issued.key_id.clone(),
    };
    let revoker = connector.revoke().unwrap();

    let by_hand = postgres_protocol::password::scram_sha_256(secret("by hand").expose_secret());
    sql(&connector, &format!("ALTER ROLE {account} PASSWORD '{by_hand}'")).await;
    let error = revoker.revoke(&ctx(), &revoke).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    settle(&connector, &account, &secret("by hand"), Verdict::is_accepted).await;

    let renamed = name("renamed");
    sql(&connector, &format!("ALTER ROLE {account} RENAME TO {renamed}")).await;
    let error = revoker.revoke(&ctx(), &revoke).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Conflict,
        "the renamed account still takes its password"
    );
    let reading = connector
        .inventory()
        .unwrap()
        .read(&ctx(), &issued.principal)
        .await
        .unwrap();
    assert_eq!(reading.states().next().unwrap().name, renamed);

    sql(
        &connector,
        &format!("DROP ROLE {renamed}; CREATE ROLE {account} LOGIN PASSWORD '{by_hand}'"),
    )
    .await;
    for outcome in [
        revoker.revoke(&ctx(), &revoke).await.map(drop),
        revoker.delete_principal(&ctx(), &issued.principal).await.map(drop),
        connector.suspend().unwrap().suspend(&ctx(), &issued.principal).await,
        connector
            .entitle()
            .unwrap()
            .strip(&ctx(), &issued.principal)
            .await
            .map(drop),
        connector
            .issue()
            .unwrap()
            .observe(&ctx(), &issue_call(issued.principal.clone(), &secret("one"), json!({})))
            .await
            .map(drop),
        connector
            .issue()
            .unwrap()
            .issue(&ctx(), &issue_call(issued.principal.clone(), &secret("two"), json!({})))
            .await
            .map(drop),
        connector
            .issue()
            .unwrap()
            .issue(&ctx(), &issue_call(new_account(&account), &secret("two"), json!({})))
            .await
            .map(drop),
    ] {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Conflict);
    }
    settle(&connector, &account, &secret("by hand"), Verdict::is_accepted).await;
    let nameless = PrincipalRef {
        name: account.clone(),
        immutable_id: None,
    };
    assert_eq!(
        revoker.delete_principal(&ctx(), &nameless).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    sql(&connector, &format!("DROP ROLE {account}")).await;
}
