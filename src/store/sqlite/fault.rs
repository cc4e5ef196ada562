//! What an error of SQLite means for those who wait for an answer.

use std::sync::{Mutex, PoisonError};

use rusqlite::ffi::ErrorCode;
use rusqlite::{Error, ffi};

use super::super::StoreError;
use super::super::driver::DAMAGED_FILE;

/// The error as the store's caller sees it.
pub(super) fn classify(doing: &'static str, error: &Error) -> StoreError {
    let Error::SqliteFailure(cause, _) = error else {
        return StoreError::Failed {
            doing,
            source: error.to_string().into(),
        };
    };
    let why = error.to_string();
    match cause.code {
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreError::Damaged {
            what: why,
            advice: DAMAGED_FILE,
        },
        ErrorCode::ConstraintViolation => StoreError::Conflict { what: why },
        ErrorCode::DiskFull => StoreError::Unwritable {
            why: format!("there is no room left ({why}); free some and try again"),
        },
        ErrorCode::SystemIoFailure | ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::OutOfMemory => {
            StoreError::Unwritable { why }
        }
        _ => StoreError::Failed {
            doing,
            source: why.into(),
        },
    }
}

/// Whether a failed COMMIT has certainly stored nothing. A full disk is noticed while the write-ahead log is written, before its commit
/// record counts; and a lock that is not had changes nothing. After any other failure the record may or may not be on the disk.
pub(super) fn stored_nothing(error: &Error) -> bool {
    let Error::SqliteFailure(ffi::Error { code, .. }, _) = error else {
        return false;
    };
    matches!(
        code,
        ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::ConstraintViolation
    )
}

/// A fault that takes the whole group with it, in a form that can be told to each of its callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    Unwritable { why: String },
    Doubtful { why: String },
    Damaged { what: String },
}

impl Fault {
    /// `None` for an error that concerns one caller only.
    pub(super) fn of(error: &StoreError) -> Option<Self> {
        match error {
            StoreError::Unwritable { why } => Some(Self::Unwritable { why: why.clone() }),
            StoreError::Damaged { what, .. } => Some(Self::Damaged { what: what.clone() }),
            StoreError::Doubtful { why } => Some(Self::Doubtful { why: why.clone() }),
            _ => None,
        }
    }

    pub(super) fn to_error(&self) -> StoreError {
        match self {
            Self::Unwritable { why } => StoreError::Unwritable { why: why.clone() },
            Self::Doubtful { why } => StoreError::Doubtful { why: why.clone() },
            Self::Damaged { what } => StoreError::Damaged {
                what: what.clone(),
                advice: DAMAGED_FILE,
            },
        }
    }

    /// After it nothing that the store says could be relied on.
    fn ends_the_store(&self) -> bool {
        matches!(self, Self::Doubtful { .. } | Self::Damaged { .. })
    }
}

/// Whether the store still answers.
#[derive(Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Sound,
    Closed,
    Ended(Fault),
}

impl Health {
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Sound => Ok(()),
            State::Closed => Err(StoreError::Closed),
            State::Ended(fault) => Err(fault.to_error()),
        }
    }

    /// Ends the store when the fault is of that kind.
    pub(super) fn note(&self, fault: &Fault) {
        if fault.ends_the_store() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::Ended(fault.clone());
        }
    }

    pub(super) fn close(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Sound) {
            *state = State::Closed;
        }
    }
}
