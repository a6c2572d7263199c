//! Bytes that say nothing are zeros: what lies there instead was put there, and is named.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod journals;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use journals::{append, segments};
use tempfile::TempDir;
use unefois_engine::replay::BatchSource;
use unefois_engine::store::{Journal, StoreError, Visit};
use unefois_store::embedded::JournalReader;
use unefois_store::{EmbeddedStore, Options};

/// Where the frames of a segment begin.
const FRAMES: usize = 4096;

fn open(data: &Path) -> Result<EmbeddedStore, StoreError> {
    EmbeddedStore::open(data, &Options { segment_bytes: 64 << 10, min_free_bytes: 0, ..Options::default() })
}

/// A journal of three segments at least, and their paths.
fn filled() -> (TempDir, PathBuf, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = open(&data).unwrap();
    append(&*store.journal, 1);
    while segments(&data).len() < 3 {
        append(&*store.journal, 7);
    }
    append(&*store.journal, 7);
    drop(store);
    let paths = segments(&data).into_iter().map(|(_, path)| path).collect();
    (folder, data, paths)
}

/// Where the padding of each frame begins, and where it ends.
fn paddings(segment: &Path) -> Vec<(u64, u64)> {
    let bytes = fs::read(segment).unwrap();
    let (mut at, mut found) = (FRAMES, Vec::new());
    while at < bytes.len() && bytes[at..].starts_with(b"UFR1") {
        let length = u32::from_be_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        let end = at + length.next_multiple_of(8);
        found.push(((at + length) as u64, end as u64));
        at = end;
    }
    found
}

/// Puts `byte` there, looks, and takes it back.
fn with_byte<T>(path: &Path, at: u64, byte: u8, look: impl FnOnce() -> T) -> T {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[byte], at).unwrap();
    let seen = look();
    file.write_all_at(&[0], at).unwrap();
    seen
}

fn verified(data: &Path) -> Result<(), StoreError> {
    JournalReader::open(data)?.read(0, &mut |_| Visit::Continue)
}

#[track_caller]
fn assert_named<T>(seen: Result<T, StoreError>, what: &str) {
    let Err(error) = seen else { panic!("{what}: not seen") };
    assert_eq!(error.code(), "STORE_CORRUPT", "{error}");
    assert!(error.to_string().contains(what), "{error}");
}

#[test]
fn padding_that_is_not_zero_is_named() {
    let (_folder, data, segments) = filled();
    for path in &segments {
        let is_last = Some(path) == segments.last();
        let paddings: Vec<_> = paddings(path).into_iter().filter(|(from, to)| from < to).collect();
        assert!(!paddings.is_empty());
        for (from, to) in [paddings[0], *paddings.last().unwrap()] {
            for at in from..to {
                with_byte(path, at, 1, || {
                    assert_named(verified(&data), "padding");
                    match open(&data) {
                        // An acknowledged batch is not taken for a torn end, and stays as it is.
                        opened if is_last => assert_named(opened, "padding"),
                        opened => {
                            let read = opened.unwrap().journal.read(0, &mut |_| Visit::Continue);
                            assert_named(read, "padding");
                        }
                    }
                });
            }
        }
    }
    verified(&data).unwrap();
    open(&data).unwrap();
}

#[test]
fn bytes_behind_the_last_frame_of_a_full_segment_are_named() {
    let (_folder, data, segments) = filled();
    for path in &segments[..segments.len() - 1] {
        let (_, end) = *paddings(path).last().unwrap();
        let length = fs::metadata(path).unwrap().len();
        for at in [end, (end + length) / 2, length - 1] {
            with_byte(path, at, 9, || assert_named(verified(&data), "behind its last frame"));
        }
    }
    verified(&data).unwrap();
}

#[test]
fn a_header_with_bytes_behind_it_is_none() {
    let (_folder, data, segments) = filled();
    for path in &segments {
        for at in [2_000, FRAMES as u64 - 1] {
            with_byte(path, at, 1, || assert_named(open(&data), "header"));
        }
    }
    let last = segments.last().unwrap();
    with_byte(last, 2_000, 1, || assert_named(verified(&data), "header"));
    open(&data).unwrap();
}
