//! A statement that is sent again and again: a fixed text, and the values that are bound to it. It knows no SQL and no connection.
//!
//! Working out how to run one of our catalog queries takes the server several times as long as running it, so each connection
//! has it done once for each text. What a role statement says cannot be bound; those go as text, by `quote.rs`.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend::{self, BindError};

/// More texts than this connector has. Beyond them a statement is prepared for once, without a name.
const KEPT: usize = 64;

/// One statement with its values as text, in the order of `$1`, `$2`, ….
#[derive(Debug, Clone)]
pub(super) struct Ask {
    text: Cow<'static, str>,
    values: Vec<String>,
}

impl Ask {
    pub(super) fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            text: text.into(),
            values: Vec::new(),
        }
    }

    /// The next value. The server refuses one with a NUL byte.
    pub(super) fn with(mut self, value: impl ToString) -> Self {
        self.values.push(value.to_string());
        self
    }
}

/// The texts that one connection has prepared, and under which name.
#[derive(Debug, Default)]
pub(super) struct Prepared(HashMap<Cow<'static, str>, String>);

impl Prepared {
    /// Writes the messages that run the statement; with its preparation when it is new here.
    pub(super) fn write(&mut self, ask: &Ask, outbox: &mut BytesMut) -> std::io::Result<()> {
        let name = match self.0.get(&ask.text) {
            Some(name) => name.clone(),
            None => self.prepare(ask, outbox)?,
        };
        let value = |value: &String, outbox: &mut BytesMut| {
            outbox.extend_from_slice(value.as_bytes());
            Ok(IsNull::No)
        };
        frontend::bind("", &name, [], &ask.values, value, [], outbox).map_err(|error| match error {
            BindError::Conversion(error) => std::io::Error::other(error),
            BindError::Serialization(error) => error,
        })?;
        frontend::execute("", 0, outbox)
    }

    fn prepare(&mut self, ask: &Ask, outbox: &mut BytesMut) -> std::io::Result<String> {
        let name = match self.0.len() {
            KEPT.. => String::new(),
            number => format!("k{number}"),
        };
        frontend::parse(&name, &ask.text, [], outbox)?;
        if !name.is_empty() {
            self.0.insert(ask.text.clone(), name.clone());
        }
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{Ask, KEPT, Prepared};

    #[test]
    fn a_text_is_prepared_once_and_its_values_are_sent_each_time() {
        let mut prepared = Prepared::default();
        let mut sent = |value: &str| {
            let mut outbox = BytesMut::new();
            let ask = Ask::new("SELECT $1").with(value);
            prepared.write(&ask, &mut outbox).unwrap();
            String::from_utf8_lossy(&outbox).into_owned()
        };
        let first = sent("one");
        assert!(first.contains("SELECT $1") && first.contains("one"), "{first:?}");
        let second = sent("two");
        assert!(!second.contains("SELECT $1") && second.contains("two"), "{second:?}");
    }

    #[test]
    fn texts_without_end_leave_no_more_than_so_many_names() {
        let mut prepared = Prepared::default();
        for number in 0..KEPT + 5 {
            let mut outbox = BytesMut::new();
            prepared
                .write(&Ask::new(format!("SELECT {number}")), &mut outbox)
                .unwrap();
        }
        assert_eq!(prepared.0.len(), KEPT);
    }
}
