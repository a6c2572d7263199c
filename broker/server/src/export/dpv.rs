//! ISO/IEC TS 27560:2023 consent records and receipts in the Data Privacy Vocabulary 2 (DPVCG, "Consent Records and Receipts
//! as per ISO/IEC TS 27560:2023 using DPV"), JSON-LD.

use serde_json::{Value, json};
use unefois_consent::consent::DataLife;
use unefois_consent::registry::Registry;
use unefois_consent::{Language, Siret, TimeUnit, Timestamp};
use unefois_engine::consents::LedgerConsent;

use super::{attribute_title, dpo_contact};

/// The profiles of the guide.
const RECORD: &str = "https://w3id.org/dpv/schema/dpv-27560#record-eu-gdpr";
const RECEIPT: &str = "https://w3id.org/dpv/schema/dpv-27560#receipt-eu-gdpr";

fn context() -> Value {
    json!({
        "dct": "http://purl.org/dc/terms/",
        "dpv": "https://w3id.org/dpv#",
        "eu-gdpr": "https://w3id.org/dpv/legal/eu/gdpr#",
        "xsd": "http://www.w3.org/2001/XMLSchema#",
    })
}

fn instant(instant: Timestamp) -> Value {
    json!({ "@type": "xsd:dateTime", "@value": instant })
}

/// The consent record.
pub(super) fn record(found: &LedgerConsent, registry: &Registry, now: Timestamp) -> Value {
    let consent = &found.consent;
    let name = |siret: Siret| registry.participant(siret).map_or_else(|| siret.to_string(), |p| p.name.clone());
    let party = |kind: &str, siret: Siret| json!({ "@id": format!("urn:siret:{siret}"), "@type": kind, "dpv:hasName": name(siret), "dct:identifier": siret });
    let title =
        registry.procedure(&consent.procedure).map_or_else(|| consent.procedure.to_string(), |p| p.title.clone());
    let mut controller = party("dpv:DataController", consent.consumer);
    if let (Value::Object(fields), Some(contact)) = (&mut controller, dpo_contact(registry, consent)) {
        fields.insert("dpv:hasContact".to_owned(), json!(contact));
    }
    let data = consent.attributes.iter().map(|attribute| {
        json!({
            "@id": format!("urn:unefois:attribute:{attribute}"),
            "@type": "dpv:PersonalData",
            "dct:title": attribute_title(registry, attribute),
        })
    });
    json!({
        "@context": context(),
        "@id": format!("urn:unefois:consent:{}", consent.id),
        "@type": "dpv:ConsentRecord",
        "dct:conformsTo": RECORD,
        "dct:identifier": consent.id,
        "dct:hasVersion": consent.version,
        "dct:source": format!("urn:unefois:log-entry:{}", found.log_index),
        "dpv:hasDataSubject": { "@id": format!("urn:unefois:consent:{}#person", consent.id), "@type": "dpv:DataSubject" },
        "dpv:hasProcess": {
            "@type": "dpv:Process",
            "dpv:hasPurpose": {
                "@id": format!("urn:unefois:procedure:{}", consent.procedure),
                "@type": "dpv:Purpose",
                "dct:title": title,
            },
            "dpv:hasLegalBasis": { "@id": "eu-gdpr:A6-1-a" },
            "dpv:hasService": title,
            "dpv:hasPersonalData": data.collect::<Vec<_>>(),
            "dpv:hasDataController": controller,
            "dpv:hasDataSource": consent.sources.iter().map(|s| party("dpv:DataSource", *s)).collect::<Vec<_>>(),
            "dpv:hasRecipient": consent.recipients.iter().map(|r| party("dpv:Recipient", *r)).collect::<Vec<_>>(),
            "dpv:hasProcessing": [{ "@id": "dpv:Collect" }, { "@id": "dpv:Use" }],
            "dpv:hasStorageCondition": storage(consent.data_life),
            "dpv:hasJurisdiction": "FR",
            "dpv:hasRight": [{ "@id": "eu-gdpr:A7-3" }, { "@id": "eu-gdpr:A15" }, { "@id": "eu-gdpr:A17" }],
        },
        "dpv:hasNotice": {
            "@id": format!("urn:unefois:notice:{}:{}", consent.procedure, consent.notice_version),
            "@type": "dpv:ConsentNotice",
            "dct:hasVersion": consent.notice_version,
            "dct:language": match consent.language { Language::Fr => "fr", Language::En => "en" },
            "dpv:hasHash": format!("sha256:{}", consent.notice_digest),
        },
        "dpv:hasConsentStatus": { "@id": format!("dpv:{}", consent.state(now).dpv()) },
        "dpv:isIndicatedBy": { "@id": format!("urn:unefois:consent:{}#{}", consent.id, by(found)) },
        "dpv:hasIndicationMethod": format!("{:?}", consent.channel).to_lowercase(),
        "dpv:isIndicatedAtTime": instant(consent.granted_at),
        "dpv:hasDuration": {
            "@type": "dpv:TemporalDuration",
            "dct:valid": { "dpv:hasStart": instant(consent.not_before), "dpv:hasEnd": instant(consent.expires_at) },
        },
    })
}

fn by(found: &LedgerConsent) -> &'static str {
    if found.consent.grantor.mandate().is_some() { "representative" } else { "person" }
}

fn storage(life: DataLife) -> Value {
    match life {
        DataLife::View => json!({ "@type": "dpv:StorageCondition", "dpv:hasDuration": "P0D" }),
        DataLife::Store { value, unit } => {
            let duration = match unit {
                TimeUnit::Hour => format!("PT{value}H"),
                TimeUnit::Day => format!("P{value}D"),
                TimeUnit::Month => format!("P{value}M"),
                TimeUnit::Year => format!("P{value}Y"),
            };
            json!({
                "@type": "dpv:StorageCondition",
                "dpv:hasDuration": { "@type": "xsd:duration", "@value": duration },
            })
        }
    }
}

/// The consent receipt: the record, and who gives it to whom when.
pub(super) fn receipt(found: &LedgerConsent, registry: &Registry, now: Timestamp) -> Value {
    let mut record = record(found, registry, now);
    if let Value::Object(fields) = &mut record {
        fields.remove("@context");
    }
    json!({
        "@context": context(),
        "@id": format!("urn:unefois:receipt:{}:{}", found.consent.id, found.consent.version),
        "@type": "dpv:ConsentReceipt",
        "dct:conformsTo": RECEIPT,
        "dct:identifier": format!("{}:{}", found.consent.id, found.consent.version),
        "dct:issued": instant(now),
        "dct:publisher": { "@id": format!("urn:siret:{}", found.consent.consumer) },
        "dpv:hasRecipient": { "@id": format!("urn:unefois:consent:{}#person", found.consent.id) },
        "dct:hasPart": record,
    })
}
