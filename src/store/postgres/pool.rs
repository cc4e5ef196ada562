//! Connections at rest. One is handed out at a time to a transaction, and comes back only when it is known to be idle; any other is closed,
//! and the server takes back what it had begun.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::copy::Purpose;
use super::super::{Result, StoreError};
use super::address::Address;
use super::connection::{Connection, Patience};

pub(super) struct Pool {
    address: Address,
    patience: Patience,
    purpose: Purpose,
    idle: Mutex<Vec<Arc<Connection>>>,
    permits: Arc<Semaphore>,
    size: u32,
    seen: AtomicU64,
}

/// A connection for one transaction.
pub(super) struct Lease {
    pool: Arc<Pool>,
    pub(super) connection: Arc<Connection>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(address: Address, patience: Patience, purpose: Purpose, size: usize) -> Arc<Self> {
        let size = u32::try_from(size.max(1)).unwrap_or(u32::MAX);
        Arc::new(Self {
            address,
            patience,
            purpose,
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(size as usize)),
            size,
            seen: AtomicU64::new(0),
        })
    }

    /// So long was the log at least, as far as this process has seen it.
    pub(super) fn saw(&self, size: u64) {
        self.seen.fetch_max(size, Ordering::Relaxed);
    }

    /// The address for people.
    pub(super) fn shown(&self) -> &str {
        &self.address.shown
    }

    /// A connection that was open a moment ago, or a new one.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Lease> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| StoreError::Closed)?;
        let connection = match self.idle_one() {
            Some(connection) => connection,
            None => Arc::new(Connection::open(&self.address, self.patience, self.purpose, &self.seen).await?),
        };
        Ok(Lease {
            pool: Arc::clone(self),
            connection,
            _permit: permit,
        })
    }

    fn idle_one(&self) -> Option<Arc<Connection>> {
        let mut idle = self.lock();
        while let Some(connection) = idle.pop() {
            if !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// What rests is as old as a connection that was lost, and no better: the server may be another one by now.
    pub(super) fn forget_idle(&self) {
        self.lock().clear();
    }

    /// Waits for the transactions under way, and gives out nothing more.
    pub(super) async fn close(&self) {
        let all = Arc::clone(&self.permits).acquire_many_owned(self.size).await;
        self.permits.close();
        self.forget_idle();
        drop(all);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Only for a connection on which nothing is open.
    pub(super) fn give_back(self) {
        if !self.connection.is_closed() {
            self.pool.lock().push(self.connection);
        }
    }
}
