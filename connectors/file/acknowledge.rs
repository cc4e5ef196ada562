//! What a consumer says it uses: a version in a small file that the consumer writes. Whatever cannot be read says nothing.

use super::place::{Found, Place};
use super::target::Target;

/// Where the consumer's name stands in the path, each consumer has a file of its own.
const PLACEHOLDER: &str = "{consumer}";

/// The version that the consumer wrote last, if any. A file of its own holds just the version; a shared file has a line
/// `consumer version` for each, and the last line of a consumer counts.
pub(super) fn version_of(target: &Target, consumer: &str) -> Option<String> {
    let path = target.acknowledgements.as_deref()?;
    let own_file = path.contains(PLACEHOLDER);
    if own_file && !is_plain(consumer) {
        return None;
    }
    let path = path.replace(PLACEHOLDER, consumer);
    let Ok(Found::File(content)) = Place::open(&target.root, &path).and_then(|place| place.read()) else {
        return None;
    };
    let text = std::str::from_utf8(&content.bytes).ok()?;
    let version = if own_file {
        text.lines().next()?.trim()
    } else {
        text.lines().rev().find_map(|line| {
            let (name, version) = line.trim().rsplit_once(char::is_whitespace)?;
            (name.trim_end() == consumer).then_some(version)
        })?
    };
    (!version.is_empty()).then(|| version.to_owned())
}

/// A consumer's name becomes part of a path, so it must be one component of it.
fn is_plain(consumer: &str) -> bool {
    !consumer.is_empty()
        && consumer.len() <= 200
        && consumer != "."
        && consumer != ".."
        && !consumer.chars().any(|c| c == '/' || c.is_control())
}
