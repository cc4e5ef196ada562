//! A database is opened for what it is: made once, guarded by its own rules, and left alone when it is somebody else's.

use std::sync::Arc;

use futures_util::future::join_all;

use super::database::Database;
use super::rows::note;
use super::support::{On, decode, environment};
use crate::store::{Commit, Fact, PostgresOptions, Store, StoreError, open_postgres};

/// Four nodes start on an empty database at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_at_once_make_one_store() {
    let database = Database::create().await;
    let (_, environment) = environment();
    let start = || {
        let options = PostgresOptions::for_test(&database.url(), &environment, decode);
        open_postgres(options, environment.clone())
    };
    let mut ids = Vec::new();
    for store in join_all([start(), start(), start(), start()]).await {
        ids.push(store.unwrap().setting(crate::store::STORE_ID).await.unwrap().unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[tokio::test]
async fn the_log_of_a_database_refuses_every_change() {
    let test = On::Postgres.opened().await;
    test.run("billing", 0).await;
    assert_eq!(test.store.log_state().await.unwrap().size, 1);
    let bare = test.database().client().await;
    for change in [
        "update log set bytes = 'other'",
        "update log set position = 7",
        "update log set position = null",
        "delete from log",
        "truncate log",
    ] {
        let error = bare.batch_execute(change).await.unwrap_err();
        assert_eq!(
            error.as_db_error().unwrap().message(),
            "the log is append-only",
            "{change}"
        );
    }
    bare.batch_execute("alter table log disable trigger log_is_not_changed")
        .await
        .unwrap();
    let problems = test.store.check().await.unwrap();
    assert!(
        problems.iter().any(|one| one.contains("log_is_not_changed")),
        "{problems:?}"
    );
}

#[tokio::test]
async fn a_database_that_is_not_ours_is_left_alone() {
    let opened = async |database: &Database, creation, store_id: Option<&str>| {
        let (_, environment) = environment();
        let mut options = PostgresOptions::for_test(&database.url(), &environment, decode);
        options.creation = creation;
        options.store_id = store_id.map(str::to_owned);
        open_postgres(options, environment).await
    };
    use crate::store::Creation::{Always, IfMissing, Never};
    let refused = |opened: crate::store::Result<Arc<dyn Store>>, why: &str| match opened {
        Err(StoreError::Open { why: said }) => assert!(said.contains(why), "{said}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened: {why}"),
    };
    let theirs = Database::create().await;
    theirs
        .client()
        .await
        .batch_execute("create table orders (id bigint)")
        .await
        .unwrap();
    for creation in [Always, IfMissing] {
        refused(opened(&theirs, creation, None).await, "another program");
    }
    refused(opened(&theirs, Never, None).await, "there is no store");

    let test = On::Postgres.opened().await;
    test.identity("billing").await;
    test.store
        .commit(Commit {
            log: vec![note("one")],
            ..Commit::default()
        })
        .await
        .unwrap();
    let ours = test.database();
    refused(opened(ours, Always, None).await, "not overwritten");
    refused(opened(ours, Never, Some("another")).await, "another was expected");
    ours.client()
        .await
        .batch_execute("insert into refinery_schema_history (version, name, applied_on, checksum) values (9999, 'later', '2030-01-01T00:00:00Z', '1')")
        .await
        .unwrap();
    refused(opened(ours, Never, None).await, "newer keyfall");
}

/// A commit that was answered survives a failover to a synchronous standby, whatever the server asks of commits elsewhere.
#[tokio::test]
async fn no_commit_is_answered_before_the_standby_has_it() {
    let cases = ["off", "local", "remote_write", "on", "remote_apply"];
    for asked in cases {
        let test = On::Postgres.opened().await;
        test.store.close().await.unwrap();
        let bare = test.database().client().await;
        let watch = format!(
            "do $$ begin execute format('alter database %I set synchronous_commit = {asked}', current_database()); end $$; \
             create table made_under (setting text); \
             create function made_under() returns trigger language plpgsql as $$ begin \
             insert into made_under values (current_setting('synchronous_commit')); return new; end $$; \
             create trigger made_under before insert or update on settings for each row execute function made_under()"
        );
        bare.batch_execute(&watch).await.unwrap();
        let store = test.beside().await;
        let key = crate::store::LAST_BACKUP_AT;
        let value = Some("1".to_owned());
        let commit = Commit {
            facts: vec![Fact::Setting { key, value }],
            ..Commit::default()
        };
        store.commit(commit).await.unwrap();
        let rows = bare.query("select setting from made_under", &[]).await.unwrap();
        let under: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        let wanted = if asked == "remote_apply" { asked } else { "on" };
        // What each start writes, and the commit.
        assert!(
            under.len() > 1 && under.iter().all(|one| *one == wanted),
            "{asked}: {under:?}"
        );
    }
}
