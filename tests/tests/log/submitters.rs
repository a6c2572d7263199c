//! Ten thousand submitters at once: no gap, no duplicate, the order of the log is the order of the acknowledgements.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use unefois_consent::{Event, ExchangeId};
use unefois_proto::v1::ExchangeRequest;
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
