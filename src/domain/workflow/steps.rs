//! Which steps a run takes, and how it takes them back. A list, not a graph: a reader sees the whole protocol on one page.

use std::ops::RangeInclusive;

use keyfall_sdk::Strategy;
use serde::{Deserialize, Serialize};

use super::plan::{RunKind, RunPlan};
use super::run::Run;

/// Which lists of steps this file holds. A run is taken on by a server that knows the list with which it was opened, and by no other.
pub const WORKFLOW_VERSION: u32 = 1;
/// All of them that this binary can end: of a rolling upgrade, the newest of each side.
pub const KNOWN_WORKFLOWS: RangeInclusive<u32> = 1..=WORKFLOW_VERSION;

/// One unit of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Reads the account, keeps the pre-image, checks that the plan still fits it.
    Precheck,
    /// Tries what is to be ended, at every vantage: no death without a life.
    Baseline,
    IssueNew,
    ProveNew,
    Deliver,
    AwaitUptake,
    Promote,
    AwaitOverlap,
    Quarantine,
    Listen,
    StripGrants,
    RevokeOld,
    EndSessions,
    DeleteAccount,
    ProveDead,
    /// Disables the idle account on top of its dead credential, which a proof must not rest on.
    DisableIdle,
    Withdraw,
    /// Reads the account again and compares it with what was approved.
    ReadBack,
    Tombstone,
    /// Registers an account as it is.
    Record,
    // The way back.
    RestoreDelivery,
    /// Waits until consumers are seen on the old credential again, before the new one goes.
    AwaitReturn,
    RevokeNew,
    EndNewSessions,
    ProveNewDead,
    DeleteNewAccount,
    LiftQuarantine,
}

impl Step {
    /// Every step that any run has, in the order of their declaration.
    pub const ALL: [Self; 27] = [
        Self::Precheck,
        Self::Baseline,
        Self::IssueNew,
        Self::ProveNew,
        Self::Deliver,
        Self::AwaitUptake,
        Self::Promote,
        Self::AwaitOverlap,
        Self::Quarantine,
        Self::Listen,
        Self::StripGrants,
        Self::RevokeOld,
        Self::EndSessions,
        Self::DeleteAccount,
        Self::ProveDead,
        Self::DisableIdle,
        Self::Withdraw,
        Self::ReadBack,
        Self::Tombstone,
        Self::Record,
        Self::RestoreDelivery,
        Self::AwaitReturn,
        Self::RevokeNew,
        Self::EndNewSessions,
        Self::ProveNewDead,
        Self::DeleteNewAccount,
        Self::LiftQuarantine,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Precheck => "precheck",
            Self::Baseline => "baseline",
            Self::IssueNew => "issue_new",
            Self::ProveNew => "prove_new",
            Self::Deliver => "deliver",
            Self::AwaitUptake => "await_uptake",
            Self::Promote => "promote",
            Self::AwaitOverlap => "await_overlap",
            Self::Quarantine => "quarantine",
            Self::Listen => "listen",
            Self::StripGrants => "strip_grants",
            Self::RevokeOld => "revoke_old",
            Self::EndSessions => "end_sessions",
            Self::DeleteAccount => "delete_account",
            Self::ProveDead => "prove_dead",
            Self::DisableIdle => "disable_idle",
            Self::Withdraw => "withdraw",
            Self::ReadBack => "read_back",
            Self::Tombstone => "tombstone",
            Self::Record => "record",
            Self::RestoreDelivery => "restore_delivery",
            Self::AwaitReturn => "await_return",
            Self::RevokeNew => "revoke_new",
            Self::EndNewSessions => "end_new_sessions",
            Self::ProveNewDead => "prove_new_dead",
            Self::DeleteNewAccount => "delete_new_account",
            Self::LiftQuarantine => "lift_quarantine",
        }
    }

    /// Changes something outside of Keyfall, so that an intent must be committed before it.
    #[must_use]
    pub fn has_effect(self) -> bool {
        matches!(
            self,
            Self::IssueNew
                | Self::Deliver
                | Self::Quarantine
                | Self::StripGrants
                | Self::RevokeOld
                | Self::EndSessions
                | Self::DeleteAccount
                | Self::DisableIdle
                | Self::Withdraw
                | Self::RestoreDelivery
                | Self::RevokeNew
                | Self::EndNewSessions
                | Self::DeleteNewAccount
                | Self::LiftQuarantine
        )
    }

    /// Ends what the run itself had issued. A freeze holds it always; budget and breaker do where somebody may be using it.
    #[must_use]
    pub fn takes_back(self) -> bool {
        matches!(self, Self::RevokeNew | Self::EndNewSessions | Self::DeleteNewAccount)
    }

    /// Takes something away that somebody may be using: budgets, freeze and breaker hold it.
    #[must_use]
    pub fn is_destructive(self) -> bool {
        matches!(
            self,
            Self::Quarantine
                | Self::StripGrants
                | Self::RevokeOld
                | Self::DeleteAccount
                | Self::EndSessions
                | Self::Withdraw
        )
    }
}

/// The steps of a run, in order.
#[must_use]
pub fn forward_steps(plan: &RunPlan) -> Vec<Step> {
    let mut steps = match plan.kind {
        RunKind::Provision => {
            vec![
                Step::Precheck,
                Step::IssueNew,
                Step::ProveNew,
                Step::Deliver,
                Step::AwaitUptake,
                Step::Promote,
                Step::ReadBack,
            ]
        }
        RunKind::Rotate | RunKind::EmergencyRotate => rotation(plan),
        RunKind::Revoke => vec![
            Step::Precheck,
            Step::Baseline,
            Step::RevokeOld,
            Step::EndSessions,
            Step::ProveDead,
            Step::ReadBack,
        ],
        RunKind::Decommission => vec![
            Step::Precheck,
            Step::Baseline,
            Step::Quarantine,
            Step::Listen,
            Step::StripGrants,
            Step::RevokeOld,
            Step::EndSessions,
            Step::DeleteAccount,
            Step::ProveDead,
            Step::Withdraw,
            Step::ReadBack,
            Step::Tombstone,
        ],
        RunKind::Adopt => vec![Step::Precheck, Step::Record],
        // What is registered is never taken back, so nothing comes behind it that could fail.
        RunKind::TakeOver => vec![Step::Precheck, Step::Baseline, Step::ReadBack, Step::Record],
    };
    if plan.deliveries.is_empty() {
        steps.retain(|step| !matches!(step, Step::Deliver | Step::Withdraw));
    }
    if plan.consumers.is_empty() || plan.kind == RunKind::EmergencyRotate {
        steps.retain(|step| *step != Step::AwaitUptake);
    }
    steps
}

fn rotation(plan: &RunPlan) -> Vec<Step> {
    let mut steps = vec![
        Step::Precheck,
        Step::Baseline,
        Step::IssueNew,
        Step::ProveNew,
        Step::Deliver,
        Step::AwaitUptake,
        Step::Promote,
    ];
    if plan.strategy == Strategy::InPlace {
        // Issuing replaced the only value, so there is nothing left to overlap or revoke.
        steps.extend([Step::EndSessions, Step::ProveDead, Step::ReadBack]);
        return steps;
    }
    if plan.kind == RunKind::Rotate && plan.timing.overlap.is_positive() {
        steps.push(Step::AwaitOverlap);
    }
    steps.extend([Step::RevokeOld, Step::EndSessions, Step::ProveDead]);
    if plan.strategy == Strategy::AlternatingAccounts {
        steps.push(Step::DisableIdle);
    }
    steps.push(Step::ReadBack);
    steps
}

/// The first step after which there is no way back.
#[must_use]
pub(super) fn pivot(plan: &RunPlan) -> Option<Step> {
    match plan.kind {
        RunKind::Rotate | RunKind::EmergencyRotate if plan.strategy == Strategy::InPlace => Some(Step::IssueNew),
        RunKind::Rotate | RunKind::EmergencyRotate | RunKind::Revoke => Some(Step::RevokeOld),
        RunKind::Decommission => Some(Step::StripGrants),
        RunKind::Provision | RunKind::Adopt | RunKind::TakeOver => None,
    }
}

/// What must be taken back, in order, given what was begun. A step that was begun and not finished is taken back too: it may have happened.
#[must_use]
pub fn unwind_steps(run: &Run) -> Vec<Step> {
    let mut steps = Vec::new();
    if run.was_begun(Step::Quarantine) {
        steps.push(Step::LiftQuarantine);
    }
    if run.was_begun(Step::Deliver) {
        steps.push(Step::RestoreDelivery);
        if !run.plan().consumers.is_empty() && !run.plan().old.is_empty() {
            steps.push(Step::AwaitReturn);
        }
    }
    if run.was_begun(Step::IssueNew) {
        steps.extend([
            Step::RevokeNew,
            Step::EndNewSessions,
            Step::ProveNewDead,
            Step::DeleteNewAccount,
        ]);
    }
    steps
}
