//! Following a run to its end, one line for each event and for each thing seen on the way. A broken stream is taken up again behind the last event that was seen.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::client::Client;
use super::output::{note, print};
use super::{CliError, Exit, Session};
use crate::app::{EventView, PlanView, RunView};

/// How often in a row a stream may break without a new event before it is given up. One that the server ended in order is no break: it bounds
/// how long a token is believed.
const MOST_BREAKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
/// Follow a run to its end. Exit 0: completed, 1: unwound, 4: something is alive or unprovable
#[command(after_help = "Example:\n  keyfall watch run_…")]
pub struct WatchArgs {
    /// The run
    run: String,
}

impl WatchArgs {
    pub(super) async fn run(self, session: &Session) -> Result<Exit, CliError> {
        let is_json = session.output.is_json();
        let run = follow(&session.client()?, &self.run, &mut |event| {
            if is_json {
                let line = serde_json::to_string(event).map_err(|error| CliError::Answer {
                    what: error.to_string(),
                })?;
                return print(&format!("{line}\n"));
            }
            lines(event).iter().try_for_each(|line| print(&format!("{line}\n")))
        })
        .await?;
        note(&ending(&run));
        Ok(exit_of(&run))
    }
}

/// What was seen on the way, then how it ended.
fn lines(event: &EventView) -> Vec<String> {
    let at = event.at.strftime("%H:%M:%S%.3f");
    let step = event.step.as_deref().unwrap_or("");
    let line = |what: &str, text: &str| format!("{at}  {what:16} {step:16} {text}");
    let mut lines: Vec<_> = event.seen.iter().map(|seen| line("seen", seen)).collect();
    lines.push(line(&event.event, &event.text));
    lines
}

fn ending(run: &RunView) -> String {
    let note = run.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
    format!("{} of {} is {}{note}", run.id, run.identity, run.status)
}

fn exit_of(run: &RunView) -> Exit {
    match run.status.as_str() {
        "completed" => Exit::Ok,
        "alive_after_revoke" | "unprovable" => Exit::NotProven,
        _ => Exit::Error,
    }
}

/// Follows several runs, one after the other, with progress on standard error; the worst end counts.
pub(super) async fn follow_runs(session: &Session, runs: &[String]) -> Result<Exit, CliError> {
    let client = session.client()?;
    let mut worst = Exit::Ok;
    for id in runs {
        let run = follow(&client, id, &mut |event| {
            lines(event).iter().for_each(|line| note(line));
            Ok(())
        })
        .await?;
        note(&ending(&run));
        worst = worst.max(exit_of(&run));
    }
    Ok(worst)
}

/// Waits for a plan to be decided, then for all of its runs.
pub(super) async fn follow_plan(session: &Session, id: &str) -> Result<Exit, CliError> {
    let client = session.client()?;
    let mut told = false;
    loop {
        let plan: PlanView = client.get(&["plans", id], &[]).await?;
        match plan.status.as_str() {
            "proposed" => {
                if !told {
                    note(&format!("waiting for another person to approve {id}"));
                    told = true;
                }
            }
            "applied" => return follow_runs(session, &plan.runs).await,
            other => {
                note(&format!("{id} is {other}"));
                return Ok(Exit::RefusedByPolicy);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

type OnEvent<'a> = &'a mut (dyn FnMut(&EventView) -> Result<(), CliError> + Send);

/// Calls for every event, then answers the closed run.
async fn follow(client: &Client, id: &str, on_event: OnEvent<'_>) -> Result<RunView, CliError> {
    let mut last = None;
    let mut breaks = 0;
    loop {
        let before = last;
        let ended = stream(client, id, &mut last, on_event).await;
        let in_order = ended.is_ok();
        let run = match (ended, client.get::<RunView>(&["runs", id], &[]).await) {
            (Err(error), _) if !matches!(error, CliError::Interrupted { .. } | CliError::Unreachable { .. }) => {
                return Err(error);
            }
            (_, Ok(run)) => Some(run),
            (_, Err(error @ CliError::Unreachable { .. })) if breaks < MOST_BREAKS && before.is_some() => {
                note(&format!("{error}; trying again"));
                None
            }
            (_, Err(error)) => return Err(error),
        };
        if let Some(run) = run
            && (run.closed_at.is_some() || run.status == "needs_operator")
        {
            return Ok(run);
        }
        breaks = if in_order || last != before { 0 } else { breaks + 1 };
        if breaks > MOST_BREAKS {
            return Err(CliError::Failed(format!(
                "the events of {id} stop before its end; `keyfall describe run {id}` shows where it is"
            )));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn stream(client: &Client, id: &str, last: &mut Option<u32>, on_event: OnEvent<'_>) -> Result<(), CliError> {
    let mut response = client.events(&["runs", id, "events"], *last).await?;
    let mut lines = Lines::default();
    while let Some(chunk) = response.chunk().await.map_err(|error| client.interrupted(error))? {
        for data in lines.push(&chunk) {
            let Ok(value) = serde_json::from_str::<Value>(&data) else {
                continue;
            };
            if value.get("seq").is_none() {
                continue;
            }
            let event: EventView = serde_json::from_value(value).map_err(|error| CliError::Answer {
                what: error.to_string(),
            })?;
            *last = Some(event.seq);
            on_event(&event)?;
            // The stream stays open for what a person does next; whoever waits for the end is told now.
            if event.event == "needs_operator" {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Takes server-sent events apart; only their data is wanted, which names its number itself.
#[derive(Default)]
struct Lines {
    pending: Vec<u8>,
    data: String,
}

impl Lines {
    fn push(&mut self, chunk: &[u8]) -> Vec<String> {
        self.pending.extend_from_slice(chunk);
        let mut found = Vec::new();
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                let data = std::mem::take(&mut self.data);
                found.extend((!data.is_empty()).then_some(data));
            } else if let Some(data) = line.strip_prefix("data:") {
                self.data.push_str(data.trim_start());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::{EventView, Lines, lines};

    #[test]
    fn what_was_seen_stands_before_how_it_ended() {
        let event = EventView {
            run: "run_1".to_owned(),
            seq: 3,
            at: jiff::Timestamp::UNIX_EPOCH,
            event: "failed".to_owned(),
            step: Some("baseline".to_owned()),
            seen: vec!["primary: accepted".to_owned()],
            text: "failed: no".to_owned(),
        };
        let shown = [
            "00:00:00.000  seen             baseline         primary: accepted",
            "00:00:00.000  failed           baseline         failed: no",
        ];
        assert_eq!(lines(&event), shown);
    }

    #[test]
    fn events_are_found_wherever_the_chunks_are_cut() {
        let text = b": heartbeat\n\nid: 1\nevent: opened\ndata: {\"seq\":1}\n\nid: 2\r\ndata: {\"seq\":\r\ndata: 2}\r\n\r\ndata: half";
        for cut in 1..text.len() {
            let (one, two) = text.split_at(cut);
            let mut lines = Lines::default();
            let found = [lines.push(one), lines.push(two)].concat();
            assert_eq!(found, ["{\"seq\":1}", "{\"seq\":2}"], "cut at {cut}");
        }
    }
}
