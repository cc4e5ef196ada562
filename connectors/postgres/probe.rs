//! Trying a credential: one fresh connection, one SCRAM login, one read-only query, no retry.

use keyfall_sdk::{BoxFuture, CallContext, InconclusiveWhy, Probe, ProbeCall, ProbePurpose, ProbeReading, Verdict};

use super::Postgres;
use super::admin::Deadline;
use super::handshake::{Login, Target, open};
use super::link::{LinkError, Rows};
use super::sqlstate::verdict;

impl Probe for Postgres {
    fn probe<'a>(&'a self, ctx: &'a CallContext, call: &'a ProbeCall) -> BoxFuture<'a, ProbeReading> {
        Box::pin(async move {
            let lane = self
                .admin
                .lanes()
                .iter()
                .find(|lane| lane.target.vantage == call.vantage);
            let Some(lane) = lane else {
                return ProbeReading {
                    verdict: Verdict::Untestable {
                        why: format!("this system has no vantage {:?}", call.vantage),
                    },
                    endpoint: String::new(),
                };
            };
            let attempt = Deadline::of(ctx).limit(self.log_in(&lane.target, call)).await;
            ProbeReading {
                verdict: match attempt {
                    Ok(user) if user == call.principal.name => Verdict::Accepted { principal: user },
                    Ok(user) => Verdict::Inconclusive {
                        why: InconclusiveWhy::Protocol,
                        detail: format!("the server let us in as {user:?}, who is somebody else"),
                    },
                    Err(error) => verdict(&error, lane.pooler),
                },
                endpoint: lane.target.endpoint(),
            }
        })
    }
}

impl Postgres {
    /// Who the server says that we logged in as.
    async fn log_in(&self, target: &Target, call: &ProbeCall) -> Result<String, LinkError> {
        let login = Login {
            user: &call.principal.name,
            secret: &call.secret,
            database: &self.database,
            application: application(call.purpose),
        };
        let mut link = open(target, &login).await?;
        let rows = link.batch("SELECT session_user").await?;
        link.close().await;
        user(&rows).ok_or_else(|| LinkError::Garbled("no name in the answer to `SELECT session_user`".to_owned()))
    }
}

fn user(rows: &[Rows]) -> Option<String> {
    rows.first()?.first()?.first()?.clone()
}

/// Marks the login in the server's log and in `pg_stat_activity`.
fn application(purpose: ProbePurpose) -> &'static str {
    match purpose {
        ProbePurpose::ProveNew => "keyfall-probe prove-new",
        ProbePurpose::Baseline => "keyfall-probe baseline",
        ProbePurpose::OldCredential => "keyfall-probe old-credential",
        ProbePurpose::PositiveControl => "keyfall-probe positive-control",
        ProbePurpose::NegativeControl => "keyfall-probe negative-control",
    }
}
