//! One connection to a database in memory, for tests that decide when everything happens: what is asked is done at once, on the caller's
//! thread. It knows nothing of who asks, and of no failure.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::backup::Backup;
use rusqlite::config::DbConfig;

use super::super::driver::{Tx as _, Verb};
use super::super::{Result, StoreError};
use super::fault::classify;
use super::migrate::migrate;
use super::open::give_id;
use super::session::{Session, at_once};
use crate::clock::Environment;

/// The schema, made once: a copy of it costs less than the migrations.
static SCHEMA: LazyLock<Mutex<Connection>> = LazyLock::new(|| {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&mut connection).unwrap();
    Mutex::new(connection)
});

pub(in crate::store) struct InMemory(Session);

impl InMemory {
    pub(in crate::store) fn new(environment: &Environment) -> Result<Self> {
        let failed = |source| classify("making a store in memory", &source);
        let mut connection = Connection::open_in_memory().map_err(failed)?;
        {
            let schema = SCHEMA.lock().unwrap_or_else(PoisonError::into_inner);
            let copy = Backup::new(&schema, &mut connection).map_err(failed)?;
            copy.step(-1).map_err(failed)?;
        }
        connection.set_prepared_statement_cache_capacity(256);
        connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
        // As in a file: without it a statement is prepared anew each time that it is bound to other values.
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
            .map_err(failed)?;
        give_id(&connection, environment)?;
        Ok(Self(Session::for_writing(connection, environment.clone())?))
    }

    /// One transaction, durable when it is answered; or nothing of it happened.
    pub(in crate::store) fn write<V: Verb>(&mut self, verb: &V) -> Result<V::Output> {
        let session = &mut self.0;
        session.take_fault();
        let failed = |source| classify("beginning or ending a transaction", &source);
        session.control("begin immediate").map_err(failed)?;
        session.look_at_clock();
        let done = at_once(verb.run(session)).and_then(|output| Ok((output, session.write_pending()?)));
        match done {
            Ok((output, frontier)) => {
                session.control("commit").map_err(failed)?;
                session.keep(frontier);
                Ok(output)
            }
            Err(error) => {
                session.roll_back();
                Err(error)
            }
        }
    }

    pub(in crate::store) fn read<V: Verb>(&mut self, verb: &V) -> Result<V::Output> {
        self.0.look_at_clock();
        at_once(verb.run(&mut self.0))
    }

    pub(in crate::store) fn now(&mut self) -> Result<Timestamp> {
        self.0.look_at_clock();
        at_once(self.0.now())
    }

    /// From here on each record of a run remembers the claim under which the run stood when it was written, beside the store's own tables.
    pub(in crate::store) fn remember_claims(&self) -> Result<()> {
        let text = "create table claims (position integer primary key, epoch integer not null) strict; \
            create trigger claims_are_remembered after insert on log when new.run is not null begin \
                insert into claims select new.position, epoch from runs where id = new.run; \
            end;";
        let failed = |source| classify("remembering claims", &source);
        self.0.connection().execute_batch(text).map_err(failed)
    }

    /// By position in the log.
    pub(in crate::store) fn claims(&self) -> Result<BTreeMap<u64, u64>> {
        let failed = |source| classify("reading claims", &source);
        let mut read = self
            .0
            .connection()
            .prepare("select position, epoch from claims")
            .map_err(failed)?;
        let rows = read
            .query_map([], |row| {
                Ok((
                    row.get::<_, i64>(0)?.unsigned_abs(),
                    row.get::<_, i64>(1)?.unsigned_abs(),
                ))
            })
            .map_err(failed)?;
        rows.collect::<std::result::Result<_, _>>().map_err(failed)
    }

    /// What SQLite itself says of the file's structure.
    pub(in crate::store) fn examine(&self) -> Result<Vec<String>> {
        let failed = |source| classify("checking the structure", &source);
        let found: String = self
            .0
            .connection()
            .query_row("pragma integrity_check", [], |row| row.get(0))
            .map_err(failed)?;
        Ok(Vec::from_iter(Some(found).filter(|found| found != "ok")))
    }

    pub(in crate::store) fn refuse() -> StoreError {
        StoreError::Failed {
            doing: "copying a store in memory",
            source: "there is no file".into(),
        }
    }
}
