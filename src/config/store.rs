//! Where the store is, as settings and flags say it. It opens nothing.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tokio_postgres::Config;

/// A file, or a database. `file:PATH` names a file that holds the database's address with its password, which is then in no command line, no
/// environment and no settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum StoreAddress {
    /// A SQLite file.
    File(PathBuf),
    /// The address of a PostgreSQL database. It is used and shown only where it has no problem.
    Postgres(String),
    /// The file that holds the address.
    PostgresIn(PathBuf),
}

const IN_FILE: &str = "file:";
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// Shown in the place of an address that has a problem, and has the same problem when it is read.
const HIDDEN: &str = "postgres://…";

const SHOWS_PASSWORD: &str = "the address holds a password, which everybody on this machine can see in a command line: write the whole address to a file that only the server can read, and give file:PATH";

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

    /// Why this address is not used, with what to write instead: a password stands where everybody sees it, or nobody can tell whether one does.
    /// The text shows nothing of the address.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        match self {
            Self::Postgres(url) => problem(url),
            Self::File(_) | Self::PostgresIn(_) => None,
        }
    }
}

impl From<String> for StoreAddress {
    fn from(text: String) -> Self {
        if is_url(&text) {
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
            Self::Postgres(_) if self.problem().is_some() => f.write_str(HIDDEN),
            Self::Postgres(url) => f.write_str(url),
            Self::PostgresIn(path) => write!(f, "{IN_FILE}{}", path.display()),
        }
    }
}

/// Of any kind: a password in it is none of a path.
fn is_url(text: &str) -> bool {
    (text.split_once("://")).is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}

fn problem(url: &str) -> Option<&'static str> {
    if shows_password(url) {
        return Some(SHOWS_PASSWORD);
    }
    if !(SCHEMES.iter().any(|scheme| url.starts_with(scheme))) {
        return Some(
            "the address must begin with `postgres://` or `postgresql://`; a file is named by its path, `./` before it when it looks like an address",
        );
    }
    match without_tls(url).parse::<Config>() {
        Ok(config) if config.get_password().is_some() => Some(SHOWS_PASSWORD),
        Ok(_) => None,
        Err(_) => Some(
            "the address cannot be read, and is not shown since a password may stand in it: write postgres://USER@HOST[:PORT]/DATABASE[?OPTION=VALUE&…]",
        ),
    }
}

/// Broader than what any parser takes for one: whatever stands behind a colon before the last `@`, and every option that is named like one.
fn shows_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let in_authority = (rest.rsplit_once('@')).is_some_and(|(user, _)| user.contains(':'));
    let mut options = url.split(['?', '&', '#']).skip(1);
    let in_options = options.any(|option| {
        let name = option.split('=').next().unwrap_or_default().to_ascii_lowercase();
        // No name of an option needs a percent sign, but one that hides.
        name.contains("password") || name.contains('%')
    });
    url == HIDDEN || in_authority || in_options
}

/// Without the options that are the store's own.
fn without_tls(url: &str) -> String {
    let (base, options) = url.split_once('?').unwrap_or((url, ""));
    let is_theirs = |option: &&str| !option.starts_with("ssl") && !option.is_empty();
    let theirs: Vec<&str> = options.split('&').filter(is_theirs).collect();
    match theirs.is_empty() {
        true => base.to_owned(),
        false => format!("{base}?{}", theirs.join("&")),
    }
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
            "postgres://u:aB/hidden@h/d",
            "postgres://u:aB?hidden@h/d",
            "postgres://u:aB#hidden@h/d",
            "postgres://u:aB@hidden@h/d",
            "postgres://u:hidden%2F@h/d",
            "postgres://u@h/d?password=hidden",
            "postgres://u@h/d?sslmode=disable&passwor%64=hidden",
            "postgres://u@h/d?%70assword=hidden",
            "postgres://u@h/d#password=hidden",
            "postgresql://u:hidden@[::1]:5432/d?sslmode=disable",
            "Postgres://u:hidden@h/d",
            "mysql://u:hidden@h/d",
            "postgres://…",
        ] {
            let address = parsed(with);
            assert!(
                address.problem().is_some_and(|text| text.contains("holds a password")),
                "{with}"
            );
            for shown in [address.to_string(), serde_json::to_string(&address).unwrap()] {
                assert!(!shown.contains("hidden"), "{with}: {shown}");
                // Who wrote it down reads the same problem.
                assert!(shown.contains("postgres://…"), "{with}: {shown}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_and_not_shown() {
        for (wrong, why) in [
            ("postgres://u:hidden", "cannot be read"),
            ("postgres://u@h:hidden/d", "cannot be read"),
            ("postgres://u@h/d?hidden=1", "cannot be read"),
            ("postgres://u@h/d?hidden", "cannot be read"),
            ("mysql://u@hidden/d", "must begin with"),
        ] {
            let address = parsed(wrong);
            let problem = address.problem().unwrap_or_else(|| panic!("{wrong} was taken"));
            assert!(
                problem.contains(why) && !problem.contains("hidden"),
                "{wrong}: {problem}"
            );
            assert!(!address.to_string().contains("hidden"), "{wrong}: {address}");
        }
    }

    #[test]
    fn an_address_without_a_password_has_no_problem() {
        for without in [
            "postgres://u@h:5432/d",
            "postgres://u@h:1,i:2/d?sslmode=verify-full",
            "postgres://u@h/d?sslmode=verify-full&sslrootcert=/etc/a@b.pem&connect_timeout=3",
            "postgres://u@%2Frun%2Fpostgresql/d",
            "postgres://h/d",
            "a:b@c",
        ] {
            assert_eq!(parsed(without).problem(), None, "{without}");
            assert!(!parsed(without).to_string().contains('…'), "{without}");
        }
    }
}
