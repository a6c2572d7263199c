use crate::testing::{MARKER, at, exchange, identity, record};
use crate::{exchange as convert, v1};

fn marked_identity() -> v1::Identity {
    let name = || MARKER.to_owned();
    v1::Identity {
        birth_name: name(),
        usage_name: name(),
        given_names: vec![name()],
        birth_date: "1988-04-17".to_owned(),
        ..identity()
    }
}

fn says_nothing(text: &str) {
    for secret in [MARKER, "1988", "35238", "99100", "612", "Female"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn a_request_shows_what_is_asked_and_not_about_whom() {
    let mut request = exchange();
    request.subject = Some(marked_identity());
    request.france_connect_token = MARKER.to_owned();
    request.filters[0].parameters.insert("annee".to_owned(), MARKER.to_owned());
    let question = convert::question(request.clone()).unwrap();
    for text in [format!("{request:?}"), format!("{request:#?}"), format!("{question:?}"), format!("{question:#?}")] {
        says_nothing(&text);
        assert!(text.contains("7f1c2c8e") && text.contains("tarification-cantine"), "{text}");
    }
    assert_eq!(format!("{:?}", request.ground.unwrap()), "LAW_REQUEST");
}

#[test]
fn an_answer_shows_what_became_of_each_attribute_and_no_value() {
    let attribute = v1::Attribute {
        name: "dss.quotient_familial.valeur".to_owned(),
        status: v1::AttributeStatus::Found.into(),
        value: Some(crate::value::to_wire(&serde_json::json!({ "nom": MARKER, "valeur": 612 }))),
        provenance: Some(v1::Provenance { obtained_at: at(0, 0), ..v1::Provenance::default() }),
    };
    let response = v1::ExchangeResponse {
        exchange_id: "e0e0".to_owned(),
        attributes: vec![attribute],
        receipt: format!("{{\"salt\":\"{MARKER}\"}}"),
        withheld_reasons: Vec::new(),
    };
    for text in [format!("{response:?}"), format!("{response:#?}")] {
        says_nothing(&text);
        assert!(text.contains("e0e0") && text.contains("valeur") && text.contains("Found"), "{text}");
    }
    let unknown = v1::Attribute { status: 99, ..response.attributes[0].clone() };
    says_nothing(&format!("{unknown:?}"));
}

#[test]
fn messages_around_an_identity_do_not_show_it() {
    let subject = Some(marked_identity());
    let record = v1::RecordConsentRequest { subject: subject.clone(), ..record() };
    let list = v1::ListConsentsRequest { subject: subject.clone(), ..Default::default() };
    let object = v1::RecordObjectionRequest { subject: subject.clone(), ..Default::default() };
    let lift = v1::LiftObjectionRequest { subject, ..Default::default() };
    for text in [
        format!("{record:?}"),
        format!("{list:?}"),
        format!("{object:?}"),
        format!("{lift:?}"),
        format!("{:?}", crate::consent::record(&record).unwrap()),
        format!("{:?}", tonic::Request::new(record)),
    ] {
        says_nothing(&text);
    }
}
