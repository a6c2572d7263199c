//! Kantara Initiative Consent Receipt Specification 1.1.0 (2018-02-20), section 4 for the fields and section 7 for the JSON.

use serde_json::{Value, json};
use unefois_consent::consent::DataLife;
use unefois_consent::registry::Registry;
use unefois_consent::{Channel, Consent, Language, Siret, TimeUnit};
use unefois_engine::consents::LedgerConsent;

use super::{attribute_title, dpo_contact, party};

/// The receipt of a consent.
pub(super) fn receipt(found: &LedgerConsent, registry: &Registry) -> Value {
    let consent = &found.consent;
    let name = |siret: Siret| party(registry, siret).0;
    let (controller, address, phone) = party(registry, consent.consumer);
    let title =
        registry.procedure(&consent.procedure).map_or_else(|| consent.procedure.to_string(), |p| p.title.clone());
    let contact = dpo_contact(registry, consent).unwrap_or_default();
    let others: Vec<_> = consent.recipients.iter().filter(|r| **r != consent.consumer).map(|r| name(*r)).collect();
    let mut purpose = json!({
        "purpose": title,
        "purposeCategory": [title],
        "consentType": "EXPLICIT",
        "piiCategory": consent.attributes.iter().map(|a| attribute_title(registry, a)).collect::<Vec<_>>(),
        "primaryPurpose": true,
        "termination": termination(consent),
        "thirdPartyDisclosure": !others.is_empty(),
    });
    if let (Value::Object(fields), false) = (&mut purpose, others.is_empty()) {
        fields.insert("thirdPartyName".to_owned(), json!(others.join(", ")));
    }
    json!({
        "version": "KI-CR-v1.1.0",
        "jurisdiction": "FR",
        "consentTimestamp": consent.granted_at.as_millis() / 1_000,
        "collectionMethod": collection_method(consent.channel),
        "consentReceiptID": consent.id,
        "language": match consent.language { Language::Fr => "fr", Language::En => "en" },
        // Who holds the receipt knows whose it is; the broker does not say.
        "piiPrincipalId": consent.id,
        "piiControllers": [{
            "piiController": controller,
            "onBehalf": false,
            "contact": contact,
            "address": { "streetAddress": address, "addressCountry": "FR" },
            "email": contact,
            "phone": phone,
        }],
        "policyUrl": format!("urn:unefois:notice:{}:{}:sha256:{}", consent.procedure, consent.notice_version, consent.notice_digest),
        "services": [{ "service": title, "purposes": [purpose] }],
        "sensitive": false,
        "spiCat": [],
    })
}

fn collection_method(channel: Channel) -> &'static str {
    match channel {
        Channel::Online => "online portal",
        Channel::Counter => "in person at a counter",
        Channel::Phone => "by telephone",
        Channel::Post => "by post",
    }
}

fn termination(consent: &Consent) -> String {
    let kept = match consent.data_life {
        DataLife::View => "the data is not stored".to_owned(),
        DataLife::Store { value, unit } => {
            let unit = match unit {
                TimeUnit::Hour => "hours",
                TimeUnit::Day => "days",
                TimeUnit::Month => "months",
                TimeUnit::Year => "years",
            };
            format!("the data is erased after {value} {unit}")
        }
    };
    format!("until {} or withdrawal; {kept}", consent.expires_at)
}
