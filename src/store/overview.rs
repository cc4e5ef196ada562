//! The figures of the review and of `/metrics`, from counters and indexes: nothing here scans.

use jiff::{SignedDuration, Timestamp};

use super::driver::{Driver, first, only_number, only_text};
use super::sql::{credential, finding, identity, ledger, run};
use super::sql_store::SqlStore;
use super::{LAST_BACKUP_AT, Overview, Result};
use crate::domain::due::GRACE;

/// Figures of the review are counted no further than this.
const FAR_ENOUGH: u32 = 100_000;

impl<D: Driver> SqlStore<D> {
    pub(super) async fn look_over(&self, now: Timestamp) -> Result<Overview> {
        let in_30_days = now.saturating_add(SignedDuration::from_hours(24 * 30)).unwrap_or(now);
        let expiring = identity::COUNT_EXPIRING.with([("until", in_30_days.into()), ("limit", FAR_ENOUGH.into())]);
        let last_backup = self.one(ledger::setting(LAST_BACKUP_AT), only_text).await?;
        let last_backup = last_backup.and_then(|micros| micros.parse().ok());
        Ok(Overview {
            identities: self
                .some(ledger::counted(identity::SUBJECT), ledger::read_count)
                .await?,
            credentials: self
                .some(ledger::counted(credential::SUBJECT), ledger::read_count)
                .await?,
            open_runs: self.some(run::COUNT_OPEN.with([]), ledger::read_count).await?,
            open_findings: self.some(finding::COUNT_OPEN.with([]), ledger::read_count).await?,
            overdue: self
                .due_count(now.saturating_sub(GRACE).unwrap_or(now), FAR_ENOUGH)
                .await?,
            expiring_in_30_days: first(self.some(expiring, only_number).await?).unwrap_or(0),
            last_backup_at: last_backup.and_then(|micros| Timestamp::from_microsecond(micros).ok()),
        })
    }

    pub(super) async fn due_count(&self, now: Timestamp, up_to: u32) -> Result<u64> {
        let bound = identity::COUNT_DUE.with([("now", now.into()), ("limit", up_to.into())]);
        Ok(first(self.some(bound, only_number).await?).unwrap_or(0))
    }
}
