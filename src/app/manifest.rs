//! Reading manifests: YAML documents into typed specs. Every problem names its file and line; an unknown key names the nearest right one.
//! Nothing is half-read: one problem anywhere, and no manifest comes out.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_saphyr::Error as YamlError;

use crate::domain::plan::Manifest;
use crate::domain::resource::{Kind, Spec};
use crate::nearest::did_you_mean;

/// The only version of the manifest format.
pub const API_VERSION: &str = "keyfall.dev/v1";
/// A manifest file larger than this is refused unread.
pub const LARGEST_FILE: usize = 8 * 1024 * 1024;

/// One file as the caller read it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct ManifestFile {
    pub name: String,
    pub text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    api_version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "read here only to be passed over; the typed document reads them again"
    )]
    metadata: IgnoredAny,
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "read here only to be passed over; the typed document reads them again"
    )]
    spec: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document<S> {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: Metadata,
    spec: S,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// Reads every document of every file.
///
/// # Errors
/// All problems of all files, each as `file:line: what is wrong and what to write`.
pub fn read(files: &[ManifestFile]) -> Result<Vec<Manifest>, Vec<String>> {
    let mut manifests = Vec::new();
    let mut problems = Vec::new();
    for file in files {
        if file.text.len() > LARGEST_FILE {
            problems.push(format!("{}: larger than {LARGEST_FILE} bytes; split it", file.name));
            continue;
        }
        for (first_line, text) in documents(&file.text) {
            match read_document(&file.name, first_line, text) {
                Ok(manifest) => manifests.push(manifest),
                Err(problem) => problems.push(problem),
            }
        }
    }
    problems.extend(doubles(&manifests));
    if manifests.is_empty() && problems.is_empty() {
        problems.push("no manifest found: expected YAML documents with apiVersion, kind, metadata and spec".to_owned());
    }
    if problems.is_empty() {
        Ok(manifests)
    } else {
        Err(problems)
    }
}

/// The documents of a file with the number of lines before each. A `---` at the start of a line can only be a document's marker.
pub(super) fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let (mut start, mut first_line, mut at) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let is_marker = line.trim_end() == "---" || line.starts_with("--- ");
        if is_marker {
            found.push((first_line, text.get(start..at).unwrap_or_default()));
            start = at.saturating_add(line.len());
            first_line = number.saturating_add(1);
        }
        at = at.saturating_add(line.len());
    }
    found.push((first_line, text.get(start..).unwrap_or_default()));
    found.retain(|(_, text)| {
        text.lines()
            .any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    });
    found
}

/// Where a line of a document is, counted in its whole file.
pub(super) fn place(file: &str, first_line: usize, line: u64) -> String {
    let before = u64::try_from(first_line).unwrap_or(0);
    format!("{file}:{}", line.saturating_add(before).max(1))
}

fn read_document(file: &str, first_line: usize, text: &str) -> Result<Manifest, String> {
    let place = |line: u64| place(file, first_line, line);
    let head: Head = serde_saphyr::from_str(text).map_err(|error| explain(&error, &place))?;
    if head.api_version.as_deref() != Some(API_VERSION) {
        let given = head.api_version.unwrap_or_else(|| "nothing".to_owned());
        return Err(format!("{}: apiVersion must be {API_VERSION}, found {given}", place(1)));
    }
    let given = head.kind.unwrap_or_default();
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == given) else {
        let names = Kind::ALL.map(Kind::name);
        return Err(format!(
            "{}: unknown kind `{given}`{}; known are {}",
            place(1),
            did_you_mean(&given, names),
            names.join(", ")
        ));
    };
    let origin = place(1);
    let (metadata, spec) = match kind {
        Kind::Owner => typed(text, &place, Spec::Owner)?,
        Kind::System => typed(text, &place, Spec::System)?,
        Kind::Destination => typed(text, &place, Spec::Destination)?,
        Kind::Policy => typed(text, &place, Spec::Policy)?,
        Kind::Identity => typed(text, &place, Spec::Identity)?,
    };
    check_name(&metadata.name).map_err(|why| format!("{origin}: metadata.name {why}"))?;
    Ok(Manifest {
        name: metadata.name,
        labels: metadata.labels,
        spec,
        origin,
    })
}

fn typed<S: DeserializeOwned>(
    text: &str,
    place: &dyn Fn(u64) -> String,
    wrap: fn(S) -> Spec,
) -> Result<(Metadata, Spec), String> {
    let document: Document<S> = serde_saphyr::from_str(text).map_err(|error| explain(&error, place))?;
    Ok((document.metadata, wrap(document.spec)))
}

/// A name stands in paths, accounts and log lines: 1 to 63 of `a-z 0-9 - _ .`, a letter or digit first.
fn check_name(name: &str) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if name.len() <= 63 && starts_well && name.chars().all(plain) {
        return Ok(());
    }
    Err("must be 1 to 63 characters of a-z, 0-9, `-`, `_` and `.`, starting with a letter or digit")
}

fn explain(error: &YamlError, place: &dyn Fn(u64) -> String) -> String {
    let error = error.without_snippet();
    let at = place(error.location().map_or(1, |location| location.line()));
    match error {
        YamlError::SerdeUnknownField { field, expected, .. } => {
            format!(
                "{at}: unknown key `{field}`{}; known here are {}",
                did_you_mean(field, expected.iter().copied()),
                expected.join(", ")
            )
        }
        YamlError::SerdeMissingField { field, .. } => format!("{at}: `{field}` is missing{}", why_required(field)),
        other => {
            let text = other.to_string();
            format!("{at}: {}", text.lines().next().unwrap_or("cannot be read"))
        }
    }
}

fn why_required(field: &str) -> &'static str {
    match field {
        "owner" => ": nothing is registered without somebody who answers for it",
        "expires" => ": nothing is registered without an end; write a date such as 2027-06-30T00:00:00Z",
        "environment" => ": nothing is registered without its environment",
        _ => "",
    }
}

fn doubles(manifests: &[Manifest]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let double = |one: &&Manifest| !seen.insert((one.spec.kind(), one.name.clone()));
    let say = |one: &Manifest| {
        format!(
            "{}: {} `{}` is described twice",
            one.origin,
            one.spec.kind().name(),
            one.name
        )
    };
    manifests.iter().filter(double).map(say).collect()
}

#[cfg(test)]
mod tests {
    use super::{ManifestFile, read};
    use crate::domain::resource::Spec;

    fn problems(text: &str) -> Vec<String> {
        read(&[ManifestFile {
            name: "a.yaml".to_owned(),
            text: text.to_owned(),
        }])
        .unwrap_err()
    }

    const IDENTITY: &str = "\
# the orders service
apiVersion: keyfall.dev/v1
kind: Identity
metadata: { name: orders-api, labels: { team: orders } }
spec:
  kind: service_account
  system: orders-db
  environment: production
  owner: payments
  expires: 2027-06-30T00:00:00Z
  account: orders_api
";

    #[test]
    fn documents_are_read_with_their_origin() {
        let text = format!("{IDENTITY}---\n{}", IDENTITY.replace("orders-api", "orders-jobs"));
        let read = read(&[ManifestFile {
            name: "a.yaml".to_owned(),
            text,
        }])
        .unwrap();
        assert_eq!(
            read.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
            ["orders-api", "orders-jobs"]
        );
        assert_eq!(read[1].origin, "a.yaml:13");
        assert!(matches!(&read[0].spec, Spec::Identity(spec) if spec.owner == "payments"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
        let found = problems(&IDENTITY.replace("  owner:", "  ownr:"));
        assert!(
            found[0].starts_with("a.yaml:9: unknown key `ownr`, did you mean `owner`?"),
            "{found:?}"
        );
    }

    #[test]
    fn lines_count_over_documents() {
        let text = format!(
            "{IDENTITY}---\n{}",
            IDENTITY
                .replace("orders-api", "b")
                .replace("  account: orders_api\n", "  acount: x\n")
        );
        let found = problems(&text);
        assert!(found[0].starts_with("a.yaml:23: unknown key `acount`"), "{found:?}");
    }

    #[test]
    fn owner_expiry_and_environment_are_required() {
        for (line, field) in [
            ("  owner: payments\n", "owner"),
            ("  expires: 2027-06-30T00:00:00Z\n", "expires"),
            ("  environment: production\n", "environment"),
        ] {
            let found = problems(&IDENTITY.replace(line, ""));
            assert!(
                found[0].contains(&format!("`{field}` is missing: nothing is registered without")),
                "{found:?}"
            );
        }
    }

    #[test]
    fn every_problem_of_every_document_is_named_at_once() {
        let text = format!(
            "{}---\n{}",
            IDENTITY.replace("kind: Identity", "kind: Identiy"),
            IDENTITY.replace("v1", "v9")
        );
        let found = problems(&text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("did you mean `Identity`?"));
        assert!(found[1].contains("apiVersion must be keyfall.dev/v1, found keyfall.dev/v9"));
    }

    #[test]
    fn a_name_given_twice_and_an_empty_file_are_problems() {
        assert!(problems(&format!("{IDENTITY}---\n{IDENTITY}"))[0].contains("is described twice"));
        assert!(problems("# nothing\n")[0].contains("no manifest found"));
    }

    #[test]
    fn an_alias_bomb_is_refused_in_bounded_memory() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for level in 1..12 {
            let before = level - 1;
            text.push_str(&format!(
                "a{level}: &a{level} [*a{before},*a{before},*a{before},*a{before},*a{before},*a{before}]\n"
            ));
        }
        assert!(!problems(&text).is_empty());
    }
}
