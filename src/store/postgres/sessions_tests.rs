//! Who has a session in the database: of poolers that hand them around.

use super::{PostgresDriver, PostgresOptions};
use crate::clock::Environment;
use crate::store::driver::{Driver as _, Execute, Reach, Select, only_text};
use crate::store::sql::ledger;
use crate::store::tests::database::{Database, behind_a_pooler};
use crate::store::Result;

async fn opened(url: &str, node: &str, change: impl FnOnce(&mut PostgresOptions)) -> Result<PostgresDriver> {
    let environment = Environment::of_this_machine();
    let mut options = PostgresOptions::for_test(url, &environment, |_| Err("no events here".to_owned()));
    options.node = node.to_owned();
    change(&mut options);
    PostgresDriver::open(&options, &environment).await
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

#[tokio::test]
async fn another_session_is_refused_before_anything_is_done_in_it() {
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
    let refused = driver.write(set("second")).await.unwrap_err().to_string();
    assert!(refused.contains("pool_mode = session"), "{refused}");
    let text = "select count(*) from settings where key = 'second'";
    let stored: i64 = database.client().await.query_one(text, &[]).await.unwrap().get(0);
    assert_eq!(stored, 0);
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
