//! Values on their way to PostgreSQL and back, in its binary form.

use std::fmt;

use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::super::sql::{Row, Value};

type Failure = Box<dyn std::error::Error + Sync + Send>;

/// A value as PostgreSQL is given it, in the type that the statement wants.
pub(super) struct Given<'a>(pub(super) &'a Value);

/// It may be a sealed secret, and the client library writes parameters into its log.
impl fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given")
    }
}

impl ToSql for Given<'_> {
    fn to_sql(&self, wanted: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        match self.0 {
            Value::Null => Ok(IsNull::Yes),
            Value::Integer(integer) if *wanted == Type::INT4 => i32::try_from(*integer)?.to_sql(wanted, out),
            Value::Integer(integer) if *wanted == Type::INT8 => integer.to_sql(wanted, out),
            Value::Text(text) if is_text(wanted) => text.to_sql(wanted, out),
            Value::Name(name) if is_text(wanted) => name.to_sql(wanted, out),
            Value::Bytes(bytes) if *wanted == Type::BYTEA => bytes.to_sql(wanted, out),
            _ => Err(format!("the statement wants a value of the type {wanted}").into()),
        }
    }

    fn accepts(wanted: &Type) -> bool {
        is_text(wanted) || [Type::INT4, Type::INT8, Type::BYTEA].contains(wanted)
    }

    to_sql_checked!();
}

fn is_text(one: &Type) -> bool {
    [Type::TEXT, Type::VARCHAR, Type::NAME].contains(one)
}

/// A column as the rest of the store sees it.
struct Column(Value);

impl<'a> FromSql<'a> for Column {
    fn from_sql(found: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        Ok(Self(if *found == Type::INT8 {
            Value::Integer(i64::from_sql(found, raw)?)
        } else if *found == Type::INT4 {
            Value::Integer(i32::from_sql(found, raw)?.into())
        } else if *found == Type::BYTEA {
            Value::Bytes(raw.to_vec())
        } else {
            Value::Text(String::from_sql(found, raw)?)
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Failure> {
        Ok(Self(Value::Null))
    }

    fn accepts(found: &Type) -> bool {
        is_text(found) || [Type::INT4, Type::INT8, Type::BYTEA].contains(found)
    }
}

pub(super) fn to_row(row: &tokio_postgres::Row) -> Result<Row, tokio_postgres::Error> {
    let columns = (0..row.len()).map(|place| row.try_get::<_, Column>(place).map(|column| column.0));
    Ok(Row::new(columns.collect::<Result<_, _>>()?))
}
