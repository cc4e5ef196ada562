//! What an error of PostgreSQL or of the way to it means for those who wait for an answer.

use std::error::Error as _;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use super::super::StoreError;
use super::super::driver::DAMAGED_DATABASE;

/// What may be done about a transaction that failed before its commit was asked for. Nothing of it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// It met another transaction and had to give way: the same again.
    Again,
    /// Something else holds a unique place. It may have taken it since the guards looked: once more, and then it is a contradiction.
    OnceMore,
    /// The connection, or the server behind it, is no good any more: the same on another connection.
    Elsewhere,
    Nothing,
}

/// An error before the commit was asked for.
pub(super) fn remedy(error: &Error) -> Remedy {
    let Some(cause) = error.as_db_error() else {
        return if is_lost(error) {
            Remedy::Elsewhere
        } else {
            Remedy::Nothing
        };
    };
    match cause.code() {
        &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED => Remedy::Again,
        &SqlState::UNIQUE_VIOLATION => Remedy::OnceMore,
        code if ends_connection(code) => Remedy::Elsewhere,
        _ => Remedy::Nothing,
    }
}

/// The connection is not to be used again.
pub(super) fn is_lost(error: &Error) -> bool {
    match error.as_db_error() {
        Some(cause) => ends_connection(cause.code()),
        None => error.is_closed() || error.source().is_some_and(|source| source.is::<std::io::Error>()),
    }
}

/// The server stops, has put the session out, or is no writer any more: a standby, or a primary that was replaced. Or it is another session, which
/// does not know what ours was told.
fn ends_connection(code: &SqlState) -> bool {
    let class = code.code().get(..2).unwrap_or_default();
    let idle = ["25P03", "25P04", "57P05"].contains(&code.code());
    class == "08"
        || idle
        || [
            &SqlState::ADMIN_SHUTDOWN,
            &SqlState::CRASH_SHUTDOWN,
            &SqlState::CANNOT_CONNECT_NOW,
            &SqlState::INVALID_SQL_STATEMENT_NAME,
        ]
        .contains(&code)
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION
}

/// Whether a failed COMMIT has certainly stored nothing: the server gave the transaction up before it wrote the record of its commit. Of
/// everything else nobody on this side knows what became of it.
pub(super) fn stored_nothing(error: &Error) -> bool {
    let Some(cause) = error.as_db_error() else { return false };
    let class = cause.code().code().get(..2).unwrap_or_default();
    ["40", "23", "25"].contains(&class)
}

/// What this session was told to remember is not there: it is another session.
pub(super) fn is_missing(error: &Error) -> bool {
    error.code() == Some(&SqlState::INVALID_SQL_STATEMENT_NAME)
}

pub(super) fn hands_sessions_around() -> StoreError {
    StoreError::Open {
        why: "a pooler stands before the database that gives each transaction another session, and what Keyfall sets in its own (commits that are \
              durable, limits, locks) is lost without a word: let it pool sessions (PgBouncer: pool_mode = session), or name the database server \
              itself in the store's address"
            .to_owned(),
    }
}

/// The error as the store's caller sees it.
pub(super) fn classify(doing: &'static str, error: &Error) -> StoreError {
    let Some(cause) = error.as_db_error() else {
        return StoreError::Failed {
            doing,
            source: chain(error).into(),
        };
    };
    let code = cause.code();
    let class = code.code().get(..2).unwrap_or_default();
    match code {
        &SqlState::DISK_FULL => StoreError::Unwritable {
            why: format!(
                "the database has no room left ({}); free some and try again",
                said(cause)
            ),
        },
        &SqlState::READ_ONLY_SQL_TRANSACTION => StoreError::Unwritable {
            why: format!(
                "the database is read-only, a standby perhaps ({}); name all its servers in the store's address, so that the writer is found",
                said(cause)
            ),
        },
        &SqlState::OUT_OF_MEMORY | &SqlState::INSUFFICIENT_PRIVILEGE | &SqlState::IO_ERROR => {
            StoreError::Unwritable { why: said(cause) }
        }
        _ if is_missing(error) => hands_sessions_around(),
        &SqlState::DATA_CORRUPTED | &SqlState::INDEX_CORRUPTED => StoreError::Damaged {
            what: said(cause),
            advice: DAMAGED_DATABASE,
        },
        _ if class == "23" => StoreError::Conflict { what: said(cause) },
        _ => StoreError::Failed {
            doing,
            source: said(cause).into(),
        },
    }
}

/// Without the detail, which may hold values.
fn said(cause: &DbError) -> String {
    let place = match (cause.constraint(), cause.table()) {
        (Some(constraint), _) => format!(", {constraint}"),
        (None, Some(table)) => format!(", table {table}"),
        (None, None) => String::new(),
    };
    format!("{}{place} [{}]", cause.message(), cause.code().code())
}

/// An error of the way to the server, with what is behind it.
pub(super) fn chain(error: &Error) -> String {
    told(error)
}

/// An error with what is behind it, each part once.
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let said = source.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = source.source();
    }
    text
}
