//! Whom a file belongs to: a name of this machine's own user and group files, or a number.

use std::path::Path;

use keyfall_sdk::{ConnectorError, Result};
use serde::Deserialize;

/// A user or a group as the manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Who {
    Id(u32),
    Name(String),
}

impl Who {
    pub(super) fn user_id(&self) -> Result<u32> {
        self.look_up(Path::new("/etc/passwd"), "user")
    }

    pub(super) fn group_id(&self) -> Result<u32> {
        self.look_up(Path::new("/etc/group"), "group")
    }

    /// Both files have the name in the first field and the number in the third (passwd(5), group(5)). Users that a directory
    /// service knows are not in them; for those a number is written.
    fn look_up(&self, file: &Path, what: &str) -> Result<u32> {
        let name = match self {
            Self::Id(id) => return checked(*id, what),
            Self::Name(name) => name,
        };
        if let Ok(id) = name.parse() {
            return checked(id, what);
        }
        let text = std::fs::read_to_string(file).map_err(|error| {
            ConnectorError::transient(format!(
                "{} could not be read to look up {what} `{name}`: {error}",
                file.display()
            ))
        })?;
        let id = text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let same = fields.next() == Some(name.as_str());
            fields.nth(1).filter(|_| same)?.parse().ok()
        });
        id.ok_or_else(|| {
            ConnectorError::not_found(format!(
                "There is no {what} `{name}` in {}; create it, or write its number.",
                file.display()
            ))
        })
    }
}

/// The highest number means "leave as it is" to chown(2).
fn checked(id: u32, what: &str) -> Result<u32> {
    if id == u32::MAX {
        return Err(ConnectorError::unsupported(format!(
            "{id} is not the number of a {what}."
        )));
    }
    Ok(id)
}
