//! One end of a move: an opened store, with what a copy needs of its database, whichever it is.

use std::sync::Arc;

use keyfall_sdk::BoxFuture;

use super::super::driver::{DAMAGED_DATABASE, DAMAGED_FILE, Driver, Reach, Select, Tx, Verb};
use super::super::sql::{Bound, Row, TABLES, Table, Value};
use super::super::sql_store::SqlStore;
use super::super::{Result, STORE_ID, Store, StoreError};
use super::progress::{ARRIVING, Arriving, MOVED, Moved, read};

/// What a copy needs of a database, whichever it is.
pub(in crate::store) trait Port: Send + Sync {
    fn rows(&self, bound: Bound) -> BoxFuture<'_, Result<Vec<Vec<Value>>>>;

    /// Runs all of them in one transaction, whose first statement must change a row.
    fn run(&self, bounds: Vec<Bound>) -> BoxFuture<'_, Result<()>>;

    fn end_others(&self) -> BoxFuture<'_, Result<()>>;
}

impl<D: Driver> Port for SqlStore<D> {
    fn rows(&self, bound: Bound) -> BoxFuture<'_, Result<Vec<Vec<Value>>>> {
        let select = Select {
            bounds: vec![bound],
            map: |row: Row| Ok(row.into_values()),
        };
        Box::pin(self.driver.read(select, Reach::Range))
    }

    fn run(&self, bounds: Vec<Bound>) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.driver.write(Statements(bounds)))
    }

    fn end_others(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.driver.end_others())
    }
}

struct Statements(Vec<Bound>);

impl Verb for Statements {
    type Output = ();
    const DOING: &'static str = "copying";

    async fn run<'a, T: Tx>(&'a self, tx: &'a mut T) -> Result<()> {
        for (place, bound) in self.0.iter().enumerate() {
            if tx.execute(bound).await? == 0 && place == 0 {
                return Err(StoreError::Conflict {
                    what: "another move is at work on the same target".to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// One end of a move: an opened store.
#[derive(Clone)]
pub struct End {
    pub(super) store: Arc<dyn Store>,
    pub(super) port: Arc<dyn Port>,
    /// For people; no password is in it.
    pub(super) name: String,
}

impl End {
    pub(in crate::store) fn of<D: Driver>(store: SqlStore<D>, name: String) -> Self {
        let store = Arc::new(store);
        Self {
            port: Arc::clone(&store) as Arc<dyn Port>,
            store,
            name,
        }
    }

    /// The same store behind a port that a test can make fail.
    #[cfg(test)]
    pub(in crate::store) fn through(&self, port: impl FnOnce(Arc<dyn Port>) -> Arc<dyn Port>) -> Self {
        Self {
            port: port(Arc::clone(&self.port)),
            ..self.clone()
        }
    }

    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Whether several servers may have it open at once.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.name.starts_with("postgres://")
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How far the store is on its way to another place.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn moved(&self) -> Result<Option<Moved>> {
        let value = self.store.setting(MOVED).await?;
        value.map(|value| read(MOVED, &value)).transpose()
    }

    pub(super) async fn arriving(&self) -> Result<Option<Arriving>> {
        let value = self.store.setting(ARRIVING).await?;
        value.map(|value| read(ARRIVING, &value)).transpose()
    }

    pub(super) async fn id(&self) -> Result<String> {
        let id = self.store.setting(STORE_ID).await?;
        id.ok_or_else(|| StoreError::Damaged {
            what: "the store has no id".to_owned(),
            advice: match self.is_shared() {
                true => DAMAGED_DATABASE,
                false => DAMAGED_FILE,
            },
        })
    }

    pub(super) async fn count(&self, table: &Table) -> Result<u64> {
        let rows = self.port.rows(table.count()).await?;
        match rows.first().and_then(|row| row.first()) {
            Some(Value::Integer(count)) => Ok(u64::try_from(*count).unwrap_or(0)),
            _ => Err(StoreError::Unreadable {
                what: "count",
                why: "it is no number".to_owned(),
            }),
        }
    }

    /// Nothing but what every new store holds.
    pub(super) async fn is_empty(&self) -> Result<bool> {
        for table in TABLES {
            let only = match table.name {
                "log_frontier" => self.store.log_state().await?.size == 0,
                "settings" => self.port.rows(table.page(None, table.page)).await?.iter().all(|row| {
                    let is_id = row.first().is_some_and(|key| *key == Value::from(STORE_ID));
                    is_id || table.is_local(row)
                }),
                _ => self.count(table).await? == 0,
            };
            if !only {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
