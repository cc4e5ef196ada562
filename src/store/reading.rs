//! The ways in which a store reads: one row, some rows, the same for many keys, the events of runs.

use super::driver::{Driver, Reach, Select, first};
use super::sql::{Bound, Row};
use super::sql_store::SqlStore;
use super::verbs::{Events, InPlay};
use super::{Result, StoreError};
use crate::domain::identity::Credential;
use crate::domain::ids::{IdentityId, RunId};
use crate::domain::workflow::Event;

impl<D: Driver> SqlStore<D> {
    pub(super) async fn one<R: Send + 'static>(
        &self,
        bound: Result<Bound>,
        map: fn(Row) -> Result<R>,
    ) -> Result<Option<R>> {
        let bounds = vec![bound?];
        let found = self.driver.read(Select { bounds, map }, Reach::Point).await?;
        Ok(first(found))
    }

    pub(super) async fn some<R: Send + 'static>(
        &self,
        bound: Result<Bound>,
        map: fn(Row) -> Result<R>,
    ) -> Result<Vec<R>> {
        self.each(vec![bound], map).await
    }

    /// The same statement for many keys, on one state of the store.
    pub(super) async fn each<R: Send + 'static>(
        &self,
        bounds: Vec<Result<Bound>>,
        map: fn(Row) -> Result<R>,
    ) -> Result<Vec<R>> {
        let bounds = bounds.into_iter().collect::<Result<_>>()?;
        self.driver.read(Select { bounds, map }, Reach::Range).await
    }

    /// On one state of the store, each credential once.
    pub(super) async fn in_play(&self, identities: Vec<IdentityId>) -> Result<Vec<Credential>> {
        let mut found = self.driver.read(InPlay { identities }, Reach::Range).await?;
        found.sort_by_key(|credential| (credential.created_at, credential.id));
        found.dedup_by_key(|credential| credential.id);
        Ok(found)
    }

    fn decode(&self, bytes: &[u8]) -> Result<Event> {
        (self.decode)(bytes).map_err(|why| StoreError::Unreadable { what: "log entry", why })
    }

    pub(super) async fn events(&self, runs: Vec<RunId>) -> Result<Vec<Vec<Event>>> {
        let entries = self.entries(runs).await?;
        entries.iter().map(|entries| self.decoded(entries)).collect()
    }

    /// As they were written, run by run.
    pub(super) async fn entries(&self, runs: Vec<RunId>) -> Result<Vec<Vec<Vec<u8>>>> {
        self.driver.read(Events { runs }, Reach::Range).await
    }

    pub(super) fn decoded(&self, entries: &[Vec<u8>]) -> Result<Vec<Event>> {
        entries.iter().map(|bytes| self.decode(bytes)).collect()
    }
}
