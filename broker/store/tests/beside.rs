//! A journal that is read beside the one who writes it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use unefois_audit::{BatchProofs, Hash, Leaf};
use unefois_consent::Retention;
use unefois_engine::replay::BatchSource;
use unefois_engine::store::{Batch, Journal, SealedEntry, Visit};
use unefois_store::embedded::JournalReader;
use unefois_store::{EmbeddedStore, Options};

/// How often a reader opens the journal beside the writer.
const OPENS: usize = 400;

fn open(folder: &Path, segment_bytes: u64) -> EmbeddedStore {
    EmbeddedStore::open(folder, &Options { segment_bytes, min_free_bytes: 0, ..Options::default() }).unwrap()
}

fn append(journal: &dyn Journal, count: u64) {
    let end = journal.end();
    let first = end.entries();
    let entry = |n: u64| SealedEntry {
        leaf: Leaf { kind: 1, time_ms: first + 1, commitment: Hash([7; 32]) },
        retention: Retention::TRACES,
        sealed: (first + n + 1).to_le_bytes().repeat(40),
    };
    let entries: Vec<_> = (0..count).map(entry).collect();
    let hashes: Vec<_> = entries.iter().map(|entry| entry.leaf.hash()).collect();
    let proofs = BatchProofs::new(&end.frontier, &hashes);
    let signature = std::array::from_fn(|at| first.to_be_bytes()[at % 8] ^ 0x7A);
    let batch = Batch { first, entries, root: proofs.root(), signature };
    journal.reserve(32 << 10).unwrap();
    journal.append(&batch, proofs.after(), &proofs.closed().collect::<Vec<_>>()).unwrap();
}

/// Reads over and over what a writer appends meanwhile.
fn read_beside(segment_bytes: u64) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = open(&data, segment_bytes);
    append(&*store.journal, 1);
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for count in (1..30).cycle() {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                append(&*store.journal, count);
            }
        });
        let read = std::panic::catch_unwind(|| {
            let mut size = 0;
            for number in 0..OPENS {
                let reader = JournalReader::open(&data).unwrap_or_else(|error| panic!("open {number}: {error}"));
                assert!(reader.size() >= size, "the journal shrank");
                // What was the end the last time, and all that came since.
                let mut read = size.saturating_sub(1);
                reader
                    .read(read, &mut |batch| {
                        read = batch.end();
                        Visit::Continue
                    })
                    .unwrap();
                size = reader.size();
                assert_eq!(read, size);
            }
        });
        ends.store(true, Ordering::Relaxed);
        read.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn a_sound_journal_is_never_called_damaged_while_it_is_written() {
    read_beside(2 << 20);
}

#[test]
fn nor_while_its_segments_change() {
    read_beside(64 << 10);
}
