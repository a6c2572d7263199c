//! JSON from outside, read so that all who read it see the same.
//!
//! No object has a member twice: of two, one reader takes the first and another the last. A number is exact: one that is whole is an
//! integer however it is written (`742.0`), and one that a double cannot hold exactly is refused, never rounded. A byte order mark
//! before the text does not count (RFC 8259, section 8.1).

use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// From here on a double may stand for several whole numbers.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads one JSON text.
///
/// # Errors
/// Of the parser. Its text may quote what was read: keep it from logs where that is a person's.
pub fn read(text: &[u8]) -> serde_json::Result<Value> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    serde_json::from_slice(text).map(|Strict(value)| value)
}

/// Reads one JSON text as a `T`.
///
/// # Errors
/// As [`read`], and where it is no `T`.
pub fn read_as<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    read(text).and_then(serde_json::from_value)
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    #[expect(clippy::cast_possible_truncation, reason = "a whole double within this range is an integer")]
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        if value.abs() >= EXACT {
            Err(E::custom("a number that cannot be held exactly"))
        } else if value.fract() == 0.0 {
            Ok((value as i64).into())
        } else {
            Ok(value.into())
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("an object has a member twice"));
            }
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_twice_is_refused_at_any_depth() {
        for text in [r#"{"v":742,"v":1200}"#, r#"{"a":[{"b":{"v":1,"v":1}}]}"#, r#"{"v":1,"\u0076":2}"#] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(read(br#"{"v":{"v":[{"v":1}]}}"#).unwrap()["v"]["v"][0]["v"], 1);
    }

    #[test]
    fn a_number_is_exact_and_whole_ones_are_integers() {
        for (text, exact) in [
            ("742.0", Some("742")),
            ("7.42e2", Some("742")),
            ("-0.0", Some("0")),
            ("812.35", Some("812.35")),
            ("9007199254740993", Some("9007199254740993")),
            ("18446744073709551615", Some("18446744073709551615")),
            ("18446744073709551616", None),
            ("-9223372036854775808", Some("-9223372036854775808")),
            ("-9223372036854775809", None),
            ("9007199254740993.0", None),
            ("1e300", None),
            ("1e400", None),
            ("NaN", None),
            ("01", None),
        ] {
            assert_eq!(read(text.as_bytes()).ok().map(|value| value.to_string()).as_deref(), exact, "{text}");
        }
    }

    #[test]
    fn a_mark_before_the_text_does_not_count_and_nothing_comes_behind() {
        assert_eq!(read(b"\xef\xbb\xbf[1]").unwrap(), serde_json::json!([1]));
        assert!(read(b"\xef\xbb\xbf\xef\xbb\xbf[1]").is_err() && read(b"[1] [2]").is_err() && read(b"").is_err());
        assert_eq!(read_as::<Vec<u8>>(b"[1]").unwrap(), [1]);
    }
}
