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

/// The values in the one form of RFC 8785 (JCS): no white space, object members in the order of their names' UTF-16 code
/// units, strings escaped only where JSON demands it, numbers as ECMAScript prints them. Integers of 64 bits keep all
/// their digits.
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
        let value: Value =
            serde_json::from_str(r#" {"b": [ {"z":1, "a" : null} ], "a": true, "é": "x", "B": -2.50} "#).unwrap();
        assert_eq!(canonical_json(&value), r#"{"B":-2.5,"a":true,"b":[{"a":null,"z":1}],"é":"x"}"#);
    }

    #[test]
    fn members_are_sorted_as_rfc_8785_sorts_them() {
        // The sample of RFC 8785, section 3.2.3.
        let value = json!({
            "\u{20ac}": "Euro Sign", "\r": "Carriage Return", "\u{fb33}": "Hebrew Letter Dalet With Dagesh",
            "1": "One", "\u{1f600}": "Emoji: Grinning Face", "\u{80}": "Control", "\u{f6}": "Latin Small Letter O With Diaeresis",
        });
        let canonical = canonical_json(&value);
        let order = ["Carriage", "One", "Control", "Latin", "Euro", "Emoji", "Hebrew"];
        let positions = order.map(|name| canonical.find(name).unwrap());
        assert!(positions.is_sorted(), "{canonical}");
    }

    #[test]
    fn numbers_have_the_form_that_is_written_down() {
        let cases = [
            ("0", "0"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("-12", "-12"),
            ("1.0", "1"),
            ("-0.0", "0"),
            ("1e2", "100"),
            ("0.1", "0.1"),
            ("612.50", "612.5"),
            ("-2.5", "-2.5"),
            // The samples of RFC 8785, appendix B and section 3.2.2.
            ("5e-324", "5e-324"),
            ("-1.7976931348623157e308", "-1.7976931348623157e+308"),
            ("295147905179352830000.0", "295147905179352830000"),
            ("9.999999999999997e22", "9.999999999999997e+22"),
            ("1e23", "1e+23"),
            ("999999999999999700000.0", "999999999999999700000"),
            ("1e21", "1e+21"),
            ("9.999999999999997e-7", "9.999999999999997e-7"),
            ("0.000001", "0.000001"),
            ("333333333.3333332", "333333333.3333332"),
            ("-0.0000033333333333333333", "-0.0000033333333333333333"),
            ("1424953923781206.25", "1424953923781206.2"),
            ("333333333.33333329", "333333333.3333333"),
            ("1E30", "1e+30"),
            ("4.50", "4.5"),
            ("2e-3", "0.002"),
            ("0.000000000000000000000000001", "1e-27"),
        ];
        for (input, canonical) in cases {
            // Read by the standard library: serde_json may miss the nearest double by one.
            let value = input
                .parse::<u64>()
                .map(Value::from)
                .or_else(|_| input.parse::<i64>().map(Value::from))
                .unwrap_or_else(|_| Value::from(input.parse::<f64>().unwrap()));
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
        assert_ne!(digest, crate::commitment::record_part(&Salt([1; 32]), canonical.as_bytes()));
    }

    proptest! {
        #[test]
        fn numbers_read_back(number: f64) {
            if let Some(number) = serde_json::Number::from_f64(number) {
                let canonical = canonical_json(&Value::Number(number.clone()));
                prop_assert_eq!(canonical.parse::<f64>().unwrap(), number.as_f64().unwrap());
            }
        }

        #[test]
        fn strings_read_back_and_are_escaped_as_serde_json_does(text in "(\\PC|[\\x00-\\x1f\"\\\\]){0,20}") {
            let canonical = canonical_json(&Value::String(text.clone()));
            prop_assert_eq!(&canonical, &serde_json::to_string(&text).unwrap());
            prop_assert_eq!(serde_json::from_str::<String>(&canonical).unwrap(), text);
        }
    }
}
