//! One identity's file, as its manifest describes it. Pure: a target is checked against the server's grants, not the disk.

use std::collections::BTreeMap;
use std::path::PathBuf;

use keyfall_sdk::ServerGrants;
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;

use super::layout::Layout;
use super::owner::Who;

/// As written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Written {
    root: Option<String>,
    path: Option<String>,
    layout: Option<String>,
    template: Option<String>,
    #[serde(default)]
    keys: BTreeMap<String, String>,
    mode: Option<Value>,
    owner: Option<Who>,
    group: Option<Who>,
    after: Option<WrittenAfter>,
    acknowledgements: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WrittenAfter {
    command: Option<String>,
    signal: Option<WrittenSignal>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WrittenSignal {
    pid_file: String,
    name: String,
}

/// Checked: every name is resolved and every path is relative and plain.
pub(super) struct Target {
    root_name: String,
    pub(super) root: PathBuf,
    pub(super) path: String,
    pub(super) layout: Layout,
    pub(super) mode: u32,
    pub(super) owner: Option<Who>,
    pub(super) group: Option<Who>,
    pub(super) after: Option<After>,
    pub(super) acknowledgements: Option<String>,
}

/// What follows an update.
pub(super) enum After {
    Command { name: String, argv: Vec<String> },
    Signal { pid_file: String, signal: Signal },
}

impl Target {
    /// The error has one line for each problem.
    pub(super) fn parse(target: &Value, grants: &ServerGrants) -> Result<Self, Vec<String>> {
        let written = read(target)?;
        let mut problems = Vec::new();
        let root_name = there("root", written.root, &mut problems);
        let path = there("path", written.path, &mut problems);
        let layout = there("layout", written.layout, &mut problems);
        let (Some(root_name), Some(path), Some(layout)) = (root_name, path, layout) else {
            return Err(problems);
        };
        let root = find_root(&root_name, grants, &mut problems);
        check_path("path", &path, &mut problems);
        check_acknowledgements(written.acknowledgements.as_deref(), Some(&path), &mut problems);
        let layout = Layout::parse(&layout, written.template, written.keys, &mut problems);
        let mode = parse_mode(written.mode.as_ref(), &mut problems);
        let after = written
            .after
            .and_then(|after| parse_after(after, grants, &mut problems));
        match (layout, root) {
            (Some(layout), Some(root)) if problems.is_empty() => Ok(Self {
                root_name,
                root,
                path,
                layout,
                mode,
                owner: written.owner,
                group: written.group,
                after,
                acknowledgements: written.acknowledgements,
            }),
            _ => Err(problems),
        }
    }

    /// The place as a person would name it.
    pub(super) fn shown(&self) -> String {
        format!("{}/{} (root `{}`)", self.root.display(), self.path, self.root_name)
    }
}

/// What is wrong with what a destination gives to all its targets. A target may still say another thing, so that only what is wrong in every
/// target is told: `template` and `keys` belong to a layout, and are looked at with it.
pub(super) fn check_defaults(defaults: &Value, grants: &ServerGrants) -> Vec<String> {
    if defaults.is_null() {
        return Vec::new();
    }
    let written = match read(defaults) {
        Ok(written) => written,
        Err(problems) => return problems,
    };
    let mut problems = Vec::new();
    if let Some(root) = &written.root {
        find_root(root, grants, &mut problems);
    }
    if let Some(path) = &written.path {
        check_path("path", path, &mut problems);
    }
    check_acknowledgements(
        written.acknowledgements.as_deref(),
        written.path.as_deref(),
        &mut problems,
    );
    if let Some(layout) = written
        .layout
        .filter(|layout| layout != "template" || written.template.is_some())
    {
        Layout::parse(&layout, written.template, written.keys, &mut problems);
    }
    parse_mode(written.mode.as_ref(), &mut problems);
    if let Some(after) = written.after {
        parse_after(after, grants, &mut problems);
    }
    problems
}

fn read(written: &Value) -> Result<Written, Vec<String>> {
    Written::deserialize(written).map_err(|error| vec![error.to_string()])
}

fn there(key: &str, value: Option<String>, problems: &mut Vec<String>) -> Option<String> {
    if value.is_none() {
        problems.push(format!("`{key}` is missing, here and in the destination's defaults"));
    }
    value
}

fn find_root(root: &str, grants: &ServerGrants, problems: &mut Vec<String>) -> Option<PathBuf> {
    let found = grants.file_roots.get(root).cloned();
    if found.is_none() {
        problems.push(format!(
            "`root` names `{root}`, which is none of this server's file roots ({})",
            names(grants.file_roots.keys())
        ));
    }
    found
}

fn check_acknowledgements(acknowledgements: Option<&str>, path: Option<&str>, problems: &mut Vec<String>) {
    let Some(acknowledgements) = acknowledgements else {
        return;
    };
    check_path("acknowledgements", acknowledgements, problems);
    if path == Some(acknowledgements) {
        problems.push("`acknowledgements` must be another file than `path`".to_owned());
    }
}

/// A path that says where it leads: no way up, nothing that differs from what it looks like.
fn check_path(at: &str, path: &str, problems: &mut Vec<String>) {
    let plain = !path.is_empty()
        && path.len() <= 1024
        && !path.chars().any(char::is_control)
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != ".." && part.len() <= 200);
    if !plain {
        problems.push(format!(
            "`{at}` is {path:?}; write a path relative to its root, without `..`, `.`, a double or trailing slash, or \
             control characters"
        ));
    }
}

fn parse_mode(mode: Option<&Value>, problems: &mut Vec<String>) -> u32 {
    const DEFAULT: u32 = 0o600;
    let Some(mode) = mode else { return DEFAULT };
    let parsed = mode
        .as_str()
        .filter(|text| matches!(text.len(), 3 | 4) && text.chars().all(|c| c.is_digit(8)))
        .and_then(|text| u32::from_str_radix(text, 8).ok());
    match parsed {
        Some(mode) if mode & 0o7007 == 0 && mode & 0o400 != 0 => mode,
        Some(mode) => {
            problems.push(format!(
                "`mode` is {mode:04o}; its owner must be able to read a secret, and others must not: use \"0600\", or \
                 \"0640\" with a `group`"
            ));
            DEFAULT
        }
        None => {
            problems.push("`mode` must be octal digits in quotes, such as \"0640\"".to_owned());
            DEFAULT
        }
    }
}

fn parse_after(after: WrittenAfter, grants: &ServerGrants, problems: &mut Vec<String>) -> Option<After> {
    match (after.command, after.signal) {
        (Some(name), None) => {
            let Some(argv) = grants.reload_commands.get(&name).cloned() else {
                problems.push(format!(
                    "`after.command` names `{name}`, which is none of this server's reload commands ({})",
                    names(grants.reload_commands.keys())
                ));
                return None;
            };
            Some(After::Command { name, argv })
        }
        (None, Some(written)) => {
            check_path("after.signal.pidFile", &written.pid_file, problems);
            let signal = match written.name.trim_start_matches("SIG") {
                "HUP" => Signal::HUP,
                "USR1" => Signal::USR1,
                "USR2" => Signal::USR2,
                _ => {
                    let name = written.name;
                    problems.push(format!(
                        "`after.signal.name` is {name:?}; a reload is HUP, USR1 or USR2"
                    ));
                    return None;
                }
            };
            Some(After::Signal {
                pid_file: written.pid_file,
                signal,
            })
        }
        _ => {
            problems.push("`after` must have either `command` or `signal`".to_owned());
            None
        }
    }
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() {
        "it has none".to_owned()
    } else {
        names.join(", ")
    }
}
