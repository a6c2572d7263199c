//! The digest by which a record commits to the values of an answer without holding them.
//!
//! A bare digest of a small value is the value: a family quotient has a few thousand possible ones. The digest is
//! salted, the salt travels to the consumer with the answer, and the broker forgets it.

use serde_json::Value;

use crate::hash::{Hash, digest_parts};
use crate::json;
use crate::leaf::Salt;

const ANSWER_LABEL: &[u8] = b"unefois/answer/v1";

/// The digest of an answer: SHA-256("unefois/answer/v1" ‖ 0x00 ‖ salt ‖ canonical JSON of the values).
///
/// `canonical` is what [`canonical_json`] gives; other bytes make a digest that no one else will find again.
pub fn answer_digest(answer_salt: &Salt, canonical: &[u8]) -> Hash {
    digest_parts(&[ANSWER_LABEL, &[0x00], &answer_salt.0, canonical])
}

/// JSON with one form per value: no white space, object members in the order of their names' code points, strings
/// escaped only where JSON demands it.
pub fn canonical_json(value: &Value) -> String {
    let mut out = String::new();
    json::push_value(&mut out, value);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_sorted_at_every_depth_and_white_space_is_gone() {
        let value: Value = serde_json::from_str(r#" {"b": [ {"z":1, "a" : null} ], "a": true, "é": "x", "B": -2.50} "#).unwrap();
        assert_eq!(canonical_json(&value), r#"{"B":-2.5,"a":true,"b":[{"a":null,"z":1}],"é":"x"}"#);
    }

    #[test]
    fn numbers_have_the_form_that_is_written_down() {
        let cases = [
            ("0", "0"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("1.0", "1.0"),
            ("1e2", "100.0"),
            ("0.1", "0.1"),
            ("-0.0", "-0.0"),
            ("0.00001", "0.00001"),
            ("0.000001", "1e-6"),
            ("1234567890123456.0", "1234567890123456.0"),
            ("1e15", "1000000000000000.0"),
            ("1e16", "1e16"),
            ("1.25e30", "1.25e+30"),
        ];
        for (input, canonical) in cases {
            let value: Value = serde_json::from_str(input).unwrap();
            assert_eq!(canonical_json(&value), canonical, "{input}");
        }
    }

    #[test]
    fn the_digest_depends_on_salt_and_values() {
        let canonical = canonical_json(&json!({"dss.quotient_familial.valeur": 612}));
        let digest = answer_digest(&Salt([1; 32]), canonical.as_bytes());
        assert_ne!(digest, answer_digest(&Salt([2; 32]), canonical.as_bytes()));
        let other = canonical_json(&json!({"dss.quotient_familial.valeur": 613}));
        assert_ne!(digest, answer_digest(&Salt([1; 32]), other.as_bytes()));
        // Nor can an answer pass for a record.
        assert_ne!(digest, crate::leaf::commitment(&Salt([1; 32]), canonical.as_bytes()));
    }

    proptest! {
        #[test]
        fn strings_read_back_and_are_escaped_as_serde_json_does(text in "(\\PC|[\\x00-\\x1f\"\\\\]){0,20}") {
            let canonical = canonical_json(&Value::String(text.clone()));
            prop_assert_eq!(&canonical, &serde_json::to_string(&text).unwrap());
            prop_assert_eq!(serde_json::from_str::<String>(&canonical).unwrap(), text);
        }
    }
}
