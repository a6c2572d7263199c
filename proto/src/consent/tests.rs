use unefois_consent::{DecidedBy, Grantor, RequestCode, SubjectRef};

use super::*;
use crate::testing::{MARKER, NO_INSTANTS, SPOILT_IDENTITIES, Spoilt, at, record as good};

fn fault(spoil: impl FnOnce(&mut v1::RecordConsentRequest)) -> String {
    let mut request = good();
    spoil(&mut request);
    let fault = record(&request).unwrap_err();
    for text in [fault.to_string(), format!("{fault:?}")] {
        assert!(!text.contains(MARKER) && !text.contains("MARCHAND"), "{text}");
    }
    fault.field
}

fn terms_of(request: &mut v1::RecordConsentRequest) -> &mut v1::ConsentTerms {
    request.terms.as_mut().unwrap()
}

#[test]
fn a_malformed_field_is_named() {
    let spoilt: [Spoilt<v1::RecordConsentRequest>; 22] = [
        ("agent", |r| r.agent.clear()),
        ("agent", |r| r.agent = MARKER.repeat(13)),
        ("agent", |r| r.agent = format!("{MARKER}\r{MARKER}")),
        ("agent", |r| r.agent = format!("{MARKER}\u{202e}x")),
        ("subject", |r| r.subject = None),
        ("terms", |r| r.terms = None),
        ("channel", |r| r.channel = 0),
        ("channel", |r| r.channel = 5),
        ("evidence_sha256", |r| r.evidence_sha256 = MARKER.to_owned()),
        ("evidence_sha256", |r| r.evidence_sha256 = "ED".repeat(32)),
        ("evidence_sha256", |r| r.evidence_sha256 = "ed".repeat(31)),
        ("evidence_sha256", |r| r.evidence_sha256 = "ed".repeat(33)),
        ("assurance.level", |r| r.assurance.as_mut().unwrap().level = 0),
        ("assurance.level", |r| r.assurance.as_mut().unwrap().level = 4),
        ("assurance.acr", |r| r.assurance.as_mut().unwrap().acr = MARKER.repeat(13)),
        ("assurance.acr", |r| r.assurance.as_mut().unwrap().acr = format!("{MARKER} x")),
        ("assurance.authenticated_at", |r| r.assurance.as_mut().unwrap().authenticated_at = None),
        ("mandate_id", |r| r.mandate_id = MARKER.to_owned()),
        ("mandate_id", |r| r.mandate_id = "ae".repeat(15)),
        ("request_id", |r| r.request_id = MARKER.to_owned()),
        ("request_id", |r| r.request_id = "C0".repeat(16)),
        ("request_id", |r| r.request_id = "c0".repeat(17)),
    ];
    for (at, (field, spoil)) in spoilt.into_iter().enumerate() {
        assert_eq!(fault(spoil), field, "case {at}");
    }
    for (field, spoil) in SPOILT_IDENTITIES {
        assert_eq!(fault(|r| spoil(r.subject.as_mut().unwrap())), format!("subject.{field}"));
    }
}

#[test]
fn a_malformed_term_is_named() {
    let spoilt: [Spoilt<v1::ConsentTerms>; 28] = [
        ("procedure", |t| t.procedure.clear()),
        ("procedure", |t| t.procedure = MARKER.to_owned()),
        ("attributes", |t| t.attributes.clear()),
        ("attributes", |t| t.attributes = vec![MARKER.to_owned(); 10_000]),
        ("attributes[1]", |t| t.attributes.push(t.attributes[0].clone())),
        ("attributes[0]", |t| t.attributes[0] = MARKER.to_owned()),
        ("recipients", |t| t.recipients = vec!["99999999800019".to_owned(); 101]),
        ("recipients[0]", |t| t.recipients[0] = MARKER.to_owned()),
        ("filters[0].dataset", |t| {
            t.filters = vec![v1::DatasetFilter { dataset: MARKER.to_owned(), ..v1::DatasetFilter::default() }];
        }),
        ("period.from", |t| t.period.as_mut().unwrap().from = MARKER.to_owned()),
        ("period.to", |t| t.period.as_mut().unwrap().to = "2026-13".to_owned()),
        ("language", |t| t.language = 0),
        ("language", |t| t.language = 3),
        ("language", |t| t.language = -1),
        ("expires_at", |t| t.expires_at = None),
        ("use", |t| t.r#use = 0),
        ("use", |t| t.r#use = 4),
        ("use", |t| t.r#use = i32::MIN),
        ("frequency", |t| t.frequency = None),
        ("frequency", |t| t.r#use = v1::ConsentUse::OneTime as i32),
        ("frequency", |t| t.r#use = v1::ConsentUse::Repeated as i32),
        ("frequency.per", |t| t.frequency.as_mut().unwrap().per = 0),
        ("frequency.per", |t| t.frequency.as_mut().unwrap().per = 5),
        ("storage", |t| t.storage = None),
        ("storage", |t| t.store = false),
        ("storage.unit", |t| t.storage.as_mut().unwrap().unit = 0),
        ("storage.unit", |t| t.storage.as_mut().unwrap().unit = 9),
        ("attributes[0]", |t| t.attributes[0] = "valeur".to_owned()),
    ];
    for (at, (field, spoil)) in spoilt.into_iter().enumerate() {
        assert_eq!(fault(|r| spoil(terms_of(r))), format!("terms.{field}"), "case {at}");
    }
    for (seconds, nanos) in NO_INSTANTS {
        assert_eq!(fault(|r| terms_of(r).not_before = at(seconds, nanos)), "terms.not_before");
        assert_eq!(fault(|r| terms_of(r).expires_at = at(seconds, nanos)), "terms.expires_at");
    }
}

#[test]
fn a_consent_to_record_is_read_as_it_is() {
    let record = record(&good()).unwrap();
    let terms = record.terms;
    assert_eq!((record.agent.as_str(), terms.procedure.as_str()), ("guichet-3", "allocation-rentree"));
    assert_eq!(terms.attributes, ["dss.quotient_familial.valeur".parse().unwrap()].into());
    assert_eq!(terms.recipients, ["99999999800019".parse().unwrap()].into());
    assert_eq!((terms.notice_version, terms.language, record.indication.channel), (1, Language::En, Channel::Counter));
    assert_eq!(terms.usage, ConsentUse::Periodic(Frequency { times: 2, per: TimeUnit::Month }));
    assert_eq!(terms.data_life, DataLife::Store { value: 6, unit: TimeUnit::Month });
    assert_eq!(terms.not_before, Some(Timestamp::from_millis(1_788_251_400_007)));
    assert_eq!(terms.expires_at, Timestamp::from_millis(1_819_787_400_000));
    assert_eq!(terms.period.unwrap().to.to_string(), "2026-12");
    assert_eq!(record.indication.evidence, Some(Digest([0xed; 32])));
    assert_eq!(record.indication.mandate, Some(MandateId([0xae; 16])));
    assert_eq!(record.indication.assurance.unwrap().level, EidasLevel::Substantial);
    assert_eq!(record.answers, Some(ConsentId([0xc0; 16])));
    assert_eq!(record.identity.birth_name.as_str(), "MARCHAND");
    let mut least = v1::RecordConsentRequest {
        evidence_sha256: String::new(),
        assurance: None,
        mandate_id: String::new(),
        request_id: String::new(),
        ..good()
    };
    *terms_of(&mut least) = v1::ConsentTerms {
        recipients: Vec::new(),
        period: None,
        not_before: None,
        r#use: v1::ConsentUse::OneTime as i32,
        frequency: None,
        store: false,
        storage: None,
        ..least.terms.clone().unwrap()
    };
    let least = super::record(&least).unwrap();
    assert_eq!((least.indication.evidence, least.terms.not_before, least.answers), (None, None, None));
    assert_eq!((least.terms.usage, least.terms.data_life), (ConsentUse::OneTime, DataLife::View));
}

fn consent() -> Consent {
    let record = record(&good()).unwrap();
    let granted = Timestamp::from_millis(1_788_251_400_007);
    Consent {
        id: ConsentId([0xc0; 16]),
        schema: 2,
        version: 1,
        previous: None,
        subject: SubjectRef([0x5b; 16]),
        grantor: Grantor::Representative { mandate: MandateId([0xae; 16]) },
        assurance: record.indication.assurance,
        consumer: "99999999900017".parse().unwrap(),
        recipients: record.terms.recipients,
        sources: ["99999999700011".parse().unwrap()].into(),
        procedure: record.terms.procedure,
        attributes: record.terms.attributes,
        filters: record.terms.filters,
        period: record.terms.period,
        notice_version: record.terms.notice_version,
        notice_digest: Digest([0xd1; 32]),
        language: record.terms.language,
        channel: record.indication.channel,
        evidence: record.indication.evidence,
        not_before: granted,
        expires_at: record.terms.expires_at,
        usage: record.terms.usage,
        data_life: record.terms.data_life,
        agent: record.agent,
        granted_at: granted,
        status: ConsentStatus::Granted,
        uses: 3,
        window: None,
    }
}

#[test]
fn a_consent_on_the_wire_says_all_but_whose_it_is() {
    let now = Timestamp::from_millis(1_788_251_400_008);
    let request = good();
    let expected = v1::Consent {
        mandate_lost: false,
        id: "c0".repeat(16),
        consumer: "99999999900017".to_owned(),
        terms: request.terms.clone(),
        sources: vec!["99999999700011".to_owned()],
        notice_sha256: "d1".repeat(32),
        channel: request.channel,
        evidence_sha256: request.evidence_sha256.clone(),
        assurance: request.assurance.clone(),
        mandate_id: request.mandate_id.clone(),
        granted_at: request.terms.unwrap().not_before,
        state: v1::ConsentState::Given as i32,
        state_since: None,
        answer_by: None,
        code: String::new(),
        uses: 3,
        version: 1,
        previous_sha256: String::new(),
        log_index: 17,
    };
    assert_eq!(wire_consent(&consent(), 17, now), expected);
    assert!(!format!("{expected:?}").contains("5b5b"));
    let withdrawn =
        Consent { status: ConsentStatus::Withdrawn { at: now, by: DecidedBy::Person }, evidence: None, ..consent() };
    let wire = wire_consent(&withdrawn, 17, now);
    assert_eq!((wire.state_since, wire.state()), (at(1_788_251_400, 8_000_000), v1::ConsentState::Withdrawn));
    assert_eq!(wire.evidence_sha256, "");
    let status = ConsentStatus::Requested { answer_by: now, code: RequestCode::from_random([1; 8]) };
    let wire = wire_consent(&Consent { status, ..consent() }, 17, Timestamp::from_millis(0));
    assert_eq!((wire.code.as_str(), wire.answer_by), ("1111-1111", at(1_788_251_400, 8_000_000)));
    assert_eq!(state(&wire).unwrap(), ConsentState::Requested);
}
