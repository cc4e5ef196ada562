//! Runs. A run is an append-only log of events, and its state is a fold over that log: nothing else is ever the truth about a run.
//!
//! | here (pure)                                             | in the engine (I/O)                                   |
//! |---------------------------------------------------------|-------------------------------------------------------|
//! | `plan.rs` what a run is to do, pinned when it opens     | gathers the facts, draws ids and secrets, opens it    |
//! | `steps.rs` which steps, in which order; the unwinding   |                                                       |
//! | `run.rs` the fold: `Run::apply(event)`                  | appends events in the transaction of the change       |
//! | `learning.rs` what the fold keeps of ends and sightings |                                                       |
//! | `resuming.rs` what a person may declare done            |                                                       |
//! | `hasten.rs` when a rotation becomes an emergency       |                                                       |
//! | `delivering.rs` whether a delivery may still arrive     |                                                       |
//! | `issuing.rs` whether an issue can have had its effect   |                                                       |
//! | `decide.rs` what comes next at this instant             | does it, and reports what happened as events          |
//! | `outcome.rs` how it ends, for verifiers of receipts too |                                                       |
//! | `changes.rs` what an event changes in the register,     | stores these changes in the same transaction          |
//! | `expiry.rs` when a credential ends by itself            |                                                       |
//! | `keeping.rs` and until when secrets are kept            |                                                       |

mod changes;
mod decide;
mod delivering;
mod event;
mod expiry;
mod hasten;
mod issuing;
mod keeping;
mod learning;
mod outcome;
mod plan;
mod reading;
mod resuming;
mod run;
mod state;
mod steps;
#[cfg(test)]
mod tests;

pub use changes::{RegisterChange, register_changes};
pub use decide::{Decision, Then, after_failure, decide};
pub use event::{Death, Event, EventBody, Observation, Outcome, StepError, StepOutput, StuckBecause};
pub use expiry::{account_ends, current_ends};
pub use hasten::Hastened;
pub use issuing::changed_nothing;
pub use outcome::{End, comes_to, is_taken_on_trust};
pub use plan::{ConsumerPlan, DeliveryPlan, NewCredential, OldCredential, RunKind, RunPlan, Timing, Trigger};
pub use run::{IllegalEvent, Run};
pub use state::{Path, RunStatus, Skipped, StepState};
pub use steps::{KNOWN_WORKFLOWS, Step, WORKFLOW_VERSION, forward_steps, unwind_steps};
