//! A change whose client has given up and which the server still has in its hands: nobody is told what the account is before it has ended.

use std::time::Duration;

use keyfall_sdk::{AdminCredential, CallContext, Connector as _, ErrorKind, PrincipalState, Result, ServerGrants};
use serde_json::json;

use super::{Postgres, ctx, issue, issue_call, name, new_account, poll, postgres, secret, session, sql};
use crate::testing::Servers;

fn within(seconds: u64) -> CallContext {
    CallContext {
        time_left: Duration::from_secs(seconds),
        ..ctx()
    }
}

/// The account, as a look at it alone and at all of them shows it.
async fn looks(connector: &Postgres, name: &str, seconds: u64) -> [Result<Option<PrincipalState>>; 2] {
    let inventory = connector.inventory().unwrap();
    let ctx = within(seconds);
    let account = new_account(name);
    let (one, all) = tokio::join!(inventory.read(&ctx, &account), inventory.list(&ctx));
    [
        one.map(|reading| reading.states().next().cloned()),
        all.map(|all| all.into_iter().find(|one| one.name == name)),
    ]
}

#[tokio::test]
async fn an_account_is_not_described_while_a_change_of_it_is_under_way() {
    let connector = postgres();
    let account = name("waiting");
    issue(&connector, &account, &secret("first"), json!({})).await;
    let own = super::admin();
    let mut at_work = session(&connector, "primary", &own.username, &own.secret).await;
    let change = format!(
        "BEGIN; SELECT pg_advisory_xact_lock(1262836038, hashtext('{account}')); ALTER ROLE {account} PASSWORD NULL"
    );
    at_work.batch(&change).await.unwrap();
    for look in looks(&connector, &account, 8).await {
        let error = look.expect_err("it was described");
        assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
        assert!(error.to_string().contains("still under way"), "{error}");
    }
    // Who waits long enough sees what came of it.
    let (_, seen) = tokio::join!(
        async {
            poll::eventually("somebody waits for the change", async || {
                let waits =
                    "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = 1262836038 AND NOT granted";
                (!sql(&connector, waits).await.pop()?.is_empty()).then_some(())
            })
            .await;
            at_work.batch("COMMIT").await.unwrap();
        },
        looks(&connector, &account, 20)
    );
    for look in seen {
        assert!(look.unwrap().unwrap().key_ids.is_empty());
    }
    sql(&connector, &format!("DROP ROLE {account}")).await;
}

#[tokio::test]
async fn a_commit_that_waits_for_its_standby_is_never_read_as_never_issued() {
    let servers = Servers::start(&["postgres"]);
    let spec = json!({
        "connector": "postgres",
        "tlsCa": servers.file("KEYFALL_PG_CA_FILE"),
        "options": {"adminDatabase": "postgres"},
        "vantages": [{"name": "primary", "host": servers.text("KEYFALL_PG_HOST"), "port": servers.port("KEYFALL_PG_PRIMARY_PORT")}],
    });
    let own = || -> AdminCredential { servers.admin("KEYFALL_PG_ADMIN_USER", "KEYFALL_PG_ADMIN_PASSWORD_FILE") };
    let spec = serde_json::from_value(spec).unwrap();
    let connector = Postgres::new(&spec, Some(own()), &ServerGrants::default()).unwrap();
    let mut admin = session(&connector, "primary", &own().username, &own().secret).await;
    // Each commit waits for a standby that there is not.
    let set = "ALTER SYSTEM SET synchronous_standby_names = 'nobody'";
    admin.batch(set).await.unwrap();
    admin.batch("SELECT pg_reload_conf()").await.unwrap();
    poll::eventually("commits wait", async || {
        let rows = admin.batch("SHOW synchronous_standby_names").await.unwrap();
        (rows[0][0][0].as_deref() == Some("nobody")).then_some(())
    })
    .await;

    let account = name("unheard");
    let call = issue_call(new_account(&account), &secret("unheard"), json!({}));
    let patience = within(15);
    let looked = async {
        poll::eventually("the commit waits", async || {
            let waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
            (!admin.batch(waits).await.unwrap()[0].is_empty()).then_some(())
        })
        .await;
        looks(&connector, &account, 8).await
    };
    let (sent, looked) = tokio::join!(connector.issue().unwrap().issue(&patience, &call), looked);
    if let Err(error) = sent {
        assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error}");
    }
    // Nobody has seen the account by then, and nobody may be told that there is none.
    for look in looked {
        match look {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Transient, "{error}"),
            Ok(seen) => assert!(seen.is_some(), "it was said to be absent"),
        }
    }
    // When there is a standby, or none is waited for, the account is there.
    let mut again = session(&connector, "primary", &own().username, &own().secret).await;
    again
        .batch("ALTER SYSTEM RESET synchronous_standby_names")
        .await
        .unwrap();
    again.batch("SELECT pg_reload_conf()").await.unwrap();
    for look in looks(&connector, &account, 20).await {
        assert_eq!(look.unwrap().unwrap().key_ids.len(), 1);
    }
}
