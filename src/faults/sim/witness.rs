//! Looks at the log at the instant at which an effect is sent: its intent must stand there, and the run must be the sender's. It sees the
//! database directly, without any node's line.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::CallContext;

use super::truth::Truth;
use crate::clock::Environment;
use crate::domain::ids::RunId;
use crate::domain::workflow::{Event, EventBody};
use crate::store::{Store, StoredRun};

pub(super) struct Witness {
    /// Of whom it tells.
    pub(super) node: String,
    store: Arc<dyn Store>,
    truth: Arc<Truth>,
    /// Until when the node was last stopped in the middle.
    stopped: std::sync::Mutex<Option<Timestamp>>,
    clock: Environment,
}

/// What a node was about to send when it was stopped is sent by then.
const MEMORY: SignedDuration = SignedDuration::from_secs(3);

impl Witness {
    pub(super) fn new(node: &str, store: Arc<dyn Store>, truth: Arc<Truth>, clock: Environment) -> Self {
        Self {
            node: node.to_owned(),
            store,
            truth,
            stopped: std::sync::Mutex::default(),
            clock,
        }
    }

    pub(super) fn node_is_stopped_for(&self, time: Duration) {
        let until = self.clock.now() + SignedDuration::try_from(time).unwrap();
        *self.stopped.lock().unwrap() = Some(until);
    }

    pub(super) async fn effect_is_sent(&self, operation: &str, ctx: &CallContext) {
        let Ok(id) = ctx.run.parse::<RunId>() else {
            return self
                .truth
                .violated(format!("{operation} was sent for no run: {}", ctx.run));
        };
        let stored = match self.store.run(id).await {
            Ok(Some(stored)) => stored,
            other => return self.truth.violated(format!("{operation} was sent for {id}: {other:?}")),
        };
        if !has_open_intent(&stored, &ctx.step) {
            self.truth.violated(format!(
                "{operation} was sent in {} of {id} without an intent in the log",
                ctx.step
            ));
        }
        self.look_at_lease(operation, &stored, &ctx.step);
    }

    fn look_at_lease(&self, operation: &str, stored: &StoredRun, step: &str) {
        let (until, now) = (*self.stopped.lock().unwrap(), self.clock.now());
        let intended_at = intent(stored).map(|event| event.at);
        // Who is stopped between its last look at the lease and the call cannot know. What it intends behind that is no such call.
        if until.is_some_and(|until| now < until + MEMORY && intended_at.is_some_and(|at| at < until)) {
            return;
        }
        let is_held = stored.row.node.as_deref() == Some(self.node.as_str())
            && stored.row.lease_until.is_some_and(|until| until > now);
        if !is_held {
            self.truth.violated(format!(
                "{} sent {operation} in {step} of {}, which is held by {:?} until {:?} (it is {now})",
                self.node, stored.row.id, stored.row.node, stored.row.lease_until
            ));
        }
    }
}

/// The event that an effect may be sent behind: the newest one, but for what a person may write while the call is under way.
fn intent(stored: &StoredRun) -> Option<&Event> {
    let by_hand = |event: &&Event| {
        matches!(
            event.body,
            EventBody::CancelRequested { .. } | EventBody::Hastened { .. }
        )
    };
    stored.events.iter().rev().find(|event| !by_hand(event))
}

fn has_open_intent(stored: &StoredRun, wanted: &str) -> bool {
    intent(stored).is_some_and(|event| match &event.body {
        EventBody::Started { step, .. } => step.name() == wanted,
        _ => false,
    })
}

/// Whoever holds the run.
pub(super) fn is_by_people(body: &EventBody) -> bool {
    matches!(
        body,
        EventBody::CancelRequested { .. }
            | EventBody::Hastened { .. }
            | EventBody::Retried { .. }
            | EventBody::Resumed { .. }
    )
}
