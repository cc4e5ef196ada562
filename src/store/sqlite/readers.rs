//! Read-only connections beside the writer. They see what is durable and committed, and never wait for the writer.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::super::driver::{Reach, Verb};
use super::super::{Result, StoreError};
use super::fault::{Fault, Health, classify};
use super::session::{Session, at_once};
use super::{blocking, open};
use crate::clock::Environment;

pub(super) struct Readers {
    idle: Mutex<Vec<Session>>,
    permits: Arc<Semaphore>,
    health: Arc<Health>,
}

impl Readers {
    pub(super) fn open(path: &Path, count: usize, environment: &Environment, health: &Arc<Health>) -> Result<Self> {
        let count = count.max(1);
        let sessions = (0..count).map(|_| {
            let connection = open::reader(path)?;
            Ok(Session::for_reading(connection, environment.clone()))
        });
        Ok(Self {
            idle: Mutex::new(sessions.collect::<Result<_>>()?),
            permits: Arc::new(Semaphore::new(count)),
            health: Arc::clone(health),
        })
    }

    /// A few rows by key are read on the caller's thread: they lie in memory nearly always, and handing them over would cost more than
    /// reading them.
    pub(super) async fn run<V: Verb>(self: &Arc<Self>, verb: V, reach: Reach) -> Result<V::Output> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| StoreError::Closed)?;
        match reach {
            Reach::Point => self.read(&verb, reach),
            Reach::Range => {
                let readers = Arc::clone(self);
                // The permit goes along: a caller that went away does not end the reading, and its connection is not free before.
                let read = move || {
                    let result = readers.read(&verb, reach);
                    drop(permit);
                    result
                };
                blocking(V::DOING, read).await
            }
        }
    }

    fn read<V: Verb>(&self, verb: &V, reach: Reach) -> Result<V::Output> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut session = idle.ok_or(StoreError::Closed)?;
        let result = match reach {
            // One statement is a consistent state by itself.
            Reach::Point => at_once(verb.run(&mut session)),
            Reach::Range => in_transaction(verb, &mut session),
        };
        if let Some(fault) = session.take_fault()
            && matches!(fault, Fault::Damaged { .. })
        {
            self.health.note(&fault);
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        result
    }

    pub(super) fn close(&self) {
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn in_transaction<V: Verb>(verb: &V, session: &mut Session) -> Result<V::Output> {
    session
        .control("begin")
        .map_err(|source| classify("beginning to read", &source))?;
    let result = at_once(verb.run(session));
    session.roll_back();
    result
}
