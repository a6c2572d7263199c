//! From columns to values, by the type that the operator declared. A column of another type is a fault: the query casts it.

use serde_json::Value;
use sqlx::mysql::MySqlRow;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Column as _, Row, TypeInfo as _};

use super::settings::SqlAttribute;
use crate::SourceFault;
use crate::value_type::ValueType;

const WRONG_TYPE: SourceFault =
    SourceFault::Untrusted("a column has another type than it must have: cast it in the query");
const NO_COLUMN: SourceFault = SourceFault::Untrusted("the query gives no such column");

/// The column as the first of these types that it has.
macro_rules! read_as {
    ($row:expr, $column:expr, $($kind:ty),+) => {{
        let mut read = None;
        $(
            if read.is_none() {
                read = $row.try_get::<Option<$kind>, _>($column).ok().map(Value::from);
            }
        )+
        read
    }};
}

/// A number that JSON has; NaN and infinity are none.
macro_rules! read_number {
    ($row:expr, $column:expr, $($kind:ty),+) => {{
        let mut read = None;
        $(
            if read.is_none() {
                read = $row.try_get::<Option<$kind>, _>($column).ok().map(|number| match number {
                    // By the shortest decimal that names it: a REAL of 812.35 is no 812.3499755859375.
                    Some(number) => number.to_string().parse().ok().and_then(serde_json::Number::from_f64).map(Value::from),
                    None => Some(Value::Null),
                });
            }
        )+
        read.flatten()
    }};
}

macro_rules! reader {
    ($(#[$doc:meta])* $name:ident, $row:ty, integers: [$($integer:ty),+], floats: [$($float:ty),+]) => {
        $(#[$doc])*
        pub(super) fn $name(row: &$row, attribute: &SqlAttribute) -> Result<Value, SourceFault> {
            let column = &*attribute.column;
            let Ok(at) = row.try_column(column) else { return Err(NO_COLUMN) };
            // MariaDB's FLOAT: as a double it would show digits that nobody wrote.
            let is_single = at.type_info().name() == "FLOAT";
            let value = match attribute.value_type {
                ValueType::Integer => read_as!(row, column, $($integer),+),
                ValueType::Number if is_single => read_number!(row, column, f32),
                ValueType::Number => {
                    read_number!(row, column, $($float),+).or_else(|| read_as!(row, column, $($integer),+))
                }
                ValueType::Text => read_as!(row, column, String),
                ValueType::Boolean => read_as!(row, column, bool),
                ValueType::List | ValueType::Object => read_as!(row, column, Value),
            };
            value.filter(|value| attribute.value_type.admits(value)).ok_or(WRONG_TYPE)
        }
    };
}

reader!(
    /// A column of PostgreSQL.
    postgres, PgRow, integers: [i64, i32, i16], floats: [f64, f32]
);
reader!(
    /// A column of MariaDB or MySQL.
    mysql, MySqlRow, integers: [i64, u64], floats: [f64]
);
reader!(
    /// A column of SQLite.
    sqlite, SqliteRow, integers: [i64], floats: [f64]
);
