//! What PostgreSQL's answers mean: the table for probes, and the error kinds for admin calls. Decided by SQLSTATE and by
//! how far the login had come, never by the text, which is in the server's language.
//!
//! Codes: PostgreSQL manual, appendix A "PostgreSQL Error Codes".

use std::error::Error as _;

use keyfall_sdk::{ConnectorError, ErrorKind, InconclusiveWhy, RefusalCode, Verdict};

use super::link::{LinkError, Phase, ServerError};

/// `invalid_password`: the answer to a wrong password, to none being stored, to a lapsed `VALID UNTIL`, to no such role.
const INVALID_PASSWORD: &str = "28P01";
/// `invalid_authorization_specification`.
const NOT_AUTHORISED: &str = "28000";
/// `protocol_violation`. PgBouncer before 1.21 has no other code, and puts it on a wrong password, too.
const POOLER_SAYS_NO: &str = "08P01";

/// The table that ships with the connector. A code that is not here is `inconclusive(protocol)`.
pub(super) const ANSWERS: &[RefusalCode] = &[
    answer(
        INVALID_PASSWORD,
        true,
        "after the SCRAM proof was shown: the credential is refused",
    ),
    answer(
        NOT_AUTHORISED,
        false,
        "before the login: pg_hba.conf has no line for us (policy); after it: the secret is right and the role has NOLOGIN (principal)",
    ),
    answer(
        POOLER_SAYS_NO,
        true,
        "at a vantage that `options.poolers` names, in answer to the SCRAM proof: the credential is refused; anywhere else it says nothing",
    ),
    answer(
        "3D000",
        false,
        "the database does not exist; the login itself had passed (policy)",
    ),
    answer(
        "42501",
        false,
        "no right to connect to the database; the login itself had passed (policy)",
    ),
    answer(
        "55000",
        false,
        "the database accepts no connections; the login itself had passed (policy)",
    ),
    answer("53300", false, "too many connections (server fault)"),
    answer("53400", false, "a configured limit is reached (server fault)"),
    answer("57P01", false, "the server is being stopped (server fault)"),
    answer("57P02", false, "the server crashed and restarts (server fault)"),
    answer(
        "57P03",
        false,
        "the server is starting, stopping or recovering (server fault)",
    ),
    answer("57P05", false, "the server closed an idle session (server fault)"),
];

const fn answer(code: &'static str, refuses_credential: bool, meaning: &'static str) -> RefusalCode {
    RefusalCode {
        code,
        refuses_credential,
        meaning,
    }
}

/// The verdict of a login, or of the query after it, that did not succeed.
pub(super) fn verdict(error: &LinkError, pooler: bool) -> Verdict {
    let why = match error {
        LinkError::Server(error) => match server_verdict(error, pooler) {
            Ok(code) => return Verdict::Refused { code },
            Err(why) => why,
        },
        LinkError::TimedOut => InconclusiveWhy::Timeout,
        LinkError::Connect(_) | LinkError::NoTls | LinkError::Tls(_) | LinkError::Broken(_) => {
            InconclusiveWhy::Unreachable
        }
        LinkError::Downgrade(_) | LinkError::NoChannelBinding => InconclusiveWhy::Policy,
        LinkError::Scram(_) | LinkError::Garbled(_) => InconclusiveWhy::Protocol,
    };
    Verdict::Inconclusive {
        why,
        detail: explain(error),
    }
}

fn server_verdict(error: &ServerError, pooler: bool) -> Result<String, InconclusiveWhy> {
    match (error.code.as_str(), error.phase) {
        (INVALID_PASSWORD, Phase::ProofShown) => Ok(error.code.clone()),
        (POOLER_SAYS_NO, Phase::ProofShown) if pooler => Ok(error.code.clone()),
        (NOT_AUTHORISED, Phase::Authenticated) => Err(InconclusiveWhy::Principal),
        (NOT_AUTHORISED, _) => Err(InconclusiveWhy::Policy),
        ("3D000" | "42501" | "55000", Phase::Authenticated) => Err(InconclusiveWhy::Policy),
        ("53300" | "53400" | "57P01" | "57P02" | "57P03" | "57P05", _) => Err(InconclusiveWhy::ServerFault),
        _ => Err(InconclusiveWhy::Protocol),
    }
}

/// What a failed admin statement could have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing was to be changed, or nothing had been sent yet.
    None,
    /// A change was sent and its outcome was not read.
    Sent,
}

/// The error of an admin call. `what` says what was attempted, as in "creating the account".
pub(super) fn call_error(error: &LinkError, effect: Effect, what: &str) -> ConnectorError {
    let text = format!("{what}: {}", explain(error));
    match (error, effect) {
        (LinkError::Server(error), _) => {
            let kind = server_kind(error, effect);
            ConnectorError::new(kind, advise(error, text)).with_code(error.code.clone())
        }
        (LinkError::Broken(_) | LinkError::TimedOut | LinkError::Garbled(_), Effect::Sent) => {
            ConnectorError::ambiguous(format!(
                "{text}; the change may or may not have been made, read the account before repeating"
            ))
        }
        (LinkError::Connect(_) | LinkError::TimedOut | LinkError::Broken(_), _) => ConnectorError::transient(text),
        (LinkError::NoTls | LinkError::Tls(_) | LinkError::Downgrade(_) | LinkError::NoChannelBinding, _) => {
            ConnectorError::denied(text)
        }
        (LinkError::Scram(_) | LinkError::Garbled(_), _) => ConnectorError::protocol(text),
    }
}

fn server_kind(error: &ServerError, effect: Effect) -> ErrorKind {
    if error.fatal && error.phase == Phase::Authenticated && effect == Effect::Sent {
        // The session was ended from outside, and that may have been after the commit.
        return ErrorKind::Ambiguous;
    }
    match error.code.as_str() {
        INVALID_PASSWORD | NOT_AUTHORISED | "42501" => ErrorKind::Denied,
        // Undefined object, unknown database.
        "42704" | "3D000" => ErrorKind::NotFound,
        // Duplicate object or key, dependent objects, role that is in use.
        "42710" | "23505" | "2BP01" | "55006" => ErrorKind::Conflict,
        "0A000" => ErrorKind::Unsupported,
        // Serialization, deadlock, lock timeout, statement timeout, `tuple concurrently updated`, read-only standby.
        "40001" | "40P01" | "55P03" | "57014" | "XX000" | "25006" => ErrorKind::Transient,
        code if code.starts_with("53") || code.starts_with("57P") || code.starts_with("08") => ErrorKind::Transient,
        _ => ErrorKind::Protocol,
    }
}

fn advise(error: &ServerError, text: String) -> String {
    match (error.code.as_str(), error.phase) {
        (INVALID_PASSWORD, Phase::BeforeProof | Phase::ProofShown) => {
            format!("{text}; the admin credential of this system is wrong, set it again")
        }
        (NOT_AUTHORISED, _) => {
            format!("{text}; pg_hba.conf or the admin role does not let Keyfall in, correct it on the server")
        }
        ("25006", _) => format!("{text}; the control vantage is a read-only standby, point it to the primary"),
        _ => text,
    }
}

/// The error with its causes, in one line.
pub(super) fn explain(error: &LinkError) -> String {
    let mut text = error.to_string();
    if let LinkError::Server(ServerError {
        detail: Some(detail), ..
    }) = error
    {
        text.push_str(" (");
        text.push_str(&detail.replace('\n', ", "));
        text.push(')');
    }
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use keyfall_sdk::{ErrorKind, InconclusiveWhy, Verdict};

    use super::{ANSWERS, Effect, call_error, verdict};
    use crate::postgres::link::{LinkError, Phase, ServerError};

    fn answer(code: &str, phase: Phase) -> LinkError {
        LinkError::Server(ServerError {
            code: code.to_owned(),
            message: "text in any language".to_owned(),
            detail: None,
            fatal: true,
            phase,
        })
    }

    fn why(code: &str, phase: Phase) -> Option<InconclusiveWhy> {
        match verdict(&answer(code, phase), false) {
            Verdict::Inconclusive { why, .. } => Some(why),
            _ => None,
        }
    }

    #[test]
    fn only_a_wrong_password_after_the_proof_is_a_refusal() {
        assert!(verdict(&answer("28P01", Phase::ProofShown), false).is_refused());
        for phase in [Phase::BeforeProof, Phase::Authenticated] {
            assert_eq!(why("28P01", phase), Some(InconclusiveWhy::Protocol), "{phase:?}");
        }
        for row in ANSWERS {
            let refused = verdict(&answer(row.code, Phase::ProofShown), true).is_refused();
            assert_eq!(refused, row.refuses_credential, "{}", row.code);
        }
        assert_eq!(why("08P01", Phase::ProofShown), Some(InconclusiveWhy::Protocol));
        assert!(!verdict(&answer("08P01", Phase::BeforeProof), true).is_refused());
        assert_eq!(why("XX123", Phase::ProofShown), Some(InconclusiveWhy::Protocol));
    }

    #[test]
    fn the_moment_tells_a_host_rule_from_a_disabled_role() {
        assert_eq!(why("28000", Phase::BeforeProof), Some(InconclusiveWhy::Policy));
        assert_eq!(why("28000", Phase::Authenticated), Some(InconclusiveWhy::Principal));
        assert_eq!(why("53300", Phase::BeforeProof), Some(InconclusiveWhy::ServerFault));
        assert_eq!(why("57P03", Phase::BeforeProof), Some(InconclusiveWhy::ServerFault));
        assert_eq!(why("3D000", Phase::Authenticated), Some(InconclusiveWhy::Policy));
    }

    #[test]
    fn a_change_whose_outcome_was_not_read_is_ambiguous() {
        let kind = |error: &LinkError, effect| call_error(error, effect, "trying").kind();
        assert_eq!(kind(&LinkError::TimedOut, Effect::Sent), ErrorKind::Ambiguous);
        assert_eq!(kind(&LinkError::TimedOut, Effect::None), ErrorKind::Transient);
        assert_eq!(
            kind(&answer("57P01", Phase::Authenticated), Effect::Sent),
            ErrorKind::Ambiguous
        );
        assert_eq!(
            kind(&answer("57P01", Phase::Authenticated), Effect::None),
            ErrorKind::Transient
        );
        assert_eq!(
            kind(&answer("28P01", Phase::ProofShown), Effect::None),
            ErrorKind::Denied
        );
    }
}
