//! What a file destination's manifest and the server's grants may say. Pure: no file is looked at.

use keyfall_sdk::{ConfigProblem, ServerGrants, SystemSpec};

pub(super) fn check(spec: &SystemSpec, grants: &ServerGrants) -> Vec<ConfigProblem> {
    let mut problems = Vec::new();
    if !spec.vantages.is_empty() {
        problems.push(problem("vantages", "a file destination has none; remove this key"));
    }
    if spec.tls_ca.is_some() {
        problems.push(problem(
            "tlsCa",
            "a file destination has no connection; remove this key",
        ));
    }
    if !spec.options.is_null() && !spec.options.as_object().is_some_and(serde_json::Map::is_empty) {
        problems.push(problem(
            "options",
            "a file destination has none; what differs between files stands in each identity's target",
        ));
    }
    for (name, root) in &grants.file_roots {
        if !root.is_absolute() {
            problems.push(problem(
                "connector",
                &format!("the server's file root `{name}` must be an absolute path"),
            ));
        }
    }
    for (name, argv) in &grants.reload_commands {
        if !argv.first().is_some_and(|program| program.starts_with('/')) {
            problems.push(problem(
                "connector",
                &format!("the server's reload command `{name}` must begin with the absolute path of a program"),
            ));
        }
    }
    problems
}

fn problem(at: &str, message: &str) -> ConfigProblem {
    ConfigProblem {
        at: at.to_owned(),
        message: message.to_owned(),
    }
}
