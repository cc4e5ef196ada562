//! Stopping everything destructive, at once and by one person; going on, which takes two.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{App, AppError, Caller, Deed, PlanView, StatusView, Verb, allow};
use crate::domain::plan::Action;
use crate::engine::breaker::{Allowance, BREAKER, Tripped, rearmed};
use crate::engine::freeze::{FREEZE, Freeze, lifted, still};
use crate::engine::reconcile::{self, RECONCILED, Reconciled};
use crate::engine::standstill::{STANDSTILL, ended};
use crate::store::{Commit, Committed, Guard};

/// How long a due set that a person has looked at may be worked off.
const ALLOWED_FOR: SignedDuration = SignedDuration::from_hours(24);

impl App {
    /// From its commit on no node takes anything away. A freeze upon a freeze keeps both reasons, and whoever asked to lift the first one asks
    /// anew.
    ///
    /// # Errors
    /// When there is no reason.
    pub async fn freeze(&self, caller: &Caller, reason: String) -> Result<StatusView, AppError> {
        allow(caller, Verb::Freeze)?;
        if reason.trim().is_empty() {
            return Err(AppError::invalid("a freeze needs a reason: --reason \"why\""));
        }
        loop {
            let standing = self.store.setting(FREEZE).await?;
            let now = self.env.now();
            let log = vec![self.entry(caller, now, Deed::new("frozen", json!({ "reason": reason })))];
            let freeze = Freeze {
                reason: reason.clone(),
                by: caller.name.clone(),
                at: now,
            };
            let commit = Commit {
                facts: vec![freeze.upon(standing.as_deref()).fact()],
                guards: vec![still(standing)],
                log,
            };
            // Refused: somebody else froze, or lifted a freeze, at the same moment.
            if let Committed::Stored = self.store.commit(commit).await? {
                return self.status(caller).await;
            }
        }
    }

    /// Asks for the end of a freeze: another person signs.
    ///
    /// # Errors
    /// When nothing is frozen.
    pub async fn unfreeze(&self, caller: &Caller, reason: String) -> Result<PlanView, AppError> {
        allow(caller, Verb::Unfreeze)?;
        let Some(value) = self.store.setting(FREEZE).await? else {
            return Err(AppError::Conflict {
                why: "nothing is frozen".to_owned(),
            });
        };
        let frozen_because = Freeze::of_setting(&value).reason;
        let mut consequences = vec!["runs that waited go on with revoking, disabling and deleting".to_owned()];
        if let Some(because) = self.store.setting(STANDSTILL).await? {
            let stored = self.store.setting(RECONCILED).await?;
            consequences.push(looked_around(Reconciled::of_setting(stored.as_deref(), &because)));
            let text = "the store is taken for the newest one again: issuing and delivering go on as well; runs that were under way wait for a `keyfall retry RUN --reason …` each";
            consequences.push(text.to_owned());
            let text = "if a backup was restored: people who were retired and tokens that were revoked after it was made count again, for this signature too; end them again first (`keyfall retire NAME --reason …`, `keyfall token revoke NAME TOKEN`)";
            consequences.push(text.to_owned());
        }
        let action = Action::Unfreeze {
            frozen_because,
            setting: value,
        };
        self.propose_only(caller, reason, action, consequences, Vec::new())
            .await
    }

    /// Asks for the breaker to be armed again, so that what is due is opened: another person signs.
    ///
    /// # Errors
    /// When the breaker is not open.
    pub async fn rearm(&self, caller: &Caller, reason: String) -> Result<PlanView, AppError> {
        allow(caller, Verb::Unfreeze)?;
        let Some(value) = self.store.setting(BREAKER).await? else {
            return Err(AppError::Conflict {
                why: "the breaker is not open".to_owned(),
            });
        };
        let tripped = Tripped::of_setting(&value);
        let consequences = vec![format!(
            "{} identities that are due are rotated, within their budgets",
            tripped.due
        )];
        let action = Action::RearmBreaker {
            opened_because: tripped.why,
            due: tripped.due,
            setting: value,
        };
        self.propose_only(caller, reason, action, consequences, Vec::new())
            .await
    }
}

/// What is known of the systems that the store may be older than.
fn looked_around(so_far: Option<Reconciled>) -> String {
    let Some(seen) = so_far else {
        return "no account has been held against this store yet: look again when a server has run for a while"
            .to_owned();
    };
    let Reconciled {
        looked_at,
        differ,
        unread,
        done_at,
        ..
    } = seen;
    let so_far = if done_at.is_some() {
        ""
    } else {
        " so far: look again when all are"
    };
    format!(
        "the accounts of {looked_at} identities were held against this store{so_far}; {differ} are not as it says, {unread} could not be read (`keyfall get findings --kind not_as_recorded`); accounts that no record names are not looked for"
    )
}

/// Another freeze than the one that was signed over stays.
pub(super) fn lift(commit: &mut Commit, setting: &str) {
    commit.guards.push(Guard::SettingIs {
        key: FREEZE,
        value: Some(setting.to_owned()),
    });
    commit.facts.extend([lifted(), ended(), reconcile::forgotten()]);
}

/// Room for what was looked at and a tenth more, since time goes on while people sign.
pub(super) fn rearm(commit: &mut Commit, due: u32, setting: &str, now: Timestamp) {
    commit.guards.push(Guard::SettingIs {
        key: BREAKER,
        value: Some(setting.to_owned()),
    });
    let until = now.saturating_add(ALLOWED_FOR).unwrap_or(Timestamp::MAX);
    let due = due.saturating_add(due / 10).saturating_add(10);
    commit.facts.extend(rearmed(Allowance { due, since: now, until }));
}
