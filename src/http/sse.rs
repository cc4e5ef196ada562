//! The events of a run as a stream (server-sent events): `id` is the event's number, `event` its name, `data` the view. A client that comes
//! back with `Last-Event-ID` goes on behind it. The stream ends with the run, with the
//! token that it was asked for with, or with the server.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use keyfall_sdk::SecretValue;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::auth::bearer;
use super::problem::Problem;
use super::{Api, ApiState};
use crate::app::{Caller, EventView};

/// The log is asked this often while somebody watches. An event is never lost: it is read from the log, not from a channel.
const LOOK: Duration = Duration::from_millis(250);
/// The event behind which none follows.
const CLOSED: &str = "closed";
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A stream ends after this long, and the client comes back behind the last event that it has.
const LONGEST: Duration = Duration::from_secs(600);
/// A token that was revoked or has run out is not believed for longer.
const BELIEVED: Duration = Duration::from_secs(1);
/// Each watcher asks the store a few times a second.
pub(super) const MOST_WATCHERS: usize = 64;

struct Watch {
    api: Api,
    caller: Caller,
    token: SecretValue,
    believed_until: Instant,
    run: String,
    last: Option<u32>,
    waiting: std::vec::IntoIter<EventView>,
    is_over: bool,
    until: Instant,
    _place: OwnedSemaphorePermit,
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
    let place = Arc::clone(&api.watchers).try_acquire_owned();
    let place = place.map_err(|_| Problem::busy("too many watch runs already; list them with GET /v1/runs instead"))?;
    // What is wrong with the question is answered before the stream begins, and a run that was over before has nothing more to come.
    let is_over = api.app.run(&caller, &run).await?.closed_at.is_some();
    let waiting = api.app.run_events(&caller, &run, last).await?.into_iter();
    let token = bearer(&headers).map(|token| SecretValue::new(token.as_bytes()));
    let watch = Watch {
        api,
        caller,
        token: token.ok_or_else(|| Problem::unauthorised("no bearer token was given"))?,
        believed_until: Instant::now() + BELIEVED,
        run,
        last,
        waiting,
        is_over,
        until: Instant::now() + LONGEST,
        _place: place,
    };
    let events = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok(event), watch))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

impl Watch {
    async fn is_still_somebodys(&mut self) -> bool {
        if Instant::now() < self.believed_until {
            return true;
        }
        self.believed_until = Instant::now() + BELIEVED;
        let token = self.token.expose_secret_str().unwrap_or_default();
        matches!(self.api.app.caller(token).await, Ok(Some(caller)) if caller.person == self.caller.person)
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(view) = self.waiting.next() {
                self.last = Some(view.seq);
                self.is_over |= view.event == CLOSED;
                let event = Event::default().id(view.seq.to_string()).event(&view.event);
                return event.json_data(&view).ok();
            }
            if self.is_over || Instant::now() >= self.until {
                return None;
            }
            tokio::select! {
                () = self.api.stopping.cancelled() => return None,
                () = tokio::time::sleep(LOOK) => {}
            }
            if !self.is_still_somebodys().await {
                return None;
            }
            let events = self.api.app.run_events(&self.caller, &self.run, self.last).await;
            self.waiting = events.ok()?.into_iter();
        }
    }
}
