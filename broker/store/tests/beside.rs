//! A journal that is read beside the one who writes it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod journals;

use std::sync::atomic::{AtomicBool, Ordering};

use journals::{append, open};
use unefois_engine::replay::BatchSource;
use unefois_engine::store::Visit;
use unefois_store::embedded::JournalReader;

/// How often a reader opens the journal beside the writer.
const OPENS: usize = 400;

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
