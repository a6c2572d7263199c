//! What administrations and persons see of the ledger: objections, lost mandates, windows that go on, the whole history.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_stream::StreamExt;
use unefois::client::Client;
use unefois::init::{DEPARTMENT, TOWN_HALL};
use unefois_audit::Receipt;
use unefois_consent::{Event, Timestamp};
use unefois_engine::consents::ChangeReader;
use unefois_engine::{Clock, ManualClock, SystemClock};
use unefois_proto::fields::wire_instant;
use unefois_proto::v1;
use unefois_tests::ask::{
    CANTEEN, allowance, assert_refused, canteen, daily, exchange, grant, grant_on, granted, object, person, renewal,
    within,
};
use unefois_tests::sandbox::Sandbox;

use super::citizen::assertion;
use super::mandates::{born, mandate, record_mandate};

async fn objections(client: &Client, birth_name: &str) -> Vec<v1::ListedObjection> {
    let request = v1::ListObjectionsRequest { subject: Some(person(birth_name)) };
    client.consent().list_objections(within(request)).await.unwrap().into_inner().objections
}

#[tokio::test]
async fn an_administration_sees_who_objected_and_its_own_objections_alone() {
    let sandbox = Sandbox::start().await;
    let (town, portal) = (sandbox.client("ville").await, sandbox.client("portail").await);
    assert_eq!(objections(&town, "MARCHAND").await, []);
    let answer = exchange(&town, canteen("MARCHAND")).await.unwrap();
    object(&town, "MARCHAND").await;
    for consumer in [TOWN_HALL, DEPARTMENT] {
        let request = v1::SetMyObjectionRequest {
            assertion: assertion(&sandbox, "MARCHAND"),
            consumer: consumer.to_owned(),
            procedure: CANTEEN.to_owned(),
            lift: false,
        };
        portal.citizen().set_my_objection(within(request)).await.unwrap();
    }
    let mut found = objections(&town, "MARCHAND").await;
    found.sort_by_key(|objection| objection.procedure.clone());
    let found: Vec<_> = found.iter().map(|o| (o.procedure.as_str(), o.by_person)).collect();
    assert_eq!(found, [("", false), (CANTEEN, true)]);
    assert_eq!(objections(&town, "ETRANGER").await, []);

    // The change names the person by the reference that the receipt of an answer about them has.
    let mut changes =
        town.consent().watch_consents(v1::WatchConsentsRequest { cursor: None }).await.unwrap().into_inner();
    let change = changes.next().await.unwrap().unwrap();
    assert_eq!(change.kind(), v1::ChangeKind::ObjectionRecorded);
    let receipt = Receipt::from_json(&answer.receipt).unwrap();
    let Event::Answered(answered) = serde_json::from_str(&receipt.record).unwrap() else { panic!("no answer") };
    assert_eq!(change.subject, answered.subject.to_string());
    drop(changes);
    sandbox.finish().await;
}

#[tokio::test]
async fn a_consent_says_that_its_mandate_is_lost() {
    let sandbox = Sandbox::start().await;
    let department = sandbox.client("departement").await;
    let principal = born("MAJEUR", "1950-01-01");
    let given = record_mandate(&department, mandate(v1::MandateKind::Guardian, principal.clone())).await.unwrap();
    let wanted = v1::RecordConsentRequest {
        subject: Some(principal),
        mandate_id: given.id.clone(),
        ..grant_on("MAJEUR", |terms| {
            terms.expires_at = Some(wire_instant(SystemClock.now().plus(Duration::from_secs(3_600))));
        })
    };
    let id = granted(&department, wanted).await;
    let get = async || {
        let request = v1::GetConsentRequest { consent_id: id.clone() };
        department.consent().get_consent(within(request)).await.unwrap().into_inner().consent.unwrap()
    };
    assert_eq!((get().await.state(), get().await.mandate_lost), (v1::ConsentState::Given, false));
    department.consent().end_mandate(within(v1::EndMandateRequest { mandate_id: given.id })).await.unwrap();
    assert!(get().await.mandate_lost);
    sandbox.finish().await;
}

#[tokio::test]
async fn a_renewal_goes_on_in_the_window_and_gives_no_second_use_of_it() {
    let noon: Timestamp = "2026-10-24T12:00:00Z".parse().unwrap();
    let clock = Arc::new(ManualClock::new(noon));
    let mut sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
    let department = sandbox.client("departement").await;
    let wanted = daily("MARCHAND", noon, "2026-10-26T12:00:00Z".parse().unwrap());
    let id = granted(&department, wanted).await;
    exchange(&department, allowance("MARCHAND", Some(&id))).await.unwrap();
    clock.advance(Duration::from_secs(3_600));
    let renewal = renewal(&id, "2026-10-28T12:00:00Z".parse().unwrap());
    let renewed = department.consent().renew_consent(within(renewal)).await.unwrap().into_inner().consent.unwrap();
    assert_eq!((renewed.version, renewed.terms.unwrap().not_before), (2, Some(wire_instant(noon))));
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&id))).await, "CONSENT_FREQUENCY");
    // As a fold that is built anew has it, too.
    sandbox.stop().await;
    std::fs::remove_dir_all(sandbox.data().join("fold")).unwrap();
    sandbox.restart().await.unwrap();
    let department = sandbox.client("departement").await;
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&id))).await, "CONSENT_FREQUENCY");
    clock.set("2026-10-25T12:00:00Z".parse().unwrap());
    exchange(&department, allowance("MARCHAND", Some(&id))).await.unwrap();
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&id))).await, "CONSENT_FREQUENCY");
    sandbox.finish().await;
}

#[tokio::test]
async fn a_persons_export_has_each_version_and_decision_with_its_entry() {
    let sandbox = Sandbox::start().await;
    let (department, portal) = (sandbox.client("departement").await, sandbox.client("portail").await);
    let id = granted(&department, grant("MARCHAND")).await;
    for decision in [v1::Decision::Pause, v1::Decision::Resume, v1::Decision::Withdraw] {
        let request = v1::DecideMyConsentRequest {
            assertion: assertion(&sandbox, "MARCHAND"),
            consent_id: id.clone(),
            decision: decision as i32,
        };
        portal.citizen().decide_my_consent(within(request)).await.unwrap();
    }
    granted(&department, grant("AUTRE")).await;
    let export = v1::ExportMineRequest { assertion: assertion(&sandbox, "MARCHAND") };
    let items: Vec<_> = portal.citizen().export_mine(export).await.unwrap().into_inner().collect().await;
    let items: Vec<_> = items.into_iter().map(Result::unwrap).collect();
    for item in &items {
        let hidden = ["\"subject\"", "\"agent\"", "new_subject"].iter().all(|name| !item.item.contains(name));
        assert!(hidden, "{}", item.item);
    }
    let events: Vec<serde_json::Value> = items
        .into_iter()
        .filter(|item| item.kind == "event")
        .map(|item| serde_json::from_str(&item.item).unwrap())
        .collect();
    let kinds: Vec<_> = events.iter().map(|e| e["event"].as_object().unwrap().keys().next().unwrap().clone()).collect();
    assert_eq!(kinds, ["consent_withdrawn", "consent_resumed", "consent_paused", "consent_granted"]);
    assert_eq!(events[3]["event"]["consent_granted"]["consent"]["id"], id);
    // Each by its entry, of which the person has the receipt.
    for event in &events {
        let request = v1::GetMyReceiptRequest {
            assertion: assertion(&sandbox, "MARCHAND"),
            index: event["log_index"].as_u64().unwrap(),
        };
        let receipt = portal.citizen().get_my_receipt(within(request)).await.unwrap().into_inner().receipt;
        Receipt::from_json(&receipt).unwrap().verify(&sandbox.key).unwrap();
    }
    sandbox.finish().await;
}

/// A step that is in the queue when the sequencer ends is never run, and whoever waits for it must not wait for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_asks_while_the_broker_stops_is_told() {
    for _ in 0..20 {
        let mut sandbox = Sandbox::start().await;
        let engine = Arc::clone(sandbox.broker().engine());
        let ask = || {
            let engine = Arc::clone(&engine);
            let reader = ChangeReader::Operator(TOWN_HALL.parse().unwrap());
            tokio::spawn(async move {
                let far = Instant::now() + Duration::from_secs(600);
                while engine.changes(&reader, None, 10, far).await.is_ok() {}
            })
        };
        let asking: Vec<_> = (0..8).map(|_| ask()).collect();
        drop(engine);
        let begun = Instant::now();
        sandbox.stop().await;
        for task in asking {
            tokio::time::timeout(Duration::from_secs(30), task).await.expect("nobody told it").unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
