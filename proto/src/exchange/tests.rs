use unefois_consent::{Channel, ConsentId, Language, NoticeShown, Timestamp};

use super::*;
use crate::testing::{MARKER, NO_INSTANTS, SPOILT_IDENTITIES, Spoilt, at, exchange, notice};
use crate::v1::exchange_request::Ground as Wire;

/// The field that is named for a good request after `spoil`. Whatever the fault, it does not repeat what it found.
fn fault(spoil: impl FnOnce(&mut v1::ExchangeRequest)) -> String {
    let mut request = exchange();
    spoil(&mut request);
    let fault = question(request).unwrap_err();
    for text in [fault.to_string(), format!("{fault:?}")] {
        assert!(!text.contains(MARKER) && !text.contains("MARCHAND"), "{text}");
    }
    fault.field
}

fn law_request(notice: Option<v1::NoticeShown>) -> Option<Wire> {
    Some(Wire::LawRequest(v1::LawRequest { notice }))
}

#[test]
fn a_malformed_field_is_named() {
    let spoilt: [Spoilt<v1::ExchangeRequest>; 37] = [
        ("request_id", |r| r.request_id.clear()),
        ("request_id", |r| r.request_id = "x".repeat(65)),
        ("request_id", |r| r.request_id = format!("{MARKER} x")),
        ("request_id", |r| r.request_id = format!("{MARKER}é")),
        ("agent", |r| r.agent.clear()),
        ("agent", |r| r.agent = "   ".to_owned()),
        ("agent", |r| r.agent = MARKER.repeat(13)),
        ("agent", |r| r.agent = format!("{MARKER}\n{MARKER}")),
        ("agent", |r| r.agent = format!("{MARKER}\u{1b}[2J")),
        ("agent", |r| r.agent = format!("{MARKER}\u{85}x")),
        ("agent", |r| r.agent = format!("{MARKER}\u{202e}x")),
        ("agent", |r| r.agent = format!("{MARKER}\u{2066}x")),
        ("agent", |r| r.agent = format!("{MARKER}\u{2028}x")),
        ("recipient", |r| r.recipient = MARKER.to_owned()),
        ("recipient", |r| r.recipient = "99999999900018".to_owned()),
        ("recipient", |r| r.recipient = "999999999".to_owned()),
        ("procedure", |r| r.procedure.clear()),
        ("procedure", |r| r.procedure = MARKER.to_owned()),
        ("procedure", |r| r.procedure = "a".repeat(97)),
        ("habilitation", |r| r.habilitation = MARKER.to_owned()),
        ("subject", |r| r.subject = None),
        ("attributes", |r| r.attributes.clear()),
        ("attributes", |r| r.attributes = numbered(101)),
        ("attributes", |r| r.attributes = numbered(10_000)),
        ("attributes[1]", |r| r.attributes[1] = r.attributes[0].clone()),
        ("attributes[1]", |r| r.attributes[1] = MARKER.to_owned()),
        ("attributes[0]", |r| r.attributes[0] = "dss.valeur".to_owned()),
        ("filters", |r| r.filters = vec![r.filters[0].clone(); 101]),
        ("filters[1].dataset", |r| r.filters.push(r.filters[0].clone())),
        ("filters[0].dataset", |r| r.filters[0].dataset = MARKER.to_owned()),
        ("filters[0].parameters", |r| parameter(r, "annee", &"9".repeat(65))),
        ("filters[0].parameters", |r| parameter(r, &"a".repeat(65), "1")),
        ("filters[0].parameters", |r| parameter(r, "annee", "")),
        ("filters[0].parameters", |r| parameter(r, "annee", &format!("{MARKER}\u{202e}"))),
        ("filters[0].parameters", |r| (0..17).for_each(|n| parameter(r, &format!("p{n}"), "1"))),
        ("france_connect_token", |r| r.france_connect_token = MARKER.repeat(410)),
        ("france_connect_token", |r| r.france_connect_token = format!("{MARKER} x")),
    ];
    for (at, (field, spoil)) in spoilt.into_iter().enumerate() {
        assert_eq!(fault(spoil), field, "case {at}");
    }
    for (field, spoil) in SPOILT_IDENTITIES {
        assert_eq!(fault(|r| spoil(r.subject.as_mut().unwrap())), format!("subject.{field}"));
    }
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("dss.quotient_familial.a{n}")).collect()
}

fn parameter(request: &mut v1::ExchangeRequest, name: &str, value: &str) {
    request.filters[0].parameters.insert(name.to_owned(), value.to_owned());
}

#[test]
fn a_malformed_ground_is_named_down_to_its_field() {
    assert_eq!(fault(|r| r.ground = None), "ground");
    assert_eq!(fault(|r| r.ground = law_request(None)), "law_request.notice");
    assert_eq!(fault(|r| r.ground = Some(Wire::Proactive(v1::Proactive { notice: None }))), "proactive.notice");
    let of = |notice| move |r: &mut v1::ExchangeRequest| r.ground = law_request(Some(notice));
    for number in [0, 5, -1, i32::MAX] {
        assert_eq!(fault(of(v1::NoticeShown { channel: number, ..notice() })), "law_request.notice.channel");
        assert_eq!(fault(of(v1::NoticeShown { language: number, ..notice() })), "law_request.notice.language");
    }
    assert_eq!(fault(of(v1::NoticeShown { shown_at: None, ..notice() })), "law_request.notice.shown_at");
    let consent = v1::ConsentGround { consent_id: MARKER.to_owned() };
    assert_eq!(fault(|r| r.ground = Some(Wire::Consent(consent))), "consent.consent_id");
    for (seconds, nanos) in NO_INSTANTS {
        let no = at(seconds, nanos);
        assert_eq!(fault(of(v1::NoticeShown { shown_at: no, ..notice() })), "law_request.notice.shown_at");
        let requested = v1::ExplicitRequest { requested_at: no, previewed_at: None };
        assert_eq!(fault(|r| r.ground = Some(Wire::ExplicitRequest(requested))), "explicit_request.requested_at");
        let previewed = v1::ExplicitRequest { requested_at: at(0, 0), previewed_at: no };
        assert_eq!(fault(|r| r.ground = Some(Wire::ExplicitRequest(previewed))), "explicit_request.previewed_at");
    }
    let none = v1::ExplicitRequest::default();
    assert_eq!(fault(|r| r.ground = Some(Wire::ExplicitRequest(none))), "explicit_request.requested_at");
}

#[test]
fn a_request_at_its_limits_is_read_as_it_is() {
    let mut request = exchange();
    request.request_id = "x".repeat(64);
    request.agent = format!(" {} ", "é".repeat(64));
    request.attributes = numbered(100);
    request.filters[0].parameters = (0..16).map(|n| (format!("{n:0>64}"), "9".repeat(64))).collect();
    request.france_connect_token = "x".repeat(4_096);
    let question = question(request).unwrap();
    assert_eq!(question.agent, "é".repeat(64), "without the spaces around it");
    assert_eq!((question.attributes.len(), question.attributes[99].name()), (100, "a99"), "in the order asked");
    assert_eq!(question.filters["dss.quotient_familial"].len(), 16);
    assert_eq!(question.france_connect_token.len(), 4_096);
}

#[test]
fn what_may_be_absent_is_absent() {
    let mut request = exchange();
    (request.recipient, request.habilitation) = (String::new(), String::new());
    (request.filters, request.france_connect_token) = (Vec::new(), String::new());
    let question = question(request).unwrap();
    assert_eq!((question.recipient, question.habilitation), (None, None));
    assert!(question.filters.is_empty() && question.france_connect_token.is_empty());
}

#[test]
fn a_ground_comes_back_from_the_wire_as_it_was() {
    let shown_at = Timestamp::from_millis(1_788_251_340_007);
    let mut grounds = vec![
        Ground::Consent { consent: None },
        Ground::Consent { consent: Some(ConsentId([0xc0; 16])) },
        Ground::ExplicitRequest { requested_at: shown_at, previewed_at: None },
        Ground::ExplicitRequest { requested_at: shown_at, previewed_at: Some(shown_at) },
    ];
    for channel in [Channel::Online, Channel::Counter, Channel::Phone, Channel::Post] {
        for language in [Language::Fr, Language::En] {
            let notice = NoticeShown { version: u32::MAX, shown_at, channel, language };
            grounds.push(Ground::LawRequest { notice: notice.clone() });
            grounds.push(Ground::Proactive { notice });
        }
    }
    for ground in grounds {
        let request = v1::ExchangeRequest { ground: Some(wire_ground(&ground)), ..exchange() };
        assert_eq!(question(request).unwrap().ground, ground);
    }
}

#[test]
fn an_attribute_carries_its_value_only_where_it_was_found() {
    let name: AttributeId = "dss.quotient_familial.valeur".parse().unwrap();
    let provenance = Provenance {
        source: "13002526500013".parse().unwrap(),
        version: "v3".to_owned(),
        obtained_at: Timestamp::from_millis(7),
        reference: None,
        receipt: None,
    };
    let found = wire_attribute(&name, &Outcome::Found(serde_json::json!(0)), Some(&provenance));
    assert_eq!(crate::value::to_json(found.value.as_ref().unwrap()), 0, "zero is a value");
    assert_eq!(found.provenance.as_ref().unwrap().source, "13002526500013");
    assert_eq!(status(&found).unwrap(), OutcomeCode::Found);
    for code in [
        OutcomeCode::NoFile,
        OutcomeCode::NotIdentified,
        OutcomeCode::Ambiguous,
        OutcomeCode::FilterRefused,
        OutcomeCode::NotAuthorised,
        OutcomeCode::RateLimited,
        OutcomeCode::SourceDown,
        OutcomeCode::Withheld,
    ] {
        let missing = wire_attribute(&name, &Outcome::Missing(code), None);
        assert_eq!((missing.value.as_ref(), missing.provenance.as_ref()), (None, None));
        assert_eq!(status(&missing).unwrap(), code);
        assert_eq!(missing.status().as_str_name(), format!("ATTRIBUTE_STATUS_{}", code.as_str()));
    }
    for number in [0, 10, -1] {
        assert_eq!(status(&v1::Attribute { status: number, ..found.clone() }).unwrap_err().field, "status");
    }
}
