//! Why a command did not do what was asked, with the exit code that scripts go by.

use std::io;
use std::path::PathBuf;

use serde::Deserialize;

/// What a command ends with. The numbers are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    Error = 1,
    /// `--detailed-exitcode`: there are changes, or something waits for a person.
    Changes = 2,
    RefusedByPolicy = 3,
    /// What should be dead is alive or unprovable; what should verify does not.
    NotProven = 4,
    Unreachable = 5,
    Usage = 64,
}

/// The server's refusal (RFC 9457).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Problem {
    pub status: u16,
    pub title: String,
    pub detail: String,
    pub code: String,
    pub problems: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("{0}")]
    Usage(String),
    #[error(
        "the server at {server} cannot be reached. Is `keyfall serve` running there? Name another with --server URL"
    )]
    Unreachable {
        server: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("the server at {server} did not answer to the end")]
    Interrupted {
        server: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{}", say(.0))]
    Refused(Problem),
    #[error("the server's answer cannot be read: {what}. Are server and command of the same version?")]
    Answer { what: String },
    #[error("could not {doing} {}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Key(#[from] crate::evidence::keys::KeyError),
    /// Something was checked and does not hold.
    #[error("{0}")]
    NotProven(String),
    #[error("{0}")]
    Failed(String),
    #[error("could not write the output")]
    Output(#[source] io::Error),
    /// The reader of our output has seen enough.
    #[error("the output was closed")]
    ClosedPipe,
}

impl CliError {
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Unreachable { .. } | Self::Interrupted { .. } => Exit::Unreachable,
            Self::Refused(problem) if ["not_allowed", "frozen"].contains(&problem.code.as_str()) => {
                Exit::RefusedByPolicy
            }
            Self::NotProven(_) => Exit::NotProven,
            Self::ClosedPipe => Exit::Ok,
            _ => Exit::Error,
        }
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::ClosedPipe
        } else {
            Self::Output(error)
        }
    }
}

fn say(problem: &Problem) -> String {
    let mut text = if problem.detail.is_empty() {
        problem.title.clone()
    } else {
        problem.detail.clone()
    };
    if problem.problems.len() > 1 {
        text = format!(
            "{} problems:\n  {}",
            problem.problems.len(),
            problem.problems.join("\n  ")
        );
    }
    if problem.code == "unauthorised" {
        text.push_str(". Name your token's file with --token-file or KEYFALL_TOKEN_FILE");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{CliError, Exit, Problem};

    #[test]
    fn exit_codes_follow_the_servers_code() {
        let refused = |code: &str| {
            CliError::Refused(Problem {
                code: code.to_owned(),
                ..Problem::default()
            })
            .exit()
        };
        assert_eq!(refused("not_allowed"), Exit::RefusedByPolicy);
        assert_eq!(refused("frozen"), Exit::RefusedByPolicy);
        assert_eq!(refused("invalid"), Exit::Error);
        let pipe = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(CliError::from(pipe).exit(), Exit::Ok);
    }
}
