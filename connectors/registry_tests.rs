//! Whether the list of connectors is complete, in both directions: a folder that nobody listed is a connector that nobody
//! can use, and a listing without its README is one that nobody can judge.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use keyfall_sdk::{ErrorKind, ServerGrants, SystemSpec};
use serde_json::json;

use crate::registry;

/// Folders that hold no connector of their own.
const NOT_CONNECTORS: &[&str] = &["sdk", "declarative"];

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// A folder may hold several kinds; their names begin with the folder's, up to the first hyphen.
fn folder_of(kind: &str) -> &str {
    kind.split('-').next().unwrap_or(kind)
}

#[test]
fn registry_is_complete() {
    let listed: BTreeSet<String> = registry()
        .iter()
        .map(|kind| folder_of(kind.descriptor().kind).to_owned())
        .collect();
    let folders: BTreeSet<String> = std::fs::read_dir(here())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && !NOT_CONNECTORS.contains(&name.as_str()))
        .collect();
    let unlisted: Vec<_> = folders.difference(&listed).collect();
    let folderless: Vec<_> = listed.difference(&folders).collect();
    assert!(
        unlisted.is_empty(),
        "add these folders to registry() in connectors/lib.rs: {unlisted:?}"
    );
    assert!(
        folderless.is_empty(),
        "these kinds of registry() have no folder in connectors/: {folderless:?}"
    );
}

#[test]
fn every_connector_explains_itself_and_its_answers() {
    for kind in registry() {
        let descriptor = kind.descriptor();
        let readme = here().join(folder_of(descriptor.kind)).join("README.md");
        let text = std::fs::read_to_string(&readme)
            .unwrap_or_else(|error| panic!("{} needs {}: {error}", descriptor.kind, readme.display()));
        assert!(
            text.contains(&format!("`{}`", descriptor.kind)),
            "{} must name the kind `{}`",
            readme.display(),
            descriptor.kind
        );
        if !descriptor.strategies.is_empty() {
            assert!(
                descriptor.answers.iter().any(|answer| answer.refuses_credential),
                "{} lists no answer that refuses a credential",
                descriptor.kind
            );
        }
        for answer in descriptor.answers {
            assert!(
                text.contains(&format!("`{}`", answer.code)),
                "{} must explain the answer `{}` of {}",
                readme.display(),
                answer.code,
                descriptor.kind
            );
        }
    }
}

#[test]
fn a_wrong_configuration_is_refused_alike_by_every_connector() {
    for kind in registry() {
        let name = kind.descriptor().kind;
        let spec = json!({ "connector": name, "options": { "nonsense": true } });
        let spec: SystemSpec = serde_json::from_value(spec).unwrap();
        let grants = ServerGrants::default();
        let problem = kind.check(&spec, &grants).into_iter().next();
        let problem = problem.unwrap_or_else(|| panic!("{name} takes an option that nobody knows"));
        let refused = kind.connect(&spec, None, &grants).err();
        let refused = refused.unwrap_or_else(|| panic!("{name} connects what it complains of"));
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{name}");
        assert!(refused.message().contains(&problem.message), "{refused}");
    }
}

#[test]
fn registered_names_are_sorted_and_unique() {
    let kinds: Vec<&str> = registry().iter().map(|kind| kind.descriptor().kind).collect();
    let mut sorted = kinds.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(kinds, sorted);
}
