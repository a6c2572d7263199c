//! Consents, mandates and exchanges as JSON for others: our own form, and those of Kantara and of the Data Privacy
//! Vocabulary.
//!
//! None of them names the person: a receipt is handed to whoever knows whose it is.

use serde_json::{Value, json};
use unefois_consent::registry::Registry;
use unefois_consent::{AttributeId, Consent, Malformed, Siret, Timestamp};
use unefois_engine::consents::{LedgerConsent, MyEvent, MyExchange, MyExchangeEnd, MyMandate};
use unefois_proto::v1;

mod dpv;
mod kantara;

/// A form of a consent receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Kantara Initiative Consent Receipt Specification 1.1.
    Kantara,
    /// ISO/IEC TS 27560 consent record in the Data Privacy Vocabulary.
    DpvRecord,
    /// ISO/IEC TS 27560 consent receipt in the Data Privacy Vocabulary.
    DpvReceipt,
}

impl Format {
    /// The form that a message names.
    pub fn from_wire(number: i32) -> Result<Self, Malformed> {
        match v1::ConsentFormat::try_from(number) {
            Ok(v1::ConsentFormat::Kantara) => Ok(Self::Kantara),
            Ok(v1::ConsentFormat::DpvRecord) => Ok(Self::DpvRecord),
            Ok(v1::ConsentFormat::DpvReceipt) => Ok(Self::DpvReceipt),
            Ok(v1::ConsentFormat::Unspecified) | Err(_) => {
                Err(Malformed::new("format", "must be one of Kantara DpvRecord DpvReceipt"))
            }
        }
    }
}

/// A consent in the form `format`.
pub fn document(format: Format, found: &LedgerConsent, registry: &Registry, now: Timestamp) -> Value {
    match format {
        Format::Kantara => kantara::receipt(found, registry),
        Format::DpvRecord => dpv::record(found, registry, now),
        Format::DpvReceipt => dpv::receipt(found, registry, now),
    }
}

/// The name of an attribute for people.
pub(crate) fn attribute_title(registry: &Registry, attribute: &AttributeId) -> String {
    let dataset = registry.dataset(attribute.dataset());
    let known = dataset.and_then(|d| d.attributes.iter().find(|a| a.name == attribute.name()));
    known.map_or_else(|| attribute.to_string(), |a| a.title.clone())
}

/// Name, postal address and telephone number of a participant; its SIRET for a name where it left the registry.
pub(crate) fn party(registry: &Registry, siret: Siret) -> (String, String, String) {
    registry.participant(siret).map_or_else(
        || (siret.to_string(), String::new(), String::new()),
        |p| (p.name.clone(), p.address.clone(), p.phone.clone()),
    )
}

/// Whom to write to about a consent.
pub(crate) fn dpo_contact<'a>(registry: &'a Registry, consent: &Consent) -> Option<&'a str> {
    let covers = |h: &&std::sync::Arc<unefois_consent::registry::Habilitation>| {
        h.procedures.contains(&consent.procedure) && consent.attributes.is_subset(&h.attributes)
    };
    registry.habilitations_of(consent.consumer).find(covers).map(|h| h.dpo_contact.as_str())
}

/// A consent as its person may have it: all of its record but what stands for the person, the agent who recorded it, and how a
/// representative was proven.
pub(crate) fn ours(found: &LedgerConsent, now: Timestamp) -> Value {
    let mut value = serde_json::to_value(&found.consent).unwrap_or_default();
    hide_persons(&mut value);
    if let Value::Object(fields) = &mut value {
        fields.insert("mandate_lost".to_owned(), json!(found.has_lost_its_mandate(now)));
        fields.insert("state".to_owned(), json!(found.consent.state(now)));
        fields.insert("log_index".to_owned(), json!(found.log_index));
    }
    value
}

/// A mandate as a person whom it names may have it.
pub(crate) fn mandate(mine: &MyMandate) -> Value {
    let mut value = serde_json::to_value(&mine.mandate).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.remove("principal");
        fields.remove("representative");
        fields.insert("i_act".to_owned(), json!(mine.acts));
    }
    value
}

/// An event of the ledger as its person may have it: its record, but for what [`ours`] leaves out.
pub(crate) fn event(event: &MyEvent) -> Value {
    let mut record = serde_json::to_value(&event.event).unwrap_or_default();
    if let Value::Object(kinds) = &mut record {
        for value in kinds.values_mut() {
            hide_persons(value);
        }
    }
    json!({ "log_index": event.index, "at": event.at, "event": record })
}

/// Takes out what stands for the person, the agents of administrations, and how somebody else was proven who decided for the
/// person.
fn hide_persons(value: &mut Value) {
    let Value::Object(fields) = value else { return };
    let for_another = ["/mandate", "/grantor/representative", "/consent/grantor/representative"];
    let fields_of = Value::Object(std::mem::take(fields));
    let is_for_another = for_another.iter().any(|place| fields_of.pointer(place).is_some_and(|found| !found.is_null()));
    if let Value::Object(given_back) = fields_of {
        *fields = given_back;
    }
    for name in ["subject", "new_subject", "agent"] {
        fields.remove(name);
    }
    if is_for_another {
        fields.remove("person");
        fields.remove("assurance");
    }
    fields.values_mut().for_each(hide_persons);
}

/// An exchange as its person may have it.
pub(crate) fn exchange(exchange: &MyExchange) -> Value {
    let end = match &exchange.end {
        None => json!({ "under_way": true }),
        Some(MyExchangeEnd::Refused(reasons)) => json!({ "refused": reasons }),
        Some(MyExchangeEnd::Answered(answered)) => {
            json!({ "answered": answered.attributes, "provenance": answered.provenance })
        }
        Some(MyExchangeEnd::Dropped(reasons)) => json!({ "dropped": reasons }),
        Some(MyExchangeEnd::Failed(cause)) => json!({ "failed": cause }),
    };
    json!({
        "log_index": exchange.index,
        "at": exchange.at,
        "exchange": exchange.exchange,
        "consumer": exchange.consumer,
        "recipient": exchange.recipient,
        "procedure": exchange.procedure,
        "attributes": exchange.attributes,
        "ground": exchange.ground,
        "consent": exchange.consent,
        "mandate": exchange.mandate,
        "end": end,
        "end_log_index": exchange.end_index,
    })
}

#[cfg(test)]
mod tests;
