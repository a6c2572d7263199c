//! JSON values as `google.protobuf.Value`.
//!
//! A protobuf number is a double: integers beyond 2^53 would change, so they travel as text.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::Value as Json;

/// Largest integer that every smaller one has its own double.
const EXACT: u64 = 1 << 53;

/// `json` on the wire.
pub fn to_wire(json: &Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(b) => Kind::BoolValue(*b),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(i), _, Some(double)) if i.unsigned_abs() <= EXACT => Kind::NumberValue(double),
            (None, None, Some(double)) => Kind::NumberValue(double),
            _ => Kind::StringValue(number.to_string()),
        },
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(to_wire).collect() }),
        Json::Object(members) => {
            Kind::StructValue(Struct { fields: members.iter().map(|(k, v)| (k.clone(), to_wire(v))).collect() })
        }
    };
    Value { kind: Some(kind) }
}

/// `value` as JSON, from somebody who may err: `None` where a number in it is none (NaN, infinity), or is whole and so large that it
/// may have been rounded.
pub fn exact(value: &Value) -> Option<Json> {
    match &value.kind {
        Some(Kind::NumberValue(double)) if !double.is_finite() || double.abs() > EXACT as f64 => None,
        Some(Kind::ListValue(list)) => list.values.iter().map(exact).collect(),
        Some(Kind::StructValue(object)) => {
            object.fields.iter().map(|(name, value)| Some((name.clone(), exact(value)?))).collect()
        }
        _ => Some(to_json(value)),
    }
}

/// `value` as JSON, for people and scripts; whole doubles print as integers.
pub fn to_json(value: &Value) -> Json {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(b)) => Json::Bool(*b),
        Some(Kind::NumberValue(double)) => whole(*double).map_or_else(|| Json::from(*double), Json::from),
        Some(Kind::StringValue(text)) => Json::String(text.clone()),
        Some(Kind::ListValue(list)) => list.values.iter().map(to_json).collect(),
        Some(Kind::StructValue(object)) => {
            Json::Object(object.fields.iter().map(|(k, v)| (k.clone(), to_json(v))).collect())
        }
    }
}

fn whole(double: f64) -> Option<i64> {
    let whole = double.fract() == 0.0 && double.abs() <= EXACT as f64;
    // In this range the conversion is exact.
    whole.then_some(double as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_were() {
        for text in [
            "null",
            "true",
            "0",
            "-7",
            "150",
            "0.5",
            "9007199254740992",
            r#""a""#,
            r#"[1,{"b":null}]"#,
            r#"{"a":{"b":[]}}"#,
        ] {
            let json: Json = serde_json::from_str(text).unwrap();
            assert_eq!(to_json(&to_wire(&json)), json, "{text}");
        }
    }

    #[test]
    fn an_integer_that_a_double_cannot_hold_travels_as_text() {
        let json: Json = serde_json::from_str("9007199254740993").unwrap();
        assert_eq!(to_json(&to_wire(&json)), Json::String("9007199254740993".to_owned()));
    }

    #[test]
    fn numbers_that_are_none_or_may_be_rounded_are_refused_at_any_depth() {
        let number = |double| Value { kind: Some(Kind::NumberValue(double)) };
        for double in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 9_007_199_254_740_994.0, 1e300] {
            let list = Value { kind: Some(Kind::ListValue(ListValue { values: vec![number(double)] })) };
            let fields = [("v".to_owned(), list.clone())].into();
            let object = Value { kind: Some(Kind::StructValue(Struct { fields })) };
            for value in [number(double), list, object] {
                assert_eq!(exact(&value), None, "{double}");
            }
        }
        assert_eq!(exact(&number(9_007_199_254_740_992.0)), Some(Json::from(9_007_199_254_740_992_u64)));
        assert_eq!(exact(&number(812.35)), Some(Json::from(812.35)));
    }
}
