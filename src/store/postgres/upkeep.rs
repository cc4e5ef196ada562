//! Scrubbing, and the check of the schema's structure.

use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use super::super::{Result, StoreError};
use super::fault::classify;
use super::log;
use super::value::to_row;
use super::{Inner, MOVER};

/// What is wrong with indexes, constraints and the guards of the log. Empty in a sound schema.
const PROBLEMS: &str = "\
    select 'the index ' || c.relname || ' is not valid; build it anew with REINDEX' from pg_index i \
        join pg_class c on c.oid = i.indexrelid where not i.indisvalid and c.relnamespace = current_schema()::regnamespace \
    union all select 'the constraint ' || conname || ' was never checked' from pg_constraint \
        where not convalidated and connamespace = current_schema()::regnamespace \
    union all select 'the log''s trigger ' || wanted.name || ' is missing or off' from \
        unnest(array['log_is_not_changed', 'log_is_not_shortened', 'log_is_not_emptied']) as wanted (name) \
        where not exists (select 1 from pg_trigger where tgname = wanted.name and tgrelid = 'log'::regclass and tgenabled in ('O', 'A'))";

async fn with<T>(inner: &Inner, work: impl AsyncFnOnce(&Client) -> std::result::Result<T, Error>) -> Result<T> {
    let lease = inner.pool.take().await?;
    let done = work(&lease.connection.client).await;
    done.inspect(|_| lease.give_back())
        .map_err(|error| classify("looking after the database", &error))
}

/// Whoever has a store open holds this lock, shared, for as long as its session lasts. It is named by the store's own table, so that another
/// store beside it, in another schema of the same database, has another one. Empty before there is a store.
pub(super) const HAS_IT_OPEN: &str = "select pg_advisory_lock_shared(1262900052, table_of.number) \
    from (select (to_regclass('settings')::oid::bigint & 2147483647)::int as number) as table_of where number is not null";

/// Who holds it, besides moves of stores.
const OTHERS: &str = "select l.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, '') \
    from pg_locks l left join pg_stat_activity a on a.pid = l.pid \
    where l.locktype = 'advisory' and l.classid = 1262900052::oid and l.granted and l.pid <> pg_backend_pid() \
    and l.objid = (to_regclass('settings')::oid::bigint & 2147483647)::oid \
    and l.database = (select oid from pg_database where datname = current_database()) \
    and coalesce(a.application_name, '') <> $1 order by l.pid";

/// So often it is looked whether a session has ended that was told to.
const LOOKS: u32 = 50;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Ends all other sessions that have this store open, and answers when there is none any more.
///
/// # Errors
/// One of them may not be ended by this user, or does not end: it is named.
pub(super) async fn end_others(inner: &Inner) -> Result<()> {
    let mut left = Vec::new();
    for look in 0..LOOKS {
        left = with(inner, async |client| client.query(OTHERS, &[&MOVER]).await).await?;
        if left.is_empty() {
            return Ok(());
        }
        for row in left.iter().filter(|_| look == 0) {
            end(inner, row.get(0)).await?;
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    let names = left.iter().map(|row| {
        let (pid, user, name): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
        format!("session {pid} of role `{user}` ({name})")
    });
    let names: Vec<String> = names.collect();
    Err(StoreError::Open {
        why: format!(
            "others have it open, and this role may not end them: {}. Stop these servers, or end the sessions as a superuser with \
             pg_terminate_backend(…); the same command goes on",
            names.join(", ")
        ),
    })
}

/// Told to end, where this role may tell it.
async fn end(inner: &Inner, pid: i32) -> Result<()> {
    let ended = with(inner, async |client| {
        match client.execute("select pg_terminate_backend($1)", &[&pid]).await {
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(()),
            done => done.map(drop),
        }
    });
    ended.await
}

/// What time it is by the database's clock.
pub(super) async fn now(inner: &Inner) -> Result<Timestamp> {
    let row = with(inner, async |client| client.query_one(log::NOW, &[]).await).await?;
    log::read_instant(vec![
        to_row(&row).map_err(|error| classify("asking what time it is", &error))?,
    ])
}

/// Takes the overwritten rows of destroyed secrets out of their table. What the database has written elsewhere (its write-ahead log, archives
/// of it, replicas' files) is the database's, and goes when that goes.
pub(super) async fn scrub(inner: &Inner) -> Result<()> {
    with(inner, async |client| client.batch_execute("vacuum secrets").await).await
}

pub(super) async fn examine(inner: &Inner) -> Result<Vec<String>> {
    let rows = with(inner, async |client| client.query(PROBLEMS, &[]).await).await?;
    Ok(rows.iter().filter_map(|row| row.try_get(0).ok()).collect())
}
