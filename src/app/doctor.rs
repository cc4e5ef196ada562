//! Whether this server can do its work: each check says what it looked at and, when it failed, what to do.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use keyfall_sdk::{CallContext, ClockReading};

use super::{App, AppError, Caller, DoctorLine, Verb, allow};
use crate::domain::resource::{Kind, Spec};
use crate::engine::breaker::{BREAKER, Tripped};
use crate::engine::clocks::{AgainstLog, SYSTEM_TOLERANCE, against_log, against_system, newest_record};
use crate::engine::freeze::{FREEZE, Freeze};
use crate::store::{DATABASE, UNKNOWN_DATABASE};

/// How long a system may take to answer a question that a person waits for.
const PATIENCE: Duration = Duration::from_secs(10);

const NOBODY_TELLS: &str = "this server has no functions that say which database it is (pg_control_system, pg_current_wal_lsn, pg_walfile_name), so a \
    promoted standby or a backup that was put back passes for the store: behind each failover and each restore run `keyfall freeze --reason …` and \
    look at the runs before you lift it";

/// The context of a call that belongs to no run.
pub(super) fn context(step: &str) -> CallContext {
    CallContext {
        run: "none".to_owned(),
        step: step.to_owned(),
        attempt: 1,
        idempotency_key: String::new(),
        time_left: PATIENCE,
    }
}

impl App {
    /// # Errors
    /// When the caller may not examine, or somebody does already: it reads the whole store and logs in everywhere.
    pub async fn doctor(&self, caller: &Caller) -> Result<Vec<DoctorLine>, AppError> {
        allow(caller, Verb::Examine)?;
        let Ok(_alone) = self.examining.try_lock() else {
            let why = "the server is being examined already; ask again in a minute";
            return Err(AppError::Conflict { why: why.to_owned() });
        };
        let mut lines = vec![
            self.check_store().await,
            self.check_kek().await,
            self.check_clock().await,
            self.check_steps().await,
        ];
        lines.extend(self.check_database().await);
        lines.extend(self.check_switches().await);
        for system in self.store.resources(Kind::System).await? {
            if let Spec::System(manifest) = system.spec {
                if let Some(admin) = manifest.admin {
                    lines.push(self.check_secret(&system.name, &admin.secret_ref).await);
                }
                lines.push(self.check_system(&system.name).await);
                lines.extend(self.check_clocks_of(&system.name).await);
            }
        }
        Ok(lines)
    }

    async fn check_store(&self) -> DoctorLine {
        match self.store.check().await {
            Ok(problems) if problems.is_empty() => line("store", true, "structure, log and states agree"),
            Ok(problems) => line("store", false, &problems.join("; ")),
            Err(error) => line("store", false, &error.to_string()),
        }
    }

    /// Which one it is, where that can change without anybody's doing here.
    async fn check_database(&self) -> Option<DoctorLine> {
        match self.store.setting(DATABASE).await {
            Ok(None) => None,
            Ok(Some(which)) if which == UNKNOWN_DATABASE => Some(line("database", false, NOBODY_TELLS)),
            Ok(Some(which)) => {
                let mut parts = which.split('/').map(str::to_owned);
                let mut part = || parts.next().unwrap_or_else(|| "unknown".to_owned());
                let text = format!("server {}, timeline {}, database {}", part(), part(), part());
                Some(line("database", true, &text))
            }
            Err(error) => Some(line("database", false, &error.to_string())),
        }
    }

    async fn check_kek(&self) -> DoctorLine {
        let active = self.keys.active_id();
        match self.store.secrets_not_under(&active.0, 1).await {
            Ok(rows) if rows.is_empty() => line("key", true, &format!("every secret is sealed under {}", active.0)),
            Ok(_) => line(
                "key",
                false,
                &format!("some secrets are not yet under {}; run `keyfall kek rotate`", active.0),
            ),
            Err(error) => line("key", false, &error.to_string()),
        }
    }

    /// Against the newest record of the log, which a clock that is right never stands before.
    async fn check_clock(&self) -> DoctorLine {
        let now = self.env.now();
        let newest = match newest_record(&*self.store).await {
            Ok(newest) => newest,
            Err(error) => return line("clock", false, &error.to_string()),
        };
        match against_log(now, newest) {
            AgainstLog::Agrees => line("clock", true, &format!("{now:.0}; the log agrees")),
            AgainstLog::Behind { by } => line(
                "clock",
                false,
                &format!("{now:.0} is {by:#} before the newest record of the log; set the clock right, then restart"),
            ),
            AgainstLog::Silent { since } => line(
                "clock",
                true,
                &format!("{now:.0}; nothing was recorded for {since:#}, so the log cannot say whether it is right"),
            ),
        }
    }

    async fn check_switches(&self) -> Vec<DoctorLine> {
        let freeze = self
            .store
            .setting(FREEZE)
            .await
            .ok()
            .flatten()
            .map(|value| Freeze::of_setting(&value).reason);
        let breaker = self
            .store
            .setting(BREAKER)
            .await
            .ok()
            .flatten()
            .map(|value| Tripped::of_setting(&value).why);
        let show = |check: &str, reason: Option<String>, command: &str| match reason {
            None => line(check, true, "nothing holds"),
            Some(reason) => line(check, false, &format!("{reason}; {command} asks for its end")),
        };
        vec![
            show("freeze", freeze, "`keyfall unfreeze --reason …`"),
            show("breaker", breaker, "`keyfall rearm --reason …`"),
        ]
    }

    async fn check_secret(&self, system: &str, name: &str) -> DoctorLine {
        let check = format!("secret {name}");
        match self.store.secret_named(name).await {
            Ok(Some(_)) => line(&check, true, &format!("set, for {system}")),
            Ok(None) => line(
                &check,
                false,
                &format!("not set; run `keyfall secret set {name}`, or {system} cannot be administered"),
            ),
            Err(error) => line(&check, false, &error.to_string()),
        }
    }

    async fn check_system(&self, system: &str) -> DoctorLine {
        let check = format!("system {system}");
        let (connector, _) = match self.systems.connected(system).await {
            Ok(found) => found,
            Err(error) => return line(&check, false, &error.to_string()),
        };
        match connector.preflight(context("doctor")).await {
            Ok(missing) if missing.is_empty() => line(&check, true, "reached, and our own rights suffice"),
            Ok(missing) => line(&check, false, &missing.join("; ")),
            Err(error) => line(&check, false, &error.to_string()),
        }
    }

    /// Says nothing where the system does not tell its time, or cannot be reached: then its own line does.
    async fn check_clocks_of(&self, system: &str) -> Option<DoctorLine> {
        let (connector, _) = self.systems.connected(system).await.ok()?;
        let asked = self.env.now();
        let clocks = connector.clocks(context("doctor")).await.ok()?;
        clock_line(system, asked, &clocks, self.env.now())
    }
}

/// What the clocks of a system's servers said between two looks at ours.
fn clock_line(system: &str, asked: Timestamp, clocks: &[ClockReading], answered: Timestamp) -> Option<DoctorLine> {
    let check = format!("clock of {system}");
    let off = clocks.iter().filter_map(|clock| {
        let theirs = Timestamp::from_microsecond(clock.at).ok()?;
        let by = against_system(asked, theirs, answered)?;
        let side = if by.is_positive() { "ahead of" } else { "behind" };
        let by = SignedDuration::from_secs(by.abs().as_secs());
        Some(format!("{} is {by:#} {side} ours", clock.vantage))
    });
    let off: Vec<_> = off.collect();
    if clocks.is_empty() {
        return None;
    }
    if off.is_empty() {
        let text = format!("within {SYSTEM_TOLERANCE:#} of ours");
        return Some(line(&check, true, &text));
    }
    let text = format!(
        "{}: ends of validity go by its clock, receipts by ours; set the one that is wrong right",
        off.join(", ")
    );
    Some(line(&check, false, &text))
}

pub(super) fn line(check: &str, ok: bool, text: &str) -> DoctorLine {
    DoctorLine {
        check: check.to_owned(),
        ok,
        text: text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use keyfall_sdk::ClockReading;

    use super::clock_line;

    #[test]
    fn a_clock_that_is_off_is_named_with_its_side_and_the_others_are_not() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let reading = |vantage: &str, by: i64| ClockReading {
            vantage: vantage.to_owned(),
            at: (now + SignedDuration::from_secs(by)).as_microsecond(),
        };
        let said = |clocks: &[ClockReading]| clock_line("db", now, clocks, now).map(|line| (line.ok, line.text));
        assert_eq!(said(&[]), None);
        assert!(said(&[reading("primary", 29), reading("replica", -29)]).unwrap().0);
        let (ok, text) = said(&[reading("primary", 95), reading("middle", 3), reading("replica", -31)]).unwrap();
        assert!(!ok);
        assert!(
            text.starts_with("primary is 1m 35s ahead of ours, replica is 31s behind ours: "),
            "{text}"
        );
    }
}
