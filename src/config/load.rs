//! Reading the settings from their four sources, with an answer for every wrong one that names the nearest right one.

use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Serialize;

use super::{Config, FILE_NAME};
use crate::nearest::{did_you_mean, nearest};

const PREFIX: &str = "KEYFALL_";
/// Names of the environment that belong to the command line's client and to the tests, not to the server.
const NOT_OURS: &[&str] = &["SERVER", "CONFIG", "TOKEN_FILE", "KEY_FILE", "CA_FILE", "OUTPUT"];

/// Why there are no settings. The text says what to write.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("there is no {}: make one with `keyfall init DIR`, or name it with --config", path.display())]
    Missing { path: PathBuf },
    #[error("{source_name}: {what}")]
    Wrong { source_name: String, what: String },
    #[error("the settings do not fit together:\n{}", problems.join("\n"))]
    Problems { problems: Vec<String> },
    #[error("cannot tell the current directory; give --config with an absolute path")]
    Place(#[source] std::io::Error),
}

/// The variables of the process, handed over so that a test can decide them.
#[derive(Debug, Clone, Default)]
pub struct Environment(pub Vec<(String, String)>);

impl Environment {
    /// Those of this process whose names and values are text.
    #[must_use]
    pub fn of_this_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// `KEYFALL_ENGINE__MAX_RUNS` as `engine.max_runs`.
    fn settings(&self) -> impl Iterator<Item = (&str, String, &str)> {
        self.0.iter().filter_map(|(name, value)| {
            let key = name.strip_prefix(PREFIX)?;
            Some((
                name.as_str(),
                key.to_ascii_lowercase().replace("__", "."),
                value.as_str(),
            ))
        })
    }
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named("the environment")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let known = known_keys();
        let mut dict = Dict::new();
        for (_, key, value) in self.settings().filter(|(_, key, _)| is_known(&known, key)) {
            // The parser of values never fails: what is no number, list or table is a text.
            let value: Value = value.parse().unwrap_or_else(|_| Value::from(value));
            if let Value::Dict(_, nested) = figment::util::nest(&key, value) {
                merge(&mut dict, nested);
            }
        }
        Ok(Map::from([(Profile::Default, dict)]))
    }
}

fn merge(into: &mut Dict, from: Dict) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Dict(_, into)), Value::Dict(_, from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// The settings: defaults, then the file, then the environment, then the flags.
///
/// # Errors
/// The file is missing, a key is unknown, a value is wrong, or values do not fit together.
pub fn load(
    file: Option<&Path>,
    environment: &Environment,
    flags: &impl Serialize,
) -> Result<(Config, PathBuf), ConfigError> {
    let file = file
        .map(Path::to_owned)
        .or_else(|| environment.get("KEYFALL_CONFIG").map(PathBuf::from));
    let file = std::path::absolute(file.unwrap_or_else(|| FILE_NAME.into())).map_err(ConfigError::Place)?;
    if !file.is_file() {
        return Err(ConfigError::Missing { path: file });
    }
    refuse_misspelt(environment)?;
    let figment = Figment::new()
        .merge(Toml::file_exact(&file))
        .merge(environment)
        .merge(Serialized::defaults(flags));
    let mut config: Config = figment.extract().map_err(|error| explain(&error, &file))?;
    config.resolve(file.parent().unwrap_or(Path::new("/")));
    if config.kek_file.is_none() {
        config.kek_file = Some(default_kek(environment, &file));
    }
    match config.problems() {
        problems if problems.is_empty() => Ok((config, file)),
        problems => Err(ConfigError::Problems { problems }),
    }
}

fn default_kek(environment: &Environment, file: &Path) -> PathBuf {
    let credential = environment
        .get("CREDENTIALS_DIRECTORY")
        .map(|directory| Path::new(directory).join("kek"));
    credential
        .filter(|path| path.exists())
        .unwrap_or_else(|| file.with_file_name("kek"))
}

/// Other programs may use the prefix for names of their own; one that is nearly ours is a mistake that would pass unseen.
fn refuse_misspelt(environment: &Environment) -> Result<(), ConfigError> {
    let known = known_keys();
    for (name, key, _) in environment.settings() {
        let theirs = NOT_OURS.iter().any(|one| one.eq_ignore_ascii_case(&key));
        if theirs || is_known(&known, &key) {
            continue;
        }
        if let Some(near) = nearest(&key, known.iter().map(String::as_str)) {
            let right = format!("{PREFIX}{}", near.to_ascii_uppercase().replace('.', "__"));
            return Err(ConfigError::Wrong {
                source_name: "the environment".to_owned(),
                what: format!("unknown variable `{name}`, did you mean `{right}`?"),
            });
        }
    }
    Ok(())
}

/// Every key with its tables before it, as the defaults have them. Those without a default are added by hand; a test holds the list complete.
pub(super) fn known_keys() -> Vec<String> {
    let mut keys: Vec<String> = ["tls_cert", "tls_key", "kek_file"].map(str::to_owned).to_vec();
    if let Ok(Value::Dict(_, dict)) = Value::serialize(Config::default()) {
        collect(&dict, "", &mut keys);
    }
    keys
}

fn collect(dict: &Dict, before: &str, keys: &mut Vec<String>) {
    for (key, value) in dict {
        let path = format!("{before}{key}");
        match value {
            Value::Dict(_, inner) if !inner.is_empty() => collect(inner, &format!("{path}."), keys),
            _ => keys.push(path),
        }
    }
}

fn is_known(known: &[String], key: &str) -> bool {
    known.iter().any(|one| {
        one == key || (["file_roots", "reload_commands"].contains(&one.as_str()) && key.starts_with(&format!("{one}.")))
    })
}

fn explain(error: &figment::Error, file: &Path) -> ConfigError {
    let source_name = match error.metadata.as_ref() {
        Some(metadata) if metadata.source.is_none() => metadata.name.to_string(),
        _ => file.display().to_string(),
    };
    let place = error.path.join(".");
    let what = match &error.kind {
        Kind::UnknownField(field, known) => {
            let meant = did_you_mean(field, known.iter().copied());
            let inside = if place.is_empty() || place == *field {
                String::new()
            } else {
                format!(" in `{}`", place.trim_end_matches(&format!(".{field}")))
            };
            format!(
                "unknown key `{field}`{inside}{meant}; known here are {}",
                known.join(", ")
            )
        }
        kind if place.is_empty() => kind.to_string(),
        kind => format!("`{place}`: {kind}"),
    };
    ConfigError::Wrong { source_name, what }
}
