//! The two marks of a move: in the source, that it is closed for business; in the target, how far the copy has come. Both name the same
//! attempt, so that a copy is gone on with only where it was begun.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::driver::{Driver, Reach, Select, first, only_text};
use super::super::sql::{Value, ledger};
use super::super::{Result, StoreError};
use super::Purpose;

/// The setting of a store that was moved, or is being moved, to another place. Its value is a [`Moved`] as JSON. While it stands nothing
/// but a move, or a restore in its place, opens the store: two stores never both act.
pub const MOVED: &str = "moved";

/// The setting of a store that a move writes to and has not finished. Its value is an [`Arriving`] as JSON.
pub const ARRIVING: &str = "arriving";

/// What stands in the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Drawn once for each target.
    pub attempt: String,
    /// Where to, for people. No password is in it.
    pub to: String,
    pub at: Timestamp,
    /// The target was verified: from here on it is the store, whether its own mark is gone or not.
    pub finished: bool,
}

/// What stands in the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Arriving {
    pub(super) attempt: String,
    /// The id of the store that is copied.
    pub(super) source: String,
    /// For people.
    pub(super) from: String,
    /// The table whose rows came last, and the key of the last of them. None: nothing was copied yet.
    pub(super) reached: Option<Reached>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reached {
    pub(super) table: String,
    pub(super) after: Vec<Part>,
    /// No row of the table is left.
    pub(super) whole: bool,
}

/// One column of a key. A key of bytes is in no table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Part {
    Number(i64),
    Text(String),
}

impl Part {
    pub(super) fn of(value: &Value) -> Result<Self> {
        match value {
            Value::Integer(number) => Ok(Self::Number(*number)),
            Value::Text(text) => Ok(Self::Text(text.clone())),
            Value::Name(name) => Ok(Self::Text((*name).to_owned())),
            Value::Null | Value::Bytes(_) => Err(StoreError::Unreadable {
                what: "key",
                why: "it is neither a number nor a text".to_owned(),
            }),
        }
    }

    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Number(number) => Value::Integer(*number),
            Self::Text(text) => Value::Text(text.clone()),
        }
    }
}

/// Reads a mark. One that cannot be read is no mark that can be passed over.
pub(super) fn read<M: for<'a> Deserialize<'a>>(what: &'static str, value: &str) -> Result<M> {
    serde_json::from_str(value).map_err(|error| StoreError::Unreadable {
        what,
        why: error.to_string(),
    })
}

pub(super) fn write<M: Serialize>(what: &'static str, mark: &M) -> Result<String> {
    serde_json::to_string(mark).map_err(|source| StoreError::Failed {
        doing: what,
        source: Box::new(source),
    })
}

/// Refuses a store that is on the move to everybody whom that does not concern.
pub(in super::super) async fn admit<D: Driver>(driver: &D, purpose: Purpose) -> Result<()> {
    let (moved, arriving) = (setting(driver, MOVED).await?, setting(driver, ARRIVING).await?);
    admitted(purpose, moved.as_deref(), arriving.as_deref())
}

/// The same, by the two marks.
pub(in super::super) fn admitted(purpose: Purpose, moved: Option<&str>, arriving: Option<&str>) -> Result<()> {
    let refused = |why: String| Err(StoreError::Open { why });
    if purpose != Purpose::MoveTo
        && let Some(value) = arriving
    {
        let from = read::<Arriving>(ARRIVING, value).map_or_else(|_| "another store".to_owned(), |mark| mark.from);
        return refused(format!(
            "it is an unfinished copy of {from}: finish it with `keyfall migrate-store --from … --to …` as it was begun"
        ));
    }
    if !matches!(purpose, Purpose::MoveFrom | Purpose::Restore)
        && let Some(value) = moved
    {
        return refused(match read::<Moved>(MOVED, value) {
            Ok(Moved {
                to, at, finished: true, ..
            }) => format!(
                "it was moved to {to} at {at:.0}, which is the store since then: set `store` in the settings to that"
            ),
            Ok(Moved { to, at, .. }) => format!(
                "it is being moved to {to} since {at:.0}: finish that with `keyfall migrate-store --from … --to …`, or give it up with `keyfall migrate-store --abandon`"
            ),
            Err(error) => format!("it was moved, and {error}"),
        });
    }
    Ok(())
}

async fn setting<D: Driver>(driver: &D, key: &'static str) -> Result<Option<String>> {
    let select = Select {
        bounds: vec![ledger::setting(key)?],
        map: only_text,
    };
    Ok(first(driver.read(select, Reach::Point).await?))
}
