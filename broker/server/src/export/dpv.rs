//! ISO/IEC TS 27560:2023 consent records and receipts in the Data Privacy Vocabulary 2 (DPVCG, "Consent Records and Receipts
//! as per ISO/IEC TS 27560:2023 using DPV", 2024-08-01), JSON-LD, in the profiles for the GDPR.

use serde_json::{Value, json};
use unefois_consent::consent::DataLife;
use unefois_consent::registry::Registry;
use unefois_consent::{Channel, Consent, ConsentStatus, ConsentUse, Language, Siret, TimeUnit, Timestamp};
use unefois_engine::consents::LedgerConsent;

use super::{attribute_title, dpo_contact, party};

/// The profiles of the guide.
const RECORD: &str = "https://w3id.org/dpv/schema/dpv-27560#record-eu-gdpr";
const RECEIPT: &str = "https://w3id.org/dpv/schema/dpv-27560#receipt-eu-gdpr";

fn context() -> Value {
    json!({
        "dct": "http://purl.org/dc/terms/",
        "dpv": "https://w3id.org/dpv#",
        "eu-gdpr": "https://w3id.org/dpv/legal/eu/gdpr#",
        "loc": "https://w3id.org/dpv/loc#",
        "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
        "schema": "https://schema.org/",
        "xsd": "http://www.w3.org/2001/XMLSchema#",
    })
}

fn instant(instant: Timestamp) -> Value {
    json!({ "@type": "xsd:dateTime", "@value": instant })
}

/// An administration in the role `kind`.
fn entity(registry: &Registry, kind: &str, siret: Siret, contact: Option<&str>) -> Value {
    let (name, address, phone) = party(registry, siret);
    json!({
        "@id": format!("urn:siret:{siret}"),
        "@type": kind,
        "dct:identifier": siret,
        "dpv:hasName": name,
        "schema:address": {
            "@type": "schema:PostalAddress",
            "schema:streetAddress": address,
            "schema:addressCountry": "FR",
        },
        "schema:contactPoint": {
            "@type": "schema:ContactPoint",
            "schema:email": contact.unwrap_or_default(),
            "schema:telephone": phone,
        },
    })
}

/// The consent record.
pub(super) fn record(found: &LedgerConsent, registry: &Registry, now: Timestamp) -> Value {
    let consent = &found.consent;
    json!({
        "@context": context(),
        "@id": urn(consent),
        "@type": "dpv:ConsentRecord",
        "dct:conformsTo": RECORD,
        "dct:identifier": consent.id,
        "dct:hasVersion": consent.version,
        "dct:source": format!("urn:unefois:log-entry:{}", found.log_index),
        "dpv:hasDataSubject": { "@id": person(consent), "@type": "dpv:DataSubject", "dct:identifier": consent.id },
        "dpv:hasNotice": {
            "@id": format!("urn:unefois:notice:{}:{}", consent.procedure, consent.notice_version),
            "@type": "dpv:ConsentNotice",
            "dct:hasVersion": consent.notice_version,
            "dct:language": match consent.language { Language::Fr => "fr", Language::En => "en" },
            "dpv:hasHash": format!("sha256:{}", consent.notice_digest),
        },
        "dpv:hasProcess": process(consent, registry),
        "dpv:hasConsentStatus": status(consent, now),
    })
}

fn urn(consent: &Consent) -> String {
    format!("urn:unefois:consent:{}", consent.id)
}

/// Who holds the record knows whose it is; the broker does not say.
fn person(consent: &Consent) -> String {
    format!("{}#person", urn(consent))
}

/// What is done with the data.
fn process(consent: &Consent, registry: &Registry) -> Value {
    let title =
        registry.procedure(&consent.procedure).map_or_else(|| consent.procedure.to_string(), |p| p.title.clone());
    let contact = dpo_contact(registry, consent);
    let data = consent.attributes.iter().map(|attribute| {
        json!({
            "@id": format!("urn:unefois:attribute:{attribute}"),
            "@type": "dpv:PersonalData",
            "dct:identifier": attribute,
            "dct:title": attribute_title(registry, attribute),
            "dpv:hasNecessity": { "@id": "dpv:Required" },
        })
    });
    let recipients = if consent.recipients.is_empty() {
        vec![consent.consumer]
    } else {
        consent.recipients.iter().copied().collect()
    };
    json!({
        "@type": "dpv:Process",
        "dpv:hasPurpose": {
            "@id": format!("urn:unefois:procedure:{}", consent.procedure),
            "@type": "dpv:Purpose",
            "dct:title": title,
        },
        "dpv:hasService": title,
        "dpv:hasLegalBasis": [{ "@id": "eu-gdpr:A6-1-a" }, { "@id": "dpv:ExplicitlyExpressedConsent" }],
        "dpv:hasPersonalData": data.collect::<Vec<_>>(),
        "dpv:hasDataController": entity(registry, "dpv:DataController", consent.consumer, contact),
        "dpv:hasDataSource": consent.sources.iter().map(|s| entity(registry, "dpv:DataSource", *s, None)).collect::<Vec<_>>(),
        "dpv:hasRecipient": recipients.iter().map(|r| entity(registry, "dpv:Recipient", *r, None)).collect::<Vec<_>>(),
        "dpv:hasProcessing": [{ "@id": "dpv:Collect" }, { "@id": "dpv:Use" }],
        "dpv:hasStorageCondition": storage(consent.data_life),
        "dpv:hasLocation": { "@id": "loc:FR" },
        "dpv:hasJurisdiction": { "@id": "loc:FR" },
        "dpv:hasConsentControl": {
            "@type": "dpv:WithdrawConsent",
            "dct:description": "At any time, without a reason, through the portal or with the administration.",
            "schema:email": contact.unwrap_or_default(),
        },
        "dpv:hasRight": [{ "@id": "eu-gdpr:A7-3" }, { "@id": "eu-gdpr:A15" }, { "@id": "eu-gdpr:A17" }],
        "dpv:hasAuthority": {
            "@id": "https://www.cnil.fr/",
            "@type": "dpv:DataProtectionAuthority",
            "dpv:hasName": "Commission nationale de l'informatique et des libertés",
        },
    })
}

/// The last event of the consent.
fn status(consent: &Consent, now: Timestamp) -> Value {
    let by = if consent.grantor.mandate().is_some() { "representative" } else { "person" };
    let since = match consent.status {
        ConsentStatus::Requested { .. } | ConsentStatus::Granted => consent.granted_at,
        ConsentStatus::Refused { at, .. }
        | ConsentStatus::Paused { at, .. }
        | ConsentStatus::Withdrawn { at, .. }
        | ConsentStatus::Revoked { at }
        | ConsentStatus::Invalidated { at } => at,
    };
    let until = json!({ "@type": "dpv:UntilTimeDuration", "rdf:value": consent.expires_at });
    let once = json!({ "@type": "dpv:FixedOccurrencesDuration", "rdf:value": "1" });
    json!({
        "@type": format!("dpv:{}", consent.state(now).dpv()),
        "dpv:isIndicatedAtTime": instant(since),
        "dpv:hasDuration": match consent.usage {
            ConsentUse::OneTime => json!([until, once]),
            ConsentUse::Repeated | ConsentUse::Periodic(_) => json!([until]),
        },
        "dct:valid": { "schema:startDate": instant(consent.not_before), "schema:endDate": instant(consent.expires_at) },
        "dpv:isIndicatedBy": { "@id": format!("{}#{by}", urn(consent)), "@type": "dpv:Entity" },
        "dpv:hasIndicationMethod": match consent.channel {
            Channel::Online => "online",
            Channel::Counter => "counter",
            Channel::Phone => "phone",
            Channel::Post => "post",
        },
    })
}

fn storage(life: DataLife) -> Value {
    let duration = match life {
        DataLife::View => "P0D".to_owned(),
        DataLife::Store { value, unit: TimeUnit::Hour } => format!("PT{value}H"),
        DataLife::Store { value, unit: TimeUnit::Day } => format!("P{value}D"),
        DataLife::Store { value, unit: TimeUnit::Month } => format!("P{value}M"),
        DataLife::Store { value, unit: TimeUnit::Year } => format!("P{value}Y"),
    };
    json!({
        "@type": "dpv:StorageCondition",
        "dpv:hasDuration": { "@type": "dpv:TemporalDuration", "rdf:value": duration },
        "dpv:hasJurisdiction": { "@id": "loc:FR" },
    })
}

/// The consent receipt: the record, and who gives it to whom when.
pub(super) fn receipt(found: &LedgerConsent, registry: &Registry, now: Timestamp) -> Value {
    let consent = &found.consent;
    let mut record = record(found, registry, now);
    if let Value::Object(fields) = &mut record {
        fields.remove("@context");
    }
    json!({
        "@context": context(),
        "@id": format!("urn:unefois:receipt:{}:{}", consent.id, consent.version),
        "@type": "dpv:ConsentReceipt",
        "dct:conformsTo": RECEIPT,
        "dct:identifier": format!("{}:{}", consent.id, consent.version),
        "dct:issued": instant(now),
        "dct:publisher": { "@id": format!("urn:siret:{}", consent.consumer) },
        "dpv:hasRecipient": { "@id": person(consent) },
        "dct:hasPart": record,
    })
}
