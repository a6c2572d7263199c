//! Reasons of refusal that no other test reaches through gRPC: each by a question that fails this check first.

use std::sync::Arc;
use std::time::Duration;

use unefois_consent::registry::{DatasetClass, Habilitation};
use unefois_consent::{Channel, Ground, GroundKind, Language, NoticeShown, Timestamp};
use unefois_engine::{Clock, ManualClock, SystemClock};
use unefois_proto::exchange::wire_ground;
use unefois_proto::v1;
use unefois_tests::ask::{QUOTIENT, allowance, assert_refused, canteen, exchange, grant, granted, proactive};
use unefois_tests::sandbox::Sandbox;

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn shown_at(shown_at: Timestamp) -> Option<v1::exchange_request::Ground> {
    let notice = NoticeShown { version: 1, shown_at, channel: Channel::Online, language: Language::Fr };
    Some(wire_ground(&Ground::LawRequest { notice }))
}

fn of_the_town_hall(habilitations: &mut [Habilitation]) -> &mut Habilitation {
    habilitations.iter_mut().find(|h| h.id.as_str() == "saint-exemple-cantine").unwrap()
}

#[tokio::test]
async fn a_notice_is_of_the_past_and_not_of_a_past_too_far() {
    let sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    let now = SystemClock.now();
    let later = v1::ExchangeRequest { ground: shown_at(now.plus(DAY)), ..canteen("MARCHAND") };
    assert_refused(exchange(&town_hall, later).await, "EVIDENCE_IN_FUTURE");
    let long_ago = Timestamp::from_millis(now.as_millis() - 366 * 24 * 3_600 * 1_000);
    let old = v1::ExchangeRequest { ground: shown_at(long_ago), ..canteen("MARCHAND") };
    assert_refused(exchange(&town_hall, old).await, "NOTICE_TOO_OLD");
    sandbox.finish().await;
}

#[tokio::test]
async fn a_habilitation_must_fit_the_ground_the_procedure_the_day_and_the_class_of_the_data() {
    let sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    assert_refused(exchange(&town_hall, proactive(canteen("MARCHAND"))).await, "GROUND_NOT_COVERED");
    let another = v1::ExchangeRequest {
        procedure: "allocation-rentree".to_owned(),
        habilitation: "saint-exemple-cantine".to_owned(),
        ..canteen("MARCHAND")
    };
    assert_refused(exchange(&town_hall, another).await, "PROCEDURE_NOT_COVERED");
    sandbox
        .change_registry(|file| {
            let twin = of_the_town_hall(&mut file.habilitations).clone();
            file.habilitations.push(Habilitation { id: "twin".parse().unwrap(), ..twin });
        })
        .await;
    assert_refused(exchange(&town_hall, canteen("MARCHAND")).await, "HABILITATION_NOT_NAMED");
    sandbox
        .change_registry(|file| {
            file.habilitations.retain(|h| h.id.as_str() != "twin");
            let held = of_the_town_hall(&mut file.habilitations);
            held.valid_until = held.valid_from.plus(Duration::from_secs(60));
        })
        .await;
    assert_refused(exchange(&town_hall, canteen("MARCHAND")).await, "HABILITATION_OUT_OF_DATE");
    sandbox.finish().await;
}

#[tokio::test]
async fn a_dataset_that_nobody_here_can_be_asked_for_does_not_come_into_the_registry() {
    let sandbox = Sandbox::start().await;
    let change = |file: &mut unefois_consent::registry::RegistryFile| {
        let mut dataset = file.datasets[0].clone();
        (dataset.id, dataset.connector) = ("nobody.serves_this".parse().unwrap(), "nowhere".parse().unwrap());
        file.datasets.push(dataset);
    };
    let refused = sandbox.try_change_registry(false, change).await.unwrap_err();
    assert!(refused.message().starts_with("dataset nobody.serves_this: "), "{}", refused.message());
    sandbox.finish().await;
}

/// So `DATASET_CLASS_REFUSED` is never reached: the registry that it would need is not taken.
#[tokio::test]
async fn medical_data_does_not_come_into_the_registry() {
    let sandbox = Sandbox::start().await;
    for class in [DatasetClass::Medical, DatasetClass::Defence] {
        let change = |file: &mut unefois_consent::registry::RegistryFile| file.datasets[0].class = class;
        let refused = sandbox.try_change_registry(false, change).await.unwrap_err();
        assert!(refused.message().contains("R114-9-7"), "{refused:?}");
    }
    sandbox.finish().await;
}

#[tokio::test]
async fn a_quota_ends_with_its_number_and_begins_anew_with_the_day() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
    let department = sandbox.client("departement").await;
    sandbox
        .change_registry(|file| {
            file.habilitations.iter_mut().find(|h| h.id.as_str() == "exemple-rentree").unwrap().quota_per_day = Some(2);
        })
        .await;
    let mut long = grant("MARCHAND");
    long.terms.as_mut().unwrap().expires_at = Some(unefois_proto::fields::wire_instant(clock.now().plus(5 * DAY)));
    let consent = granted(&department, long).await;
    for _ in 0..2 {
        exchange(&department, allowance("MARCHAND", Some(&consent))).await.unwrap();
    }
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&consent))).await, "QUOTA_EXHAUSTED");
    clock.set(clock.now().plus(DAY));
    exchange(&department, allowance("MARCHAND", Some(&consent))).await.unwrap();
    sandbox.finish().await;
}

#[tokio::test]
async fn an_explicit_request_needs_its_preview_where_the_source_demands_one() {
    let sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    sandbox
        .change_registry(|file| {
            of_the_town_hall(&mut file.habilitations).grounds.insert(GroundKind::ExplicitRequest);
            file.datasets.iter_mut().find(|d| QUOTIENT.starts_with(d.id.as_str())).unwrap().preview_required = true;
        })
        .await;
    let requested_at = SystemClock.now();
    let explicit = |previewed_at| {
        let ground = Some(wire_ground(&Ground::ExplicitRequest { requested_at, previewed_at }));
        v1::ExchangeRequest { ground, ..canteen("MARCHAND") }
    };
    assert_refused(exchange(&town_hall, explicit(None)).await, "PREVIEW_MISSING");
    exchange(&town_hall, explicit(Some(requested_at))).await.unwrap();
    sandbox.finish().await;
}

#[tokio::test]
async fn a_request_is_tried_again_so_often_and_so_long() {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
    let town_hall = sandbox.client("ville").await;
    let again = canteen("MARCHAND");
    for _ in 0..5 {
        exchange(&town_hall, again.clone()).await.unwrap();
    }
    assert_refused(exchange(&town_hall, again).await, "RETRY_TOO_OFTEN");
    let late = canteen("MARCHAND");
    exchange(&town_hall, late.clone()).await.unwrap();
    clock.set(clock.now().plus(Duration::from_secs(16 * 60)));
    assert_refused(exchange(&town_hall, late).await, "RETRY_TOO_LATE");
    sandbox.finish().await;
}

#[tokio::test]
async fn a_key_that_leaves_the_registry_while_the_source_thinks_gets_no_data() {
    let sandbox = Sandbox::start().await;
    let town_hall = sandbox.client("ville").await;
    sandbox.source.hold();
    let under_way = tokio::spawn({
        let town_hall = town_hall.clone();
        async move { exchange(&town_hall, canteen("MARCHAND")).await }
    });
    sandbox.source.was_asked(1).await;
    sandbox
        .change_registry(|file| {
            file.participants.iter_mut().find(|p| p.siret.to_string() == "99999999900017").unwrap().keys.clear();
        })
        .await;
    sandbox.source.release();
    let answer = under_way.await.unwrap().unwrap();
    assert_eq!(answer.withheld_reasons, ["KEY_NOT_ENROLLED"]);
    assert!(answer.attributes.iter().all(|a| a.value.is_none()));
    sandbox.finish().await;
}
