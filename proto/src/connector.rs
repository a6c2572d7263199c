//! The contract with connectors outside the broker: what they answer.

use unefois_consent::{Malformed, Outcome, OutcomeCode};

use crate::fields::required;
use crate::value;

pub use crate::generated::connector::v1;

/// The version of the contract in this crate.
pub const PROTOCOL_VERSION: u32 = 1;

/// What a source said of one attribute. A value comes with FOUND and with nothing else.
pub fn outcome(message: &v1::AttributeOutcome) -> Result<Outcome, Malformed> {
    use v1::OutcomeCode as Wire;
    let code = match Wire::try_from(message.code) {
        Ok(Wire::Found) => {
            let value = value::exact(required("value", message.value.as_ref())?);
            return Ok(Outcome::Found(
                value.ok_or(Malformed::new("value", "numbers that are exact: no NaN, no infinity"))?,
            ));
        }
        Ok(Wire::NoFile) => OutcomeCode::NoFile,
        Ok(Wire::NotIdentified) => OutcomeCode::NotIdentified,
        Ok(Wire::Ambiguous) => OutcomeCode::Ambiguous,
        Ok(Wire::FilterRefused) => OutcomeCode::FilterRefused,
        Ok(Wire::NotAuthorised) => OutcomeCode::NotAuthorised,
        Ok(Wire::SourceDown) => OutcomeCode::SourceDown,
        Ok(Wire::Unspecified) | Err(_) => return Err(Malformed::new("code", "what became of the attribute")),
    };
    match message.value {
        None => Ok(Outcome::Missing(code)),
        Some(_) => Err(Malformed::new("value", "comes with FOUND alone")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(code: i32, value: Option<serde_json::Value>) -> Result<Outcome, Malformed> {
        let value = value.as_ref().map(value::to_wire);
        outcome(&v1::AttributeOutcome { name: "licence".to_owned(), code, value })
    }

    #[test]
    fn zero_empty_and_null_are_values() {
        for value in [json!(0), json!(""), json!(null), json!([]), json!({"a": 1})] {
            assert_eq!(read(1, Some(value.clone())), Ok(Outcome::Found(value)));
        }
    }

    #[test]
    fn a_value_comes_with_found_and_with_nothing_else() {
        assert!(read(1, None).is_err());
        for code in 2..=7 {
            assert!(matches!(read(code, None), Ok(Outcome::Missing(_))), "{code}");
            assert!(read(code, Some(json!(1))).is_err(), "{code}");
        }
        for unknown in [0, 8, -1] {
            assert!(read(unknown, None).is_err(), "{unknown}");
        }
    }
}
