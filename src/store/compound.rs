//! Questions and verbs that take several statements or more than one table, over the simple ones of `sql_store.rs`.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::check;
use super::driver::{Driver, Execute, only_text};
use super::sql::{Value, ledger, log, run, secret};
use super::sql_store::SqlStore;
use super::verbs::Claim;
use super::{Claimed, LAST_BACKUP_AT, Result, RunRow, SCRUB_OWED, SecretRow, StoreError, StoredRun};
use crate::domain::ids::RunId;
use crate::evidence::merkle::Frontier;

impl<D: Driver> SqlStore<D> {
    pub(super) async fn claim(&self, node: &str, lease: SignedDuration, limit: u32) -> Result<Vec<Claimed>> {
        let node = node.to_owned();
        let mut rows = self.driver.write(Claim { node, lease, limit }).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        rows.sort_by_key(|row| (row.wake_at, row.id));
        let entries = self.entries(rows.iter().map(|row| row.id).collect()).await?;
        let claimed = |(row, entries): (RunRow, Vec<Vec<u8>>)| {
            let (events, unreadable) = match self.decoded(&entries) {
                Ok(events) => (events, None),
                Err(error) => (Vec::new(), Some(error.to_string())),
            };
            Claimed {
                epoch: row.epoch,
                row,
                events,
                unreadable,
            }
        };
        Ok(rows.into_iter().zip(entries).map(claimed).collect())
    }

    pub(super) async fn stored_run(&self, id: RunId) -> Result<Option<StoredRun>> {
        let Some(row) = self
            .one(run::BY_ID.with([("id", Value::shown(&id))]), run::read)
            .await?
        else {
            return Ok(None);
        };
        let events = self.events(vec![id]).await?;
        let events = events.into_iter().next().unwrap_or_default();
        Ok(Some(StoredRun { row, events }))
    }

    pub(super) async fn first_wake(&self) -> Result<Option<Timestamp>> {
        let free = self.one(run::next_free(), run::read_instant).await?;
        let lease_end = self.one(run::NEXT_LEASE_END.with([]), run::read_instant).await?;
        Ok([free, lease_end].into_iter().flatten().min())
    }

    pub(super) async fn under_other_keys(&self, kek_id: &str, limit: u32) -> Result<Vec<SecretRow>> {
        let mut found = Vec::new();
        for statement in [&secret::KEK_BEFORE, &secret::KEK_BEHIND] {
            let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            let bound = statement.with([("kek", kek_id.into()), ("limit", left.into())]);
            found.extend(self.some(bound, secret::read).await?);
        }
        found.sort_by_key(|secret| secret.id);
        Ok(found)
    }

    pub(super) async fn frontier(&self) -> Result<Frontier> {
        let found = self.one(log::FRONTIER.with([]), log::read_frontier).await?;
        found.ok_or_else(|| StoreError::Damaged {
            what: "the log has no frontier".to_owned(),
            advice: D::DAMAGED,
        })
    }

    pub(super) async fn write_backup(&self, to: &Path) -> Result<()> {
        let now = self.environment.now();
        self.driver.backup(to).await?;
        let micros = now.as_microsecond().to_string();
        let bound = ledger::SET.with([("key", LAST_BACKUP_AT.into()), ("value", micros.into())])?;
        self.driver.write(Execute { bound }).await.map(drop)
    }

    pub(super) async fn scrub_files(&self) -> Result<()> {
        let owed = self.one(ledger::setting(SCRUB_OWED), only_text).await?;
        self.driver.scrub().await?;
        // What came to be owed meanwhile has another value, and stays.
        match owed {
            Some(owed) => {
                let bound = ledger::UNSET_IF.with([("key", SCRUB_OWED.into()), ("value", owed.into())])?;
                self.driver.write(Execute { bound }).await.map(drop)
            }
            None => Ok(()),
        }
    }

    pub(super) async fn check_everything(&self) -> Result<Vec<String>> {
        let mut problems = self.driver.examine().await?;
        problems.extend(check::log(&self.driver).await?);
        problems.extend(check::runs(&self.driver, self.decode).await?);
        problems.extend(check::register(&self.driver).await?);
        Ok(problems)
    }
}
