//! Who has a session in the database: of poolers that hand them around, of servers that have the store open, and of users who may not ask where they are.

use super::{PostgresDriver, PostgresOptions, upkeep};
use crate::clock::Environment;
use crate::store::copy::Purpose;
use crate::store::driver::{Driver as _, Execute, Reach, Select, only_text};
use crate::store::sql::ledger;
use crate::store::tests::database::{Database, behind_a_pooler};
use crate::store::{Creation, Result};

async fn opened(url: &str, node: &str, change: impl FnOnce(&mut PostgresOptions)) -> Result<PostgresDriver> {
    let environment = Environment::of_this_machine();
    let mut options = PostgresOptions::for_test(url, &environment, |_| Err("no events here".to_owned()));
    options.node = node.to_owned();
    change(&mut options);
    PostgresDriver::open(&options, &environment).await
}

/// One that has a session and does nothing by itself.
async fn at_rest(url: &str, node: &str) -> PostgresDriver {
    let driver = opened(url, node, |_| {}).await.unwrap();
    driver.closing.cancel();
    is_set(&driver, "anything").await.unwrap();
    driver
}

fn set(key: &str) -> Execute {
    Execute {
        bound: ledger::SET.with([("key", key.into()), ("value", "on".into())]).unwrap(),
    }
}

async fn is_set(driver: &PostgresDriver, key: &str) -> Result<bool> {
    let select = Select {
        bounds: vec![ledger::setting(key)?],
        map: only_text,
    };
    Ok(!driver.read(select, Reach::Point).await?.is_empty())
}

async fn sessions(database: &Database, name: &str) -> i64 {
    let text = "select count(*) from pg_stat_activity where datname = current_database() and application_name = $1";
    database.client().await.query_one(text, &[&name]).await.unwrap().get(0)
}

#[tokio::test]
async fn nothing_is_done_in_a_session_that_is_another_one() {
    let database = Database::create().await;
    let driver = opened(&database.url(), "a", |options| options.connections = 1)
        .await
        .unwrap();
    driver.write(set("first")).await.unwrap();
    // As behind a pooler that gives each transaction another session: what was set in ours is not there.
    let lease = driver.inner.pool.take().await.unwrap();
    let client = &lease.connection.client;
    let marks = client.query(
        "select name from pg_prepared_statements where name like 'keyfall%'",
        &[],
    );
    let mark: String = marks.await.unwrap()[0].get(0);
    client.batch_execute(&format!("deallocate {mark}")).await.unwrap();
    lease.give_back();
    driver.write(set("second")).await.unwrap();
    assert!(is_set(&driver, "second").await.unwrap());
    // It was done in a new one, which has what was set.
    let lease = driver.inner.pool.take().await.unwrap();
    let marks = "select count(*) from pg_prepared_statements where name like 'keyfall%'";
    let marks: i64 = lease.connection.client.query_one(marks, &[]).await.unwrap().get(0);
    assert_eq!(marks, 1);
    lease.give_back();
}

#[tokio::test]
async fn a_pooler_that_pools_transactions_is_refused_and_one_that_pools_sessions_is_not() {
    let (_servers, url) = behind_a_pooler("transaction");
    let refused = opened(&url, "a", |_| {}).await.err().expect("it was taken").to_string();
    assert!(
        refused.contains("pool_mode = session") && refused.contains("server itself"),
        "{refused}"
    );

    let (_servers, url) = behind_a_pooler("session");
    let driver = opened(&url, "a", |_| {}).await.unwrap();
    driver.write(set("first")).await.unwrap();
    assert!(is_set(&driver, "first").await.unwrap());
}

#[tokio::test]
async fn a_move_ends_who_has_this_store_open_whatever_it_is_called_and_nobody_else() {
    let database = Database::create().await;
    let make = "create schema one; create schema two";
    database.client().await.batch_execute(make).await.unwrap();
    let one = format!("{}?options=-c%20search_path%3Done", database.url());
    let two = format!("{}?options=-c%20search_path%3Dtwo", database.url());
    let _called_so = at_rest(&one, "move").await;
    let _beside = at_rest(&two, "beside").await;
    let mover = opened(&one, "any", |options| {
        options.purpose = Purpose::MoveFrom;
        options.creation = Creation::Never;
    });
    let mover = mover.await.unwrap();
    assert_eq!(sessions(&database, "keyfall/move").await, 1);
    upkeep::end_others(&mover.inner).await.unwrap();
    // A session gives its locks back a moment before it is gone.
    while sessions(&database, "keyfall/move").await > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(sessions(&database, "keyfall/beside").await, 1);
    // It goes on in its own.
    assert!(!is_set(&mover, "anything").await.unwrap());
}

#[tokio::test]
async fn a_move_waits_for_nobody_whom_it_may_not_end_and_names_them() {
    let database = Database::create().await;
    let (owner, other) = (
        database.url_of("store_owner").await,
        database.url_of("store_other").await,
    );
    let make = "create schema store_owner authorization store_owner; grant store_owner to store_other";
    database.client().await.batch_execute(make).await.unwrap();
    opened(&owner, "first", |_| {}).await.unwrap().close().await.unwrap();
    let server = at_rest(&format!("{other}?options=-c%20search_path%3Dstore_owner"), "server").await;
    let mover = opened(&owner, "any", |options| options.purpose = Purpose::MoveFrom)
        .await
        .unwrap();
    let refused = upkeep::end_others(&mover.inner).await.unwrap_err().to_string();
    assert!(
        refused.contains("role `store_other` (keyfall/server)") && refused.contains("Stop these servers"),
        "{refused}"
    );
    assert_eq!(sessions(&database, "keyfall/server").await, 1);
    server.close().await.unwrap();
    upkeep::end_others(&mover.inner).await.unwrap();
}

#[tokio::test]
async fn a_user_who_may_not_ask_which_database_it_is_opens_none_and_is_told_the_grant() {
    let database = Database::create().await;
    let url = database.url_of("store_owner").await;
    let admin = database.client().await;
    let make = "create schema store_owner authorization store_owner; revoke execute on function pg_control_system() from public";
    admin.batch_execute(make).await.unwrap();
    let refused = opened(&url, "a", |_| {})
        .await
        .err()
        .expect("it was opened")
        .to_string();
    let (_, grant) = refused.split_once("in this database: ").expect(&refused);
    assert!(
        grant.contains("pg_control_system()") && grant.ends_with("to store_owner"),
        "{grant}"
    );
    admin.batch_execute(grant).await.unwrap();
    let driver = opened(&url, "a", |_| {}).await.unwrap();
    driver.write(set("first")).await.unwrap();
}
