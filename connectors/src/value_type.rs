//! The type that an operator declares for an attribute, so that an answer of another form is noticed.

use serde::Deserialize;
use serde_json::Value;

/// The JSON type of a value. Any of them may be null: the source knows that there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    /// A number without fraction.
    Integer,
    /// A number.
    Number,
    /// A text.
    Text,
    /// True or false.
    Boolean,
    /// A list.
    List,
    /// An object.
    Object,
}

impl ValueType {
    /// Whether `value` has this type, or is null.
    pub fn admits(self, value: &Value) -> bool {
        match self {
            _ if value.is_null() => true,
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Text => value.is_string(),
            Self::Boolean => value.is_boolean(),
            Self::List => value.is_array(),
            Self::Object => value.is_object(),
        }
    }
}
