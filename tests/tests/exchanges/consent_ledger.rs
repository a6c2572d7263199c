//! The consent ledger over gRPC: every change, every refusal, exact under concurrency.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tonic::{Code, Status};
use unefois::client::Client;
use unefois_consent::registry::RegistryFile;
use unefois_consent::{GroundKind, Timestamp};
use unefois_engine::{Clock, ManualClock, SystemClock};
use unefois_proto::fields::wire_instant;
use unefois_proto::v1;
use unefois_tests::ask::{
    CANTEEN, allowance, assert_malformed, assert_refused, assert_wrong_state, daily, exchange, grant, grant_on,
    granted, only_status, person, reason, renewal, terms, withdraw, within,
};
use unefois_tests::sandbox::Sandbox;

use super::mandates::{born, mandate, record_mandate};

async fn decide(client: &Client, consent_id: &str, decision: v1::Decision) -> Result<v1::Consent, Status> {
    let request = v1::DecideConsentRequest {
        consent_id: consent_id.to_owned(),
        decision: decision as i32,
        evidence_sha256: String::new(),
    };
    let answer = client.consent().decide_consent(within(request)).await?;
    Ok(answer.into_inner().consent.unwrap())
}

async fn get(client: &Client, consent_id: &str) -> Result<v1::Consent, Status> {
    let request = v1::GetConsentRequest { consent_id: consent_id.to_owned() };
    Ok(client.consent().get_consent(within(request)).await?.into_inner().consent.unwrap())
}

async fn request(client: &Client, birth_name: &str) -> v1::RequestConsentResponse {
    let request = v1::RequestConsentRequest {
        agent: "agent-7".to_owned(),
        subject: Some(person(birth_name)),
        terms: Some(terms()),
        answer_by: None,
    };
    client.consent().request_consent(within(request)).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_request_waits_for_the_person_and_is_answered_with_what_it_asks_or_less() {
    let sandbox = Sandbox::start().await;
    let department = sandbox.client("departement").await;
    let asked = request(&department, "MARCHAND").await;
    let consent = asked.consent.unwrap();
    assert_eq!((consent.state(), asked.code.as_str()), (v1::ConsentState::Requested, consent.code.as_str()));
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&consent.id))).await, "CONSENT_PENDING");
    assert_refused(exchange(&department, allowance("MARCHAND", None)).await, "CONSENT_PENDING");
    // More than was asked is no answer.
    let mut more = grant_on("MARCHAND", |terms| terms.r#use = v1::ConsentUse::OneTime as i32);
    more.request_id.clone_from(&consent.id);
    assert_malformed(department.consent().record_consent(within(more)).await, "terms.expires_at", "");
    // What the request asked for, as it was asked.
    let answer = v1::RecordConsentRequest {
        terms: consent.terms.clone(),
        request_id: consent.id.clone(),
        channel: v1::Channel::Counter as i32,
        ..grant("MARCHAND")
    };
    let given =
        department.consent().record_consent(within(answer.clone())).await.unwrap().into_inner().consent.unwrap();
    assert_eq!((given.id.as_str(), given.state()), (consent.id.as_str(), v1::ConsentState::Given));
    assert!(given.log_index > consent.log_index);
    exchange(&department, allowance("MARCHAND", Some(&consent.id))).await.unwrap();
    assert_wrong_state(department.consent().record_consent(within(answer)).await);
    // One that the person refuses.
    let refused = request(&department, "MARCHAND").await.consent.unwrap();
    let refused = decide(&department, &refused.id, v1::Decision::Refuse).await.unwrap();
    assert_eq!(refused.state(), v1::ConsentState::Refused);
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&refused.id))).await, "CONSENT_REFUSED");
    sandbox.finish().await;
}

#[tokio::test]
async fn each_decision_takes_effect_when_it_is_acknowledged() {
    let sandbox = Sandbox::start().await;
    let department = sandbox.client("departement").await;
    let operator = sandbox.client("operateur").await;
    let id = granted(&department, grant("MARCHAND")).await;
    exchange(&department, allowance("MARCHAND", Some(&id))).await.unwrap();
    decide(&department, &id, v1::Decision::Pause).await.unwrap();
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&id))).await, "CONSENT_PAUSED");
    let resumed = decide(&department, &id, v1::Decision::Resume).await.unwrap();
    assert_eq!(resumed.state(), v1::ConsentState::Given);
    exchange(&department, allowance("MARCHAND", Some(&id))).await.unwrap();
    // The operator ends it by an authority's order, and nothing else of it.
    let status = decide(&operator, &id, v1::Decision::Pause).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "NOT_ALLOWED"));
    let status = decide(&department, &id, v1::Decision::Revoke).await.unwrap_err();
    assert_eq!(reason(&status), "NOT_ALLOWED");
    let revoked = decide(&operator, &id, v1::Decision::Revoke).await.unwrap();
    assert_eq!((revoked.state(), revoked.uses), (v1::ConsentState::Revoked, 2));
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&id))).await, "CONSENT_REVOKED");
    assert_wrong_state(decide(&department, &id, v1::Decision::Resume).await);
    let invalid = granted(&department, grant("MARCHAND")).await;
    decide(&department, &invalid, v1::Decision::Invalidate).await.unwrap();
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&invalid))).await, "CONSENT_INVALIDATED");
    // Twice is once.
    let size = sandbox.broker().engine().head().size;
    decide(&department, &invalid, v1::Decision::Invalidate).await.unwrap();
    assert_eq!(sandbox.broker().engine().head().size, size);
    sandbox.finish().await;
}

#[tokio::test]
async fn a_renewal_is_another_version_that_names_the_one_before() {
    let sandbox = Sandbox::start().await;
    let department = sandbox.client("departement").await;
    let once = grant_on("MARCHAND", |terms| terms.r#use = v1::ConsentUse::OneTime as i32);
    let id = granted(&department, once).await;
    exchange(&department, allowance("MARCHAND", Some(&id))).await.unwrap();
    assert_eq!(get(&department, &id).await.unwrap().state(), v1::ConsentState::Exhausted);
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&id))).await, "CONSENT_USED");
    let renewal = v1::RenewConsentRequest {
        language: v1::Language::English as i32,
        ..renewal(&id, SystemClock.now().plus(Duration::from_secs(3_600)))
    };
    let renewed =
        department.consent().renew_consent(within(renewal.clone())).await.unwrap().into_inner().consent.unwrap();
    assert_eq!((renewed.version, renewed.state(), renewed.uses), (2, v1::ConsentState::Renewed, 0));
    assert_eq!(renewed.previous_sha256.len(), 64);
    exchange(&department, allowance("MARCHAND", Some(&id))).await.unwrap();
    let listed = v1::ListConsentsRequest { subject: Some(person("MARCHAND")), ..Default::default() };
    let listed = department.consent().list_consents(within(listed)).await.unwrap().into_inner().consents;
    assert_eq!(listed.len(), 1, "a version takes the place of the one before");
    withdraw(&department, &id).await;
    assert_wrong_state(department.consent().renew_consent(within(renewal)).await);
    sandbox.finish().await;
}

#[tokio::test]
async fn a_periodic_consent_counts_in_windows_from_its_start() {
    let noon: Timestamp = "2026-10-24T12:00:00Z".parse().unwrap();
    let clock = Arc::new(ManualClock::new(noon));
    let sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
    let department = sandbox.client("departement").await;
    // Over the change from summer time: a day of the ledger stays a day.
    let wanted = daily("MARCHAND", noon, "2026-10-26T12:00:00Z".parse().unwrap());
    let id = granted(&department, wanted).await;
    exchange(&department, allowance("MARCHAND", Some(&id))).await.unwrap();
    clock.set("2026-10-25T11:59:59.999Z".parse().unwrap());
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&id))).await, "CONSENT_FREQUENCY");
    clock.set("2026-10-25T12:00:00Z".parse().unwrap());
    exchange(&department, allowance("MARCHAND", Some(&id))).await.unwrap();
    // The clock steps back a little; the log's time does not, and no window comes again.
    clock.set_wall("2026-10-25T11:55:00Z".parse().unwrap());
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&id))).await, "CONSENT_FREQUENCY");
    clock.set("2026-10-26T12:00:00Z".parse().unwrap());
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&id))).await, "CONSENT_EXPIRED");
    sandbox.finish().await;
}

#[tokio::test]
async fn a_consent_is_for_its_recipients_and_months() {
    let sandbox = Sandbox::start().await;
    let department = sandbox.client("departement").await;
    let wanted = grant_on("MARCHAND", |terms| {
        terms.period = Some(v1::DataPeriod { from: "2026-01".to_owned(), to: "2026-06".to_owned() });
    });
    let id = granted(&department, wanted).await;
    let asking = |months: &[(&str, &str)]| {
        let parameters = months.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let filters = vec![v1::DatasetFilter { dataset: "dss.quotient_familial".to_owned(), parameters }];
        v1::ExchangeRequest { filters, ..allowance("MARCHAND", Some(&id)) }
    };
    exchange(&department, asking(&[("annee", "2026"), ("mois", "6")])).await.unwrap();
    assert_refused(exchange(&department, asking(&[("annee", "2026"), ("mois", "7")])).await, "CONSENT_SCOPE");
    assert_refused(exchange(&department, asking(&[("annee", "2026")])).await, "CONSENT_SCOPE");
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&id))).await, "CONSENT_SCOPE");
    sandbox
        .change_registry(|file: &mut RegistryFile| {
            let town =
                file.habilitations.iter().find(|h| h.id.as_str() == "saint-exemple-cantine").unwrap().participant;
            file.habilitations.iter_mut().find(|h| h.id.as_str() == "exemple-rentree").unwrap().recipients.insert(town);
        })
        .await;
    let current = sandbox.broker().engine().registry();
    let town = current
        .registry
        .to_file()
        .habilitations
        .iter()
        .find(|h| h.id.as_str() == "saint-exemple-cantine")
        .unwrap()
        .participant;
    let own = granted(&department, grant("MARCHAND")).await;
    let for_town = v1::ExchangeRequest { recipient: town.to_string(), ..allowance("MARCHAND", Some(&own)) };
    assert_refused(exchange(&department, for_town).await, "CONSENT_RECIPIENT");
    let shared = granted(&department, grant_on("MARCHAND", |terms| terms.recipients = vec![town.to_string()])).await;
    let for_town = v1::ExchangeRequest { recipient: town.to_string(), ..allowance("MARCHAND", Some(&shared)) };
    exchange(&department, for_town).await.unwrap();
    sandbox.finish().await;
}

#[tokio::test]
async fn each_field_of_a_consent_that_is_wrong_is_named_and_nothing_is_written() {
    let sandbox = Sandbox::start().await;
    let department = sandbox.client("departement").await;
    let cases: Vec<(&str, v1::RecordConsentRequest)> = vec![
        ("terms.notice_version", grant_on("MARCHAND", |t| t.notice_version = 0)),
        ("terms.recipients", grant_on("MARCHAND", |t| t.recipients = vec!["13002526500013".to_owned()])),
        (
            "terms.filters",
            grant_on("MARCHAND", |t| {
                let parameters = [("jour".to_owned(), "1".to_owned())].into();
                t.filters = vec![v1::DatasetFilter { dataset: "dss.quotient_familial".to_owned(), parameters }];
            }),
        ),
        (
            "terms.period",
            grant_on("MARCHAND", |t| {
                t.period = Some(v1::DataPeriod { from: "2026-02".to_owned(), to: "2026-01".to_owned() });
            }),
        ),
        ("terms.frequency", grant_on("MARCHAND", |t| t.r#use = v1::ConsentUse::Periodic as i32)),
        (
            "terms.frequency.times",
            grant_on("MARCHAND", |t| {
                t.r#use = v1::ConsentUse::Periodic as i32;
                t.frequency = Some(v1::Frequency { times: 0, per: v1::TimeUnit::Day as i32 });
            }),
        ),
        (
            "terms.storage",
            grant_on("MARCHAND", |t| {
                t.storage = Some(v1::DataStorage { value: 1, unit: v1::TimeUnit::Day as i32 });
            }),
        ),
        (
            "terms.storage",
            grant_on("MARCHAND", |t| {
                t.store = true;
                t.storage = Some(v1::DataStorage { value: 13, unit: v1::TimeUnit::Month as i32 });
            }),
        ),
        ("mandate_id", v1::RecordConsentRequest { mandate_id: "9".repeat(32), ..grant("MARCHAND") }),
        (
            "assurance.authenticated_at",
            v1::RecordConsentRequest {
                assurance: Some(v1::IdentityAssurance {
                    level: v1::EidasLevel::High as i32,
                    acr: String::new(),
                    authenticated_at: Some(wire_instant(SystemClock.now().plus(Duration::from_secs(3_600)))),
                }),
                ..grant("MARCHAND")
            },
        ),
    ];
    let size = sandbox.broker().engine().head().size;
    for (field, request) in cases {
        assert_malformed(department.consent().record_consent(within(request.clone())).await, field, "");
        if field.starts_with("terms") {
            let request = v1::RequestConsentRequest {
                agent: request.agent,
                subject: request.subject,
                terms: request.terms,
                answer_by: None,
            };
            assert_malformed(department.consent().request_consent(within(request)).await, field, "");
        }
    }
    for (answer_by, terms) in
        [(SystemClock.now(), terms()), (SystemClock.now().plus(Duration::from_secs(90_000)), terms())]
    {
        let request = v1::RequestConsentRequest {
            agent: "agent-7".to_owned(),
            subject: Some(person("MARCHAND")),
            terms: Some(terms),
            answer_by: Some(wire_instant(answer_by)),
        };
        assert_malformed(department.consent().request_consent(within(request)).await, "answer_by", "");
    }
    assert_eq!(sandbox.broker().engine().head().size, size, "nothing of it was written");
    sandbox.finish().await;
}

#[tokio::test]
async fn another_administrations_consent_or_another_persons_reads_as_none() {
    let sandbox = Sandbox::start().await;
    let (town, department) = (sandbox.client("ville").await, sandbox.client("departement").await);
    let id = granted(&department, grant("MARCHAND")).await;
    for outcome in [
        get(&town, &id).await.map(drop),
        get(&town, &"9".repeat(32)).await.map(drop),
        decide(&town, &id, v1::Decision::Withdraw).await.map(drop),
    ] {
        assert_eq!(outcome.unwrap_err().code(), Code::NotFound);
    }
    sandbox
        .change_registry(|file| {
            let held = file.habilitations.iter_mut().find(|h| h.id.as_str() == "saint-exemple-cantine").unwrap();
            held.grounds.insert(GroundKind::Consent);
        })
        .await;
    let stolen = |id: &str| v1::ExchangeRequest { procedure: CANTEEN.to_owned(), ..allowance("MARCHAND", Some(id)) };
    assert_refused(exchange(&town, stolen(&id)).await, "CONSENT_MISSING");
    assert_refused(exchange(&department, allowance("PETIT", Some(&id))).await, "CONSENT_MISSING");
    sandbox.finish().await;
}

#[tokio::test]
async fn whoever_watches_sees_each_change_once_and_goes_on_after_the_last_one() {
    let sandbox = Sandbox::start().await;
    let (town, department) = (sandbox.client("ville").await, sandbox.client("departement").await);
    let kept = grant_on("MARCHAND", |terms| {
        terms.store = true;
        terms.storage = Some(v1::DataStorage { value: 1, unit: v1::TimeUnit::Month as i32 });
    });
    let id = granted(&department, kept).await;
    exchange(&department, allowance("MARCHAND", Some(&id))).await.unwrap();
    record_mandate(&town, mandate(v1::MandateKind::Guardian, born("MAJEUR", "1950-01-01"))).await.unwrap();
    let watch = |client: Client, cursor: Option<u64>| async move {
        client.consent().watch_consents(v1::WatchConsentsRequest { cursor }).await.unwrap().into_inner()
    };
    // A cursor of another log, or of one that lost its end.
    let beyond = v1::WatchConsentsRequest { cursor: Some(1_000_000) };
    assert_malformed(department.consent().watch_consents(beyond).await, "cursor", "");
    let mut changes = watch(department.clone(), None).await;
    let first = changes.next().await.unwrap().unwrap();
    assert_eq!((first.kind(), first.consent.unwrap().id), (v1::ChangeKind::ConsentGranted, id.clone()));
    // What comes while it waits.
    let waiting = tokio::spawn(async move { (changes.next().await.unwrap().unwrap(), changes) });
    withdraw(&department, &id).await;
    let (withdrawn, changes) = tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    assert_eq!((withdrawn.kind(), withdrawn.erase), (v1::ChangeKind::ConsentWithdrawn, true));
    assert!(withdrawn.cursor > first.cursor);
    drop(changes);
    // What comes while nobody watches, seen after it by whoever comes back.
    for _ in 0..300 {
        granted(&department, grant("MARCHAND")).await;
    }
    let mut changes = watch(department.clone(), Some(withdrawn.cursor)).await;
    let mut last = withdrawn.cursor;
    for _ in 0..300 {
        let change = changes.next().await.unwrap().unwrap();
        assert!(change.cursor > last && change.kind() == v1::ChangeKind::ConsentGranted);
        last = change.cursor;
    }
    assert!(tokio::time::timeout(Duration::from_millis(200), changes.next()).await.is_err(), "there is no more");
    // The town hall sees its own.
    let mut its = watch(town.clone(), None).await;
    assert_eq!(its.next().await.unwrap().unwrap().kind(), v1::ChangeKind::MandateGranted);
    assert!(tokio::time::timeout(Duration::from_millis(200), its.next()).await.is_err());
    drop((changes, its));
    sandbox.finish().await;
}

#[tokio::test]
async fn a_watch_ends_with_the_right_to_it_and_with_the_broker() {
    let mut sandbox = Sandbox::start().await;
    let (town, department) = (sandbox.client("ville").await, sandbox.client("departement").await);
    let mut ours = town.consent().watch_consents(v1::WatchConsentsRequest { cursor: None }).await.unwrap().into_inner();
    let mut its =
        department.consent().watch_consents(v1::WatchConsentsRequest { cursor: None }).await.unwrap().into_inner();
    sandbox
        .change_registry(|file| file.participants.iter_mut().for_each(|p| p.keys.retain(|k| k.label != "ville")))
        .await;
    granted(&department, grant("MARCHAND")).await;
    let ended = tokio::time::timeout(Duration::from_secs(5), ours.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(reason(&ended), "NOT_ALLOWED");
    assert_eq!(its.next().await.unwrap().unwrap().kind(), v1::ChangeKind::ConsentGranted);
    let begun = std::time::Instant::now();
    sandbox.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(15), "a watch holds up no shutdown");
    let last = its.next().await;
    assert!(last.is_none_or(|last| last.is_err()));
}

#[tokio::test]
async fn one_participant_follows_its_changes_a_few_times_and_leaves_the_others_theirs() {
    let sandbox = Sandbox::start().await;
    let (town, department) = (sandbox.client("ville").await, sandbox.client("departement").await);
    let watch = async |client: &Client| {
        Ok::<_, tonic::Status>(
            client.consent().watch_consents(v1::WatchConsentsRequest { cursor: None }).await?.into_inner(),
        )
    };
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(watch(&department).await.unwrap());
    }
    let refused = watch(&department).await.err().unwrap();
    assert_eq!((refused.code(), reason(&refused).as_str()), (tonic::Code::ResourceExhausted, "OVERLOADED"));
    drop(watch(&town).await.unwrap());
    open.pop();
    // The broker learns of it in a moment.
    let begun = std::time::Instant::now();
    while watch(&department).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(open);
    sandbox.finish().await;
}

#[tokio::test]
async fn a_person_with_many_consents_is_listed_page_by_page() {
    let sandbox = Sandbox::start().await;
    let department = Arc::new(sandbox.client("departement").await);
    let mut calls = JoinSet::new();
    for _ in 0..250 {
        let department = Arc::clone(&department);
        calls.spawn(async move { granted(&department, grant("MARCHAND")).await });
    }
    let mut expected = calls.join_all().await;
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListConsentsRequest { subject: Some(person("MARCHAND")), page_size: 40, page_token };
        let page = department.consent().list_consents(within(request)).await.unwrap().into_inner();
        assert!(page.consents.len() <= 40);
        found.extend(page.consents.into_iter().map(|c| c.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let answer = exchange(&department, allowance("MARCHAND", None)).await.unwrap();
    assert_eq!(only_status(&answer), v1::AttributeStatus::Found);
    sandbox.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_ten_thousand_races_no_answer_comes_after_a_withdrawal_in_the_log() {
    const ROUNDS: usize = 200;
    const CALLS: usize = 50;
    let mut sandbox = Sandbox::start().await;
    let department = Arc::new(sandbox.client("departement").await);
    sandbox.change_registry(|file| file.habilitations.iter_mut().for_each(|h| h.quota_per_day = None)).await;
    let (mut answered, mut stopped) = (0, 0);
    for round in 0..ROUNDS {
        let id = granted(&department, grant("MARCHAND")).await;
        let mut calls = JoinSet::new();
        for _ in 0..CALLS {
            let (department, question) = (Arc::clone(&department), allowance("MARCHAND", Some(&id)));
            calls.spawn(async move { exchange(&department, question).await });
        }
        // At another moment each time: before the first answer, after the last, and between.
        tokio::time::sleep(Duration::from_micros(u64::try_from(round % 40).unwrap() * 500)).await;
        withdraw(&department, &id).await;
        // Acknowledged: whoever asks from now on gets nothing.
        assert_refused(exchange(&department, allowance("MARCHAND", Some(&id))).await, "CONSENT_WITHDRAWN");
        for outcome in calls.join_all().await {
            match outcome {
                Ok(answer) if only_status(&answer) == v1::AttributeStatus::Found => answered += 1,
                Ok(answer) => {
                    assert_eq!(answer.withheld_reasons, ["CONSENT_WITHDRAWN"]);
                    stopped += 1;
                }
                Err(status) => {
                    assert_eq!(reason(&status), "CONSENT_WITHDRAWN");
                    stopped += 1;
                }
            }
        }
    }
    assert_eq!(answered + stopped, ROUNDS * CALLS);
    assert!(answered > 0 && stopped > 0, "{answered} answered, {stopped} stopped: that was no race");
    println!("{answered} answered before their withdrawal, {stopped} stopped by it");
    sandbox.stop().await;
    let (mut consents, mut withdrawn) = (std::collections::BTreeMap::new(), std::collections::BTreeSet::new());
    for (index, event) in unefois_tests::world::events(&sandbox.data()) {
        if let unefois_consent::Event::Requested(requested) = &event {
            consents.insert(index, requested.consent.unwrap());
        }
        if let unefois_consent::Event::ConsentWithdrawn(decided) = &event {
            withdrawn.insert(decided.consent);
        }
        if let unefois_consent::Event::Answered(answer) = &event {
            assert!(!withdrawn.contains(&consents[&answer.requested]), "entry {index} answers by a withdrawn consent");
        }
    }
    assert_eq!(withdrawn.len(), ROUNDS);
    sandbox.finish().await;
}
