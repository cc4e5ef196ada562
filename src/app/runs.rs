//! Looking at runs, and what a person may do with one that is stuck.

use jiff::Timestamp;
use serde::Deserialize;

use super::register::{PageQuery, page};
use super::wording::{event_line, seen_lines, status_note};
use super::{App, AppError, Caller, EventView, RunView, Verb, allow};
use crate::domain::ids::RunId;
use crate::domain::workflow::{Event, EventBody, Run, RunKind, RunStatus, StepState};
use crate::engine::facts_by_hand;
use crate::evidence::audit::encode_event;
use crate::store::{Commit, Committed, Fact, Guard, LogEntry, ReceiptFilter, RunFilter, RunRow, StoredRun};

/// How often a cancel is put behind what the run itself wrote in between. A run writes a few events a second.
const TRIES: u32 = 8;

/// All that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunQuery {
    pub identity: Option<String>,
    pub kind: Option<String>,
    pub status: Option<String>,
    pub open_only: bool,
}

/// Every `RunStatus::name`.
const STATUSES: [&str; 6] = [
    "open",
    "needs_operator",
    "completed",
    "unwound",
    "unprovable",
    "alive_after_revoke",
];

impl App {
    /// The latest first.
    ///
    /// # Errors
    /// When the identity or the kind is unknown.
    pub async fn runs(
        &self,
        caller: &Caller,
        query: RunQuery,
        page_query: PageQuery,
    ) -> Result<Vec<RunView>, AppError> {
        allow(caller, Verb::Read)?;
        let identity = match &query.identity {
            Some(name) => Some(self.named(name).await?.id),
            None => None,
        };
        let kind = query.kind.as_deref().map(kind_named).transpose()?;
        if let Some(status) = query.status.as_deref().filter(|status| !STATUSES.contains(status)) {
            return Err(AppError::invalid(format!(
                "`{status}` is no status of a run; known are {}",
                STATUSES.join(", ")
            )));
        }
        let filter = RunFilter {
            identity,
            kind,
            status: query.status,
            open_only: query.open_only,
            opened_since: None,
        };
        let rows = self.store.runs(&filter, page(page_query)).await?;
        Ok(rows.iter().map(row_view).collect())
    }

    /// # Errors
    /// When there is no such run.
    pub async fn run(&self, caller: &Caller, id: &str) -> Result<RunView, AppError> {
        allow(caller, Verb::Read)?;
        let stored = self.stored_run(id).await?;
        let run = replay(&stored)?;
        let filter = ReceiptFilter {
            identity: None,
            run: Some(run.id()),
        };
        let receipts = self.store.receipts(&filter, crate::store::Page::first(16)).await?;
        let mut view = row_view(&stored.row);
        let plan = run.plan();
        view.trigger = Some(plan.trigger.name().to_owned());
        view.reason = Some(plan.reason.name().to_owned());
        view.initiator = Some(plan.initiator.label().to_owned());
        view.note = status_note(run.status(), stored.events.last());
        view.steps = steps(&run);
        view.events = stored.events.iter().map(|event| event_view(&view.id, event)).collect();
        view.receipts = receipts.into_iter().map(|receipt| receipt.id.to_string()).collect();
        Ok(view)
    }

    /// The events behind number `after`.
    ///
    /// # Errors
    /// When there is no such run.
    pub async fn run_events(&self, caller: &Caller, id: &str, after: Option<u32>) -> Result<Vec<EventView>, AppError> {
        allow(caller, Verb::Read)?;
        let stored = self.stored_run(id).await?;
        let later = stored
            .events
            .iter()
            .filter(|event| after.is_none_or(|after| event.seq > after));
        Ok(later.map(|event| event_view(id, event)).collect())
    }

    /// Tries the stuck step again.
    ///
    /// # Errors
    /// When the run is not stuck.
    pub async fn retry(&self, caller: &Caller, id: &str, reason: String) -> Result<RunView, AppError> {
        let by = caller.actor();
        self.handle(
            caller,
            id,
            EventBody::Retried { by, reason },
            "a run is retried when it needs a person",
        )
        .await
    }

    /// States that the stuck step's goal was reached by hand.
    ///
    /// # Errors
    /// When the run is not stuck.
    pub async fn resume(&self, caller: &Caller, id: &str, reason: String) -> Result<RunView, AppError> {
        let by = caller.actor();
        self.handle(
            caller,
            id,
            EventBody::Resumed { by, reason },
            "a run is resumed when it needs a person",
        )
        .await
    }

    /// Takes the run back, while there is a way back.
    ///
    /// # Errors
    /// Behind the point of no return.
    pub async fn cancel(&self, caller: &Caller, id: &str, reason: String) -> Result<RunView, AppError> {
        let by = caller.actor();
        let refused = "a run is cancelled before its point of no return; this one can only go forward";
        self.handle(caller, id, EventBody::CancelRequested { by, reason }, refused)
            .await
    }

    async fn handle(&self, caller: &Caller, id: &str, body: EventBody, refused: &str) -> Result<RunView, AppError> {
        allow(caller, Verb::HandleRun)?;
        if reason_of(&body).trim().is_empty() {
            return Err(AppError::invalid("a reason is needed: --reason \"why\""));
        }
        // A cancel is about the run wherever it stands by now; the others are about the step that their person looked at.
        let tries = match body {
            EventBody::CancelRequested { .. } => TRIES,
            _ => 1,
        };
        for _ in 0..tries {
            let commit = self.by_hand(id, body.clone(), refused).await?;
            if let Committed::Stored = self.store.commit(commit).await? {
                self.bell.ring();
                return self.run(caller, id).await;
            }
        }
        Err(AppError::Conflict {
            why: "the run moved on meanwhile; look again with `keyfall describe run RUN`".to_owned(),
        })
    }

    /// What a person says about a run, as the commit that holds while the run stands where it was read.
    pub(super) async fn by_hand(&self, id: &str, body: EventBody, refused: &str) -> Result<Commit, AppError> {
        let stored = self.stored_run(id).await?;
        let mut run = replay(&stored)?;
        let now = run.instant(self.env.now());
        let event = Event {
            seq: run.next_seq(),
            at: now,
            epoch: stored.row.epoch,
            body,
        };
        let forbidden = match &event.body {
            EventBody::Resumed { by, .. } => run.refusal_to_resume(by),
            _ => None,
        };
        run.apply(&event).map_err(|_| AppError::Conflict {
            why: format!(
                "{id} is {}: {}",
                run.status().name(),
                forbidden.as_deref().unwrap_or(refused)
            ),
        })?;
        let mut facts = facts_by_hand(&run, &event);
        facts.extend([Fact::RunProgress {
            run: run.id(),
            status: run.status().name().to_owned(),
            step: run.step().map(crate::domain::workflow::Step::name),
            next_seq: run.next_seq(),
            wake_at: Some(self.env.now()),
            release: false,
        }]);
        Ok(Commit {
            guards: vec![Guard::RunAt {
                run: run.id(),
                next_seq: event.seq,
            }],
            facts,
            log: vec![LogEntry {
                run: Some((run.id(), event.seq)),
                at: now,
                bytes: encode_event(run.plan(), &run, &event),
            }],
        })
    }

    async fn stored_run(&self, id: &str) -> Result<StoredRun, AppError> {
        let missing = || AppError::NotFound {
            what: "run",
            name: id.to_owned(),
        };
        let id: RunId = id.parse().map_err(|_| missing())?;
        self.store.run(id).await?.ok_or_else(missing)
    }
}

fn reason_of(body: &EventBody) -> &str {
    match body {
        EventBody::Retried { reason, .. }
        | EventBody::Resumed { reason, .. }
        | EventBody::CancelRequested { reason, .. } => reason,
        _ => "",
    }
}

fn replay(stored: &StoredRun) -> Result<Run, AppError> {
    Run::replay(&stored.events).map_err(|error| AppError::internal("a stored run does not fold", &error))
}

fn kind_named(name: &str) -> Result<RunKind, AppError> {
    let known = || RunKind::ALL.map(RunKind::name).join(", ");
    let found = RunKind::ALL.into_iter().find(|kind| kind.name() == name);
    found.ok_or_else(|| AppError::invalid(format!("`{name}` is no kind of run; known are {}", known())))
}

fn row_view(row: &RunRow) -> RunView {
    RunView {
        id: row.id.to_string(),
        kind: row.kind.name().to_owned(),
        identity: row.identity_name.clone(),
        system: row.system_name.clone(),
        status: row.status.clone(),
        step: row.step.clone(),
        opened_at: row.opened_at,
        closed_at: row.closed_at,
        wake_at: row.wake_at.filter(|at| *at < Timestamp::MAX),
        trigger: None,
        reason: None,
        initiator: None,
        note: None,
        steps: Vec::new(),
        events: Vec::new(),
        receipts: Vec::new(),
    }
}

fn steps(run: &Run) -> Vec<(String, String)> {
    let at = run.step();
    let mut behind = true;
    let stand = |step: &crate::domain::workflow::Step| {
        if Some(*step) == at {
            behind = false;
            let state = match (run.status(), run.step_state()) {
                (RunStatus::NeedsOperator { .. }, _) => "needs a person".to_owned(),
                (_, StepState::NotStarted) => "next".to_owned(),
                (_, StepState::Started { attempt }) => format!("attempt {attempt}"),
                (_, StepState::Retrying { attempts, at }) => format!("failed {attempts} times, again at {at:.0}"),
                (_, StepState::Waiting { until }) => format!("waits until {until:.0}"),
            };
            return (step.name().to_owned(), state);
        }
        (step.name().to_owned(), if behind { "done" } else { "to do" }.to_owned())
    };
    run.steps().iter().map(stand).collect()
}

fn event_view(run: &str, event: &Event) -> EventView {
    EventView {
        run: run.to_owned(),
        seq: event.seq,
        at: event.at,
        event: event.body.name().to_owned(),
        step: event.body.step().map(|step| step.name().to_owned()),
        seen: seen_lines(event),
        text: event_line(event),
    }
}
