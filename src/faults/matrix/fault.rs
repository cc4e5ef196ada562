//! What goes wrong in a cell, as data: at which call of which step, on which side of it, and how.

use keyfall_sdk::ErrorKind;

use crate::domain::workflow::Step;

/// What a connector is asked. Named as `engine/calls.rs` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    List,
    Read,
    Preflight,
    Clocks,
    Issue,
    Observe,
    Suspend,
    Resume,
    Strip,
    Revoke,
    Delete,
    CountSessions,
    EndSessions,
    Probe,
    Deliver,
    Confirm,
    Acknowledged,
    Withdraw,
}

impl Call {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Read => "read",
            Self::Preflight => "preflight",
            Self::Clocks => "clocks",
            Self::Issue => "issue",
            Self::Observe => "observe",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Strip => "strip",
            Self::Revoke => "revoke",
            Self::Delete => "delete",
            Self::CountSessions => "count_sessions",
            Self::EndSessions => "end_sessions",
            Self::Probe => "probe",
            Self::Deliver => "deliver",
            Self::Confirm => "confirm",
            Self::Acknowledged => "acknowledged",
            Self::Withdraw => "withdraw",
        }
    }

    pub(crate) fn has_effect(self) -> bool {
        matches!(
            self,
            Self::Issue
                | Self::Suspend
                | Self::Resume
                | Self::Strip
                | Self::Revoke
                | Self::Delete
                | Self::EndSessions
                | Self::Deliver
                | Self::Withdraw
        )
    }
}

/// Which side of a call, or of the commit behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cut {
    /// The intent is committed, and the provider has not seen the call.
    BeforeSend,
    /// The provider did it, and no answer has come.
    AfterSend,
    /// The answer has come, and what came of the step is not stored.
    AfterReply,
    /// It is stored.
    AfterCommit,
}

impl Cut {
    pub(crate) const ALL: [Self; 4] = [Self::BeforeSend, Self::AfterSend, Self::AfterReply, Self::AfterCommit];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BeforeSend => "before_send",
            Self::AfterSend => "after_send",
            Self::AfterReply => "after_reply",
            Self::AfterCommit => "after_commit",
        }
    }

    /// At the call, and not at the commit behind it.
    pub(crate) fn is_at_call(self) -> bool {
        matches!(self, Self::BeforeSend | Self::AfterSend)
    }
}

/// How. `README.md` says what each is at each cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Kill,
    Error(ErrorKind),
    Timeout,
    Duplicate,
    LostReply,
    LateReply,
}

impl Mode {
    /// Every mode once; of the kinds of error the one that fits the cut.
    pub(crate) fn all(cut: Cut) -> [Self; 6] {
        let kind = match cut {
            Cut::AfterSend => ErrorKind::Protocol,
            _ => ErrorKind::Transient,
        };
        [
            Self::Kill,
            Self::Error(kind),
            Self::Timeout,
            Self::Duplicate,
            Self::LostReply,
            Self::LateReply,
        ]
    }

    /// What a provider may answer besides, having done nothing.
    pub(crate) const OTHER_ERRORS: [Self; 5] = [
        Self::Error(ErrorKind::RateLimited { after_ms: 1 }),
        Self::Error(ErrorKind::Denied),
        Self::Error(ErrorKind::NotFound),
        Self::Error(ErrorKind::Conflict),
        Self::Error(ErrorKind::Unsupported),
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Error(ErrorKind::Transient) => "error",
            Self::Error(ErrorKind::Protocol) => "garbage",
            Self::Error(kind) => crate::engine::guard::kind_name(kind),
            Self::Timeout => "timeout",
            Self::Duplicate => "duplicate",
            Self::LostReply => "lost_reply",
            Self::LateReply => "late_reply",
        }
    }

    /// The engine gets over it by itself, so the run must end as if nothing had been.
    pub(crate) fn passes(self) -> bool {
        match self {
            Self::Error(kind) => kind.is_retryable(),
            _ => true,
        }
    }
}

/// Where a run may be disturbed: one kind of call in one step, the first time it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Site {
    pub(crate) step: Step,
    /// `None`: the step as a whole, which calls nobody.
    pub(crate) call: Option<Call>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) site: Site,
    pub(crate) cut: Cut,
    pub(crate) mode: Mode,
}

impl Fault {
    /// `prove_new/probe/after_send/late_reply`.
    pub(crate) fn name(&self) -> String {
        let call = self.site.call.map_or("step", Call::name);
        format!(
            "{}/{call}/{}/{}",
            self.site.step.name(),
            self.cut.name(),
            self.mode.name()
        )
    }
}
