//! How a value is written so that the reader of each format gets exactly that value back. Pure.

use std::fmt::Write;

/// Everything but the unreserved characters of RFC 3986, as bytes. It holds in every part of a URL and in its parameters.
pub(super) fn percent(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The host of a URL: an IPv6 address in brackets.
pub(super) fn url_host(value: &str) -> String {
    if value.contains(':') {
        format!("[{value}]")
    } else {
        percent(value)
    }
}

/// One word of a POSIX shell: in single quotes nothing has a meaning but the quote itself.
pub(super) fn shell(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// A field of `.pgpass`: backslash and colon take a backslash (PostgreSQL manual, "The Password File").
pub(super) fn pgpass(value: &str) -> String {
    value.replace('\\', r"\\").replace(':', r"\:")
}

/// A value of an INI file in double quotes with backslash as escape (MySQL option files and their kin).
pub(super) fn ini(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\""))
}

/// A JSON string with its quotes.
pub(super) fn json(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// A value of a dotenv file. Plain where every reader agrees on plain; else in single quotes, in which nothing is expanded;
/// a value with a single quote or a backslash is written in double quotes with backslash escapes, as shells and systemd
/// read them.
pub(super) fn dotenv(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '@' | '%' | '+' | ',');
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    if !value.contains(['\'', '\\']) {
        return format!("'{value}'");
    }
    let mut out = String::from("\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// A character that no line-based format can hold: it would begin another line, or end the value.
pub(super) fn has_control(value: &str) -> bool {
    value.chars().any(char::is_control)
}
