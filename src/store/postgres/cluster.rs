//! Which database answers, and whether it is the one that this store was last run on.
//!
//! A standby that was promoted, a server that was put back to an earlier instant and a copy in another server all answer like the database that
//! they come from, and may know less than it did: a committed intent may be missing, and what was rotated since then looks alive. So each new
//! connection asks which database it speaks to, and is refused where the store says another one: a node that did not notice sends nothing and
//! stores nothing. Files that were put back under a server that goes on have no mark of their own: there the log is shorter than this process
//! has seen it, and nobody is let in before the store stands still.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, SimpleQueryMessage, SimpleQueryRow};

use super::super::copy::{ARRIVING, MOVED, Purpose, admitted};
use super::super::{DATABASE, Result, STANDSTILL, StoreError, UNKNOWN_DATABASE};
use super::fault::classify;

/// What an ordinary user may ask. The first eight digits of the name of a file of the write-ahead log are the server's timeline: it changes with
/// each promotion and each recovery to an earlier instant. The number of a database is another when it was made anew within its server.
const WHICH: &str = "select (select system_identifier from pg_control_system()), \
    left(pg_walfile_name(pg_current_wal_lsn()), 8), (select oid from pg_database where datname = current_database())";

fn failed(error: &Error) -> StoreError {
    classify("asking which database this is", error)
}

/// The database behind a connection, in the words of the setting [`DATABASE`].
pub(super) async fn which(client: &Client) -> Result<String> {
    match client.simple_query(WHICH).await {
        Ok(answers) => {
            let row = rows(&answers).next();
            let column = |place| row.and_then(|row| row.get(place)).unwrap_or("unknown");
            Ok(format!("{}/{}/{}", column(0), column(1), column(2)))
        }
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Err(may_not_ask(client).await),
        // Servers of PostgreSQL's kin that have no such functions cannot be told apart.
        Err(error) if is_kin(&error) => Ok(UNKNOWN_DATABASE.to_owned()),
        Err(error) => Err(failed(&error)),
    }
}

/// Without an answer a copy passes for the store, so nothing is opened.
async fn may_not_ask(client: &Client) -> StoreError {
    let asked = client.simple_query("select quote_ident(current_user)").await;
    let user = asked.as_deref().ok().and_then(|answers| rows(answers).next()?.get(0));
    StoreError::Open {
        why: format!(
            "its user may not ask which database this is, and a promoted standby or a backup that was put back would pass for it. As a superuser, in \
             this database: grant execute on function pg_control_system(), pg_current_wal_lsn(), pg_walfile_name(pg_lsn) to {}",
            user.unwrap_or("the store's user")
        ),
    }
}

fn is_kin(error: &Error) -> bool {
    let unknown = [
        &SqlState::UNDEFINED_FUNCTION,
        &SqlState::UNDEFINED_TABLE,
        &SqlState::UNDEFINED_COLUMN,
        &SqlState::FEATURE_NOT_SUPPORTED,
    ];
    error.code().is_some_and(|code| unknown.contains(&code))
}

fn rows(answers: &[SimpleQueryMessage]) -> impl Iterator<Item = &SimpleQueryRow> {
    answers.iter().filter_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })
}

/// Refuses a connection that leads elsewhere, one to a store that is on the move, and one to a log that is shorter than it was `seen`.
pub(super) async fn admit(client: &Client, purpose: Purpose, seen: &AtomicU64) -> Result<()> {
    let marks = format!(
        "select key, value from settings where key in ('{DATABASE}', '{MOVED}', '{ARRIVING}', '{STANDSTILL}') \
         union all select '{SIZE}', size::text from log_frontier"
    );
    let answers = client.simple_query(&marks).await.map_err(|error| failed(&error))?;
    let mark = |key| {
        rows(&answers)
            .find(|row| row.get(0) == Some(key))
            .and_then(|row| row.get(1))
    };
    admitted(purpose, mark(MOVED), mark(ARRIVING))?;
    if purpose == Purpose::Accept {
        return Ok(());
    }
    let is = which(client).await?;
    let was = mark(DATABASE).unwrap_or(&is);
    let size = mark(SIZE).and_then(|size| size.parse().ok()).unwrap_or(u64::MAX);
    let before = seen.load(Ordering::Relaxed);
    let why = if was != is {
        difference(was, &is)
    } else if size >= before {
        return Ok(());
    } else if mark(STANDSTILL).is_some() {
        // It is taken for what it is.
        seen.store(size, Ordering::Relaxed);
        return Ok(());
    } else {
        format!(
            "its log has {size} records, and had {before} a moment ago: an earlier state of it was put back under this server"
        )
    };
    Err(StoreError::AnotherDatabase {
        why,
        was: was.to_owned(),
        is,
    })
}

/// The size of the log, among the settings that are asked for.
const SIZE: &str = "log size";

/// A store that was never run remembers where it is run first.
pub(super) async fn remember(client: &Client) -> Result<()> {
    let text = "insert into settings (key, value) values ($1, $2) on conflict (key) do nothing";
    let is = which(client).await?;
    let kept = client.execute(text, &[&DATABASE, &is]).await;
    kept.map(drop).map_err(|error| failed(&error))
}

/// What happened, for people.
fn difference(was: &str, is: &str) -> String {
    let part = |text: &str, place| text.split('/').nth(place).unwrap_or("unknown").to_owned();
    let (server, timeline, database) = (0, 1, 2);
    if part(was, server) != part(is, server) {
        return format!(
            "it is in another server than it was last run on (system identifier {}, before that {}): a backup was restored there, or the address leads elsewhere",
            part(is, server),
            part(was, server)
        );
    }
    if part(was, timeline) != part(is, timeline) {
        return format!(
            "its server goes on from another history than it was last run on (timeline {}, before that {}): a standby was promoted, or the server was put back to an earlier instant",
            part(is, timeline),
            part(was, timeline)
        );
    }
    format!(
        "it is another database of its server than it was last run on (number {}, before that {}): a backup was restored into it",
        part(is, database),
        part(was, database)
    )
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn what_happened_is_told_by_what_differs() {
        let was = "77/00000001/5";
        for (is, text) in [
            ("78/00000001/5", "another server"),
            ("77/00000002/5", "a standby was promoted"),
            ("77/00000001/6", "restored into it"),
            ("unknown", "another server"),
        ] {
            assert!(difference(was, is).contains(text), "{is}");
        }
    }
}
