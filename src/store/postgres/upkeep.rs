//! Scrubbing, and the check of the schema's structure.

use jiff::Timestamp;
use tokio_postgres::{Client, Error};

use super::super::Result;
use super::Inner;
use super::fault::classify;
use super::log;
use super::value::to_row;

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

/// Sessions of servers, by the name that each of them gives itself; those of this command have another one.
const END_OTHERS: &str = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() \
    and usename = current_user and application_name like 'keyfall/%' and application_name <> current_setting('application_name')";

pub(super) async fn end_others(inner: &Inner) -> Result<()> {
    with(inner, async |client| client.batch_execute(END_OTHERS).await).await
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
