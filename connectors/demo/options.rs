//! What a manifest may say of a demo system, checked without I/O.

use std::path::{Path, PathBuf};

use keyfall_sdk::{ConfigProblem, IssueClass, ServerGrants, Strategy, SystemSpec};
use serde::Deserialize;

use super::faults::Faults;

/// `options` of a system whose connector is `demo`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Options {
    /// Systems that name the same provider share its accounts.
    pub(super) provider: String,
    /// The strategy that is the default of this system.
    pub(super) strategy: Strategy,
    pub(super) issue_class: IssueClass,
    /// Each key shows the marker of the call that made it.
    pub(super) keeps_markers: bool,
    /// The settling window that the provider claims to have, in milliseconds.
    pub(super) settling_ms: u64,
    pub(super) faults: Option<Faults>,
    pub(super) state_folder: Option<StateFolder>,
}

/// A folder under a root that the server's own configuration names.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct StateFolder {
    root: String,
    /// A plain name. The folder is made when it is missing; its root is not.
    folder: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            provider: "demo".to_owned(),
            strategy: Strategy::DualSlot,
            issue_class: IssueClass::CheckFirst,
            keeps_markers: true,
            settling_ms: 0,
            faults: None,
            state_folder: None,
        }
    }
}

impl Options {
    pub(super) fn parse(options: &serde_json::Value) -> Result<Self, ConfigProblem> {
        if options.is_null() {
            return Ok(Self::default());
        }
        Self::deserialize(options).map_err(|error| ConfigProblem {
            at: "options".to_owned(),
            message: format!("{error}; connectors/demo/README.md lists what can be written here"),
        })
    }

    pub(super) fn problems(&self, spec: &SystemSpec, grants: &ServerGrants) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        let mut report = |at: &str, message: String| {
            problems.push(ConfigProblem {
                at: at.to_owned(),
                message,
            })
        };
        if self.provider.is_empty() {
            report("options.provider", "give the provider a name".to_owned());
        }
        if let Err(message) = self.state_folder(grants) {
            report("options.stateFolder", message);
        }
        let faults = self.faults.clone().unwrap_or_default();
        if faults.slots == 0 {
            report("options.faults.slots", "an account needs at least one slot".to_owned());
        }
        let known = vantage_names(spec);
        let named = faults
            .vantages
            .keys()
            .chain(faults.rules.iter().filter_map(|rule| rule.vantage.as_ref()));
        for name in named.filter(|name| !known.contains(name)) {
            let message = format!("no vantage is called {name}; this system has {}", known.join(", "));
            report("options.faults", message);
        }
        for (index, rule) in faults.rules.iter().enumerate() {
            if rule.probability.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
                let at = format!("options.faults.rules[{index}].probability");
                report(&at, "write a number from 0 to 1".to_owned());
            }
        }
        problems
    }

    /// The folder that keeps the provider's truth, if there is to be one.
    pub(super) fn state_folder(&self, grants: &ServerGrants) -> Result<Option<PathBuf>, String> {
        let Some(wanted) = &self.state_folder else {
            return Ok(None);
        };
        let Some(root) = grants.file_roots.get(&wanted.root) else {
            let known: Vec<&str> = grants.file_roots.keys().map(String::as_str).collect();
            return Err(format!(
                "the server's configuration has no file root called {}; it has: {}",
                wanted.root,
                known.join(", ")
            ));
        };
        if Path::new(&wanted.folder).file_name().and_then(|name| name.to_str()) != Some(wanted.folder.as_str()) {
            return Err(format!("{} is not a plain name", wanted.folder));
        }
        Ok(Some(root.join(&wanted.folder)))
    }
}

/// The vantages of a demo system: those of the manifest, or two.
pub(super) fn vantage_names(spec: &SystemSpec) -> Vec<String> {
    if spec.vantages.is_empty() {
        return vec!["primary".to_owned(), "replica".to_owned()];
    }
    spec.vantages.iter().map(|vantage| vantage.name.clone()).collect()
}
