//! The forms of others, by the fields that their specifications want.

use unefois_consent::registry::RegistryFile;
use unefois_consent::{Channel, ConsentStatus, ConsentUse, DataLife, Digest, Grantor, Language, TimeUnit};

use super::*;

fn found() -> LedgerConsent {
    let instant = |text: &str| text.parse().unwrap();
    let consent = Consent {
        id: "c0".repeat(16).parse().unwrap(),
        schema: 2,
        version: 1,
        previous: None,
        subject: "5b".repeat(16).parse().unwrap(),
        grantor: Grantor::Person,
        assurance: None,
        consumer: "99999999800019".parse().unwrap(),
        recipients: ["99999999900017".parse().unwrap()].into(),
        sources: ["13002526500013".parse().unwrap()].into(),
        procedure: "allocation-rentree".parse().unwrap(),
        attributes: ["dss.quotient_familial.valeur".parse().unwrap()].into(),
        filters: std::collections::BTreeMap::new(),
        period: None,
        notice_version: 1,
        notice_digest: Digest([0xd1; 32]),
        language: Language::Fr,
        channel: Channel::Counter,
        evidence: None,
        not_before: instant("2026-09-01T08:30:00Z"),
        expires_at: instant("2027-09-01T08:30:00Z"),
        usage: ConsentUse::Repeated,
        data_life: DataLife::Store { value: 6, unit: TimeUnit::Month },
        agent: "agent-7".to_owned(),
        granted_at: instant("2026-09-01T08:30:00Z"),
        status: ConsentStatus::Granted,
        uses: 0,
        window: None,
    };
    LedgerConsent { consent, log_index: 17 }
}

fn form(format: Format) -> Value {
    let registry = Registry::from_log(RegistryFile::default());
    document(format, &found(), &registry, "2026-10-01T00:00:00Z".parse().unwrap())
}

fn fields(value: &Value) -> std::collections::BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_kantara_receipt_has_each_field_that_version_1_1_demands_with_its_type() {
    let receipt = form(Format::Kantara);
    let demanded = [
        "version",
        "jurisdiction",
        "consentTimestamp",
        "collectionMethod",
        "consentReceiptID",
        "piiPrincipalId",
        "piiControllers",
        "policyUrl",
        "services",
        "sensitive",
        "spiCat",
    ];
    assert!(demanded.iter().all(|field| fields(&receipt).contains(field)), "{receipt}");
    assert_eq!(receipt["version"], "KI-CR-v1.1.0");
    assert_eq!(receipt["consentTimestamp"], 1_788_251_400);
    let controller = &receipt["piiControllers"][0];
    for field in ["piiController", "contact", "email", "phone"] {
        assert!(controller[field].is_string(), "{field}");
    }
    assert!(controller["address"].is_object() && receipt["sensitive"].is_boolean());
    let purpose = &receipt["services"][0]["purposes"][0];
    for field in ["purpose", "consentType", "termination"] {
        assert!(purpose[field].as_str().is_some_and(|text| !text.is_empty()), "{field}");
    }
    for field in ["purposeCategory", "piiCategory"] {
        assert!(purpose[field].as_array().is_some_and(|list| !list.is_empty()), "{field}");
    }
    assert_eq!(purpose["thirdPartyDisclosure"], true);
    assert_eq!(purpose["thirdPartyName"], "99999999900017");
}

#[test]
fn a_record_and_a_receipt_in_the_data_privacy_vocabulary_have_the_parts_of_the_guide() {
    let record = form(Format::DpvRecord);
    let parts = [
        "@context",
        "@id",
        "@type",
        "dct:conformsTo",
        "dct:identifier",
        "dct:hasVersion",
        "dpv:hasDataSubject",
        "dpv:hasProcess",
        "dpv:hasNotice",
        "dpv:hasConsentStatus",
        "dpv:isIndicatedBy",
        "dpv:isIndicatedAtTime",
        "dpv:hasDuration",
    ];
    assert!(parts.iter().all(|part| fields(&record).contains(part)), "{record}");
    let process = fields(&record["dpv:hasProcess"]);
    for part in
        ["hasPurpose", "hasLegalBasis", "hasPersonalData", "hasDataController", "hasRecipient", "hasStorageCondition"]
    {
        assert!(process.contains(format!("dpv:{part}").as_str()), "{part}");
    }
    assert_eq!(record["dpv:hasConsentStatus"]["@id"], "dpv:ConsentGiven");
    assert_eq!(record["dpv:hasProcess"]["dpv:hasStorageCondition"]["dpv:hasDuration"]["@value"], "P6M");
    let receipt = form(Format::DpvReceipt);
    assert_eq!(receipt["@type"], "dpv:ConsentReceipt");
    assert_eq!(receipt["dct:hasPart"]["@id"], record["@id"]);
}

#[test]
fn no_form_names_the_person_or_the_agent() {
    for format in [Format::Kantara, Format::DpvRecord, Format::DpvReceipt] {
        let text = form(format).to_string();
        assert!(!text.contains("5b5b") && !text.contains("agent-7"), "{text}");
    }
    assert!(!ours(&found(), "2026-10-01T00:00:00Z".parse().unwrap()).to_string().contains("5b5b"));
}
