//! The one place where a name or a text becomes part of an SQL statement. It knows nothing of what the statement does.
//!
//! PostgreSQL takes no bind parameters in role statements, so every name passes here. A name that the server would cut to
//! 63 bytes is refused, because the cut name may be somebody else's.

use keyfall_sdk::{ConnectorError, ErrorKind, Result};

/// `NAMEDATALEN - 1`: the bytes of a name that the server keeps.
pub(super) const LONGEST_NAME: usize = 63;

/// Says what is wrong with a name, or nothing.
pub(super) fn name_problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a role or database name is empty; give it a name".to_owned());
    }
    if name.contains('\0') {
        return Some(format!(
            "the name {name:?} holds a NUL byte, which PostgreSQL cannot store"
        ));
    }
    if name.len() > LONGEST_NAME {
        return Some(format!(
            "the name {name:?} has {} bytes and PostgreSQL keeps {LONGEST_NAME}; shorten it",
            name.len()
        ));
    }
    None
}

/// A quoted identifier. Quoting is unconditional, so that a name keeps its case and a key word stays a name.
pub(super) fn identifier(name: &str) -> Result<String> {
    if let Some(problem) = name_problem(name) {
        return Err(ConnectorError::new(ErrorKind::Unsupported, problem));
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// A quoted text. Relies on `standard_conforming_strings`, which every admin session switches on first.
pub(super) fn literal(text: &str) -> Result<String> {
    if text.contains('\0') {
        return Err(ConnectorError::new(
            ErrorKind::Unsupported,
            "a text for PostgreSQL holds a NUL byte, which it cannot store",
        ));
    }
    Ok(format!("'{}'", text.replace('\'', "''")))
}

#[cfg(test)]
mod tests {
    use super::{identifier, literal};

    #[test]
    fn quotes_are_doubled_and_case_is_kept() {
        assert_eq!(
            identifier(r#"a"; DROP ROLE b; --"#).unwrap(),
            r#""a""; DROP ROLE b; --""#
        );
        assert_eq!(identifier("Select").unwrap(), "\"Select\"");
        assert_eq!(literal("it's \\'").unwrap(), "'it''s \\'''");
    }

    #[test]
    fn what_the_server_would_cut_or_cannot_store_is_refused() {
        assert!(identifier(&"x".repeat(63)).is_ok());
        assert!(identifier(&"x".repeat(64)).is_err());
        assert!(identifier(&"é".repeat(32)).is_err(), "the limit counts bytes");
        assert!(identifier("").is_err());
        assert!(identifier("a\0b").is_err());
        assert!(literal("a\0b").is_err());
    }
}
