//! Templates: a format that a person wrote, with the secret and the declared fields put in, each through the filter that its
//! place needs. A template has no functions, no includes and a limited number of steps, and its errors never show a value.

use std::collections::BTreeMap;

use keyfall_sdk::{ConnectorError, DeliverCall, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior, Value};
use zeroize::Zeroizing;

use super::escape;

/// Steps of one rendering; a plain template takes a few for each placeholder.
const FUEL: u64 = 20_000;
const LARGEST: usize = 64 * 1024;
const FILTERS: &str = "dsn, host, shell, json, pgpass, jdbc, ini";

/// Ready layouts, by the name that a target gives instead of a text.
const READY: [(&str, &str); 5] = [
    (
        "dsn-postgres",
        "postgresql://{{ username|dsn }}:{{ secret|dsn }}@{{ host|host }}:{{ port }}/{{ database|dsn }}",
    ),
    (
        "pgpass",
        "{{ host|pgpass }}:{{ port|pgpass }}:{{ database|pgpass }}:{{ username|pgpass }}:{{ secret|pgpass }}\n",
    ),
    (
        "jdbc-postgres",
        "jdbc:postgresql://{{ host|host }}:{{ port }}/{{ database|jdbc }}?user={{ username|jdbc }}&password={{ secret|jdbc }}",
    ),
    (
        "redis-url",
        "redis://{{ username|dsn }}:{{ secret|dsn }}@{{ host|host }}:{{ port }}",
    ),
    (
        "rediss-url",
        "rediss://{{ username|dsn }}:{{ secret|dsn }}@{{ host|host }}:{{ port }}",
    ),
];

pub(super) struct Template(String);

impl Template {
    /// Takes the name of a ready layout or a text. The error has one line.
    pub(super) fn parse(written: &str) -> std::result::Result<Self, String> {
        let ready = READY.iter().find(|(name, _)| *name == written);
        let text = ready.map_or(written, |(_, text)| *text);
        if text.len() > LARGEST {
            return Err(format!("`template` is longer than {LARGEST} bytes"));
        }
        let environment = environment();
        let template = environment
            .template_from_str(text)
            .map_err(|error| format!("`template` cannot be read: {}", harmless(&error)))?;
        if !template.undeclared_variables(false).contains("secret") {
            let names: Vec<&str> = READY.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "`template` is neither a ready layout ({}) nor a text with {{{{ secret }}}} in it",
                names.join(", ")
            ));
        }
        Ok(Self(text.to_owned()))
    }

    pub(super) fn render(&self, call: &DeliverCall, secret: &str) -> Result<Zeroizing<String>> {
        let out = self.render_with(call, secret)?;
        // A placeholder in a branch that is not taken would deliver a file without the secret. Another secret must give
        // another file.
        if *self.render_with(call, "keyfall-other-secret")? == *out {
            return Err(ConnectorError::unsupported(
                "The template's result does not depend on the secret; take {{ secret }} out of the condition around it.",
            ));
        }
        Ok(out)
    }

    fn render_with(&self, call: &DeliverCall, secret: &str) -> Result<Zeroizing<String>> {
        let mut fields: BTreeMap<&str, &str> = call.fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        fields.insert("version", &call.version);
        fields.insert("secret", secret);
        if let Some((name, _)) = fields.iter().find(|(_, value)| escape::has_control(value)) {
            return Err(ConnectorError::unsupported(format!(
                "`{name}` holds a line break or another control character, which no template can carry; use layout `raw` \
                 or `json`."
            )));
        }
        let environment = environment();
        let template = environment
            .template_from_str(&self.0)
            .map_err(|error| unusable(&error))?;
        if let Some(missing) = template
            .undeclared_variables(false)
            .iter()
            .find(|name| !fields.contains_key(name.as_str()))
        {
            let known: Vec<&str> = fields.keys().copied().collect();
            return Err(ConnectorError::unsupported(format!(
                "The template uses `{missing}`, which this identity does not declare; it has {}.",
                known.join(", ")
            )));
        }
        let values: BTreeMap<String, Value> = fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect();
        let out = template.render(values).map_err(|error| unusable(&error))?;
        Ok(Zeroizing::new(out))
    }
}

/// Strict about names, escaping nothing by itself, with our filters and nothing else.
fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    // Only delimiters that clash make this fail, and these are the engine's own.
    if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_fuel(Some(FUEL));
    environment.add_filter("dsn", |value: &str| escape::percent(value));
    environment.add_filter("jdbc", |value: &str| escape::percent(value));
    environment.add_filter("host", |value: &str| escape::url_host(value));
    environment.add_filter("shell", |value: &str| escape::shell(value));
    environment.add_filter("json", |value: &str| escape::json(value));
    environment.add_filter("pgpass", |value: &str| escape::pgpass(value));
    environment.add_filter("ini", |value: &str| escape::ini(value));
    environment
}

fn unusable(error: &Error) -> ConnectorError {
    ConnectorError::unsupported(format!("The template could not be rendered: {}.", harmless(error)))
}

/// The library's own text may quote a value, so only the kind and the line are told.
fn harmless(error: &Error) -> String {
    let line = error.line().unwrap_or(1);
    match error.kind() {
        minijinja::ErrorKind::UnknownFilter => format!("line {line}: unknown filter; there are {FILTERS}"),
        minijinja::ErrorKind::OutOfFuel => format!("line {line}: it takes too many steps"),
        kind => format!("line {line}: {kind}"),
    }
}
