//! Sessions that go on after their credential is gone. Each server ends its own, so every vantage that is a server is
//! visited; sessions through a pooler are the server's.

use keyfall_sdk::{
    BoxFuture, CallContext, ConnectorError, EndSessionsCall, PrincipalRef, Result, Sessions, SessionsEnded,
};
use tokio::time::{Duration, Instant, sleep};

use super::Postgres;
use super::admin::{Deadline, Lane};
use super::link::Rows;
use super::quote::literal;
use super::role::{checked_literal, recorded_oid};

/// How long a terminated session is waited for on one server. It ends at its next look at its signals, which is at once
/// unless the server is short of processor time or the session is inside a call that cannot be interrupted.
const GONE_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl Sessions for Postgres {
    fn count<'a>(&'a self, ctx: &'a CallContext, principal: &'a PrincipalRef) -> BoxFuture<'a, Result<u32>> {
        Box::pin(async move {
            let deadline = Deadline::of(ctx);
            // A probe that the server has not reaped yet is no workload.
            let sql = format!(
                "SELECT count(*) {} AND application_name NOT LIKE 'keyfall-probe%'",
                of_account(principal)?
            );
            let mut sessions = 0;
            for lane in self.admin.servers() {
                sessions += number(&self.ask(lane, deadline, "counting sessions", &sql).await?)?;
            }
            Ok(sessions)
        })
    }

    fn end<'a>(&'a self, ctx: &'a CallContext, call: &'a EndSessionsCall) -> BoxFuture<'a, Result<SessionsEnded>> {
        Box::pin(async move {
            self.admin.refuse_own(&call.principal.name)?;
            let deadline = Deadline::of(ctx);
            let mut total = SessionsEnded { ended: 0, left: 0 };
            for lane in self.admin.servers() {
                let here = self.end_at(lane, deadline, call).await?;
                total.ended += here.ended;
                total.left += here.left;
            }
            Ok(total)
        })
    }
}

impl Postgres {
    async fn ask(&self, lane: &Lane, deadline: Deadline, what: &str, sql: &str) -> Result<Vec<Rows>> {
        let what = format!("{what} at {}", lane.target.vantage);
        let (seat, rows) = self.admin.begin(lane, deadline, &what, |_| Ok(sql.to_owned())).await?;
        seat.leave().await;
        Ok(rows)
    }

    /// Ending a session twice does no harm, so a lost reply here is only an unfinished call.
    async fn end_at(&self, lane: &Lane, deadline: Deadline, call: &EndSessionsCall) -> Result<SessionsEnded> {
        let spared = call.spare_younger_than.unwrap_or_default().as_micros();
        let all = of_account(&call.principal)?;
        // The server's clock decides, and one moment of it: sessions must not grow old enough while they are waited for.
        let cut = if call.spare_younger_than.is_some() {
            let moment = self
                .ask(
                    lane,
                    deadline,
                    "reading the clock",
                    &format!("SELECT clock_timestamp() - interval '{spared} microseconds'"),
                )
                .await?;
            format!(" AND backend_start < {}::timestamptz", literal(&text(&moment)?)?)
        } else {
            String::new()
        };
        let terminate = format!("SELECT count(pg_terminate_backend(pid)) {all}{cut}");
        let seen = number(&self.ask(lane, deadline, "ending sessions", &terminate).await?)?;
        let mut left = seen;
        let patience = Instant::now() + GONE_WITHIN;
        while left > 0 {
            left = number(
                &self
                    .ask(
                        lane,
                        deadline,
                        "waiting for sessions to end",
                        &format!("SELECT count(*) {all}{cut}"),
                    )
                    .await?,
            )?;
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

/// By OID where it is recorded: a session outlives its role's name, and the role itself.
fn of_account(principal: &PrincipalRef) -> Result<String> {
    let account = match recorded_oid(principal)? {
        0 => format!("usename = {}", checked_literal(&principal.name)?),
        oid => format!("usesysid = {oid}"),
    };
    Ok(format!(
        "FROM pg_stat_activity WHERE {account} AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    ))
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
