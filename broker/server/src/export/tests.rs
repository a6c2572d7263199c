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
    LedgerConsent { consent, log_index: 17, mandate: None }
}

fn form(format: Format) -> Value {
    let file: RegistryFile = serde_json::from_value(json!({
        "participants": [{ "siret": "99999999800019", "name": "Département", "address": "1 place de l'Exemple", "phone": "+33 1 99 00 00 00" }],
        "habilitations": [{
            "id": "h", "participant": "99999999800019", "legal_basis": "RGPD 6(1)(a)", "procedures": ["allocation-rentree"],
            "attributes": ["dss.quotient_familial.valeur"], "grounds": ["CONSENT"], "recipients": ["99999999800019"],
            "retention_months": 12, "valid_from": "2026-01-01T00:00:00Z", "valid_until": "2028-01-01T00:00:00Z",
            "dpo_contact": "dpo@departement.example", "status": "active",
        }],
    }))
    .unwrap();
    let registry = Registry::from_log(file);
    document(format, &found(), &registry, "2026-10-01T00:00:00Z".parse().unwrap())
}

/// The JSON Schema of version 1.1 demands these members of these types, and nothing of others.
#[test]
fn a_kantara_receipt_validates_against_the_schema_of_version_1_1() {
    let text = json!({ "type": "string" });
    let texts = json!({ "type": "array", "items": text });
    let flag = json!({ "type": "boolean" });
    let controller = json!({
        "type": "object",
        "properties": {
            "piiController": text, "onBehalf": flag, "contact": text, "address": { "type": "object" },
            "email": text, "phone": text, "piiControllerUrl": text,
        },
        "required": ["piiController", "contact", "address", "email", "phone"],
    });
    let disclosure = |is: bool, required: &[&str]| json!({ "properties": { "thirdPartyDisclosure": { "enum": [is] }, "thirdPartyName": text }, "required": required });
    let purpose = json!({
        "type": "object",
        "properties": {
            "purpose": text, "consentType": text, "purposeCategory": texts, "piiCategory": texts,
            "primaryPurpose": flag, "termination": text,
        },
        "oneOf": [
            disclosure(false, &["thirdPartyDisclosure"]),
            disclosure(true, &["thirdPartyDisclosure", "thirdPartyName"]),
        ],
        "required": ["consentType", "purposeCategory", "piiCategory", "termination", "thirdPartyDisclosure"],
    });
    let service = json!({
        "type": "object",
        "properties": { "service": text, "purposes": { "type": "array", "items": purpose } },
        "required": ["service", "purposes"],
    });
    let schema = json!({
        "$schema": "http://json-schema.org/draft-04/schema#",
        "type": "object",
        "properties": {
            "version": text, "jurisdiction": text, "consentTimestamp": { "type": "integer", "minimum": 0 },
            "collectionMethod": text, "consentReceiptID": text, "publicKey": text, "language": text,
            "piiPrincipalId": text, "piiControllers": { "type": "array", "items": controller }, "policyUrl": text,
            "services": { "type": "array", "items": service }, "sensitive": flag, "spiCat": texts,
        },
        "required": [
            "version", "jurisdiction", "consentTimestamp", "collectionMethod", "consentReceiptID", "piiPrincipalId",
            "piiControllers", "services", "policyUrl", "sensitive", "spiCat",
        ],
    });
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut receipt = form(Format::Kantara);
    let faults: Vec<_> =
        validator.iter_errors(&receipt).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(
        (receipt["version"].as_str(), receipt["consentTimestamp"].as_u64()),
        (Some("KI-CR-v1.1.0"), Some(1_788_251_400))
    );
    assert_eq!(receipt["piiControllers"][0]["phone"], "+33 1 99 00 00 00");
    let purpose = &mut receipt["services"][0]["purposes"][0];
    assert_eq!(
        (&purpose["thirdPartyDisclosure"], &purpose["thirdPartyName"]),
        (&json!(true), &json!("99999999900017"))
    );
    purpose["thirdPartyName"] = json!(1);
    assert!(!validator.is_valid(&receipt), "the schema takes anything");
}

/// The members that the guide's tables call mandatory, for ISO/IEC TS 27560 or for the GDPR.
#[test]
fn a_record_and_a_receipt_in_the_data_privacy_vocabulary_have_every_mandatory_field_of_the_guide() {
    let record = form(Format::DpvRecord);
    let has = |value: &Value, places: &[&str]| {
        for place in places {
            let found = value.pointer(place).unwrap_or(&Value::Null);
            assert!(
                !matches!(found, Value::Null) && *found != json!("") && *found != json!([]),
                "{place} in {value:#}"
            );
        }
    };
    has(&record, &["/dct:conformsTo", "/dct:identifier", "/dpv:hasDataSubject/dct:identifier"]);
    has(&record, &["/dpv:hasNotice/@id", "/dpv:hasNotice/dct:language"]);
    has(
        &record["dpv:hasProcess"],
        &[
            "/dpv:hasPurpose/@id",
            "/dpv:hasLegalBasis/0/@id",
            "/dpv:hasPersonalData/0/@type",
            "/dpv:hasPersonalData/0/dpv:hasNecessity",
            "/dpv:hasDataController/@id",
            "/dpv:hasDataSource/0/@id",
            "/dpv:hasProcessing/0",
            "/dpv:hasStorageCondition/dpv:hasDuration",
            "/dpv:hasStorageCondition/dpv:hasJurisdiction",
            "/dpv:hasLocation",
            "/dpv:hasJurisdiction",
            "/dpv:hasRecipient/0/@id",
            "/dpv:hasConsentControl/@type",
            "/dpv:hasRight/0",
            "/dpv:hasAuthority/@id",
        ],
    );
    has(
        &record["dpv:hasProcess"]["dpv:hasDataController"],
        &[
            "/@type",
            "/dct:identifier",
            "/dpv:hasName",
            "/schema:address/schema:streetAddress",
            "/schema:contactPoint/schema:email",
            "/schema:contactPoint/schema:telephone",
        ],
    );
    let status = &record["dpv:hasConsentStatus"];
    has(
        status,
        &["/@type", "/dpv:isIndicatedAtTime", "/dpv:hasDuration/0/rdf:value", "/dct:valid", "/dpv:isIndicatedBy/@id"],
    );
    assert_eq!(status["@type"], "dpv:ConsentGiven");
    assert_eq!(record["dpv:hasProcess"]["dpv:hasStorageCondition"]["dpv:hasDuration"]["rdf:value"], "P6M");
    let receipt = form(Format::DpvReceipt);
    has(&receipt, &["/dct:conformsTo", "/dct:identifier"]);
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
