//! Brings a database to the schema of this binary, one node at a time.

use std::time::Duration;

use tokio_postgres::{Client, Error};

use super::super::{Creation, Result, STORE_ID, StoreError};
use super::PostgresOptions;
use super::address::Address;
use super::cluster;
use super::connection::{DURABLE, connect, same_session};
use super::fault::classify;
use crate::clock::Environment;

mod embedded {
    refinery::embed_migrations!("migrations/postgres");
}

/// "keyfall" in ASCII: who migrates holds this lock. The runner of migrations takes none, and two at once would both fail.
const LOCK: &str = "select pg_advisory_lock(30225427466578028)";

const HISTORY: &str = "select to_regclass('refinery_schema_history') is not null";

const TABLES: &str = "select count(*) from pg_class \
     where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f')";

/// As long as another node's migration may take.
const LONGEST: Duration = Duration::from_mins(10);

fn failed(error: &Error) -> StoreError {
    classify("looking at the schema", error)
}

fn cannot(address: &Address, why: &str) -> StoreError {
    StoreError::Open {
        why: format!("{}: {why}", address.shown),
    }
}

/// Refuses what must not be opened, and applies what is missing in one transaction.
///
/// # Errors
/// There is no store where one was expected, or something where none was; it is another program's, or a newer Keyfall's, or another store.
pub(super) async fn prepare(address: &Address, options: &PostgresOptions, environment: &Environment) -> Result<()> {
    let mut client = connect(address).await?;
    let limit = format!(
        "set lock_timeout = {}; set client_min_messages = warning; {DURABLE}",
        LONGEST.as_millis()
    );
    client.batch_execute(&limit).await.map_err(|error| failed(&error))?;
    same_session(address, &client).await?;
    client.batch_execute(LOCK).await.map_err(|error| failed(&error))?;
    look(&client, address, options.creation).await?;
    let migrated = embedded::migrations::runner()
        .set_grouped(true)
        .run_async(&mut client)
        .await;
    migrated.map_err(|error| cannot(address, &format!("its schema could not be brought up to date: {error}")))?;
    give_id(&client, environment).await?;
    cluster::remember(&client).await?;
    match_id(&client, address, options).await
    // The session ends here, and its lock with it.
}

async fn look(client: &Client, address: &Address, creation: Creation) -> Result<()> {
    let schema = client.query_one("select current_schema()", &[]).await;
    if schema
        .map_err(|error| failed(&error))?
        .get::<_, Option<String>>(0)
        .is_none()
    {
        return Err(cannot(
            address,
            "there is no schema that this user may use: create one, or set the user's search_path",
        ));
    }
    let row = client.query_one(HISTORY, &[]).await.map_err(|error| failed(&error))?;
    let exists: bool = row.get(0);
    let row = client.query_one(TABLES, &[]).await.map_err(|error| failed(&error))?;
    let tables: i64 = row.get(0);
    match creation {
        Creation::Never if !exists => {
            return Err(cannot(
                address,
                "there is no store; make one with `keyfall init DIR --store ADDRESS`",
            ));
        }
        Creation::Always if exists && is_used(client).await? => {
            return Err(cannot(address, "there is a store already, and it is not overwritten"));
        }
        _ if !exists && tables > 0 => {
            return Err(cannot(
                address,
                "the schema holds tables of another program: give Keyfall a database or a schema of its own",
            ));
        }
        _ => {}
    }
    if exists { newest(client, address).await } else { Ok(()) }
}

/// A schema without a single person or record was left behind by somebody who failed to make a store.
async fn is_used(client: &Client) -> Result<bool> {
    let text = "select to_regclass('people') is not null";
    let row = client.query_one(text, &[]).await.map_err(|error| failed(&error))?;
    if !row.get::<_, bool>(0) {
        return Ok(false);
    }
    let text = "select exists (select 1 from people) or exists (select 1 from log)";
    let row = client.query_one(text, &[]).await.map_err(|error| failed(&error))?;
    Ok(row.get(0))
}

async fn newest(client: &Client, address: &Address) -> Result<()> {
    let text = "select max(version)::bigint from refinery_schema_history";
    let row = client.query_one(text, &[]).await.map_err(|error| failed(&error))?;
    let applied: Option<i64> = row.get(0);
    let runner = embedded::migrations::runner();
    let newest = runner.get_migrations().iter().map(|one| i64::from(one.version())).max();
    if applied > newest {
        let why = format!(
            "its schema has version {}, and this keyfall knows versions up to {}: it was written by a newer keyfall, use that one",
            applied.unwrap_or(0),
            newest.unwrap_or(0)
        );
        return Err(cannot(address, &why));
    }
    Ok(())
}

/// A new store draws the id that it keeps for ever.
async fn give_id(client: &Client, environment: &Environment) -> Result<()> {
    let id = environment.draw_uuid().to_string();
    let text = "insert into settings (key, value) values ($1, $2) on conflict (key) do nothing";
    let given = client.execute(text, &[&STORE_ID, &id]).await;
    given.map(drop).map_err(|error| failed(&error))
}

async fn match_id(client: &Client, address: &Address, options: &PostgresOptions) -> Result<()> {
    let Some(wanted) = &options.store_id else { return Ok(()) };
    let text = "select value from settings where key = $1";
    let row = client
        .query_one(text, &[&STORE_ID])
        .await
        .map_err(|error| failed(&error))?;
    let found: String = row.get(0);
    if found == *wanted {
        return Ok(());
    }
    let why = format!("it is the store {found}, and {wanted} was expected; check the address");
    Err(cannot(address, &why))
}
