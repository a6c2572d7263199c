//! A real broker under load, and what its clients were told: what must be there after any death.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use unefois::client::Profile;
use unefois_audit::{Frontier, Hash, Receipt, VerifierKey};
use unefois_engine::replay::BatchSource;
use unefois_engine::store::Visit;
use unefois_proto::v1::ExchangeRequest;
use unefois_store::embedded::JournalReader;

use crate::ask::{CHILDREN, canteen, exchange};

/// What clients were told.
#[derive(Debug, Default, Clone)]
pub struct Told {
    /// Index of the answer's entry → its leaf.
    pub answers: BTreeMap<u64, Hash>,
    /// Size → root of every head that a receipt showed.
    pub heads: BTreeMap<u64, Hash>,
}

/// A number from 0 to below `below`, from a seed that the test prints.
pub fn draw(state: &mut u64, below: u64) -> u64 {
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
pub async fn load(profile: &Path, told: Arc<Mutex<Told>>, key: VerifierKey) {
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
pub fn check_told(data: &Path, told: &Told) {
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
