//! The hand between engine and store: it knows a commit by the events in it, never by its number.

use std::sync::Arc;
use std::time::Duration;

use keyfall_sdk::BoxFuture;

use super::fault::{Cut, Mode};
use super::hand::{Hand, Life};
use crate::domain::workflow::{EventBody, Step};
use crate::evidence::audit::event_of;
use crate::faults::between::Rule;
use crate::store::{Commit, Committed, Result, Store, StoreError};

/// A commit that is stored behind the back of whoever was told that it may not be.
type Late = std::sync::Mutex<Option<Commit>>;

pub(crate) struct MeddledCommits {
    pub(crate) hand: Arc<Hand>,
    pub(crate) life: Arc<Life>,
    late: Late,
}

impl MeddledCommits {
    pub(crate) fn new(hand: &Arc<Hand>, life: &Arc<Life>) -> Self {
        Self {
            hand: Arc::clone(hand),
            life: Arc::clone(life),
            late: Late::default(),
        }
    }

    async fn struck(&self, inner: &Arc<dyn Store>, commit: Commit, cut: Cut, mode: Mode) -> Result<Committed> {
        let doubtful = || StoreError::OutcomeUnknown {
            why: "the matrix lost the answer".to_owned(),
        };
        if cut == Cut::AfterCommit {
            let again = (mode == Mode::Duplicate).then(|| commit.clone());
            let committed = inner.commit(commit).await;
            match mode {
                Mode::Kill => {
                    self.hand.kill(&self.life);
                    return Err(StoreError::Closed);
                }
                Mode::Error(_) => {
                    return Err(StoreError::Unwritable {
                        why: "the matrix fails a commit that was stored".to_owned(),
                    });
                }
                Mode::LostReply => return Err(doubtful()),
                Mode::Timeout => self.hand.hold(&self.life).await,
                Mode::LateReply => self.hand.time.pass(Duration::from_millis(150)).await,
                Mode::Duplicate => {}
            }
            if let Some(again) = again {
                let second = inner.commit(again).await;
                assert!(
                    !matches!(second, Ok(Committed::Stored)),
                    "the same commit was stored twice"
                );
            }
            return committed;
        }
        match mode {
            Mode::Kill => {
                self.hand.kill(&self.life);
                Err(StoreError::Closed)
            }
            Mode::Error(_) => Err(StoreError::Unwritable {
                why: "the matrix fails this commit".to_owned(),
            }),
            Mode::LostReply => Err(doubtful()),
            Mode::LateReply => {
                *self.late.lock().unwrap() = Some(commit);
                Err(doubtful())
            }
            Mode::Timeout => {
                self.hand.hold(&self.life).await;
                inner.commit(commit).await
            }
            // Done by the steps (`steps.rs`): the answer is taken twice.
            Mode::Duplicate => inner.commit(commit).await,
        }
    }
}

impl Rule for MeddledCommits {
    fn is_alive(&self) -> bool {
        !self.life.is_dead()
    }

    fn question(&self) -> Option<Arc<()>> {
        Some(Arc::clone(&self.life.questions))
    }

    fn awake(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.life.awake(&self.hand))
    }

    fn commit<'a>(&'a self, inner: &'a Arc<dyn Store>, commit: Commit) -> BoxFuture<'a, Result<Committed>> {
        Box::pin(async move {
            let late = self.late.lock().unwrap().take();
            if let Some(late) = late {
                // Whether it still holds is for its guards to say.
                let _ = inner.commit(late).await;
            }
            let ended: Vec<Step> = ended_steps(&commit);
            let fault = self.hand.strikes(|fault| {
                let is_by_steps = fault.cut == Cut::AfterReply && fault.mode == Mode::Duplicate;
                !fault.cut.is_at_call() && !is_by_steps && ended.contains(&fault.site.step)
            });
            let committed = match fault {
                Some(fault) => self.struck(inner, commit, fault.cut, fault.mode).await,
                None => inner.commit(commit).await,
            };
            self.hand.bell.notify_one();
            committed
        })
    }
}

/// The steps of which this commit stores what came of an attempt.
fn ended_steps(commit: &Commit) -> Vec<Step> {
    let events = commit.log.iter().filter(|entry| entry.run.is_some());
    let bodies = events.filter_map(|entry| event_of(&entry.bytes).ok().flatten().map(|event| event.body));
    bodies
        .filter(|body| !matches!(body, EventBody::Started { .. }))
        .filter_map(|body| body.step())
        .collect()
}
