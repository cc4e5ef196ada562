//! Discovery, the rights of our own account, and what is never to be seen on the server.

use keyfall_sdk::{
    AdminCredential, Connector, ErrorKind, Inventory as _, PrincipalStatus, RevokeCall, Revoked, ServerGrants,
};
use serde_json::json;

use super::super::admin::Deadline;
use super::super::ask::Ask;
use super::{
    Postgres, VANTAGES, admin, ctx, issue, issue_call, name, new_account, postgres, secret, session, spec, sql, value,
};
use crate::testing::{machine_micros, servers};

#[tokio::test]
async fn discovery_shows_logins_with_their_power() {
    let connector = postgres();
    let (strong, sleeping, group) = (name("strong"), name("sleeping"), name("group"));
    let verifier = postgres_protocol::password::scram_sha_256(secret("one").expose_secret());
    sql(
        &connector,
        &format!(
            "CREATE ROLE {group} CREATEROLE; CREATE ROLE {strong} LOGIN IN ROLE {group} PASSWORD '{verifier}'; \
             CREATE ROLE {sleeping} CREATEDB PASSWORD '{verifier}'"
        ),
    )
    .await;
    let _session = session(&connector, "primary", &strong, &secret("one")).await;
    let accounts = connector.inventory().unwrap().list(&ctx()).await.unwrap();
    let find = |name: &str| accounts.iter().find(|account| account.name == name);
    let found = find(&strong).unwrap();
    assert_eq!(
        (found.status, found.sessions, found.privileged),
        (PrincipalStatus::Enabled, Some(1), true)
    );
    assert_eq!(found.grants, [format!("member of {group}")]);
    let found = find(&sleeping).unwrap();
    assert_eq!((found.status, found.privileged), (PrincipalStatus::Disabled, false));
    assert_eq!(found.grants, ["attribute CREATEDB"]);
    assert_eq!(found.key_ids.len(), 1);
    assert!(find(&group).is_none(), "a group role without a password is no account");
    assert!(find(&admin().username).unwrap().privileged);
    assert!(accounts.is_sorted_by_key(|account| account.name.clone()));
    drop(_session);
    sql(&connector, &format!("DROP ROLE {strong}, {sleeping}, {group}")).await;
}

#[tokio::test]
async fn a_weak_admin_role_is_told_what_it_lacks() {
    let root = postgres();
    assert!(root.inventory().unwrap().preflight(&ctx()).await.unwrap().is_empty());
    let weak = name("weak");
    let issued = issue(&root, &weak, &secret("weak"), json!({})).await;
    super::settle(&root, &weak, &secret("weak"), keyfall_sdk::Verdict::is_accepted).await;
    let credential = AdminCredential {
        username: weak.clone(),
        secret: secret("weak"),
    };
    let connector = Postgres::new(&spec(json!({})), Some(credential), &ServerGrants::default()).unwrap();
    let missing = connector.inventory().unwrap().preflight(&ctx()).await.unwrap();
    for right in [
        "CREATEROLE",
        "pg_authid",
        "primary: GRANT pg_signal_backend",
        "replica: GRANT pg_read_all_stats",
    ] {
        assert!(missing.iter().any(|line| line.contains(right)), "{right}: {missing:?}");
    }
    let call = issue_call(new_account(&name("never")), &secret("one"), json!({}));
    let error = connector.issue().unwrap().issue(&ctx(), &call).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Denied, Some("42501")));
    assert_eq!(
        connector.inventory().unwrap().list(&ctx()).await.unwrap_err().kind(),
        ErrorKind::Denied
    );
    let own = connector
        .revoke()
        .unwrap()
        .delete_principal(&ctx(), &issued.principal)
        .await
        .unwrap_err();
    assert_eq!(
        own.kind(),
        ErrorKind::Conflict,
        "nobody saws off the branch that he sits on"
    );
    drop(connector);
    root.revoke()
        .unwrap()
        .delete_principal(&ctx(), &issued.principal)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_admin_role_without_superuser_is_enough() {
    let root = postgres();
    let (helper, owner, account) = (name("helper"), name("owner"), name("acct"));
    let verifier = postgres_protocol::password::scram_sha_256(secret("helper").expose_secret());
    let make = format!(
        "CREATE ROLE {helper} LOGIN CREATEROLE IN ROLE pg_signal_backend, pg_read_all_stats PASSWORD '{verifier}'; \
         GRANT SELECT ON pg_authid TO {helper}"
    );
    sql(&root, &make).await;
    super::settle(&root, &helper, &secret("helper"), keyfall_sdk::Verdict::is_accepted).await;
    let credential = AdminCredential {
        username: helper.clone(),
        secret: secret("helper"),
    };
    let connector = Postgres::new(&spec(json!({})), Some(credential), &ServerGrants::default()).unwrap();
    let missing = connector.inventory().unwrap().preflight(&ctx()).await.unwrap();
    assert_eq!(missing, [""; 0]);
    let issued = issue(&connector, &account, &secret("one"), json!({"owner": owner})).await;
    super::settle(&connector, &account, &secret("one"), keyfall_sdk::Verdict::is_accepted).await;
    // From 16 on, who makes a role may administer it without having its rights.
    let modern = value(&root, "SELECT current_setting('server_version_num')::int >= 160000").await;
    let inherit = if modern.as_deref() == Some("t") {
        " WITH INHERIT TRUE"
    } else {
        ""
    };
    sql(&root, &format!("GRANT {owner} TO {helper}{inherit}")).await;
    let revoke = RevokeCall {
        principal: issued.principal.clone(),
        key_id: issued.key_id.clone(),
    };
    let revoker = connector.revoke().unwrap();
    assert_eq!(revoker.revoke(&ctx(), &revoke).await.unwrap(), Revoked::Revoked);
    let deleted = revoker.delete_principal(&ctx(), &issued.principal).await;
    assert_eq!(deleted.unwrap(), Revoked::Revoked);
    drop(connector);
    sql(
        &root,
        &format!("REVOKE SELECT ON pg_authid FROM {helper}; DROP ROLE {owner}, {helper}"),
    )
    .await;
}

#[tokio::test]
async fn a_wrong_admin_password_is_denied_in_clear_words() {
    let credential = AdminCredential {
        username: admin().username,
        secret: secret("wrong"),
    };
    let connector = Postgres::new(&spec(json!({})), Some(credential), &ServerGrants::default()).unwrap();
    let error = connector.inventory().unwrap().list(&ctx()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Denied, Some("28P01")));
    assert!(
        error.message().contains("admin credential of this system is wrong"),
        "{error}"
    );
    let connector = Postgres::new(&spec(json!({})), None, &ServerGrants::default()).unwrap();
    let error = connector.inventory().unwrap().list(&ctx()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn a_connection_that_the_server_ended_is_replaced() {
    let connector = postgres();
    let lane = connector.admin.control().unwrap();
    let pid = Ask::new("SELECT pg_backend_pid()");
    let deadline = Deadline::of(&ctx());
    let (seat, rows) = connector
        .admin
        .begin(lane, deadline, "test", |_| Ok(vec![pid.clone()]))
        .await
        .unwrap();
    seat.leave().await;
    let first = rows[0][0][0].clone().unwrap();
    sql(&connector, &format!("SELECT pg_terminate_backend({first}, 5000)")).await;
    let (_seat, rows) = connector
        .admin
        .begin(lane, deadline, "test", |_| Ok(vec![pid.clone()]))
        .await
        .unwrap();
    assert_ne!(rows[0][0][0].as_deref(), Some(first.as_str()));
}

/// The log holds every statement on roles (`log_statement` of the test servers) and every login.
#[tokio::test]
async fn the_servers_log_never_shows_a_secret() {
    let connector = postgres();
    let account = name("logged");
    let secret = secret("canary-5e1f");
    let issued = issue(&connector, &account, &secret, json!({})).await;
    super::settle(&connector, &account, &secret, keyfall_sdk::Verdict::is_accepted).await;
    let seen = value(
        &connector,
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%canary' || '-5e1f%'",
    )
    .await;
    assert_eq!(seen.as_deref(), Some("0"));
    connector
        .revoke()
        .unwrap()
        .delete_principal(&ctx(), &issued.principal)
        .await
        .unwrap();
    let log = String::from_utf8_lossy(&std::fs::read(servers().text("KEYFALL_PG_LOG")).unwrap()).into_owned();
    assert!(
        log.contains(&format!("CREATE ROLE \"{account}\"")),
        "the test servers do not log statements"
    );
    assert!(!log.contains("canary-5e1f"));
}

#[tokio::test]
async fn each_server_tells_its_time() {
    let connector = postgres();
    let before = machine_micros();
    let clocks = connector.clocks(&ctx()).await.unwrap();
    let after = machine_micros();
    let vantages: Vec<&str> = clocks.iter().map(|clock| clock.vantage.as_str()).collect();
    assert_eq!(vantages, VANTAGES);
    assert!(
        clocks.iter().all(|clock| before <= clock.at && clock.at <= after),
        "{clocks:?}"
    );
}
