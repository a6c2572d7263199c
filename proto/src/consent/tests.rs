use unefois_consent::{ConsentId, SubjectRef};

use super::*;
use crate::testing::{MARKER, NO_INSTANTS, SPOILT_IDENTITIES, Spoilt, at, grant as good};

fn fault(spoil: impl FnOnce(&mut v1::GrantConsentRequest)) -> String {
    let mut request = good();
    spoil(&mut request);
    let fault = grant(&request).unwrap_err();
    for text in [fault.to_string(), format!("{fault:?}")] {
        assert!(!text.contains(MARKER) && !text.contains("MARCHAND"), "{text}");
    }
    fault.field
}

#[test]
fn a_malformed_field_is_named() {
    let spoilt: [Spoilt<v1::GrantConsentRequest>; 24] = [
        ("agent", |r| r.agent.clear()),
        ("agent", |r| r.agent = MARKER.repeat(13)),
        ("agent", |r| r.agent = format!("{MARKER}\r{MARKER}")),
        ("agent", |r| r.agent = format!("{MARKER}\u{202e}x")),
        ("subject", |r| r.subject = None),
        ("procedure", |r| r.procedure.clear()),
        ("procedure", |r| r.procedure = MARKER.to_owned()),
        ("attributes", |r| r.attributes.clear()),
        ("attributes", |r| r.attributes = vec![MARKER.to_owned(); 10_000]),
        ("attributes[1]", |r| r.attributes.push(r.attributes[0].clone())),
        ("attributes[0]", |r| r.attributes[0] = MARKER.to_owned()),
        ("language", |r| r.language = 0),
        ("language", |r| r.language = 3),
        ("language", |r| r.language = -1),
        ("channel", |r| r.channel = 0),
        ("channel", |r| r.channel = 5),
        ("evidence_sha256", |r| r.evidence_sha256 = MARKER.to_owned()),
        ("evidence_sha256", |r| r.evidence_sha256 = "ED".repeat(32)),
        ("evidence_sha256", |r| r.evidence_sha256 = "ed".repeat(31)),
        ("evidence_sha256", |r| r.evidence_sha256 = "ed".repeat(33)),
        ("expires_at", |r| r.expires_at = None),
        ("use", |r| r.r#use = 0),
        ("use", |r| r.r#use = 3),
        ("use", |r| r.r#use = i32::MIN),
    ];
    for (at, (field, spoil)) in spoilt.into_iter().enumerate() {
        assert_eq!(fault(spoil), field, "case {at}");
    }
    for (field, spoil) in SPOILT_IDENTITIES {
        assert_eq!(fault(|r| spoil(r.subject.as_mut().unwrap())), format!("subject.{field}"));
    }
    for (seconds, nanos) in NO_INSTANTS {
        assert_eq!(fault(|r| r.not_before = at(seconds, nanos)), "not_before");
        assert_eq!(fault(|r| r.expires_at = at(seconds, nanos)), "expires_at");
    }
}

#[test]
fn a_consent_to_record_is_read_as_it_is() {
    let grant = grant(&good()).unwrap();
    assert_eq!((grant.agent.as_str(), grant.procedure.as_str()), ("guichet-3", "allocation-rentree"));
    assert_eq!(grant.attributes, ["dss.quotient_familial.valeur".parse().unwrap()].into());
    assert_eq!((grant.notice_version, grant.language, grant.channel), (1, Language::En, Channel::Counter));
    assert_eq!((grant.evidence, grant.usage), (Some(Digest([0xed; 32])), ConsentUse::OneTime));
    assert_eq!(grant.not_before, Some(Timestamp::from_millis(1_788_251_400_007)));
    assert_eq!(grant.expires_at, Timestamp::from_millis(1_819_787_400_000));
    assert_eq!(grant.identity.birth_name.as_str(), "MARCHAND");
    let least = v1::GrantConsentRequest { evidence_sha256: String::new(), not_before: None, ..good() };
    let least = super::grant(&least).unwrap();
    assert_eq!((least.evidence, least.not_before), (None, None));
}

#[test]
fn a_consent_on_the_wire_says_all_but_whose_it_is() {
    let grant = grant(&good()).unwrap();
    let (granted, withdrawn) = (Timestamp::from_millis(1_788_251_400_007), Timestamp::from_millis(1_788_251_400_008));
    let consent = Consent {
        id: ConsentId([0xc0; 16]),
        subject: SubjectRef([0x5b; 16]),
        consumer: "99999999900017".parse().unwrap(),
        procedure: grant.procedure,
        attributes: grant.attributes,
        notice_version: grant.notice_version,
        notice_digest: Digest([0xd1; 32]),
        language: grant.language,
        channel: grant.channel,
        evidence: grant.evidence,
        not_before: granted,
        expires_at: grant.expires_at,
        usage: grant.usage,
        agent: grant.agent,
        granted_at: granted,
        status: ConsentStatus::Granted,
        uses: 3,
    };
    let request = good();
    let expected = v1::Consent {
        id: "c0".repeat(16),
        consumer: "99999999900017".to_owned(),
        procedure: request.procedure,
        attributes: request.attributes,
        notice_version: request.notice_version,
        notice_sha256: "d1".repeat(32),
        language: request.language,
        channel: request.channel,
        evidence_sha256: request.evidence_sha256,
        not_before: request.not_before,
        expires_at: request.expires_at,
        r#use: request.r#use,
        granted_at: request.not_before,
        withdrawn_at: None,
        uses: 3,
    };
    assert_eq!(wire_consent(&consent), expected);
    assert!(!format!("{expected:?}").contains("5b5b"));
    let taken_back = Consent { status: ConsentStatus::Withdrawn { at: withdrawn }, evidence: None, ..consent };
    assert_eq!(wire_consent(&taken_back).withdrawn_at, at(1_788_251_400, 8_000_000));
    assert_eq!(wire_consent(&taken_back).evidence_sha256, "");
}
