//! Faults of the store, through gRPC: nothing is asked that is not logged, nothing is answered that is not durable, and a
//! broker that was opened again goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tonic::Code;
use unefois_consent::registry::{RegistryFile, Role};
use unefois_engine::{Clock, EngineError, SystemClock};
use unefois_proto::exchange::wire_ground;
use unefois_proto::v1::{self, AttributeStatus};
use unefois_store::MemoryStore;
use unefois_store::memory::{Fault, Operation};
use unefois_tests::ask::*;
use unefois_tests::caller::exchange_call;
use unefois_tests::sandbox::Sandbox;

/// Disturbs the `at`-th of `operation` from now with `fault`.
fn disturb_one(store: &MemoryStore, operation: Operation, at: usize, fault: Fault) {
    let seen = AtomicUsize::new(0);
    store.disturb(
        move |this| {
            if this == operation && seen.fetch_add(1, Ordering::SeqCst) == at { fault } else { Fault::None }
        },
    );
}

#[tokio::test]
async fn a_full_disk_refuses_service_says_so_and_recovers_when_there_is_room() {
    let store = MemoryStore::new();
    let sandbox = Sandbox::start_in_memory(store.clone()).await;
    let (town_hall, department) = (sandbox.client("ville").await, sandbox.client("departement").await);
    let full = |operation| if operation == Operation::Reserve { Fault::Full } else { Fault::None };
    store.disturb(full);
    let question = canteen("MARCHAND");
    let status = exchange(&town_hall, question.clone()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "STORE_FULL"));
    assert!(status.message().contains("nothing was asked"), "{status:?}");
    let status = department.consent().record_consent(within(grant("MARCHAND"))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(sandbox.source.asked(), 0);
    store.release();
    // The retry is the same exchange, for the first time.
    assert_eq!(only_status(&exchange(&town_hall, question).await.unwrap()), AttributeStatus::Found);
    sandbox.finish().await;
}

#[tokio::test]
async fn a_disk_that_fills_while_a_source_is_asked_gives_no_answer_without_its_entry() {
    let store = MemoryStore::new();
    let mut sandbox = Sandbox::start_in_memory(store.clone()).await;
    let town_hall = sandbox.client("ville").await;
    sandbox.source.hold();
    let asking = tokio::spawn(async move { exchange(&town_hall, canteen("MARCHAND")).await });
    sandbox.source.was_asked(1).await;
    store.disturb(|operation| if operation == Operation::Reserve { Fault::Full } else { Fault::None });
    sandbox.source.release();
    let status = asking.await.unwrap().unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "STORE_FULL"));
    assert!(status.message().contains("nothing was delivered"), "{}", status.message());
    let engine = Arc::clone(sandbox.broker().engine());
    let size = engine.head().size;
    store.release();
    // Its end is logged as soon as there is room, without anyone asking.
    until(|| engine.head().size > size).await;
    drop(engine);
    sandbox.restart().await.unwrap();
    exchange(&sandbox.client("ville").await, canteen("MARCHAND")).await.unwrap();
    sandbox.finish().await;
}

#[tokio::test]
async fn after_each_failed_commit_the_broker_answers_nothing_and_reopens_to_a_log_that_holds() {
    for fault in [Fault::Fails, Fault::FailsButPersists] {
        // The first commit of an exchange holds Requested, the second Answered.
        for at in 0..2 {
            let store = MemoryStore::new();
            let mut sandbox = Sandbox::start_in_memory(store.clone()).await;
            let town_hall = sandbox.client("ville").await;
            exchange(&town_hall, canteen("MARCHAND")).await.unwrap();
            let asked = sandbox.source.asked();
            disturb_one(&store, Operation::Append, at, fault);
            let question = canteen("MARCHAND");
            let status = exchange(&town_hall, question.clone()).await.unwrap_err();
            assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "HALTED"), "{fault:?} {at}");
            assert_eq!(sandbox.source.asked() - asked, at, "{fault:?} {at}: asked without a durable entry");
            let status = exchange(&town_hall, canteen("MARCHAND")).await.unwrap_err();
            assert_eq!(status.code(), Code::Unavailable, "{fault:?} {at}: goes on after a failed commit");
            store.reopen();
            sandbox.restart().await.unwrap();
            let answer = exchange(&sandbox.client("ville").await, question).await.unwrap();
            assert_eq!(only_status(&answer), AttributeStatus::Found, "{fault:?} {at}");
            sandbox.finish().await;
        }
    }
}

#[tokio::test]
async fn a_store_that_hangs_fails_calls_at_their_deadline() {
    let store = MemoryStore::new();
    let sandbox = Sandbox::start_in_memory(store.clone()).await;
    let town_hall = sandbox.client("ville").await;
    disturb_one(&store, Operation::Append, 0, Fault::Hangs);
    let begun = std::time::Instant::now();
    for _ in 0..3 {
        let call = town_hall.exchange().exchange(within_time(canteen("MARCHAND"), Duration::from_millis(200))).await;
        assert!(matches!(call.unwrap_err().code(), Code::DeadlineExceeded | Code::Cancelled));
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(sandbox.source.asked(), 0);
    store.release();
    // What hung goes on to its logged end, and new calls pass.
    assert_eq!(only_status(&exchange(&town_hall, canteen("MARCHAND")).await.unwrap()), AttributeStatus::Found);
    sandbox.finish().await;
}

#[tokio::test]
async fn a_fold_that_fails_stops_the_broker_and_is_caught_up_at_the_next_start() {
    let store = MemoryStore::new();
    let mut sandbox = Sandbox::start_in_memory(store.clone()).await;
    let department = sandbox.client("departement").await;
    let id = granted(&department, grant("MARCHAND")).await;
    store.disturb(|operation| if operation == Operation::FoldApply { Fault::Fails } else { Fault::None });
    let mut stopped = false;
    for _ in 0..500 {
        let outcome = exchange(&department, allowance("MARCHAND", Some(&id))).await;
        if let Err(status) = outcome {
            assert_eq!(status.code(), Code::Unavailable);
            stopped = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(stopped, "the fold was never written");
    store.reopen();
    sandbox.restart().await.unwrap();
    let department = sandbox.client("departement").await;
    exchange(&department, allowance("MARCHAND", Some(&id))).await.unwrap();
    withdraw(&department, &id).await;
    assert_refused(exchange(&department, allowance("MARCHAND", Some(&id))).await, "CONSENT_WITHDRAWN");
    sandbox.finish().await;
}

#[tokio::test]
async fn a_one_time_consent_is_used_once_by_a_thousand_callers_at_once() {
    let sandbox = Sandbox::start().await;
    let department = sandbox.client("departement").await;
    let once = grant_on("MARCHAND", |terms| terms.r#use = v1::ConsentUse::OneTime as i32);
    let id = granted(&department, once).await;
    let mut calls = Vec::new();
    for _ in 0..1_000 {
        let (department, question) = (department.clone(), allowance("MARCHAND", Some(&id)));
        calls.push(tokio::spawn(async move { exchange(&department, question).await }));
    }
    let mut answered = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => answered += 1,
            Err(status) => assert_eq!(reason(&status), "CONSENT_USED"),
        }
    }
    assert_eq!(answered, 1);
    sandbox.finish().await;
}

#[tokio::test]
async fn a_journal_that_lost_acknowledged_entries_is_not_gone_on_from() {
    let mut sandbox = Sandbox::start().await;
    let head = sandbox.folder.path.join("data.head");
    let older = std::fs::read(&head).unwrap();
    exchange(&sandbox.client("ville").await, canteen("MARCHAND")).await.unwrap();
    sandbox.stop().await;
    // Damage to the last batch looks like what a crash leaves, but the fold has the batch.
    let segment = sandbox.data().join("journal/00000000000000000000.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end - 40] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let verified = unefois_tests::process::run(&[
        "audit",
        "verify",
        "--data",
        sandbox.data().to_str().unwrap(),
        "--key",
        &sandbox.key.to_string(),
    ]);
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
    assert!(String::from_utf8_lossy(&verified.stdout).contains("are no whole batch"), "{verified:?}");
    let error = sandbox.restart().await.unwrap_err().to_string();
    assert!(error.contains("it is older than the log that was shown to others"), "{error}");
    // With an older head file the fold still tells.
    std::fs::write(&head, &older).unwrap();
    for _ in 0..2 {
        let error = sandbox.restart().await.unwrap_err().to_string();
        std::fs::write(&head, &older).unwrap();
        assert!(error.contains("acknowledged ones are missing") && error.contains("move fold/ away"), "{error}");
    }
    std::fs::rename(sandbox.data().join("fold"), sandbox.data().join("fold.kept")).unwrap();
    sandbox.restart().await.unwrap();
    exchange(&sandbox.client("ville").await, canteen("MARCHAND")).await.unwrap();
    sandbox.finish().await;
}

#[tokio::test]
async fn a_registry_that_one_commit_cannot_hold_is_refused_and_nothing_halts() {
    let sandbox = Sandbox::start().await;
    let large = |file: &mut RegistryFile| {
        for n in 0..3 {
            let mut procedure = file.procedures[0].clone();
            procedure.id = format!("large-{n}").parse().unwrap();
            // Quotes double in a record: the message is under its limit, what is logged is not.
            procedure.notices[0].fr = "\"".repeat(600_000);
            procedure.notices[0].en = "\"".repeat(400_000);
            file.procedures.push(procedure);
        }
    };
    for validate_only in [true, false] {
        let status = sandbox.try_change_registry(validate_only, large).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains("cut it into several"), "{status:?}");
    }
    exchange(&sandbox.client("ville").await, canteen("MARCHAND")).await.unwrap();
    sandbox.finish().await;
}

#[tokio::test]
async fn an_error_tells_of_nothing_that_is_not_durable() {
    let store = MemoryStore::new();
    let sandbox = Sandbox::start_in_memory(store.clone()).await;
    let department = sandbox.client("departement").await;
    let id = granted(&department, grant("MARCHAND")).await;
    let appends = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&appends);
    store.disturb(move |operation| {
        if operation != Operation::Append {
            return Fault::None;
        }
        seen.fetch_add(1, Ordering::SeqCst);
        Fault::Hangs
    });
    let first = tokio::spawn({
        let (department, id) = (department.clone(), id.clone());
        async move { withdraw(&department, &id).await }
    });
    until(|| appends.load(Ordering::SeqCst) > 0).await;
    // That it cannot be renewed is known when the withdrawal is durable.
    let renewal = renewal(&id, SystemClock.now().plus(Duration::from_secs(3_600)));
    let early = within_time(renewal.clone(), Duration::from_millis(300));
    let early = department.consent().renew_consent(early).await.unwrap_err();
    assert!(matches!(early.code(), Code::DeadlineExceeded | Code::Cancelled), "{early}");
    store.release();
    first.await.unwrap();
    assert_wrong_state(department.consent().renew_consent(within(renewal)).await);
    sandbox.finish().await;
}

#[tokio::test]
async fn an_exchange_that_fails_in_the_middle_has_its_end() {
    // What is read for the judgement after the sources' answers cannot be read.
    let store = MemoryStore::new();
    let sandbox = Sandbox::start_in_memory(store.clone()).await;
    sandbox.change_registry(allow_proactive).await;
    let town_hall = sandbox.client("ville").await;
    sandbox.source.hold();
    let asking = tokio::spawn({
        let town_hall = town_hall.clone();
        async move { exchange(&town_hall, proactive(canteen("MARCHAND"))).await }
    });
    sandbox.source.was_asked(1).await;
    let reads = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&reads);
    store.disturb(move |operation| {
        if operation != Operation::FoldRead {
            return Fault::None;
        }
        seen.fetch_add(1, Ordering::SeqCst);
        Fault::Fails
    });
    sandbox.source.release();
    until(|| reads.load(Ordering::SeqCst) > 0).await;
    store.release();
    asking.await.unwrap().unwrap_err();
    assert_eq!(only_status(&exchange(&town_hall, canteen("MARCHAND")).await.unwrap()), AttributeStatus::Found);
    sandbox.finish().await;
}

#[tokio::test]
async fn a_connector_that_panics_leaves_no_exchange_without_its_end() {
    let store = MemoryStore::new();
    let sandbox = Sandbox::start_in_memory(store).await;
    let town_hall = sandbox.client("ville").await;
    sandbox.source.script(|_| panic!("on purpose"));
    let question = canteen("MARCHAND");
    let failed = exchange(&town_hall, question.clone()).await.unwrap_err();
    assert_eq!((failed.code(), reason(&failed).as_str()), (Code::Internal, "INTERNAL"), "{failed}");
    // A retry under the same name is another attempt.
    let failed = exchange(&town_hall, question).await.unwrap_err();
    assert_eq!(reason(&failed), "INTERNAL", "{failed}");
    sandbox.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_joined_has_its_own_time() {
    let store = MemoryStore::new();
    let sandbox = Sandbox::start_in_memory(store.clone()).await;
    let engine = Arc::clone(sandbox.broker().engine());
    let (caller, name, shown) = (sandbox.caller("ville", Role::Exchange), request_id(), informed());
    let call = |time: Duration| {
        let asked =
            v1::ExchangeRequest { request_id: name.clone(), ground: Some(wire_ground(&shown)), ..canteen("MARCHAND") };
        exchange_call(caller.clone(), asked, std::time::Instant::now() + time)
    };
    sandbox.source.hold();
    let first = tokio::spawn({
        let (engine, call) = (Arc::clone(&engine), call(Duration::from_secs(1)));
        async move { engine.exchange(call).await }
    });
    sandbox.source.was_asked(1).await;
    let mut joined = Box::pin(engine.exchange(call(Duration::from_secs(30))));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(joined.as_mut().poll(&mut context).is_pending());
    // The end comes after the first caller's time.
    store.disturb(|operation| if operation == Operation::Reserve { Fault::Hangs } else { Fault::None });
    sandbox.source.release();
    assert!(matches!(first.await.unwrap(), Err(EngineError::DeadlineExceeded)));
    store.release();
    let answer = joined.await.unwrap();
    assert_eq!(answer.attributes.len(), 1);
    assert_eq!(sandbox.source.asked(), 2, "the one that joined asks for itself");
    drop(engine);
    sandbox.finish().await;
}
