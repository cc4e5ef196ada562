//! A store that dies at the Nth commit, right before it is stored or right after, and answers nothing more: what a killed process leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use keyfall_sdk::BoxFuture;

use crate::faults::between::{Between, Rule};
use crate::store::{Commit, Committed, LogEntry, Result, Store, StoreError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    BeforeCommit,
    /// It is durable, and the caller never learns.
    AfterCommit,
}

pub(crate) type DyingStore = Between<Death>;

pub(crate) struct Death {
    /// The commit at which it dies, counted from 1.
    at: u32,
    cut: Cut,
    commits: AtomicU32,
    dead: AtomicBool,
    /// Is told of each commit whose answer arrived, with its log entries.
    told: Option<Told>,
}

/// Who is told what was answered.
pub(crate) type Told = Box<dyn Fn(&[LogEntry]) + Send + Sync>;

impl DyingStore {
    pub(crate) fn new(inner: Arc<dyn Store>, at: u32, cut: Cut) -> Arc<Self> {
        Self::with(inner, at, cut, None)
    }

    /// One that never dies, and tells of each commit that was answered as stored.
    pub(crate) fn telling(inner: Arc<dyn Store>, told: Told) -> Arc<Self> {
        Self::with(inner, u32::MAX, Cut::BeforeCommit, Some(told))
    }

    fn with(inner: Arc<dyn Store>, at: u32, cut: Cut, told: Option<Told>) -> Arc<Self> {
        let death = Death {
            at,
            cut,
            commits: AtomicU32::new(0),
            dead: AtomicBool::new(false),
            told,
        };
        Self::a_store(inner, death)
    }

    pub(crate) fn is_dead(&self) -> bool {
        !self.rule.is_alive()
    }

    pub(crate) fn commits(&self) -> u32 {
        self.rule.commits.load(Ordering::SeqCst)
    }
}

impl Rule for Death {
    fn is_alive(&self) -> bool {
        !self.dead.load(Ordering::SeqCst)
    }

    fn commit<'a>(&'a self, inner: &'a Arc<dyn Store>, commit: Commit) -> BoxFuture<'a, Result<Committed>> {
        Box::pin(async move {
            if self.commits.fetch_add(1, Ordering::SeqCst) + 1 < self.at {
                let Some(told) = &self.told else {
                    return inner.commit(commit).await;
                };
                let log = commit.log.clone();
                let committed = inner.commit(commit).await?;
                if !matches!(committed, Committed::Refused { .. }) {
                    told(&log);
                }
                return Ok(committed);
            }
            self.dead.store(true, Ordering::SeqCst);
            if self.cut == Cut::AfterCommit {
                let _ = inner.commit(commit).await;
            }
            Err(StoreError::Closed)
        })
    }

    fn history_is_read(&self) {
        panic!("the whole history of an identity is read by a run, or to plan one")
    }
}
