//! What an identity may do on Redis: `{ "rules": ["~cache:*", "+@read"] }`. Only rules that grant or withhold commands,
//! keys and channels are taken; whatever touches passwords or the account's state is refused.

use std::borrow::Cow;

use serde::de::Error as _;
use serde_json::Value;

/// The rules of an identity's `access`, or `None` where it has none, which leaves an existing account's rights alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) rules: Option<Vec<String>>,
}

/// Reads and checks at once. The error has one line for each problem.
pub(super) fn parse(access: &Value) -> Result<Access, Vec<String>> {
    let fields = match access {
        Value::Null => return Ok(Access { rules: None }),
        Value::Object(fields) => fields,
        _ => {
            return Err(vec![
                "`access` must be an object such as { rules: [\"~cache:*\", \"+@read\"] }".to_owned(),
            ]);
        }
    };
    let mut problems: Vec<String> = fields
        .keys()
        .filter(|key| *key != "rules")
        .map(|key| serde_json::Error::unknown_field(key, &["rules"]).to_string())
        .collect();
    let rules = match fields.get("rules") {
        None => None,
        Some(Value::Array(rules)) => Some(rules.iter().filter_map(|rule| read(rule, &mut problems)).collect()),
        Some(_) => {
            problems.push("`access.rules` must be a list of strings".to_owned());
            None
        }
    };
    if problems.is_empty() {
        Ok(Access { rules })
    } else {
        Err(problems)
    }
}

fn read(rule: &Value, problems: &mut Vec<String>) -> Option<String> {
    let Some(text) = rule.as_str() else {
        problems.push(format!("`access.rules` holds {rule}, which is not a string"));
        return None;
    };
    if is_allowed(text) {
        return Some(text.to_owned());
    }
    problems.push(format!(
        "`access.rules` holds {text:?}; write a key pattern (`~cache:*`, `%R~cache:*`), a channel (`&news`), or a command \
         or category to add or withhold (`+get`, `+@read`, `-@dangerous`)"
    ));
    None
}

fn is_allowed(rule: &str) -> bool {
    const KEY_PREFIXES: [&str; 5] = ["~", "%R~", "%W~", "%RW~", "&"];
    if rule.len() > 512 || rule.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return false;
    }
    if let Some(command) = rule.strip_prefix(['+', '-']) {
        let name = command.strip_prefix('@').unwrap_or(command);
        return !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '|'));
    }
    KEY_PREFIXES
        .iter()
        .any(|prefix| rule.strip_prefix(prefix).is_some_and(|pattern| !pattern.is_empty()))
}

/// A pattern of keys or channels, not a command.
pub(super) fn is_place(rule: &str) -> bool {
    !rule.starts_with(['+', '-'])
}

/// Redis lists a key pattern for reading and writing with its short prefix.
pub(super) fn is_same_place(listed: &str, stated: &str) -> bool {
    fn short(rule: &str) -> Cow<'_, str> {
        rule.strip_prefix("%RW~")
            .map_or(Cow::Borrowed(rule), |pattern| Cow::Owned(format!("~{pattern}")))
    }
    short(listed) == short(stated)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Access, parse};

    #[test]
    fn the_allowed_shapes_are_taken_in_order() {
        let rules = [
            "~cache:*",
            "%R~a",
            "%RW~b",
            "&news",
            "+@read",
            "+config|get",
            "-@dangerous",
        ];
        let access = json!({ "rules": rules });
        assert_eq!(
            parse(&access),
            Ok(Access {
                rules: Some(rules.map(str::to_owned).to_vec())
            })
        );
    }

    #[test]
    fn whatever_touches_passwords_or_state_is_refused() {
        for rule in [
            "on",
            "off",
            "nopass",
            "resetpass",
            "reset",
            ">secret",
            "<secret",
            "#ab",
            "!ab",
            "allkeys",
            "allcommands",
            "(+get ~x)",
            "~",
            "+",
            "+@",
            "-",
            "%X~a",
            "~a b",
            "~a\0",
            "+get\non",
            "",
            "sanitize-payload",
            "+get;",
        ] {
            let problems = parse(&json!({ "rules": ["+get", rule] })).expect_err(rule);
            assert_eq!(problems.len(), 1, "{rule:?}");
        }
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_named() {
        assert_eq!(parse(&json!({ "rulez": [] })).expect_err("unknown key").len(), 1);
        assert_eq!(parse(&json!({ "rules": "+get" })).expect_err("no list").len(), 1);
        assert_eq!(parse(&json!({ "rules": [1] })).expect_err("no string").len(), 1);
        assert_eq!(parse(&json!([])).expect_err("no object").len(), 1);
        assert_eq!(parse(&json!({})), Ok(Access { rules: None }));
        assert_eq!(parse(&json!(null)), Ok(Access { rules: None }));
    }
}
