//! What accounts own, and who has it after they are deleted.

use keyfall_sdk::{Entitle as _, ErrorKind, Issued, Revoke as _, Revoked};
use serde_json::json;

use super::super::link::Link;
use super::{Postgres, admin, ctx, issue, name, postgres, postgres_with, probe, read, secret, session_in, sql};

/// A database of its own with an account that works in it.
struct Stage {
    there: std::sync::Arc<Postgres>,
    database: String,
    owner: String,
    account: String,
    issued: Issued,
}

async fn stage() -> Stage {
    let (database, owner, account) = (name("db"), name("owner"), name("acct"));
    sql(&postgres(), &format!("CREATE DATABASE {database}")).await;
    let there = postgres_with(json!({"database": database, "adminDatabase": "postgres"}));
    let access = json!({"owner": owner, "memberOf": ["pg_monitor"]});
    let issued = issue(&there, &account, &secret("one"), access).await;
    sql(&there, &format!("GRANT ALL ON DATABASE {database} TO {owner}")).await;
    Stage {
        there,
        database,
        owner,
        account,
        issued,
    }
}

impl Stage {
    async fn enter_as_admin(&self) -> Link {
        let own = admin();
        session_in(&self.there, "primary", &own.username, &own.secret, &self.database).await
    }

    async fn clear(self) {
        sql(&self.there, &format!("DROP DATABASE {} WITH (FORCE)", self.database)).await;
        sql(&self.there, &format!("DROP OWNED BY {0}; DROP ROLE {0}", self.owner)).await;
    }
}

async fn owner_of(link: &mut Link, table: &str) -> Option<String> {
    let query = format!("SELECT tableowner FROM pg_tables WHERE tablename = '{table}'");
    link.batch(&query).await.unwrap()[0][0][0].clone()
}

#[tokio::test]
async fn what_an_account_creates_is_its_owners_from_the_start() {
    let stage = stage().await;
    let mut consumer = session_in(&stage.there, "primary", &stage.account, &secret("one"), &stage.database).await;
    let create = "CREATE SCHEMA made CREATE TABLE made.t (x int)";
    consumer.batch(create).await.unwrap();
    assert_eq!(owner_of(&mut consumer, "t").await, Some(stage.owner.clone()));
    let monitors = consumer
        .batch("SELECT pg_has_role(current_user, 'pg_monitor', 'USAGE')")
        .await
        .unwrap();
    assert_eq!(monitors[0][0][0].as_deref(), Some("t"));
    let escape = "SET ROLE NONE; CREATE SCHEMA escaped";
    assert!(
        consumer.batch(escape).await.is_err(),
        "without its owner it has no rights"
    );
    let deleted = stage.there.delete_principal(&ctx(), &stage.issued.principal).await;
    assert_eq!(deleted.unwrap(), Revoked::Revoked);
    stage.clear().await;
}

#[tokio::test]
async fn what_came_to_an_account_goes_to_its_owner_in_every_database() {
    let stage = stage().await;
    let mut root = stage.enter_as_admin().await;
    let account = &stage.account;
    root.batch(&format!(
        "CREATE TABLE public.stray (x int); ALTER TABLE public.stray OWNER TO {account}; \
         CREATE TABLE public.other (x int); GRANT SELECT ON public.other TO {account}"
    ))
    .await
    .unwrap();
    let principal = &stage.issued.principal;
    let membership = format!("member of {}", stage.owner);
    let direct = format!("direct privileges in database {}", stage.database);
    assert_eq!(
        read(&stage.there, principal).await.unwrap().grants,
        [direct, membership.clone()]
    );
    assert_eq!(stage.there.strip(&ctx(), principal).await.unwrap(), [membership]);
    assert!(stage.there.strip(&ctx(), principal).await.unwrap().is_empty());
    let deleted = stage.there.delete_principal(&ctx(), principal).await;
    assert_eq!(deleted.unwrap(), Revoked::Revoked);
    assert_eq!(owner_of(&mut root, "stray").await, Some(stage.owner.clone()));
    drop(root);
    stage.clear().await;
}

#[tokio::test]
async fn an_account_without_an_heir_keeps_what_it_owns() {
    let connector = postgres();
    let (account, table) = (name("heirless"), name("table"));
    let issued = issue(&connector, &account, &secret("one"), json!({})).await;
    let make = format!("CREATE TABLE public.{table} (x int); ALTER TABLE public.{table} OWNER TO {account}");
    sql(&connector, &make).await;
    let error = connector.delete_principal(&ctx(), &issued.principal).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("1 object(s) in database postgres"), "{error}");
    let verdict = probe(&connector, "primary", &account, &secret("one")).await;
    assert!(verdict.is_accepted(), "nothing was touched");
    sql(&connector, &format!("DROP TABLE public.{table}")).await;
    let deleted = connector.delete_principal(&ctx(), &issued.principal).await;
    assert_eq!(deleted.unwrap(), Revoked::Revoked);
}
