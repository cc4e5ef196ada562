//! Values that go into a statement and rows that come out of it, in the few types that every database shares. Knows no database.

use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::de::value::{Error as NameError, StrDeserializer};

use super::super::{Result, StoreError};

/// One value. No `Debug`: it may be a sealed secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Text(String),
    /// A text of the program itself, such as a state's name.
    Name(&'static str),
    Bytes(Vec<u8>),
}

impl Value {
    /// An id, a digest: whatever is stored as it is shown.
    pub(crate) fn shown(value: &impl Display) -> Self {
        Self::Text(value.to_string())
    }

    pub(crate) fn json(what: &'static str, value: &impl Serialize) -> Result<Self> {
        serde_json::to_string(value)
            .map(Self::Text)
            .map_err(|source| StoreError::Failed {
                doing: what,
                source: Box::new(source),
            })
    }
}

macro_rules! integers {
    ($($name:ty),*) => {$(
        impl From<$name> for Value {
            fn from(value: $name) -> Self {
                Self::Integer(i64::from(value))
            }
        }
    )*};
}

integers!(i64, u32, u8, bool);

impl From<u64> for Value {
    /// Counts and positions stay far below the largest signed integer.
    fn from(value: u64) -> Self {
        Self::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<Timestamp> for Value {
    fn from(value: Timestamp) -> Self {
        Self::Integer(value.as_microsecond())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One row. Its columns are taken in the order in which the statement names them.
pub(crate) struct Row(Vec<Value>);

impl Row {
    pub(crate) fn new(values: Vec<Value>) -> Self {
        Self(values)
    }

    /// The columns as they are, for whoever carries them elsewhere.
    pub(crate) fn into_values(self) -> Vec<Value> {
        self.0
    }

    /// Begins to take the columns; `what` names the row in errors.
    pub(crate) fn read(self, what: &'static str) -> Columns {
        Columns {
            what,
            values: self.0.into_iter(),
        }
    }
}

/// The columns of a row that are not taken yet.
pub(crate) struct Columns {
    what: &'static str,
    values: std::vec::IntoIter<Value>,
}

impl Columns {
    fn unreadable(&self, why: impl Display) -> StoreError {
        StoreError::Unreadable {
            what: self.what,
            why: why.to_string(),
        }
    }

    fn next(&mut self) -> Result<Value> {
        self.values.next().ok_or_else(|| self.unreadable("a column is missing"))
    }

    fn wanted<T>(&self, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.unreadable("a value is missing"))
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        let value = self.maybe_text()?;
        self.wanted(value)
    }

    pub(crate) fn maybe_text(&mut self) -> Result<Option<String>> {
        match self.next()? {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text)),
            Value::Name(name) => Ok(Some(name.to_owned())),
            Value::Integer(_) | Value::Bytes(_) => Err(self.unreadable("a text was expected")),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>> {
        match self.next()? {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(self.unreadable("bytes were expected")),
        }
    }

    pub(crate) fn hash(&mut self) -> Result<[u8; 32]> {
        let bytes = self.bytes()?;
        <[u8; 32]>::try_from(bytes)
            .map_err(|bytes| self.unreadable(format!("a hash has 32 bytes, not {}", bytes.len())))
    }

    fn maybe_integer(&mut self) -> Result<Option<i64>> {
        match self.next()? {
            Value::Null => Ok(None),
            Value::Integer(integer) => Ok(Some(integer)),
            _ => Err(self.unreadable("an integer was expected")),
        }
    }

    pub(crate) fn maybe_number<T: TryFrom<i64>>(&mut self) -> Result<Option<T>> {
        match self.maybe_integer()? {
            None => Ok(None),
            Some(integer) => T::try_from(integer)
                .map(Some)
                .map_err(|_| self.unreadable(format!("{integer} is out of range"))),
        }
    }

    pub(crate) fn number<T: TryFrom<i64>>(&mut self) -> Result<T> {
        let value = self.maybe_number()?;
        self.wanted(value)
    }

    pub(crate) fn flag(&mut self) -> Result<bool> {
        match self.number::<i64>()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.unreadable(format!("{other} is neither 0 nor 1"))),
        }
    }

    pub(crate) fn maybe_time(&mut self) -> Result<Option<Timestamp>> {
        match self.maybe_integer()? {
            None => Ok(None),
            Some(micros) => Timestamp::from_microsecond(micros)
                .map(Some)
                .map_err(|error| self.unreadable(error)),
        }
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp> {
        let value = self.maybe_time()?;
        self.wanted(value)
    }

    pub(crate) fn maybe_shown<T: FromStr<Err: Display>>(&mut self) -> Result<Option<T>> {
        match self.maybe_text()? {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|error| self.unreadable(error)),
        }
    }

    pub(crate) fn shown<T: FromStr<Err: Display>>(&mut self) -> Result<T> {
        let value = self.maybe_shown()?;
        self.wanted(value)
    }

    /// A variant without data, by its name.
    pub(crate) fn name<T: DeserializeOwned>(&mut self) -> Result<T> {
        let name = self.text()?;
        T::deserialize(StrDeserializer::<NameError>::new(&name)).map_err(|error| self.unreadable(error))
    }

    pub(crate) fn maybe_name<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        match self.maybe_text()? {
            None => Ok(None),
            Some(name) => T::deserialize(StrDeserializer::<NameError>::new(&name))
                .map(Some)
                .map_err(|error| self.unreadable(error)),
        }
    }

    pub(crate) fn maybe_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        match self.maybe_text()? {
            None => Ok(None),
            Some(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|error| self.unreadable(error)),
        }
    }

    pub(crate) fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let value = self.maybe_json()?;
        self.wanted(value)
    }
}
