//! What can go wrong in a connector call, as a closed set. Whether a step is retried, unwound or handed to a person is read
//! from the kind alone; the message is for people and must already be free of secrets when it is made.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub type Result<T> = std::result::Result<T, ConnectorError>;

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Nothing happened downstream and the same call may work later: connection refused, server starting, server busy.
    Transient,
    /// Nothing happened downstream; try again no sooner than `after` says.
    RateLimited { after_ms: u64 },
    /// Our own access was denied: the admin credential is wrong or lacks a right. A person must act.
    Denied,
    /// What the call names does not exist.
    NotFound,
    /// The downstream state is not the one that the call was planned on (another writer, a reused name, a full slot).
    Conflict,
    /// The system cannot do this at all.
    Unsupported,
    /// The reply could not be understood. What happened downstream is what the reply would have said: unknown.
    Protocol,
    /// The call may or may not have had its effect (a timeout after sending, a lost reply). Observe before repeating.
    Ambiguous,
}

impl ErrorKind {
    /// True when the engine may try again by itself.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Transient | Self::RateLimited { .. } | Self::Ambiguous | Self::Protocol
        )
    }
}

/// A failed connector call. Its fields are private so that the only way to make one is through a kind.
#[derive(Debug, Clone)]
pub struct ConnectorError {
    kind: ErrorKind,
    message: String,
    code: Option<String>,
}

impl ConnectorError {
    /// `message` says what was attempted and what to do next; it must hold no secret.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            code: None,
        }
    }

    #[must_use]
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Transient, message)
    }

    #[must_use]
    pub fn rate_limited(after: Duration, message: impl Into<String>) -> Self {
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        Self::new(ErrorKind::RateLimited { after_ms }, message)
    }

    #[must_use]
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Denied, message)
    }

    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    #[must_use]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    #[must_use]
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    #[must_use]
    pub fn protocol(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Protocol, message)
    }

    #[must_use]
    pub fn ambiguous(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Ambiguous, message)
    }

    /// The system's own error code (an SQLSTATE, a RESP error prefix, an HTTP status), for evidence and logs.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Replaces each occurrence of a secret in the message. The redacting decorator calls it on every error that leaves a connector.
    #[must_use]
    pub fn redacted(mut self, secrets: &[&crate::SecretValue]) -> Self {
        for secret in secrets {
            if let Some(text) = secret.expose_secret_str().filter(|text| text.len() >= 4) {
                self.message = self.message.replace(text, "[redacted]");
                self.code = self.code.map(|code| code.replace(text, "[redacted]"));
            }
        }
        self
    }
}

impl fmt::Display for ConnectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.code {
            Some(code) => write!(f, " [{code}]"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConnectorError {}
