//! Many at once, against the real binary: a consent is used as often as it was given for, and never after it was withdrawn.

use tokio::task::JoinSet;
use unefois_proto::v1;
use unefois_tests::ask::{allowance, assert_refused, exchange, grant, grant_on, granted, withdraw, within};
use unefois_tests::process::{Process, client, folder, free_address};
use unefois_tests::world;

async fn uses(department: &unefois::client::Client, consent: &str) -> u64 {
    let request = v1::GetConsentRequest { consent_id: consent.to_owned() };
    department.consent().get_consent(within(request)).await.unwrap().into_inner().consent.unwrap().uses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_uses_at_once_exactly_as_many_pass_as_were_given() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("broker");
    let (folder, key) = folder(&path, free_address());
    let broker = Process::serve(&folder.config());
    let department = client(&folder, "departement").await;
    let once = grant_on("MARCHAND", |terms| terms.r#use = v1::ConsentUse::OneTime as i32);
    let periodic = grant_on("PETIT", |terms| {
        terms.r#use = v1::ConsentUse::Periodic as i32;
        terms.frequency = Some(v1::Frequency { times: 7, per: v1::TimeUnit::Day as i32 });
    });
    for (name, wanted, passing, refusal) in
        [("MARCHAND", once, 1, "CONSENT_USED"), ("PETIT", periodic, 7, "CONSENT_FREQUENCY")]
    {
        let id = granted(&department, wanted).await;
        let mut calls = JoinSet::new();
        for _ in 0..1_000 {
            let (department, question) = (department.clone(), allowance(name, Some(&id)));
            calls.spawn(async move { exchange(&department, question).await });
        }
        // The source is not there: what counts is who was let through to it.
        let (passed, refused): (Vec<_>, Vec<_>) = calls.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!((passed.len(), refused.len()), (passing, 1_000 - passing), "{name}");
        for outcome in refused {
            assert_refused(outcome, refusal);
        }
        assert_eq!(uses(&department, &id).await, passing as u64);
    }
    assert_eq!(broker.stop().await, Some(0));
    world::check(&path.join("data"), &key);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_withdrawal_is_acknowledged_nobody_is_let_through() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("broker");
    let (folder, key) = folder(&path, free_address());
    let broker = Process::serve(&folder.config());
    let department = client(&folder, "departement").await;
    for _ in 0..20 {
        let id = granted(&department, grant("MARCHAND")).await;
        let mut before = JoinSet::new();
        for _ in 0..10 {
            let (department, question) = (department.clone(), allowance("MARCHAND", Some(&id)));
            before.spawn(async move { exchange(&department, question).await });
        }
        withdraw(&department, &id).await;
        let used = uses(&department, &id).await;
        let mut after = JoinSet::new();
        for _ in 0..10 {
            let (department, question) = (department.clone(), allowance("MARCHAND", Some(&id)));
            after.spawn(async move { exchange(&department, question).await });
        }
        for outcome in after.join_all().await {
            assert_refused(outcome, "CONSENT_WITHDRAWN");
        }
        before.join_all().await;
        assert_eq!(uses(&department, &id).await, used);
    }
    assert_eq!(broker.stop().await, Some(0));
    world::check(&path.join("data"), &key);
}
