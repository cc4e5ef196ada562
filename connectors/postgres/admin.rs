//! Keyfall's own connections to each server: opened when first needed, kept while they are good, never shared between two
//! calls at once. It knows how a statement is run and what its failure means, and no statement of any ability.
//!
//! Every call is two batches at most: one that begins a transaction and reads, one that changes and commits. A kept
//! connection that turns out to be dead at the first batch is replaced, because nothing was changed by then.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use keyfall_sdk::{AdminCredential, CallContext, ConnectorError, Result};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::ask::Ask;
use super::handshake::{Login, Target, open};
use super::link::{Link, LinkError, Rows};
use super::sqlstate::{Effect, call_error};

/// Connections to one server at once. Each costs the server a process, and each change of a role one commit.
const CONNECTIONS: usize = 8;

/// How long a call waits for a connection that another one is using before it opens one more. A new one costs the server a
/// process, a login, empty catalog caches and plans, which is more than most calls do; a server that is slow because it has
/// too much to do is not helped by it.
const WORTH_WAITING: Duration = Duration::from_millis(25);

const APPLICATION: &str = "keyfall";

/// The first batch on each connection: names resolve to the system's own functions only, texts are quoted as we quote
/// them, a forgotten transaction ends by itself, and a commit that was acknowledged is on disk. From version 12 on the server
/// can be told to plan a prepared statement once and not for each of its first values.
const SETTLE_IN: &str = "SET search_path = pg_catalog; SET standard_conforming_strings = on; \
    SET statement_timeout = '30s'; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '60s'; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'; \
    SELECT set_config('plan_cache_mode', 'force_generic_plan', false) WHERE current_setting('plan_cache_mode', true) IS NOT NULL; \
    SELECT current_setting('server_version_num'), pg_is_in_recovery(), \
    has_table_privilege('pg_authid', 'SELECT'), rolsuper, rolcreaterole, \
    pg_has_role('pg_signal_backend', 'USAGE'), pg_has_role('pg_read_all_stats', 'USAGE') \
    FROM pg_roles WHERE rolname = current_user";

/// What a server and our account on it can do.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    /// `server_version_num`: 150020 for 15.20.
    pub(super) version: u32,
    pub(super) standby: bool,
    pub(super) reads_verifiers: bool,
    pub(super) superuser: bool,
    pub(super) creates_roles: bool,
    pub(super) ends_sessions: bool,
    pub(super) sees_sessions: bool,
}

/// Until when the caller waits. Counted from the start of the call, a little short, so that our answer comes before the
/// caller stops listening.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn of(ctx: &CallContext) -> Self {
        Self(Instant::now() + ctx.answer_within())
    }

    pub(super) fn is_past(self) -> bool {
        Instant::now() >= self.0
    }

    pub(super) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// The statement by which the server gives up what it does in this transaction when nobody waits for it any more. Not a commit that waits for
    /// its standby: that is bounded by nothing. In whole seconds, so that few texts are prepared.
    pub(super) fn on_the_server(self) -> String {
        format!(
            "SET LOCAL statement_timeout = '{}s'",
            self.left().as_secs().saturating_add(1)
        )
    }

    /// Dropping what runs into the limit is safe here: the connection is dropped with it and never used again.
    pub(super) async fn limit<T>(
        self,
        action: impl Future<Output = std::result::Result<T, LinkError>>,
    ) -> std::result::Result<T, LinkError> {
        timeout_at(self.0, action).await.unwrap_or(Err(LinkError::TimedOut))
    }
}

/// Our connections to one server.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) target: Target,
    pub(super) pooler: bool,
    idle: Mutex<Vec<(Link, Facts)>>,
    /// Rings when a connection was put back.
    put_back: Notify,
    /// One connection is opened at a time: meanwhile others may be put back.
    opening: Semaphore,
    permits: Semaphore,
}

impl Lane {
    pub(super) fn new(target: Target, pooler: bool) -> Self {
        Self {
            target,
            pooler,
            idle: Mutex::new(Vec::new()),
            put_back: Notify::new(),
            opening: Semaphore::new(1),
            permits: Semaphore::new(CONNECTIONS),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(Link, Facts)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn kept(&self) -> Option<(Link, Facts)> {
        loop {
            let (mut link, facts) = self.idle().pop()?;
            if link.is_quiet().await {
                return Some((link, facts));
            }
        }
    }

    /// A connection that is free now or soon, or the right to open one. Called with a permit in hand.
    async fn kept_or_opening(&self) -> std::result::Result<(Link, Facts), Option<SemaphorePermit<'_>>> {
        loop {
            if let Some(kept) = self.kept().await {
                return Ok(kept);
            }
            let others = CONNECTIONS.saturating_sub(self.permits.available_permits()) > 1;
            let may_open = async {
                if others {
                    tokio::time::sleep(WORTH_WAITING).await;
                }
                self.opening.acquire().await.ok()
            };
            tokio::select! {
                biased;
                () = self.put_back.notified() => {}
                opening = may_open => match self.kept().await {
                    Some(kept) => return Ok(kept),
                    None => return Err(opening),
                },
            }
        }
    }

    fn put_back(&self, link: Link, facts: Facts) {
        self.idle().push((link, facts));
        self.put_back.notify_one();
    }
}

/// One connection for the length of one call. Dropping it closes the connection, and the server rolls back.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    link: Link,
    pub(super) facts: Facts,
    deadline: Deadline,
    place: Option<(&'a Lane, SemaphorePermit<'a>)>,
}

impl Seat<'_> {
    /// Runs the batch that changes something and ends with COMMIT.
    pub(super) async fn commit(mut self, what: &str, sql: &str) -> Result<Vec<Rows>> {
        let deadline = self.deadline;
        if deadline.is_past() {
            return Err(call_error(&LinkError::TimedOut, Effect::None, what));
        }
        let rows = deadline
            .limit(self.link.batch(sql))
            .await
            .map_err(|error| call_error(&error, Effect::Sent, what))?;
        self.keep();
        Ok(rows)
    }

    /// Runs a query that changes nothing, inside the call's transaction.
    pub(super) async fn read(&mut self, what: &str, ask: Ask) -> Result<Vec<Rows>> {
        let deadline = self.deadline;
        deadline
            .limit(self.link.ask(&[ask]))
            .await
            .map_err(|error| call_error(&error, Effect::None, what))
    }

    /// Ends the call's transaction without a change.
    pub(super) async fn leave(mut self) {
        let deadline = self.deadline;
        if self.link.is_idle() || deadline.limit(self.link.batch("ROLLBACK")).await.is_ok() {
            self.keep();
        }
    }

    fn keep(self) {
        if let Some((lane, _permit)) = self.place.filter(|_| self.link.is_idle()) {
            lane.put_back(self.link, self.facts);
        }
    }
}

/// Our account on the system, and the connections it has.
#[derive(Debug)]
pub(super) struct Admin {
    credential: Option<AdminCredential>,
    database: String,
    /// One for each vantage, in the manifest's order.
    lanes: Vec<Lane>,
    control: usize,
}

impl Admin {
    pub(super) fn new(credential: Option<AdminCredential>, database: String, lanes: Vec<Lane>, control: usize) -> Self {
        Self {
            credential,
            database,
            lanes,
            control,
        }
    }

    pub(super) fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    pub(super) fn control(&self) -> Result<&Lane> {
        self.lanes
            .get(self.control)
            .ok_or_else(|| ConnectorError::denied("this system has no control vantage; add one to its manifest"))
    }

    /// Every vantage that is a server of its own.
    pub(super) fn servers(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().filter(|lane| !lane.pooler)
    }

    /// Refuses to take Keyfall's own account away: it would lock itself out in the middle of the work.
    pub(super) fn refuse_own(&self, name: &str) -> Result<()> {
        match &self.credential {
            Some(own) if own.username == name => Err(ConnectorError::conflict(format!(
                "{name} is the account with which Keyfall administers this system; give the system another admin account first"
            ))),
            _ => Ok(()),
        }
    }

    /// A seat and what its first batch read. `asks` must change nothing; they may begin a transaction.
    pub(super) async fn begin<'a>(
        &self,
        lane: &'a Lane,
        deadline: Deadline,
        what: &str,
        asks: impl Fn(&Facts) -> Result<Vec<Ask>>,
    ) -> Result<(Seat<'a>, Vec<Rows>)> {
        let fail = |error: &LinkError| call_error(error, Effect::None, what);
        let permit = deadline
            .limit(async { lane.permits.acquire().await.map_err(|_| LinkError::TimedOut) })
            .await
            .map_err(|error| fail(&error))?;
        let found = deadline.limit(async { Ok(lane.kept_or_opening().await) }).await;
        let opening = match found.map_err(|error| fail(&error))? {
            Ok((mut link, facts)) => {
                let asks = asks(&facts)?;
                match deadline.limit(link.ask(&asks)).await {
                    Ok(rows) => return Ok((seat(link, facts, deadline, Some((lane, permit))), rows)),
                    Err(error) if !is_stale(&error) => return Err(fail(&error)),
                    Err(_) => lane.idle().clear(),
                }
                None
            }
            Err(opening) => opening,
        };
        let (mut link, facts) = self.enter(&lane.target, &self.database, deadline, what).await?;
        drop(opening);
        let asks = asks(&facts)?;
        let rows = deadline.limit(link.ask(&asks)).await.map_err(|error| fail(&error))?;
        Ok((seat(link, facts, deadline, Some((lane, permit))), rows))
    }

    /// A connection of its own to another database of the control server, for one call.
    pub(super) async fn begin_in(
        &self,
        database: &str,
        deadline: Deadline,
        what: &str,
        asks: impl Fn(&Facts) -> Result<Vec<Ask>>,
    ) -> Result<(Seat<'static>, Vec<Rows>)> {
        let target = &self.control()?.target;
        let (mut link, facts) = self.enter(target, database, deadline, what).await?;
        let asks = asks(&facts)?;
        let rows = deadline
            .limit(link.ask(&asks))
            .await
            .map_err(|error| call_error(&error, Effect::None, what))?;
        Ok((seat(link, facts, deadline, None), rows))
    }

    pub(super) fn is_admin_database(&self, database: &str) -> bool {
        self.database == database
    }

    async fn enter(&self, target: &Target, database: &str, deadline: Deadline, what: &str) -> Result<(Link, Facts)> {
        let Some(own) = &self.credential else {
            return Err(ConnectorError::denied(format!(
                "{what}: this system has no admin credential; store one with `keyfall secret set NAME`"
            )));
        };
        let login = Login {
            user: &own.username,
            secret: &own.secret,
            database,
            application: APPLICATION,
        };
        let what = format!("{what} at {} as {}", target.endpoint(), own.username);
        let entered = deadline.limit(async {
            let mut link = open(target, &login).await?;
            let rows = link.batch(SETTLE_IN).await?;
            Ok((link, rows))
        });
        let (link, rows) = entered.await.map_err(|error| call_error(&error, Effect::None, &what))?;
        Ok((link, facts(&rows).unwrap_or_default()))
    }
}

fn seat<'a>(link: Link, facts: Facts, deadline: Deadline, place: Option<(&'a Lane, SemaphorePermit<'a>)>) -> Seat<'a> {
    Seat {
        link,
        facts,
        deadline,
        place,
    }
}

/// A kept connection that the server had ended while it lay idle.
fn is_stale(error: &LinkError) -> bool {
    match error {
        LinkError::Broken(_) => true,
        LinkError::Server(error) => error.fatal,
        _ => false,
    }
}

fn facts(rows: &[Rows]) -> Option<Facts> {
    let mut columns = rows.last()?.first()?.iter();
    let version = columns.next()?.as_deref()?.parse().ok()?;
    let mut flag = || columns.next().and_then(|value| value.as_deref()) == Some("t");
    let mut facts = Facts {
        version,
        standby: flag(),
        reads_verifiers: flag(),
        superuser: flag(),
        creates_roles: flag(),
        ends_sessions: flag(),
        sees_sessions: flag(),
    };
    facts.ends_sessions |= facts.superuser;
    facts.sees_sessions |= facts.superuser;
    facts.creates_roles |= facts.superuser;
    Some(facts)
}
