//! Statements: one text for every database, with parameters by name.
//!
//! `$name` stands for a parameter. Positions are given by first appearance, which is how SQLite numbers names of this form; a driver that
//! wants `$1` writes them so from the same order. Values are put in place by the caller, so that the writer's thread looks up nothing.

use std::borrow::Cow;
use std::sync::OnceLock;

use super::super::{Result, StoreError};
use super::value::Value;

/// A text that never changes, with its parameters' names found once.
pub(crate) struct Statement {
    text: &'static str,
    names: OnceLock<Vec<&'static str>>,
}

/// A statement with its values, ready for any thread.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) text: Cow<'static, str>,
    pub(crate) values: Vec<Value>,
}

#[derive(Debug, thiserror::Error)]
#[error("the statement wants a value for ${name}, and it was given {given:?}")]
struct Unbound {
    name: String,
    given: Vec<&'static str>,
}

impl Statement {
    pub(crate) const fn new(text: &'static str) -> Self {
        Self {
            text,
            names: OnceLock::new(),
        }
    }

    pub(crate) fn text(&self) -> &'static str {
        self.text
    }

    pub(crate) fn names(&self) -> &[&'static str] {
        self.names.get_or_init(|| parameters(self.text))
    }

    /// # Errors
    /// When a parameter has no value: a fault of the program, which every test of the statement finds.
    pub(crate) fn with<const N: usize>(&self, given: [(&'static str, Value); N]) -> Result<Bound> {
        Ok(Bound {
            text: Cow::Borrowed(self.text),
            values: in_place(self.names(), given.into())?,
        })
    }
}

fn in_place(names: &[&str], mut given: Vec<(&'static str, Value)>) -> Result<Vec<Value>> {
    let mut values = Vec::with_capacity(names.len());
    for name in names {
        let Some((_, value)) = given.iter_mut().find(|(candidate, _)| candidate == name) else {
            return Err(StoreError::Failed {
                doing: "giving a statement its values",
                source: Box::new(Unbound {
                    name: (*name).to_owned(),
                    given: given.iter().map(|(name, _)| *name).collect(),
                }),
            });
        };
        values.push(std::mem::replace(value, Value::Null));
    }
    Ok(values)
}

/// The names of the parameters in the order of their first appearance.
fn parameters(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for part in text.split('$').skip(1) {
        let end = part
            .find(|character: char| !(character.is_ascii_alphanumeric() || character == '_'))
            .unwrap_or(part.len());
        let name = part.get(..end).unwrap_or(part);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A list whose conditions depend on what was asked. Each part is a fixed text: nothing that was asked becomes part of the statement.
pub(crate) struct Listing {
    text: String,
    given: Vec<(&'static str, Value)>,
    conditions: usize,
}

impl Listing {
    pub(crate) fn new(select: &'static str) -> Self {
        Self {
            text: select.to_owned(),
            given: Vec::new(),
            conditions: 0,
        }
    }

    /// Adds a condition that holds always.
    pub(crate) fn and(&mut self, condition: &'static str) -> &mut Self {
        self.text
            .push_str(if self.conditions == 0 { " where " } else { " and " });
        self.text.push_str(condition);
        self.conditions += 1;
        self
    }

    /// Adds a condition on one parameter.
    pub(crate) fn and_with(&mut self, condition: &'static str, name: &'static str, value: Value) -> &mut Self {
        self.given.push((name, value));
        self.and(condition)
    }

    /// Gives a value to a parameter of a condition that has several.
    pub(crate) fn given(&mut self, name: &'static str, value: Value) -> &mut Self {
        self.given.push((name, value));
        self
    }

    /// Adds the condition when there is something to compare with.
    pub(crate) fn and_maybe(
        &mut self,
        condition: &'static str,
        name: &'static str,
        value: Option<impl Into<Value>>,
    ) -> &mut Self {
        match value {
            Some(value) => self.and_with(condition, name, value.into()),
            None => self,
        }
    }

    /// Ends the text with an order and a limit.
    pub(crate) fn end(mut self, tail: &'static str, limit: u32) -> Result<Bound> {
        self.text.push_str(tail);
        self.given.push(("limit", limit.into()));
        let values = in_place(&parameters(&self.text), self.given)?;
        Ok(Bound {
            text: Cow::Owned(self.text),
            values,
        })
    }
}

/// Declares the statements of one noun, and the list of them that the tests go through.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)*) => {
        $($(#[$doc])* pub(crate) static $name: $crate::store::sql::Statement = $crate::store::sql::Statement::new($text);)*

        #[cfg(test)]
        pub(crate) static ALL: &[(&str, &$crate::store::sql::Statement)] = &[$((stringify!($name), &$name)),*];
    };
}

pub(crate) use statements;

#[cfg(test)]
mod tests {
    use super::{Listing, Statement, Value, parameters};

    #[test]
    fn names_are_numbered_by_first_appearance() {
        assert_eq!(parameters("select $b, $a where x = $b and $a_1 > 0"), ["b", "a", "a_1"]);
    }

    #[test]
    fn values_go_where_their_name_stands() {
        static PAIR: Statement = Statement::new("select $b, $a, $b");
        let bound = PAIR.with([("a", 1_u32.into()), ("b", 2_u32.into())]).unwrap();
        assert!(bound.values == [Value::Integer(2), Value::Integer(1)]);
        assert!(PAIR.with([("a", 1_u32.into())]).is_err());
    }

    #[test]
    fn a_listing_has_only_the_conditions_that_were_asked() {
        let mut listing = Listing::new("select id from runs");
        listing.and_maybe("kind = $kind", "kind", None::<&str>);
        listing.and_maybe("status = $status", "status", Some("open"));
        let bound = listing.end(" order by id limit $limit", 3).unwrap();
        assert_eq!(
            bound.text,
            "select id from runs where status = $status order by id limit $limit"
        );
        assert!(bound.values == [Value::Text("open".to_owned()), Value::Integer(3)]);
    }
}
