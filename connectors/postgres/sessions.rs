//! Sessions that go on after their credential is gone. Each server ends its own, so every vantage that is a server is
//! visited; sessions through a pooler are the server's.

use futures_util::future::join_all;
use keyfall_sdk::{
    BoxFuture, CallContext, ConnectorError, EndSessionsCall, PrincipalRef, Result, Sessions, SessionsEnded,
};
use tokio::time::{Duration, Instant, sleep};

use super::Postgres;
use super::admin::{Deadline, Lane};
use super::ask::Ask;
use super::link::Rows;
use super::role::{checked_name, recorded_oid};

/// How long a terminated session is waited for on one server. It ends at its next look at its signals, which is at once
/// unless the server is short of processor time or the session is inside a call that cannot be interrupted.
const GONE_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A probe that the server has not reaped yet is no workload.
const NO_PROBE: &str = " AND application_name NOT LIKE 'keyfall-probe%'";
const OLDER: &str = " AND backend_start < $2::timestamptz";

impl Sessions for Postgres {
    fn count<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<u32>> {
        Box::pin(async move {
            let deadline = Deadline::of(ctx);
            let all = OfAccount::new(principal)?;
            let counts = self.admin.servers().map(|lane| {
                let ask = all.ask("count(*)", NO_PROBE);
                async move { number(&self.ask(lane, deadline, "counting sessions", ask).await?) }
            });
            join_all(counts).await.into_iter().sum()
        })
    }

    fn end<'a>(&'a self, ctx: &'a CallContext, call: &'a EndSessionsCall) -> BoxFuture<'a, Result<SessionsEnded>> {
        Box::pin(async move {
            self.admin.refuse_own(&call.principal.name)?;
            let deadline = Deadline::of(ctx);
            let servers = self.admin.servers().map(|lane| self.end_at(lane, deadline, call));
            let mut total = SessionsEnded { ended: 0, left: 0 };
            for here in join_all(servers).await {
                let here = here?;
                total.ended += here.ended;
                total.left += here.left;
            }
            Ok(total)
        })
    }
}

impl Postgres {
    async fn ask(&self, lane: &Lane, deadline: Deadline, what: &str, ask: Ask) -> Result<Vec<Rows>> {
        let what = format!("{what} at {}", lane.target.vantage);
        let (seat, rows) = self
            .admin
            .begin(lane, deadline, &what, |_| Ok(vec![ask.clone()]))
            .await?;
        seat.leave().await;
        Ok(rows)
    }

    /// Ending a session twice does no harm, so a lost reply here is only an unfinished call.
    async fn end_at(&self, lane: &Lane, deadline: Deadline, call: &EndSessionsCall) -> Result<SessionsEnded> {
        let all = OfAccount::new(&call.principal)?;
        // The server's clock decides, and one moment of it: sessions must not grow old enough while they are waited for.
        let cut = match call.spare_younger_than {
            None => None,
            Some(age) => {
                let ask = Ask::new("SELECT clock_timestamp() - $1::interval")
                    .with(format!("{} microseconds", age.as_micros()));
                Some(text(&self.ask(lane, deadline, "reading the clock", ask).await?)?)
            }
        };
        let of = |what: &str| match &cut {
            None => all.ask(what, ""),
            Some(cut) => all.ask(what, OLDER).with(cut),
        };
        let terminate = of("count(pg_terminate_backend(pid))");
        let seen = number(&self.ask(lane, deadline, "ending sessions", terminate).await?)?;
        let mut left = seen;
        let patience = Instant::now() + GONE_WITHIN;
        while left > 0 {
            let what = "waiting for sessions to end";
            left = number(&self.ask(lane, deadline, what, of("count(*)")).await?)?;
            if left == 0 || Instant::now() >= patience || deadline.is_past() {
                break;
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(SessionsEnded {
            ended: seen.saturating_sub(left),
            left,
        })
    }
}

/// The sessions of one account: by OID where it is recorded, because a session outlives its role's name, and the role itself.
struct OfAccount {
    column: &'static str,
    value: String,
}

impl OfAccount {
    fn new(principal: &PrincipalRef) -> Result<Self> {
        Ok(match recorded_oid(principal)? {
            0 => Self {
                column: "usename",
                value: checked_name(&principal.name)?.to_owned(),
            },
            oid => Self {
                column: "usesysid",
                value: oid.to_string(),
            },
        })
    }

    fn ask(&self, what: &str, condition: &str) -> Ask {
        let column = self.column;
        let text = format!(
            "SELECT {what} FROM pg_stat_activity WHERE {column} = $1 AND backend_type = 'client backend' \
             AND pid <> pg_backend_pid(){condition}"
        );
        Ask::new(text).with(&self.value)
    }
}

fn text(rows: &[Rows]) -> Result<String> {
    rows.last()
        .and_then(|rows| rows.first()?.first()?.clone())
        .ok_or_else(|| ConnectorError::protocol("the server's answer about sessions is not what was asked for"))
}

fn number(rows: &[Rows]) -> Result<u32> {
    text(rows)?
        .parse()
        .map_err(|_| ConnectorError::protocol("the server's count of sessions is no number"))
}
