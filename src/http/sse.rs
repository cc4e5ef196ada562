//! The events of a run as a stream (server-sent events): `id` is the event's number, `event` its name, `data` the view. A client that comes
//! back with `Last-Event-ID` goes on behind it. The stream ends with the run, or with the server.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};

use super::problem::Problem;
use super::{Api, ApiState};
use crate::app::{Caller, EventView};

/// The log is asked this often while somebody watches. An event is never lost: it is read from the log, not from a channel.
const LOOK: Duration = Duration::from_millis(250);
const HEARTBEAT: Duration = Duration::from_secs(15);

struct Watch {
    api: Api,
    caller: Caller,
    run: String,
    last: Option<u32>,
    waiting: std::vec::IntoIter<EventView>,
    is_over: bool,
}

pub(super) async fn events(
    State(api): ApiState,
    Extension(caller): Extension<Caller>,
    Path(run): Path<String>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let last = match headers.get("last-event-id").map(|id| id.to_str().map(str::parse)) {
        None => None,
        Some(Ok(Ok(last))) => Some(last),
        Some(_) => return Err(Problem::invalid("Last-Event-ID must be the number of an event")),
    };
    let mut watch = Watch {
        api,
        caller,
        run,
        last,
        waiting: Vec::new().into_iter(),
        is_over: false,
    };
    // What is wrong with the question is answered before the stream begins.
    watch.look().await?;
    let events = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok(event), watch))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

impl Watch {
    /// Reads what is new. The run is read first: what it says to be its end has all its events in the log by then.
    async fn look(&mut self) -> Result<(), Problem> {
        let run = self.api.app.run(&self.caller, &self.run).await?;
        self.is_over = run.closed_at.is_some();
        let events = self.api.app.run_events(&self.caller, &self.run, self.last).await?;
        self.waiting = events.into_iter();
        Ok(())
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(view) = self.waiting.next() {
                self.last = Some(view.seq);
                let event = Event::default().id(view.seq.to_string()).event(&view.event);
                return event.json_data(&view).ok();
            }
            if self.is_over {
                return None;
            }
            tokio::select! {
                () = self.api.stopping.cancelled() => return None,
                () = tokio::time::sleep(LOOK) => {}
            }
            self.look().await.ok()?;
        }
    }
}
