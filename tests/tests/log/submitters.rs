//! Ten thousand submitters at once: no gap, no duplicate, the order of the log is the order of the acknowledgements.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use unefois_consent::{Event, ExchangeId, Timestamp};
use unefois_engine::replay::BatchSource;
use unefois_engine::store::Visit;
use unefois_engine::{Clock, SystemClock};
use unefois_proto::v1::ExchangeRequest;
use unefois_store::embedded::JournalReader;
use unefois_tests::ask::*;
use unefois_tests::sandbox::Sandbox;
use unefois_tests::world;

const SUBMITTERS: u64 = 10_000;
/// Entries of each submitter, one after the other.
const EACH: u64 = 2;

/// A refused question, which follows from the log however often it is asked.
async fn refusal(sandbox: &Sandbox) -> Event {
    let town_hall = sandbox.client("ville").await;
    let beyond =
        || ExchangeRequest { attributes: vec!["dss.quotient_familial.adresse".to_owned()], ..canteen("MARCHAND") };
    // The first one introduces the person.
    for _ in 0..2 {
        assert_refused(exchange(&town_hall, beyond()).await, "ATTRIBUTE_NOT_COVERED");
    }
    world::events(&sandbox.data()).pop().unwrap().1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_submitters_get_one_place_each_in_the_order_they_were_told() {
    let sandbox = Sandbox::start().await;
    let template = refusal(&sandbox).await;
    let engine = Arc::clone(sandbox.broker().engine());
    let first = engine.head().size;
    // One more than the highest index that anyone was told so far.
    let told = Arc::new(AtomicU64::new(first));
    let soon = Instant::now() + Duration::from_secs(120);
    let submit = |number: u64| {
        let (engine, told, mut event) = (Arc::clone(&engine), Arc::clone(&told), template.clone());
        async move {
            let mut receipts = Vec::new();
            for nth in 0..EACH {
                let Event::Refused(refused) = &mut event else { panic!("{event:?}") };
                refused.exchange = ExchangeId([number.to_be_bytes(), nth.to_be_bytes()].concat().try_into().unwrap());
                let before = told.load(Ordering::SeqCst);
                let receipt = engine.append(event.clone(), soon).await.unwrap();
                let index = receipt.proof.index;
                assert!(index >= before, "entry {index} was submitted after {before} entries were acknowledged");
                told.fetch_max(index + 1, Ordering::SeqCst);
                receipts.push(receipt);
            }
            receipts
        }
    };
    let submitters: Vec<_> = (0..SUBMITTERS).map(|number| tokio::spawn(submit(number))).collect();
    let mut places = BTreeMap::new();
    for (number, submitter) in (0..).zip(submitters) {
        for (nth, receipt) in (0..).zip(submitter.await.unwrap()) {
            let verified = receipt.verify(&sandbox.key).unwrap();
            assert!(receipt.record.contains(&hex::encode(u64::to_be_bytes(number))), "the receipt of another");
            assert!(places.insert(verified.index, (number, nth, verified.leaf)).is_none(), "a place was given twice");
        }
    }
    let indexes: Vec<_> = places.keys().copied().collect();
    assert_eq!(indexes, (first..first + SUBMITTERS * EACH).collect::<Vec<_>>(), "there is a gap");
    drop(engine);
    let data = sandbox.data();
    let segments = std::fs::read_dir(data.join("journal")).unwrap().count();
    assert!(segments >= 3, "the load changed no segment");
    let report = sandbox.finish().await;
    assert_eq!(report.entries, first + SUBMITTERS * EACH);
}

/// A clock that does not tell the time while somebody holds it: the sequencer waits in the step that it runs.
#[derive(Debug, Default)]
struct HeldClock(AtomicBool);

impl Clock for HeldClock {
    fn now(&self) -> Timestamp {
        while self.0.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        SystemClock.now()
    }

    fn boot(&self) -> Duration {
        SystemClock.boot()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_goes_to_the_disk_while_steps_still_wait() {
    const STEPS: u64 = 1_000;
    let clock = Arc::new(HeldClock::default());
    let sandbox = Sandbox::start_with(clock.clone(), |_| {}).await;
    let template = refusal(&sandbox).await;
    let engine = Arc::clone(sandbox.broker().engine());
    let first = engine.head().size;
    clock.0.store(true, Ordering::SeqCst);
    let calls = (0..STEPS).map(|number| {
        let mut event = template.clone();
        let Event::Refused(refused) = &mut event else { panic!("{event:?}") };
        refused.exchange = ExchangeId([number.to_be_bytes(), [7; 8]].concat().try_into().unwrap());
        let engine = Arc::clone(&engine);
        Box::pin(async move { engine.append(event, Instant::now() + Duration::from_secs(60)).await })
    });
    let mut calls: Vec<_> = calls.collect();
    // Each is in the queue when it was polled once.
    for call in &mut calls {
        assert!(poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_pending())).await);
    }
    clock.0.store(false, Ordering::SeqCst);
    for call in calls {
        call.await.unwrap();
    }
    drop(engine);
    let mut batches = Vec::new();
    let reader = JournalReader::open(&sandbox.data()).unwrap();
    let read = reader.read(first, &mut |batch| {
        batches.push((batch.first, batch.entries.len()));
        Visit::Continue
    });
    read.unwrap();
    assert_eq!(batches[0], (first, 128), "the disk stands still while steps are run");
    assert_eq!(batches.iter().map(|(_, entries)| *entries as u64).sum::<u64>(), STEPS);
    sandbox.finish().await;
}
