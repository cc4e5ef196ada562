//! Reading the accounts of a server, and whether our own account may do what this connector needs.

use keyfall_sdk::principal::PlaceReading;
use keyfall_sdk::{
    BoxFuture, CallContext, ClockReading, ConnectorError, Inventory, PrincipalReading, PrincipalRef, PrincipalState,
    Result,
};

use super::Postgres;
use super::account::Account;
use super::admin::{Deadline, Facts};
use super::ask::Ask;
use super::role::{checked_name, recorded_oid};

impl Inventory for Postgres {
    fn list<'a>(&'a self, ctx: &'a CallContext) -> BoxFuture<'a, Result<Vec<PrincipalState>>> {
        Box::pin(async move {
            let accounts = self.accounts(ctx, |facts| {
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
    async fn accounts(&self, ctx: &CallContext, ask: impl Fn(&Facts) -> Ask) -> Result<Vec<Account>> {
        let lane = self.admin.control()?;
        let (seat, rows) = self
            .admin
            .begin(lane, Deadline::of(ctx), "reading the accounts", |facts| {
                if !facts.reads_verifiers {
                    // Without the verifiers every account would look as if it held no credential.
                    return Err(ConnectorError::denied(
                        "the admin role may not read pg_authid, so it cannot be seen which accounts hold a credential; \
                         grant it SELECT on pg_authid",
                    ));
                }
                Ok(vec![ask(facts)])
            })
            .await?;
        seat.leave().await;
        Account::all(&rows)
    }

    async fn read_one(&self, ctx: &CallContext, principal: &PrincipalRef) -> Result<PrincipalReading> {
        let oid = recorded_oid(principal)?;
        let name = checked_name(&principal.name)?;
        let mut accounts = self
            .accounts(ctx, |facts| {
                Ask::new(Account::select(facts, "r.rolname = $1 OR r.oid = $2"))
                    .with(name)
                    .with(oid)
            })
            .await?;
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
