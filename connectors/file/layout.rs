//! What is written into the file. Pure: from a call to bytes.

use std::collections::BTreeMap;

use keyfall_sdk::{ConnectorError, DeliverCall, Result};
use zeroize::Zeroizing;

use super::escape;
use super::template::Template;

pub(super) enum Layout {
    /// The secret's bytes and nothing else, not even a line break.
    Raw,
    /// One `NAME=value` a line.
    Dotenv {
        keys: BTreeMap<String, String>,
    },
    /// One object of strings.
    Json {
        keys: BTreeMap<String, String>,
    },
    Template(Template),
}

impl Layout {
    /// `keys` renames fields, `secret` and `version`; what it does not name keeps its default.
    pub(super) fn parse(
        layout: &str,
        template: Option<String>,
        keys: BTreeMap<String, String>,
        problems: &mut Vec<String>,
    ) -> Option<Self> {
        if template.is_some() && layout != "template" {
            problems.push("`template` belongs to `layout: template`; remove one of the two".to_owned());
        }
        if !keys.is_empty() && !matches!(layout, "dotenv" | "json") {
            problems.push("`keys` belongs to the layouts dotenv and json; remove it".to_owned());
        }
        match (layout, template) {
            ("raw", _) => Some(Self::Raw),
            ("json", _) => Some(Self::Json { keys }),
            ("dotenv", _) => {
                for name in keys.values().filter(|name| !is_variable_name(name)) {
                    problems.push(format!(
                        "`keys` holds {name:?}; a variable's name has letters, digits and `_`, and does not begin with a \
                         digit"
                    ));
                }
                Some(Self::Dotenv { keys })
            }
            ("template", Some(text)) => Template::parse(&text)
                .map(Self::Template)
                .map_err(|problem| problems.push(problem))
                .ok(),
            ("template", None) => {
                problems.push("`layout: template` needs `template`: a text, or the name of a ready layout".to_owned());
                None
            }
            (other, _) => {
                problems.push(format!(
                    "`layout` is {other:?}; there are raw, dotenv, json and template"
                ));
                None
            }
        }
    }

    pub(super) fn render(&self, call: &DeliverCall) -> Result<Zeroizing<Vec<u8>>> {
        if call.secret.is_empty() {
            return Err(ConnectorError::unsupported("An empty secret is not delivered."));
        }
        let text = match self {
            Self::Raw => return Ok(Zeroizing::new(call.secret.expose_secret().to_vec())),
            Self::Dotenv { keys } => dotenv(call, keys)?,
            Self::Json { keys } => json(call, keys)?,
            Self::Template(template) => template.render(call, secret_text(call)?)?,
        };
        Ok(Zeroizing::new(text.as_bytes().to_vec()))
    }
}

fn secret_text(call: &DeliverCall) -> Result<&str> {
    call.secret
        .expose_secret_str()
        .ok_or_else(|| ConnectorError::unsupported("The secret is not text; use `layout: raw`."))
}

/// Every value under the name that it is written by. Two under one name would hide each other.
fn named<'a>(
    call: &'a DeliverCall,
    keys: &BTreeMap<String, String>,
    default: impl Fn(&str) -> String,
) -> Result<BTreeMap<String, &'a str>> {
    let mut values: BTreeMap<&str, &str> = call.fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    values.insert("version", &call.version);
    values.insert("secret", secret_text(call)?);
    if let Some(unknown) = keys.keys().find(|key| !values.contains_key(key.as_str())) {
        let known: Vec<&str> = values.keys().copied().collect();
        return Err(ConnectorError::unsupported(format!(
            "`keys` renames `{unknown}`, which this identity does not declare; it has {}.",
            known.join(", ")
        )));
    }
    let mut out = BTreeMap::new();
    for (field, value) in values {
        let name = keys.get(field).cloned().unwrap_or_else(|| default(field));
        if out.insert(name.clone(), value).is_some() {
            return Err(ConnectorError::unsupported(format!(
                "Two values would be written as `{name}`; rename one of them in `keys`."
            )));
        }
    }
    Ok(out)
}

fn dotenv(call: &DeliverCall, keys: &BTreeMap<String, String>) -> Result<Zeroizing<String>> {
    let mut out = Zeroizing::new(String::new());
    for (name, value) in named(call, keys, variable_name)? {
        if escape::has_control(value) {
            return Err(ConnectorError::unsupported(format!(
                "`{name}` holds a line break or another control character, which a dotenv file cannot carry; use layout \
                 `raw` or `json`."
            )));
        }
        out.push_str(&name);
        out.push('=');
        out.push_str(&Zeroizing::new(escape::dotenv(value)));
        out.push('\n');
    }
    Ok(out)
}

fn json(call: &DeliverCall, keys: &BTreeMap<String, String>) -> Result<Zeroizing<String>> {
    let values = named(call, keys, str::to_owned)?;
    let mut text = serde_json::to_string_pretty(&values)
        .map_err(|_| ConnectorError::unsupported("The fields cannot be written as JSON."))?;
    text.push('\n');
    Ok(Zeroizing::new(text))
}

/// `secret` is what programs call a password.
fn variable_name(field: &str) -> String {
    match field {
        "secret" => "PASSWORD".to_owned(),
        "version" => "KEYFALL_VERSION".to_owned(),
        other => other
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_uppercase()
                } else {
                    '_'
                }
            })
            .collect(),
    }
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
