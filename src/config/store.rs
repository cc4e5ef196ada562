//! Where the store is, as settings and flags say it. It opens nothing.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A file, or a database. `file:PATH` names a file that holds the database's address with its password, which is then in no command line, no
/// environment and no settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum StoreAddress {
    /// A SQLite file.
    File(PathBuf),
    /// The address of a PostgreSQL database, without a password.
    Postgres(String),
    /// The file that holds the address.
    PostgresIn(PathBuf),
}

const IN_FILE: &str = "file:";

impl StoreAddress {
    /// Paths that do not begin at the root begin here.
    #[must_use]
    pub fn from_here(self, base: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(base.join(path)),
            Self::PostgresIn(path) => Self::PostgresIn(base.join(path)),
            Self::Postgres(_) => self,
        }
    }

    /// The SQLite file, when the store is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Postgres(_) | Self::PostgresIn(_) => None,
        }
    }

    /// Whether a password stands where it does not belong.
    #[must_use]
    pub fn shows_password(&self) -> bool {
        match self {
            Self::Postgres(url) => has_password(url),
            Self::File(_) | Self::PostgresIn(_) => false,
        }
    }
}

impl From<String> for StoreAddress {
    fn from(text: String) -> Self {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Self::Postgres(text);
        }
        match text.strip_prefix(IN_FILE) {
            Some(path) => Self::PostgresIn(path.into()),
            None => Self::File(text.into()),
        }
    }
}

impl FromStr for StoreAddress {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.to_owned().into())
    }
}

impl From<StoreAddress> for String {
    fn from(address: StoreAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Postgres(_) if self.shows_password() => f.write_str("postgres://…"),
            Self::Postgres(url) => f.write_str(url),
            Self::PostgresIn(path) => write!(f, "{IN_FILE}{}", path.display()),
        }
    }
}

/// In the authority, or as an option.
fn has_password(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    let in_authority = (authority.rsplit_once('@')).is_some_and(|(user, _)| user.contains(':'));
    let options = url.split_once('?').map_or("", |(_, options)| options);
    in_authority || options.split('&').any(|option| option.starts_with("password="))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::StoreAddress;

    fn parsed(text: &str) -> StoreAddress {
        StoreAddress::from(text.to_owned()).from_here(Path::new("/kf"))
    }

    #[test]
    fn a_file_a_database_and_a_file_that_names_a_database() {
        for (text, shown, file) in [
            ("keyfall.db", "/kf/keyfall.db", Some("/kf/keyfall.db")),
            ("/data/keyfall.db", "/data/keyfall.db", Some("/data/keyfall.db")),
            ("postgres://u@h/d", "postgres://u@h/d", None),
            ("file:store.url", "file:/kf/store.url", None),
        ] {
            let address = parsed(text);
            assert_eq!(
                (address.to_string().as_str(), address.file()),
                (shown, file.map(Path::new)),
                "{text}"
            );
            assert_eq!(StoreAddress::from(address.to_string()), address, "{text}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_seen_and_never_shown() {
        for with in [
            "postgres://u:hidden@h/d",
            "postgres://u@h/d?password=hidden",
            "postgresql://u:hidden@[::1]:5432/d?sslmode=disable",
        ] {
            let address = parsed(with);
            assert!(
                address.shows_password() && !address.to_string().contains("hidden"),
                "{with}"
            );
        }
        for without in [
            "postgres://u@h:5432/d",
            "postgres://u@h:1,i:2/d?sslmode=verify-full",
            "postgres://h/d",
            "a:b@c",
        ] {
            assert!(!parsed(without).shows_password(), "{without}");
        }
    }
}
