//! Looks at the log at the instant at which an effect is sent: its intent must stand there, and the run must be the sender's. It sees the
//! database directly, without any node's line.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use keyfall_sdk::CallContext;
use tokio::time::Instant;

use super::truth::Truth;
use crate::domain::ids::RunId;
use crate::domain::workflow::EventBody;
use crate::store::{Store, StoredRun};

pub(super) struct Witness {
    /// Of whom it tells.
    pub(super) node: String,
    store: Arc<dyn Store>,
    truth: Arc<Truth>,
    /// When the node was last stopped in the middle: what it does right behind that, it decided before.
    stopped: std::sync::Mutex<Option<Instant>>,
    clock: OnceLock<crate::clock::Environment>,
}

/// What a node decided before it was stopped is done by then.
const MEMORY: Duration = Duration::from_secs(20);

impl Witness {
    pub(super) fn new(node: &str, store: Arc<dyn Store>, truth: Arc<Truth>, env: crate::clock::Environment) -> Self {
        let clock = OnceLock::new();
        let _ = clock.set(env);
        Self {
            node: node.to_owned(),
            store,
            truth,
            stopped: std::sync::Mutex::default(),
            clock,
        }
    }

    pub(super) fn node_was_stopped(&self, until: Instant) {
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
        let stopped = *self.stopped.lock().unwrap();
        if stopped.is_some_and(|until| Instant::now() < until + MEMORY) {
            return;
        }
        let now = self.clock.get().unwrap().now();
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

fn has_open_intent(stored: &StoredRun, wanted: &str) -> bool {
    for event in stored.events.iter().rev() {
        match &event.body {
            EventBody::Started { step, .. } => return step.name() == wanted,
            // A person may write while the call is under way.
            EventBody::CancelRequested { .. } | EventBody::Hastened { .. } => {}
            _ => return false,
        }
    }
    false
}
