//! Whether an answer is the one that a receipt is for.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use unefois_audit::{Salt, answer_digest, canonical_json};
use unefois_consent::event::Answered;
use unefois_consent::{AttributeId, OutcomeCode, json};

/// Checks values, or a whole answer of `unefois exchange --json`, against the record of a receipt and the salt that came
/// with it. Of a whole answer everything that the record knows of must be the same, not the values alone.
pub(super) fn check(answer: &str, salt: &Salt, answered: &Answered) -> Result<(), String> {
    let json = json::read(answer.as_bytes()).map_err(|error| format!("the answer cannot be read: {error}"))?;
    let values = match json.get("attributes").and_then(Value::as_array) {
        Some(attributes) => {
            let exchange = json.get("exchange_id").and_then(Value::as_str);
            if exchange.is_some_and(|exchange| exchange != answered.exchange.to_string()) {
                return Err("the answer is of another exchange than the receipt".to_owned());
            }
            found_values(attributes, answered)?
        }
        None => json,
    };
    if answer_digest(salt, canonical_json(&values).as_bytes()).0 == answered.answer.0 {
        Ok(())
    } else {
        Err("these are not the values that the receipt is for".to_owned())
    }
}

/// The found values of a whole answer whose names, outcomes and provenance are those of the record.
fn found_values(attributes: &[Value], answered: &Answered) -> Result<Value, String> {
    let mut values = Map::new();
    let mut seen = BTreeSet::new();
    for attribute in attributes {
        let text = |member: &str| attribute.get(member).and_then(Value::as_str).unwrap_or_default();
        let name: AttributeId =
            text("name").parse().map_err(|_| "an attribute of the answer has no name".to_owned())?;
        let fault = |what: &str| format!("{name}: {what}");
        let Some(outcome) = answered.attributes.get(&name) else { return Err(fault("the receipt does not name it")) };
        if !seen.insert(name.clone()) {
            return Err(fault("the answer has it twice"));
        }
        if text("status") != outcome.as_str() {
            return Err(fault(&format!("the receipt says {}", outcome.as_str())));
        }
        match (outcome, attribute.get("value").filter(|value| !value.is_null())) {
            (OutcomeCode::Found, Some(value)) => drop(values.insert(name.to_string(), value.clone())),
            // A source may say null.
            (OutcomeCode::Found, None) if attribute.get("value").is_some() => {
                values.insert(name.to_string(), Value::Null);
            }
            (OutcomeCode::Found, None) => return Err(fault("the answer has no value for it")),
            (_, Some(_)) => return Err(fault("the answer has a value, and the receipt says that none was found")),
            (_, None) => {}
        }
        if let Some(given) = attribute.get("provenance").filter(|provenance| !provenance.is_null()) {
            check_provenance(given, &name, answered).map_err(fault)?;
        }
    }
    if seen.len() != answered.attributes.len() {
        return Err("the answer lacks attributes that the receipt names".to_owned());
    }
    Ok(Value::Object(values))
}

fn check_provenance(given: &Value, name: &AttributeId, answered: &Answered) -> Result<(), &'static str> {
    let other = "the receipt names another source, version, time or reference";
    let logged = answered.provenance.get(name.dataset()).ok_or(other)?;
    let text = |member: &str| given.get(member).and_then(Value::as_str).unwrap_or_default();
    let same = text("source") == logged.source.to_string()
        && text("dataset_version") == logged.version
        && text("obtained_at") == logged.obtained_at.to_string()
        && text("reference") == logged.reference.as_deref().unwrap_or_default();
    if same { Ok(()) } else { Err(other) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answered() -> Answered {
        let values = json!({ "dss.quotient_familial.valeur": 742 });
        serde_json::from_value(json!({
            "exchange": "0".repeat(32), "requested": 3, "request_id": "r-1", "consumer": "21350238800019", "recipient": "21350238800019",
            "procedure": "tarification-cantine", "ground": "LAW_REQUEST", "subject": "1".repeat(32),
            "attributes": {
                "dss.quotient_familial.valeur": "FOUND", "dss.quotient_familial.adresse": "NO_FILE",
            },
            "provenance": { "dss.quotient_familial": {
                "source": "13002526500013", "version": "3", "obtained_at": "2026-01-01T00:00:00.000Z",
            } },
            "answer": hex::encode(answer_digest(&SALT, canonical_json(&values).as_bytes()).0),
        }))
        .unwrap()
    }

    const SALT: Salt = Salt([5; 32]);

    fn whole() -> Value {
        let provenance = json!({
            "source": "13002526500013", "dataset_version": "3", "obtained_at": "2026-01-01T00:00:00.000Z", "reference": "",
        });
        json!({ "exchange_id": "0".repeat(32), "attributes": [
            { "name": "dss.quotient_familial.valeur", "status": "FOUND", "value": 742, "provenance": provenance },
            { "name": "dss.quotient_familial.adresse", "status": "NO_FILE", "value": null, "provenance": provenance },
        ] })
    }

    #[test]
    fn the_answer_is_the_one_of_the_receipt() {
        check(&whole().to_string(), &SALT, &answered()).unwrap();
        check(r#"{"dss.quotient_familial.valeur": 742}"#, &SALT, &answered()).unwrap();
    }

    #[test]
    fn every_other_answer_is_refused() {
        type Change = fn(&mut Value);
        let changes: [(&str, Change); 10] = [
            ("value", |a| a["attributes"][0]["value"] = 741.into()),
            ("no value", |a| drop(a["attributes"][0].as_object_mut().unwrap().remove("value"))),
            ("status", |a| a["attributes"][0]["status"] = "NO_FILE".into()),
            ("made found", |a| a["attributes"][1]["status"] = "FOUND".into()),
            ("a value where none was found", |a| a["attributes"][1]["value"] = "1 rue".into()),
            ("an attribute more", |a| a["attributes"][1]["name"] = "dss.quotient_familial.nom".into()),
            ("an attribute less", |a| drop(a["attributes"].as_array_mut().unwrap().pop())),
            ("twice", |a| {
                let first = a["attributes"][0].clone();
                a["attributes"].as_array_mut().unwrap().insert(0, first);
            }),
            ("source", |a| a["attributes"][0]["provenance"]["source"] = "FORGED".into()),
            ("exchange", |a| a["exchange_id"] = "1".repeat(32).into()),
        ];
        for (what, change) in changes {
            let mut answer = whole();
            change(&mut answer);
            assert!(check(&answer.to_string(), &SALT, &answered()).is_err(), "{what}");
        }
        let doubled = r#"{"dss.quotient_familial.valeur": 1, "dss.quotient_familial.valeur": 742}"#;
        assert!(check(doubled, &SALT, &answered()).unwrap_err().contains("twice"));
    }
}
