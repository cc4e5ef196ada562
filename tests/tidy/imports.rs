//! Who may import whom: the table of src/README.md, checked on every path that a file names outside its tests.
//! It must not know what a module does.

use crate::source::Source;
use crate::tree::Tree;

/// Files under `under` (a folder or a file) name no path that begins with one of `never`.
pub(crate) struct Rule {
    pub(crate) under: &'static str,
    pub(crate) except: &'static [&'static str],
    pub(crate) never: Vec<String>,
}

const TABLE: &[(&str, &[&str], &[&str])] = &[
    (
        "src/domain",
        &[],
        &[
            "crate::evidence",
            "crate::telemetry",
            "tokio",
            "rusqlite",
            "reqwest",
            "axum",
            "futures_util",
            "std::time::SystemTime",
            "std::time::Instant",
            "std::fs",
            "std::net",
            "std::env",
            "ring::rand",
            "crate::store",
            "crate::engine",
            "crate::app",
            "crate::http",
            "crate::cli",
            "crate::clock",
            "crate::sealing",
            "crate::config",
            "keyfall_connectors",
        ],
    ),
    (
        "src/store",
        &[],
        &[
            "crate::engine",
            "crate::app",
            "crate::http",
            "crate::cli",
            "axum",
            "reqwest",
            "keyfall_connectors",
        ],
    ),
    (
        "src/engine",
        &[],
        &[
            "crate::http",
            "crate::cli",
            "crate::app",
            "axum",
            "rusqlite",
            "keyfall_connectors",
        ],
    ),
    (
        "src/evidence",
        &[],
        &[
            "crate::clock",
            "crate::sealing",
            "crate::config",
            "crate::telemetry",
            "keyfall_connectors",
            "tokio",
            "crate::store",
            "crate::engine",
            "crate::app",
            "crate::http",
            "crate::cli",
            "axum",
            "rusqlite",
        ],
    ),
    (
        "src/app",
        &[],
        &[
            "keyfall_connectors",
            "crate::config",
            "crate::telemetry",
            "crate::http",
            "crate::cli",
            "axum",
            "rusqlite",
        ],
    ),
    (
        "src/http",
        &[],
        &[
            "keyfall_connectors",
            "crate::sealing",
            "crate::store",
            "crate::engine",
            "crate::cli",
            "rusqlite",
        ],
    ),
    (
        "src/cli",
        &[],
        &[
            "keyfall_connectors",
            "crate::sealing",
            "crate::store",
            "crate::engine",
            "crate::http",
            "axum",
            "rusqlite",
        ],
    ),
    (
        "connectors/sdk",
        &[],
        &["tokio", "reqwest", "rusqlite", "keyfall", "keyfall_connectors"],
    ),
    ("connectors", &[], &["keyfall", "rusqlite"]),
    (
        "src/sealing",
        &[],
        &[
            "crate::domain",
            "crate::evidence",
            "crate::store",
            "crate::engine",
            "crate::app",
            "crate::http",
            "crate::cli",
            "keyfall_connectors",
        ],
    ),
    (
        "src/config",
        &[],
        &[
            "crate::evidence",
            "crate::sealing",
            "crate::store",
            "crate::engine",
            "crate::app",
            "crate::http",
            "crate::cli",
            "keyfall_connectors",
        ],
    ),
    ("src/clock.rs", &[], &["crate"]),
    ("src/owner_only.rs", &[], &["crate"]),
    ("src/nearest.rs", &[], &["crate"]),
    (
        "src/telemetry.rs",
        &[],
        &[
            "crate::domain",
            "crate::evidence",
            "crate::sealing",
            "crate::store",
            "crate::engine",
            "crate::app",
            "crate::http",
            "crate::cli",
        ],
    ),
    // Nothing else does wiring: only here the list of connectors is named.
    ("src", &["src/wire"], &["keyfall_connectors"]),
    ("src", &["src/engine/ticker.rs"], &["tokio_cron_scheduler"]),
];

/// The table, and for every connector that it does not name another one.
pub(crate) fn rules(tree: &Tree) -> Vec<Rule> {
    let mut rules: Vec<Rule> = TABLE
        .iter()
        .map(|&(under, except, never)| Rule {
            under,
            except,
            never: never.iter().map(|&path| path.to_owned()).collect(),
        })
        .collect();
    rules.extend(providers_apart(&tree.children("connectors")));
    rules
}

/// A provider may borrow from `declarative`, and from nobody else.
pub(crate) fn providers_apart(folders: &[String]) -> Vec<Rule> {
    let providers = || {
        folders
            .iter()
            .filter(|name| !["sdk", "declarative", "fixtures"].contains(&name.as_str()))
    };
    providers()
        .map(|name| Rule {
            under: String::leak(format!("connectors/{name}")),
            except: &[],
            never: providers()
                .filter(|other| *other != name)
                .map(|other| format!("crate::{other}"))
                .collect(),
        })
        .collect()
}

fn covers(rule: &Rule, path: &str) -> bool {
    let within = |place: &str| {
        path.strip_prefix(place)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    within(rule.under) && !rule.except.iter().any(|place| within(place))
}

pub(crate) fn broken(source: &Source, rules: &[Rule]) -> Vec<String> {
    let rules: Vec<&Rule> = rules.iter().filter(|rule| covers(rule, &source.path)).collect();
    let mut complaints: Vec<String> = named_paths(source)
        .into_iter()
        .flat_map(|(line, path)| {
            let forbidden = rules
                .iter()
                .flat_map(|rule| rule.never.iter().map(|never| (rule.under, never)));
            let broken: Vec<_> = forbidden.filter(|(_, never)| begins_with(&path, never)).collect();
            broken
                .into_iter()
                .map(move |(under, never)| (line, path.clone(), under, never))
        })
        .map(|(line, path, under, never)| {
            source.complain(line, &format!("it names {path}; {under} must not know {never}"))
        })
        .collect();
    complaints.dedup();
    complaints
}

fn begins_with(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every path of two or more segments, and every path of a `use`, with its line; `super` and `self` resolved.
pub(crate) fn named_paths(source: &Source) -> Vec<(usize, String)> {
    let module = module_of(&source.path);
    let tokens = tokens(&source.product);
    let mut paths = Vec::new();
    let mut at = 0;
    while let Some((line, token)) = tokens.get(at) {
        let in_use = token == "use";
        if in_use {
            at += 1;
        }
        let start = at;
        let mut found = Vec::new();
        read_tree(&tokens, &mut at, "", &mut found);
        paths.extend(
            found
                .into_iter()
                .filter(|path| in_use || path.contains("::"))
                .map(|path| (*line, resolve(&path, &module))),
        );
        at = at.max(start + usize::from(!in_use));
    }
    paths
}

/// One path or use tree from `at` on: `a::b`, `a::{b, c::d}`, `a::*`. Leaves `at` behind it.
fn read_tree(tokens: &[(usize, String)], at: &mut usize, prefix: &str, found: &mut Vec<String>) {
    let token = |at: usize| tokens.get(at).map_or("", |(_, token)| token.as_str());
    let mut path = prefix.to_owned();
    if token(*at) == "::" {
        *at += 1;
    }
    loop {
        let next = token(*at);
        if next == "{" && path.ends_with("::") {
            *at += 1;
            while !["}", ""].contains(&token(*at)) {
                let before = *at;
                read_tree(tokens, at, &path, found);
                // An alias, a comma, or whatever else stands between two branches.
                *at += usize::from(*at == before || token(*at) == ",");
            }
            *at += 1;
            return;
        }
        if !next.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            break;
        }
        path.push_str(next);
        *at += 1;
        if token(*at) != "::" {
            break;
        }
        path.push_str("::");
        *at += 1;
    }
    let path = path.trim_end_matches("::");
    if !path.is_empty() {
        found.push(path.to_owned());
    }
}

/// Identifiers, `::` and single other characters, each with its line.
fn tokens(code: &str) -> Vec<(usize, String)> {
    let mut tokens: Vec<(usize, String)> = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let length = match (word, rest.starts_with("::")) {
                (0, true) => 2,
                (0, false) => first.len_utf8(),
                (word, _) => word,
            };
            let (token, after) = rest.split_at(length);
            tokens.push((index + 1, token.to_owned()));
            rest = after.trim_start();
        }
    }
    tokens
}

/// The module that a file is: `src/engine/claim.rs` is `crate::engine::claim`.
fn module_of(path: &str) -> Vec<String> {
    let inside = ["src/", "connectors/sdk/", "connectors/"]
        .iter()
        .find_map(|root| path.strip_prefix(root));
    let inside = inside.unwrap_or(path).trim_end_matches(".rs");
    let parts = inside.split('/').filter(|part| !["mod", "lib", "main"].contains(part));
    std::iter::once("crate").chain(parts).map(str::to_owned).collect()
}

fn resolve(path: &str, module: &[String]) -> String {
    let mut base = module.to_vec();
    let mut rest: Vec<&str> = path.split("::").collect();
    if !["self", "super"].contains(rest.first().unwrap_or(&"")) {
        return path.to_owned();
    }
    while let Some(&first) = rest.first() {
        match first {
            "self" => {}
            "super" => {
                base.pop();
            }
            _ => break,
        }
        rest.remove(0);
    }
    base.iter()
        .map(String::as_str)
        .chain(rest)
        .collect::<Vec<_>>()
        .join("::")
}
