//! Other people's changes to the same roles: conflicts, and nothing is touched.

use keyfall_sdk::{
    ConnectorError, Entitle as _, ErrorKind, Issue as _, Placement, Revoke as _, RevokeCall, Suspend as _, Verdict,
};
use serde_json::json;

use super::{ctx, issue, issue_call, name, new_account, postgres, read, secret, settle, sql};

fn conflict<T: std::fmt::Debug>(outcome: Result<T, ConnectorError>) {
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Conflict);
}

fn verifier(text: &str) -> String {
    postgres_protocol::password::scram_sha_256(secret(text).expose_secret())
}

#[tokio::test]
async fn a_password_set_by_hand_is_not_revoked() {
    let connector = postgres();
    let account = name("foreign");
    let issued = issue(&connector, &account, &secret("one"), json!({})).await;
    sql(
        &connector,
        &format!("ALTER ROLE {account} PASSWORD '{}'", verifier("by hand")),
    )
    .await;
    let revoke = RevokeCall {
        principal: issued.principal.clone(),
        key_id: issued.key_id,
    };
    conflict(connector.revoke(&ctx(), &revoke).await);
    settle(&connector, &account, &secret("by hand"), Verdict::is_accepted).await;

    // Under another name it still takes its password, so it is not gone.
    let renamed = name("renamed");
    sql(&connector, &format!("ALTER ROLE {account} RENAME TO {renamed}")).await;
    conflict(connector.revoke(&ctx(), &revoke).await);
    conflict(connector.delete_principal(&ctx(), &issued.principal).await);
    assert_eq!(read(&connector, &issued.principal).await.unwrap().name, renamed);
    sql(&connector, &format!("DROP ROLE {renamed}")).await;
}

#[tokio::test]
async fn a_password_set_by_hand_is_not_replaced_in_place() {
    let connector = postgres();
    let account = name("inplace_foreign");
    let issued = issue(&connector, &account, &secret("one"), json!({})).await;
    sql(
        &connector,
        &format!("ALTER ROLE {account} PASSWORD '{}'", verifier("by hand")),
    )
    .await;
    let mut replace = issue_call(issued.principal.clone(), &secret("two"), json!({}));
    replace.placement = Placement::Replace;
    replace.replaces = vec![issued.key_id.clone()];
    conflict(connector.issue(&ctx(), &replace).await);
    settle(&connector, &account, &secret("by hand"), Verdict::is_accepted).await;
    // What a person read and recorded may be replaced.
    let state = read(&connector, &issued.principal).await.unwrap();
    replace.replaces = state.key_ids;
    connector.issue(&ctx(), &replace).await.unwrap();
    settle(&connector, &account, &secret("two"), Verdict::is_accepted).await;
    sql(&connector, &format!("DROP ROLE {account}")).await;
}

#[tokio::test]
async fn a_namesake_is_left_alone() {
    let connector = postgres();
    let account = name("namesake");
    let issued = issue(&connector, &account, &secret("one"), json!({})).await;
    let again = format!(
        "DROP ROLE {account}; CREATE ROLE {account} LOGIN PASSWORD '{}'",
        verifier("theirs")
    );
    sql(&connector, &again).await;
    let recorded = &issued.principal;
    let revoke = RevokeCall {
        principal: recorded.clone(),
        key_id: issued.key_id,
    };
    let mine = issue_call(recorded.clone(), &secret("two"), json!({}));
    let new = issue_call(new_account(&account), &secret("two"), json!({}));
    conflict(connector.revoke(&ctx(), &revoke).await);
    conflict(connector.delete_principal(&ctx(), recorded).await);
    conflict(connector.delete_principal(&ctx(), &new_account(&account)).await);
    conflict(connector.suspend(&ctx(), recorded).await);
    conflict(connector.resume(&ctx(), recorded).await);
    conflict(connector.strip(&ctx(), recorded).await);
    conflict(connector.observe(&ctx(), &mine).await);
    conflict(connector.issue(&ctx(), &mine).await);
    conflict(connector.issue(&ctx(), &new).await);
    settle(&connector, &account, &secret("theirs"), Verdict::is_accepted).await;
    sql(&connector, &format!("DROP ROLE {account}")).await;
}
