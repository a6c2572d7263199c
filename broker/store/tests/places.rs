//! How much of the journal is read for one entry. What is counted are the bytes that the system gave this thread.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;

use unefois_audit::{BatchProofs, Hash, Leaf};
use unefois_consent::Retention;
use unefois_engine::replay::BatchSource;
use unefois_engine::store::{Batch, Journal, SealedEntry};
use unefois_store::embedded::JournalReader;
use unefois_store::{EmbeddedStore, Options};

const SEGMENT_BYTES: u64 = 4 << 20;
/// The heads of the frames between two marks, the frame itself, and room to spare.
const BOUND: u64 = 32 << 10;

fn open(folder: &Path) -> EmbeddedStore {
    EmbeddedStore::open(folder, &Options { segment_bytes: SEGMENT_BYTES, min_free_bytes: 0, ..Options::default() })
        .unwrap()
}

/// Many small frames: two entries of 300 bytes each.
fn append(journal: &dyn Journal) {
    let end = journal.end();
    let first = end.entries();
    let entry = |n: u64| SealedEntry {
        leaf: Leaf { kind: 1, time_ms: first + 1, commitment: Hash([7; 32]) },
        retention: Retention::TRACES,
        sealed: (first + n).to_be_bytes().repeat(40),
    };
    let entries: Vec<_> = (0..2).map(entry).collect();
    let hashes: Vec<_> = entries.iter().map(|entry| entry.leaf.hash()).collect();
    let proofs = BatchProofs::new(&end.frontier, &hashes);
    let signature = std::array::from_fn(|at| first.to_be_bytes()[at % 8] ^ 0x7A);
    let batch = Batch { first, entries, root: proofs.root(), signature };
    journal.reserve(32 << 10).unwrap();
    journal.append(&batch, proofs.after(), &proofs.closed().collect::<Vec<_>>()).unwrap();
}

/// Bytes that this thread has read from files.
fn read_so_far() -> u64 {
    let counts = fs::read_to_string("/proc/thread-self/io").unwrap();
    counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// The most that any of these entries took.
fn most_read(size: u64, entry: impl Fn(u64) -> Option<SealedEntry>) -> u64 {
    let mut most = 0;
    for index in (0..size).rev().step_by(97).chain([0, size / 2, size - 1]) {
        let before = read_so_far();
        let found = entry(index).unwrap();
        // What is counted holds the reading of the count itself, a few hundred bytes.
        most = most.max(read_so_far() - before);
        assert_eq!(found.sealed, index.to_be_bytes().repeat(40));
    }
    most
}

#[test]
fn reading_one_entry_reads_little_wherever_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = open(&data);
    let journal = &*store.journal;
    // Two segments are full.
    while journal.end().entries() * 400 < 2 * SEGMENT_BYTES {
        append(journal);
    }
    let size = journal.end().entries();
    let written = most_read(size, |index| journal.entry(index).unwrap());
    assert!(written < BOUND, "{written} bytes beside the writer");
    drop(store);
    let store = open(&data);
    let journal = &*store.journal;
    // The first look into a segment may walk through it, once.
    let firsts = segments(&data);
    for first in &firsts {
        journal.entry(first.saturating_sub(1)).unwrap();
    }
    let opened = most_read(size, |index| journal.entry(index).unwrap());
    assert!(opened < BOUND, "{opened} bytes after opening");
    let reader = JournalReader::open(&data).unwrap();
    for first in &firsts {
        reader.entry(first.saturating_sub(1)).unwrap();
    }
    let beside = most_read(size, |index| reader.entry(index).unwrap());
    assert!(beside < BOUND, "{beside} bytes in a reader beside the writer");
}

#[test]
fn the_first_look_into_a_segment_walks_through_its_heads_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = open(&data);
    append(&*store.journal);
    while segments(&data).len() < 2 {
        append(&*store.journal);
    }
    drop(store);
    let store = open(&data);
    let last = segments(&data)[1] - 1;
    let read = |index| {
        let before = read_so_far();
        store.journal.entry(index).unwrap().unwrap();
        read_so_far() - before
    };
    // 20 bytes of about 900 each.
    assert!(read(last) < SEGMENT_BYTES / 20, "more than the heads was read");
    assert!(read(last) < BOUND);
}

/// First entries of the segments.
fn segments(data: &Path) -> Vec<u64> {
    let names = fs::read_dir(data.join("journal")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut firsts: Vec<u64> = names.filter_map(|name| name.to_str()?.strip_suffix(".seg")?.parse().ok()).collect();
    firsts.sort_unstable();
    firsts
}
