//! Who acts for another, towards one administration, and until when.

use std::sync::Arc;
use std::time::Duration;

use tonic::Status;
use unefois::client::Client;
use unefois_consent::Timestamp;
use unefois_engine::{Clock, ManualClock, SystemClock};
use unefois_proto::fields::wire_instant;
use unefois_proto::v1;
use unefois_tests::ask::{
    ALLOWANCE, allowance, assert_malformed, assert_refused, canteen, exchange, grant_on, granted, person, within,
};
use unefois_tests::sandbox::Sandbox;

/// Somebody of age, and a child.
pub(crate) fn born(birth_name: &str, birth_date: &str) -> v1::Identity {
    v1::Identity { birth_date: birth_date.to_owned(), ..person(birth_name) }
}

pub(crate) fn mandate(kind: v1::MandateKind, principal: v1::Identity) -> v1::RecordMandateRequest {
    v1::RecordMandateRequest {
        agent: "agent-7".to_owned(),
        principal: Some(principal),
        representative: Some(born("TUTEUR", "1970-01-01")),
        kind: kind as i32,
        procedures: Vec::new(),
        proof_sha256: "f0".repeat(32),
        not_before: None,
        expires_at: Some(wire_instant(SystemClock.now().plus(Duration::from_secs(86_400)))),
    }
}

pub(crate) async fn record_mandate(client: &Client, request: v1::RecordMandateRequest) -> Result<v1::Mandate, Status> {
    Ok(client.consent().record_mandate(within(request)).await?.into_inner().mandate.unwrap())
}

#[tokio::test]
async fn a_representative_acts_under_a_mandate_that_is_in_force_and_covers_the_procedure() {
    let sandbox = Sandbox::start().await;
    let (town, department) = (sandbox.client("ville").await, sandbox.client("departement").await);
    let child = || born("ENFANT", "2015-05-05");
    let parent = v1::RecordMandateRequest { expires_at: None, ..mandate(v1::MandateKind::Parent, child()) };
    let parental = record_mandate(&town, parent).await.unwrap();
    let expected: Timestamp = "2033-05-04T22:00:00Z".parse().unwrap();
    assert_eq!(parental.expires_at, Some(wire_instant(expected)), "majority, at midnight of Paris");
    let acting = |mandate_id: &str| v1::ExchangeRequest {
        subject: Some(child()),
        mandate_id: mandate_id.to_owned(),
        ..canteen("ENFANT")
    };
    exchange(&town, acting(&parental.id)).await.unwrap();
    assert_refused(exchange(&town, acting(&"9".repeat(32))).await, "MANDATE_MISSING");
    // For another person, or towards another administration, it reads as none.
    let other = v1::ExchangeRequest { mandate_id: parental.id.clone(), ..canteen("MARCHAND") };
    assert_refused(exchange(&town, other).await, "MANDATE_MISSING");
    let elsewhere = record_mandate(&department, mandate(v1::MandateKind::Guardian, child())).await.unwrap();
    assert_refused(exchange(&town, acting(&elsewhere.id)).await, "MANDATE_MISSING");
    let narrow = v1::RecordMandateRequest {
        procedures: vec![ALLOWANCE.to_owned()],
        ..mandate(v1::MandateKind::Guardian, child())
    };
    let narrow = record_mandate(&town, narrow).await.unwrap();
    assert_refused(exchange(&town, acting(&narrow.id)).await, "MANDATE_SCOPE");
    let later = v1::RecordMandateRequest {
        not_before: Some(wire_instant(SystemClock.now().plus(Duration::from_secs(3_600)))),
        ..mandate(v1::MandateKind::Guardian, child())
    };
    let later = record_mandate(&town, later).await.unwrap();
    assert_refused(exchange(&town, acting(&later.id)).await, "MANDATE_NOT_YET_VALID");
    let end = v1::EndMandateRequest { mandate_id: parental.id.clone() };
    town.consent().end_mandate(within(end)).await.unwrap();
    assert_refused(exchange(&town, acting(&parental.id)).await, "MANDATE_ENDED");
    // A consent by a representative ends with the mandate.
    let given = v1::RecordConsentRequest {
        subject: Some(child()),
        mandate_id: elsewhere.id.clone(),
        ..grant_on("ENFANT", |terms| terms.expires_at = elsewhere.expires_at)
    };
    let consent = granted(&department, given).await;
    let by_consent = || v1::ExchangeRequest { subject: Some(child()), ..allowance("ENFANT", Some(&consent)) };
    exchange(&department, by_consent()).await.unwrap();
    let end = v1::EndMandateRequest { mandate_id: elsewhere.id };
    department.consent().end_mandate(within(end)).await.unwrap();
    assert_refused(exchange(&department, by_consent()).await, "MANDATE_ENDED");
    sandbox.finish().await;
}

#[tokio::test]
async fn a_mandate_ends_at_majority() {
    let clock = Arc::new(ManualClock::new("2026-05-04T21:59:59Z".parse().unwrap()));
    let sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
    let town = sandbox.client("ville").await;
    // Of age on 5 May 2026.
    let youth = || born("JEUNE", "2008-05-05");
    let parental = v1::RecordMandateRequest { expires_at: None, ..mandate(v1::MandateKind::Parent, youth()) };
    let parental = record_mandate(&town, parental.clone()).await.unwrap();
    let ask = || v1::ExchangeRequest {
        subject: Some(youth()),
        mandate_id: parental.id.clone(),
        ground: Some(unefois_proto::exchange::wire_ground(&unefois_consent::Ground::LawRequest {
            notice: unefois_consent::NoticeShown {
                version: 1,
                shown_at: clock.now(),
                channel: unefois_consent::Channel::Online,
                language: unefois_consent::Language::Fr,
            },
        })),
        ..canteen("JEUNE")
    };
    exchange(&town, ask()).await.unwrap();
    clock.set("2026-05-04T22:00:00Z".parse().unwrap());
    assert_refused(exchange(&town, ask()).await, "MANDATE_EXPIRED");
    let again = v1::RecordMandateRequest { expires_at: None, ..mandate(v1::MandateKind::Parent, youth()) };
    assert_malformed(record_mandate(&town, again).await, "principal.birth_date", "");
    sandbox.finish().await;
}

#[tokio::test]
async fn each_field_of_a_mandate_that_is_wrong_is_named() {
    let sandbox = Sandbox::start().await;
    let town = sandbox.client("ville").await;
    let adult = || born("MAJEUR", "1950-01-01");
    let in_years = |years: u64| Some(wire_instant(SystemClock.now().plus(Duration::from_secs(years * 366 * 86_400))));
    let cases: Vec<(&str, v1::RecordMandateRequest)> = vec![
        ("principal.birth_date", mandate(v1::MandateKind::Parent, adult())),
        ("principal.birth_date", mandate(v1::MandateKind::Parent, born("ENFANT", ""))),
        ("kind", mandate(v1::MandateKind::Mandatary, born("ENFANT", "2015-05-05"))),
        ("expires_at", v1::RecordMandateRequest { expires_at: None, ..mandate(v1::MandateKind::Mandatary, adult()) }),
        (
            "expires_at",
            v1::RecordMandateRequest { expires_at: in_years(19), ..mandate(v1::MandateKind::Mandatary, adult()) },
        ),
        (
            "expires_at",
            v1::RecordMandateRequest {
                expires_at: in_years(17),
                ..mandate(v1::MandateKind::Guardian, born("ENFANT", "2015-05-05"))
            },
        ),
        (
            "representative.birth_date",
            v1::RecordMandateRequest {
                representative: Some(born("ENFANT", "2015-05-05")),
                ..mandate(v1::MandateKind::Mandatary, adult())
            },
        ),
        (
            "representative",
            v1::RecordMandateRequest { representative: Some(adult()), ..mandate(v1::MandateKind::Mandatary, adult()) },
        ),
        (
            "procedures",
            v1::RecordMandateRequest {
                procedures: vec!["no-such".to_owned()],
                ..mandate(v1::MandateKind::Mandatary, adult())
            },
        ),
        (
            "proof_sha256",
            v1::RecordMandateRequest { proof_sha256: String::new(), ..mandate(v1::MandateKind::Mandatary, adult()) },
        ),
    ];
    let size = sandbox.broker().engine().head().size;
    for (field, request) in cases {
        assert_malformed(record_mandate(&town, request).await, field, "");
    }
    assert_eq!(sandbox.broker().engine().head().size, size, "nothing of it was written");
    sandbox.finish().await;
}
