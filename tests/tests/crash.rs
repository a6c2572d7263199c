//! kill -9 of the real broker under load: every answered exchange is in the log, the log verifies and replays, and no
//! head that was ever shown is contradicted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use unefois::client::Profile;
use unefois_audit::{Frontier, Hash, Receipt, VerifierKey};
use unefois_engine::store::Visit;
use unefois_proto::v1::ExchangeRequest;
use unefois_store::embedded::JournalReader;
use unefois_tests::ask::*;
use unefois_tests::process::{self, Process};
use unefois_tests::world;

/// What clients were told.
#[derive(Default)]
struct Told {
    /// Index of the answer's entry → its leaf.
    answers: BTreeMap<u64, Hash>,
    /// Size → root of every head that a receipt showed.
    heads: BTreeMap<u64, Hash>,
}

fn kills() -> usize {
    std::env::var("UNEFOIS_KILLS").ok().map_or(50, |kills| kills.parse().expect("UNEFOIS_KILLS is a number"))
}

/// A number from 0 to below `below`, from the seed that the test prints.
fn draw(state: &mut u64, below: u64) -> u64 {
    // xorshift64*
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_F491_4F6C_DD1D) % below
}

fn children(name: &str) -> ExchangeRequest {
    ExchangeRequest { attributes: vec![CHILDREN.to_owned()], ..canteen(name) }
}

/// Asks until the broker is gone.
async fn load(profile: &Path, told: Arc<Mutex<Told>>, key: VerifierKey) {
    // A kill may come before the handshake ends.
    let Ok(town_hall) = Profile::read(profile).unwrap().connect().await else { return };
    let callers = (0..16).map(|_| {
        let (town_hall, told, key) = (town_hall.clone(), told.clone(), key.clone());
        tokio::spawn(async move {
            while let Ok(answer) = exchange(&town_hall, children("MARCHAND")).await {
                let receipt = Receipt::from_json(&answer.receipt).unwrap();
                let verified = receipt.verify(&key).unwrap();
                let mut told = told.lock().unwrap();
                told.answers.insert(verified.index, verified.leaf.hash());
                let before = told.heads.insert(verified.checkpoint.size, verified.checkpoint.root);
                assert!(before.is_none_or(|root| root == verified.checkpoint.root), "two heads of one size");
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
}

/// Every answer and every head that clients were told is in the journal as it is now.
fn check_told(data: &Path, told: &Told) {
    let mut frontier = Frontier::new();
    let (mut answers, mut heads) = (0, 0);
    let reader = JournalReader::open(data).unwrap();
    reader
        .read(0, &mut |batch| {
            for entry in &batch.entries {
                let (index, leaf) = (frontier.size(), entry.leaf.hash());
                frontier.append(leaf);
                if let Some(expected) = told.answers.get(&index) {
                    assert_eq!(*expected, leaf, "the answer at {index} was replaced");
                    answers += 1;
                }
                if let Some(expected) = told.heads.get(&frontier.size()) {
                    assert_eq!(*expected, frontier.root(), "the head of size {} is contradicted", frontier.size());
                    heads += 1;
                }
            }
            Visit::Continue
        })
        .unwrap();
    assert_eq!((answers, heads), (told.answers.len(), told.heads.len()), "what clients were told is not in the log");
}

#[test]
fn a_killed_broker_loses_no_answer_and_contradicts_no_head() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let root = tempfile::tempdir().unwrap();
    let (folder, key) = process::folder(&root.path().join("broker"), process::free_address());
    let config = std::fs::read_to_string(folder.config()).unwrap();
    // Small segments, so that kills meet changes of segment too.
    let config = config.replace("path = \"data\"", "path = \"data\"\nsegment_mb = 1\nmin_free_mb = 0");
    std::fs::write(folder.config(), config).unwrap();
    let data = folder.path.join("data");
    let told = Arc::new(Mutex::new(Told::default()));
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let seed = u64::try_from(seed).unwrap_or(1) | 1;
    let (mut state, kills) = (seed, kills());
    println!("seed {seed}, {kills} kills");
    for kill in 1..=kills {
        let broker = Process::serve_with(&folder.config(), "warn,unefois::serve=info");
        let loading = runtime.spawn({
            let (profile, told, key) = (folder.profile("ville"), told.clone(), key.clone());
            async move { load(&profile, told, key).await }
        });
        std::thread::sleep(Duration::from_millis(20 + draw(&mut state, 280)));
        broker.kill();
        runtime.block_on(loading).unwrap();
        check_told(&data, &told.lock().unwrap());
        if kill % 10 == 0 {
            world::check_log(&data, &key);
        }
        if kill % 100 == 0 {
            println!("{kill} kills: {} answers, all there", told.lock().unwrap().answers.len());
        }
    }
    let answers = told.lock().unwrap().answers.len();
    assert!(answers > kills, "the load was too light: {answers} answers in {kills} kills");
    // Every exchange that was under way got its end, and the fold is what a replay gives.
    let broker = Process::serve_with(&folder.config(), "warn,unefois::serve=info");
    assert_eq!(broker.terminate(), Some(0));
    let report = world::check(&data, &key);
    check_told(&data, &told.lock().unwrap());
    println!("{kills} kills: {answers} answers and {} entries, all there", report.entries);
}
