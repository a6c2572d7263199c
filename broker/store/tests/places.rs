//! How much of the journal is read for one entry. What is counted are the bytes that the system gave this thread.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod journals;

use std::fs;

use journals::{append, open, sealed, segments};
use unefois_engine::replay::BatchSource;
use unefois_engine::store::{Journal, SealedEntry};
use unefois_store::embedded::JournalReader;

const SEGMENT_BYTES: u64 = 4 << 20;
/// The heads of the frames between two marks, the frame itself, and room to spare.
const BOUND: u64 = 32 << 10;

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
        assert_eq!(found.sealed, sealed(index));
    }
    most
}

#[test]
fn reading_one_entry_reads_little_wherever_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = open(&data, SEGMENT_BYTES);
    let journal = &*store.journal;
    // Two segments are full.
    while journal.end().entries() * 400 < 2 * SEGMENT_BYTES {
        append(journal, 2);
    }
    let size = journal.end().entries();
    let written = most_read(size, |index| journal.entry(index).unwrap());
    assert!(written < BOUND, "{written} bytes beside the writer");
    drop(store);
    let store = open(&data, SEGMENT_BYTES);
    let journal = &*store.journal;
    // The first look into a segment may walk through it, once.
    let firsts = segments(&data);
    for (first, _) in &firsts {
        journal.entry(first.saturating_sub(1)).unwrap();
    }
    let opened = most_read(size, |index| journal.entry(index).unwrap());
    assert!(opened < BOUND, "{opened} bytes after opening");
    let reader = JournalReader::open(&data).unwrap();
    for (first, _) in &firsts {
        reader.entry(first.saturating_sub(1)).unwrap();
    }
    let beside = most_read(size, |index| reader.entry(index).unwrap());
    assert!(beside < BOUND, "{beside} bytes in a reader beside the writer");
}

#[test]
fn the_first_look_into_a_segment_walks_through_its_heads_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = open(&data, SEGMENT_BYTES);
    append(&*store.journal, 2);
    while segments(&data).len() < 2 {
        append(&*store.journal, 2);
    }
    drop(store);
    let store = open(&data, SEGMENT_BYTES);
    let last = segments(&data)[1].0 - 1;
    let read = |index| {
        let before = read_so_far();
        store.journal.entry(index).unwrap().unwrap();
        read_so_far() - before
    };
    // 20 bytes of about 900 each.
    assert!(read(last) < SEGMENT_BYTES / 20, "more than the heads was read");
    assert!(read(last) < BOUND);
}
