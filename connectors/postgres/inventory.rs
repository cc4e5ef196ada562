//! Reading the accounts of a server, and whether our own account may do what this connector needs.

use std::time::Duration;

use keyfall_sdk::principal::PlaceReading;
use keyfall_sdk::{
    BoxFuture, CallContext, ClockReading, ConnectorError, Inventory, PrincipalReading, PrincipalRef, PrincipalState,
    Result,
};

use super::Postgres;
use super::account::Account;
use super::admin::{Deadline, Facts};
use super::ask::Ask;
use super::link::Rows;
use super::role::{changes_under_way, checked_name, no_change_under_way, recorded_oid};

/// Between two looks at what is under way, and before our own deadline.
const AGAIN: Duration = Duration::from_millis(100);

const UNDER_WAY: &str = "reading the accounts: a change of a role is still under way on the server (it may wait for a synchronous standby), so \
    nobody can tell what will be there; ask again later";

impl Inventory for Postgres {
    fn list<'a>(&'a self, ctx: &'a CallContext) -> BoxFuture<'a, Result<Vec<PrincipalState>>> {
        Box::pin(async move {
            let accounts = self.settled_accounts(ctx, |facts| {
                // A role without LOGIN counts when it holds a password, which one ALTER ROLE would bring to life.
                let password = if facts.reads_verifiers {
                    "r.rolpassword IS NOT NULL"
                } else {
                    "false"
                };
                let condition = format!("r.rolname !~ '^pg_' AND (r.rolcanlogin OR {password})");
                Ask::new(Account::select(facts, &condition))
            });
            Ok(accounts.await?.into_iter().map(|account| account.state).collect())
        })
    }

    fn read<'a>(
        &'a self,
        ctx: &'a CallContext,
        principal: &'a PrincipalRef,
    ) -> BoxFuture<'a, Result<PrincipalReading>> {
        Box::pin(self.read_one(ctx, principal))
    }

    fn preflight<'a>(&'a self, ctx: &'a CallContext) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(self.missing_rights(ctx))
    }

    fn clocks<'a>(&'a self, ctx: &'a CallContext) -> BoxFuture<'a, Result<Vec<ClockReading>>> {
        Box::pin(self.read_clocks(ctx))
    }
}

impl Postgres {
    /// The accounts, when every change of ours that was under way at the beginning has come to its end.
    async fn settled_accounts(&self, ctx: &CallContext, select: impl Fn(&Facts) -> Ask) -> Result<Vec<Account>> {
        let deadline = Deadline::of(ctx);
        let mut waited_for: Option<Vec<String>> = None;
        loop {
            // What is under way is asked first: who has ended by then is seen by what is read behind it.
            let rows = self
                .readable(deadline, |facts| Ok(vec![changes_under_way(), select(facts)]))
                .await?;
            let under_way = at_work(&rows);
            let left = match waited_for {
                None => under_way,
                // Who began meanwhile was sent by nobody who asks now.
                Some(before) => before.into_iter().filter(|one| under_way.contains(one)).collect(),
            };
            if left.is_empty() {
                return Account::all(&rows);
            }
            if deadline.left() < AGAIN * 2 {
                return Err(ConnectorError::transient(UNDER_WAY));
            }
            waited_for = Some(left);
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn readable(&self, deadline: Deadline, asks: impl Fn(&Facts) -> Result<Vec<Ask>>) -> Result<Vec<Rows>> {
        let lane = self.admin.control()?;
        let (seat, rows) = self
            .admin
            .begin(lane, deadline, "reading the accounts", |facts| {
                if !facts.reads_verifiers {
                    // Without the verifiers every account would look as if it held no credential.
                    return Err(ConnectorError::denied(
                        "the admin role may not read pg_authid, so it cannot be seen which accounts hold a credential; \
                         grant it SELECT on pg_authid",
                    ));
                }
                asks(facts)
            })
            .await?;
        seat.leave().await;
        Ok(rows)
    }

    async fn read_one(&self, ctx: &CallContext, principal: &PrincipalRef) -> Result<PrincipalReading> {
        let deadline = Deadline::of(ctx);
        let oid = recorded_oid(principal)?;
        let name = checked_name(&principal.name)?;
        let rows = self.readable(deadline, |facts| {
            let select = Ask::new(Account::select(facts, "r.rolname = $1 OR r.oid = $2"));
            let [patience, lock] = no_change_under_way(name, deadline.left().saturating_sub(AGAIN).max(AGAIN));
            Ok(vec![patience, lock, select.with(name).with(oid)])
        });
        let rows = rows.await.map_err(still_at_work)?;
        let mut accounts = Account::all(&rows)?;
        // A recorded account that was renamed is still there; what has taken its name since is another one.
        let recorded = accounts
            .iter()
            .position(|account| Some(&account.state.immutable_id) == principal.immutable_id.as_ref());
        let account = match recorded {
            Some(index) => Some(accounts.swap_remove(index)),
            None => accounts.pop(),
        };
        Ok(PrincipalReading {
            places: vec![PlaceReading {
                vantage: self.admin.control()?.target.vantage.clone(),
                state: account.map(|account| account.state),
            }],
        })
    }

    /// `VALID UNTIL` is held against this clock.
    async fn read_clocks(&self, ctx: &CallContext) -> Result<Vec<ClockReading>> {
        let deadline = Deadline::of(ctx);
        let mut clocks = Vec::new();
        for lane in self.admin.servers() {
            let ask = || Ask::new("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint");
            let begun = self
                .admin
                .begin(lane, deadline, "reading the server's clock", |_| Ok(vec![ask()]));
            let (seat, rows) = begun.await?;
            seat.leave().await;
            let micros = rows
                .last()
                .and_then(|rows| rows.first()?.first()?.as_deref()?.parse().ok());
            clocks.push(ClockReading {
                vantage: lane.target.vantage.clone(),
                at: micros.ok_or_else(|| ConnectorError::protocol("the server's clock is no number"))?,
            });
        }
        Ok(clocks)
    }

    async fn missing_rights(&self, ctx: &CallContext) -> Result<Vec<String>> {
        let deadline = Deadline::of(ctx);
        let control = &self.admin.control()?.target.vantage;
        let mut missing = Vec::new();
        for lane in self.admin.servers() {
            let vantage = &lane.target.vantage;
            let (seat, _) = self
                .admin
                .begin(lane, deadline, "checking the admin role's rights", |_| {
                    Ok(vec![Ask::new("SELECT 1")])
                })
                .await?;
            let facts = seat.facts;
            seat.leave().await;
            if vantage == control {
                missing.extend(missing_on_control(&facts));
            }
            if !facts.ends_sessions {
                missing.push(format!("{vantage}: GRANT pg_signal_backend, to end sessions"));
            }
            if !facts.sees_sessions {
                missing.push(format!(
                    "{vantage}: GRANT pg_read_all_stats, to see when sessions began"
                ));
            }
        }
        Ok(missing)
    }
}

fn missing_on_control(facts: &Facts) -> Vec<String> {
    let mut missing = Vec::new();
    if facts.standby {
        missing.push("the control vantage is a read-only standby; name the primary as `control`".to_owned());
    }
    if !facts.creates_roles {
        missing.push("CREATEROLE, to create accounts and set their passwords".to_owned());
    }
    if !facts.reads_verifiers {
        missing.push("GRANT SELECT ON pg_authid, to see which credential an account holds".to_owned());
    }
    missing
}

/// The transactions in the first result.
fn at_work(rows: &[Rows]) -> Vec<String> {
    let of = |row: &Vec<Option<String>>| row.first().cloned().flatten();
    rows.first().into_iter().flatten().filter_map(of).collect()
}

/// The lock was not to be had in time.
fn still_at_work(error: ConnectorError) -> ConnectorError {
    match error.code() {
        Some("55P03") => ConnectorError::transient(UNDER_WAY).with_code("55P03"),
        _ => error,
    }
}
