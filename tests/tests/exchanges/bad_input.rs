//! Bad input: each field is named, nothing that it held is repeated, nothing is asked and nothing is lost.

use tonic::Code;
use unefois_consent::event::Event;
use unefois_proto::v1::{self, ExchangeRequest, Identity};
use unefois_tests::ask::*;
use unefois_tests::process::{self, Process};
use unefois_tests::sandbox::{FIRST_ENTRIES, Sandbox};
use unefois_tests::world;

/// Part of every wrong value, so that an error that repeats it is found out.
const MARK: &str = "ZZMARK";

#[tokio::test]
async fn each_malformed_field_is_named_and_its_content_is_not_repeated() {
    let sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    let person = |change: &dyn Fn(&mut Identity)| {
        let mut question = canteen("MARCHAND");
        change(question.subject.as_mut().unwrap());
        question
    };
    let question = |change: &dyn Fn(&mut ExchangeRequest)| {
        let mut question = canteen("MARCHAND");
        change(&mut question);
        question
    };
    let long = MARK.repeat(10_240 / MARK.len());
    let cases: Vec<(&str, ExchangeRequest)> = vec![
        ("subject.birth_date", person(&|p| p.birth_date = "198ZZMARK".into())),
        ("subject.birth_date", person(&|p| p.birth_date = "1988-02-30".into())),
        ("subject.birth_date", person(&|p| p.birth_date = "2999-01-01".into())),
        ("subject.birth_commune", person(&|p| p.birth_commune = "3523".into())),
        ("subject.birth_country", person(&|p| p.birth_country = "FRANC".into())),
        ("subject.birth_name", person(&|p| p.birth_name = String::new())),
        ("subject.birth_name", person(&|p| p.birth_name = long.clone())),
        ("subject.birth_name", person(&|p| p.birth_name = format!("{MARK}\u{7}"))),
        ("subject.usage_name", person(&|p| p.usage_name = format!("{MARK}\n"))),
        ("subject.given_names", person(&|p| p.given_names.clear())),
        ("subject.given_names[1]", person(&|p| p.given_names.push(format!("{MARK}\u{202e}")))),
        ("subject.sex", person(&|p| p.sex = 0)),
        ("subject.sex", person(&|p| p.sex = 7)),
        ("subject", question(&|q| q.subject = None)),
        ("recipient", question(&|q| q.recipient = "99999999900018".into())),
        ("procedure", question(&|q| q.procedure = format!("{MARK} x"))),
        ("attributes", question(&|q| q.attributes.clear())),
        ("attributes", question(&|q| q.attributes = vec![QUOTIENT.into(); 10_000])),
        ("attributes[1]", question(&|q| q.attributes.push(QUOTIENT.into()))),
        ("attributes[0]", question(&|q| q.attributes = vec![MARK.into()])),
        ("request_id", question(&|q| q.request_id = String::new())),
        ("request_id", question(&|q| q.request_id = format!("{MARK} {MARK}"))),
        ("agent", question(&|q| q.agent = String::new())),
        ("agent", question(&|q| q.agent = MARK.repeat(30))),
        ("ground", question(&|q| q.ground = None)),
        (
            "law_request.notice",
            question(&|q| q.ground = Some(v1::exchange_request::Ground::LawRequest(v1::LawRequest::default()))),
        ),
        (
            "consent.consent_id",
            question(&|q| {
                q.ground = Some(v1::exchange_request::Ground::Consent(v1::ConsentGround { consent_id: MARK.into() }))
            }),
        ),
        ("france_connect_token", question(&|q| q.france_connect_token = format!("{MARK} é"))),
        (
            "filters[0].dataset",
            question(&|q| q.filters = vec![v1::DatasetFilter { dataset: MARK.into(), ..Default::default() }]),
        ),
        (
            "filters[0].parameters",
            question(&|q| {
                q.filters = vec![v1::DatasetFilter {
                    dataset: "dss.quotient_familial".into(),
                    parameters: [("annee".to_owned(), MARK.repeat(20))].into(),
                }]
            }),
        ),
    ];
    for (field, question) in cases {
        assert_malformed(exchange(&town_hall, question).await, field, MARK);
    }
    assert_eq!(sandbox.source.asked(), 0);
    // Malformed questions are no exchanges: the log holds its first entries only.
    assert_eq!(sandbox.finish().await.entries, FIRST_ENTRIES);
}

#[tokio::test]
async fn a_filter_that_its_source_would_refuse_is_named_and_nothing_is_logged_or_asked() {
    let root = tempfile::tempdir().unwrap();
    let (folder, _) = process::folder(&root.path().join("broker"), process::free_address());
    let broker = Process::serve(&folder.config());
    let town_hall = process::client(&folder, "ville").await;
    for (name, value) in [("annee", "26"), ("annee", MARK), ("mois", "13")] {
        let parameters = [(name.to_owned(), value.to_owned())].into();
        let filters = vec![v1::DatasetFilter { dataset: "dss.quotient_familial".into(), parameters }];
        let question = ExchangeRequest { filters, ..canteen("MARCHAND") };
        let field = format!("filters.dss.quotient_familial.{name}");
        assert_malformed(exchange(&town_hall, question).await, &field, MARK);
    }
    assert_eq!(broker.stop().await, Some(0));
    let exchanges = world::events(&folder.path.join("data")).into_iter().filter(|(_, event)| {
        matches!(event, Event::Requested(_) | Event::Refused(_) | Event::Failed(_) | Event::Answered(_))
    });
    assert_eq!(exchanges.count(), 0);
}

#[tokio::test]
async fn unknown_names_are_refused_and_logged() {
    let sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    type Change = fn(&mut ExchangeRequest);
    let cases: [(&str, Change); 7] = [
        ("PROCEDURE_UNKNOWN", |q| q.procedure = "no-such-procedure".into()),
        ("ATTRIBUTE_UNKNOWN", |q| q.attributes = vec!["dss.quotient_familial.no_such".into()]),
        ("ATTRIBUTE_UNKNOWN", |q| q.attributes = vec!["no.such_dataset.x".into()]),
        ("ATTRIBUTE_NOT_COVERED", |q| q.attributes = vec!["dss.quotient_familial.adresse".into()]),
        ("RECIPIENT_NOT_COVERED", |q| q.recipient = "13002526500013".into()),
        ("HABILITATION_MISSING", |q| q.habilitation = "exemple-rentree".into()),
        ("FILTER_UNKNOWN", |q| {
            let parameters = [("no_such".to_owned(), "1".to_owned())].into();
            q.filters = vec![v1::DatasetFilter { dataset: "dss.quotient_familial".into(), parameters }];
        }),
    ];
    for (reason, change) in cases {
        let mut question = canteen("MARCHAND");
        change(&mut question);
        assert_refused(exchange(&town_hall, question).await, reason);
    }
    let mut question = canteen("MARCHAND");
    let Some(v1::exchange_request::Ground::LawRequest(ground)) = &mut question.ground else { panic!() };
    ground.notice.as_mut().unwrap().version = 99;
    assert_refused(exchange(&town_hall, question).await, "NOTICE_UNKNOWN");
    assert_eq!(sandbox.source.asked(), 0);
    assert_eq!(sandbox.finish().await.entries, FIRST_ENTRIES + 8);
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_refused_before_it_is_read() {
    let sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    let question = ExchangeRequest { agent: MARK.repeat(1 << 20), ..canteen("MARCHAND") };
    let status = exchange(&town_hall, question).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert!(status.message().contains("limit") && !status.message().contains(MARK), "{status:?}");
    exchange(&town_hall, canteen("MARCHAND")).await.unwrap();
    sandbox.finish().await;
}

#[tokio::test]
async fn a_consent_is_refused_for_each_thing_that_would_make_it_invalid() {
    let sandbox = Sandbox::start().await;
    let department = sandbox.client("departement").await;
    let soon = terms().expires_at.unwrap();
    let cases: Vec<(&str, v1::RecordConsentRequest)> = vec![
        (
            "terms.procedure",
            grant_on("MARCHAND", |terms| {
                terms.procedure = "no-such".into();
            }),
        ),
        (
            "terms.notice_version",
            grant_on("MARCHAND", |terms| {
                terms.notice_version = 9;
            }),
        ),
        (
            "terms.attributes",
            grant_on("MARCHAND", |terms| {
                terms.attributes = vec!["dss.quotient_familial.adresse".into()];
            }),
        ),
        (
            "terms.attributes",
            grant_on("MARCHAND", |terms| {
                terms.procedure = CANTEEN.into();
            }),
        ),
        (
            "terms.expires_at",
            grant_on("MARCHAND", |terms| {
                terms.expires_at = None;
            }),
        ),
        (
            "terms.expires_at",
            grant_on("MARCHAND", |terms| {
                terms.expires_at = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
            }),
        ),
        (
            "terms.expires_at",
            grant_on("MARCHAND", |terms| {
                terms.not_before = Some(soon);
                terms.expires_at = Some(soon);
            }),
        ),
        (
            "terms.expires_at",
            grant_on("MARCHAND", |terms| {
                terms.expires_at = Some(prost_types::Timestamp { seconds: soon.seconds + 366 * 86_400, nanos: 0 });
            }),
        ),
        (
            "terms.language",
            grant_on("MARCHAND", |terms| {
                terms.language = 0;
            }),
        ),
        ("channel", v1::RecordConsentRequest { channel: 99, ..grant("MARCHAND") }),
        (
            "terms.use",
            grant_on("MARCHAND", |terms| {
                terms.r#use = 0;
            }),
        ),
        ("evidence_sha256", v1::RecordConsentRequest { evidence_sha256: MARK.into(), ..grant("MARCHAND") }),
        ("agent", v1::RecordConsentRequest { agent: String::new(), ..grant("MARCHAND") }),
        (
            "subject.birth_name",
            v1::RecordConsentRequest { subject: Some(person(&format!("{MARK}\t"))), ..grant("MARCHAND") },
        ),
    ];
    for (field, request) in cases {
        assert_malformed(department.consent().record_consent(within(request)).await, field, MARK);
    }
    assert_eq!(sandbox.finish().await.entries, FIRST_ENTRIES);
}
