//! What the embedded store does beyond the contract: damage, torn ends, locks, permissions. What it does with its
//! fold is in `fold.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use unefois_audit::{BatchProofs, Hash, Leaf, Salt};
use unefois_consent::{Event, RecordPeriod, Retention};
use unefois_engine::store::{
    Batch, HeadFile, Journal, JournalEnd, Opening, RecordKeys, SealedEntry, ShardChange, StoreError, Visit,
};
use unefois_store::embedded::JournalReader;
use unefois_store::{EmbeddedStore, Options};

fn options() -> Options {
    Options { segment_bytes: 64 << 10, min_free_bytes: 0, ..Options::default() }
}

fn open(folder: &Path) -> Result<EmbeddedStore, StoreError> {
    EmbeddedStore::open(folder, &options())
}

fn opening() -> Opening {
    let salt = Salt([2; 32]);
    Opening { retention: Retention::TRACES, retention_salt: salt, record: Hash([3; 32]), links: Hash([4; 32]) }
}

fn append(journal: &dyn Journal, count: u8) {
    let first = journal.end().frontier.size();
    let entries: Vec<_> = (0..count)
        .map(|n| SealedEntry {
            leaf: Leaf { kind: 1, time_ms: first + 1, commitment: Hash([n; 32]) },
            opening: opening(),
            sealed: vec![n; 500],
        })
        .collect();
    let hashes: Vec<_> = entries.iter().map(|e| e.leaf.hash()).collect();
    let proofs = BatchProofs::new(&journal.end().frontier, &hashes);
    // Each batch has another, as those of a log have.
    let signature = std::array::from_fn(|at| first.to_be_bytes()[at % 8] ^ 0x7A);
    let batch = Batch { first, entries, root: proofs.root(), signature };
    journal.reserve(32 << 10).unwrap();
    journal.append(&batch, proofs.after(), &proofs.closed().collect::<Vec<_>>()).unwrap();
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder.join("journal")).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "seg") && p.file_stem().unwrap() != "spare");
    paths.sort();
    paths
}

/// Offset after the last byte that is not zero.
fn used(path: &Path) -> u64 {
    fs::read(path).unwrap().iter().rposition(|b| *b != 0).unwrap() as u64 + 1
}

/// The first entry of a segment, by its name.
fn first_of(segment: &Path) -> u64 {
    segment.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

fn flip(path: &Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

fn filled() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = open(&data).unwrap();
    for _ in 0..10 {
        append(&*store.journal, 30);
    }
    assert!(segments(&data).len() >= 3);
    (folder, data)
}

#[test]
fn a_torn_end_is_cut_off_and_the_journal_goes_on() {
    for kept in [1, 3, 8, 19, 21, 300] {
        let (_folder, data) = filled();
        let last = segments(&data).pop().unwrap();
        let end = used(&last).next_multiple_of(8);
        // The beginning of a frame that was never acknowledged.
        let torn = fs::read(&last).unwrap()[4096..4096 + kept].to_vec();
        fs::OpenOptions::new().write(true).open(&last).unwrap().write_all_at(&torn, end).unwrap();
        let store = open(&data).unwrap();
        assert_eq!(store.journal.end().frontier.size(), 300);
        // Not before the end is accepted; and its bytes are kept.
        assert_ne!(used(&last).next_multiple_of(8), end);
        store.journal.accept_end().unwrap();
        let aside = fs::read(data.join(format!("journal/torn-{end}-{}.bin", first_of(&last)))).unwrap();
        assert_eq!(aside, torn[..aside.len()]);
        assert!(torn[aside.len()..].iter().all(|byte| *byte == 0));
        assert_eq!(used(&last).next_multiple_of(8), end);
        append(&*store.journal, 5);
        drop(store);
        assert_eq!(open(&data).unwrap().journal.end().frontier.size(), 305);
    }
}

#[test]
fn each_torn_end_is_kept_under_a_name_of_its_own() {
    let (_folder, data) = filled();
    let last = segments(&data).pop().unwrap();
    let end = used(&last).next_multiple_of(8);
    // The second time the start ended before it cut it off.
    for (number, torn) in [&b"UFR1 one"[..], b"UFR1 other", b"UFR1 one"].into_iter().enumerate() {
        fs::OpenOptions::new().write(true).open(&last).unwrap().write_all_at(torn, end).unwrap();
        open(&data).unwrap().journal.accept_end().unwrap();
        let kept: Vec<_> = torn_files(&data);
        assert_eq!(kept.len(), (number + 1).min(2));
        assert!(kept.iter().any(|path| fs::read(path).unwrap() == torn));
        assert!(kept.iter().all(|path| fs::metadata(path).unwrap().permissions().mode() & 0o777 == 0o600));
    }
}

fn torn_files(data: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(data.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("torn-")).collect()
}

/// Names and bytes of all files of the journal and of what is derived from it.
fn bytes_of(folder: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut files = std::collections::BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { folders.push(path) } else { drop(files.insert(path.clone(), fs::read(path).unwrap())) }
        }
    }
    files
}

#[test]
fn opening_alone_changes_nothing_whatever_it_finds_to_do() {
    let (_folder, data) = filled();
    open(&data).unwrap().keys.get_or_create("2026-11".parse().unwrap()).unwrap();
    let (last, journal) = (segments(&data).pop().unwrap(), data.join("journal"));
    let end = used(&last).next_multiple_of(8);
    fs::OpenOptions::new().write(true).open(&last).unwrap().write_all_at(b"UFR1 torn", end).unwrap();
    fs::write(journal.join("next.seg"), [7; 9000]).unwrap();
    fs::remove_file(journal.join("spare.seg")).unwrap();
    fs::remove_file(data.join("tiles/0")).unwrap();
    fs::write(data.join("keys/records/2020-01.key.destroyed"), [7; 32]).unwrap();
    let before = bytes_of(&data);
    let store = open(&data).unwrap();
    assert_eq!(store.journal.end().entries(), 300);
    let hashes = store.journal.tile_hashes(0, 0, 0, 300).unwrap();
    let mut read = 0;
    store
        .journal
        .read(0, &mut |batch| {
            read += batch.entries.len();
            Visit::Continue
        })
        .unwrap();
    assert_eq!(read, 300);
    drop(store);
    assert!(bytes_of(&data) == before, "opening changed a file");
    // Accepted, it is all done.
    let store = open(&data).unwrap();
    store.journal.accept_end().unwrap();
    store.keys.finish_destruction().unwrap();
    assert_eq!(store.journal.tile_hashes(0, 0, 0, 300).unwrap(), hashes);
    assert!(data.join("tiles/0").exists() && !journal.join("next.seg").exists() && torn_files(&data).len() == 1);
    assert!(!data.join("keys/records/2020-01.key.destroyed").exists());
}

#[test]
fn damage_before_the_end_refuses_to_open_or_to_read() {
    let (_folder, data) = filled();
    let last = segments(&data).pop().unwrap();
    append(&*open(&data).unwrap().journal, 2);
    let span = used(&last) - 4096;
    for part in 1..8 {
        let (_folder, data) = filled();
        append(&*open(&data).unwrap().journal, 2);
        let last = segments(&data).pop().unwrap();
        flip(&last, 4096 + span * part / 8 - 1100);
        let Err(error) = open(&data) else { panic!("part {part}: opened") };
        assert_eq!(error.code(), "STORE_CORRUPT", "{error}");
        assert_eq!(JournalReader::open(&data).unwrap_err().code(), "STORE_CORRUPT");
    }
    // In an earlier segment it is found by whoever reads it.
    let (_folder, data) = filled();
    flip(&segments(&data)[0], 9000);
    let store = open(&data).unwrap();
    assert_eq!(store.journal.read(0, &mut |_| Visit::Continue).unwrap_err().code(), "STORE_CORRUPT");
}

#[test]
fn a_missing_segment_is_noticed_at_the_start() {
    let (_folder, data) = filled();
    let count = segments(&data).len();
    // Without the last one the log is shorter, which the head file tells.
    for at in 0..count - 1 {
        let (_folder, data) = filled();
        let missing = segments(&data).remove(at);
        fs::remove_file(&missing).unwrap();
        let error = open(&data).unwrap_err();
        assert_eq!(error.code(), "STORE_CORRUPT", "{error}");
        let reader = JournalReader::open(&data).unwrap();
        let read = unefois_engine::replay::BatchSource::read(&reader, 0, &mut |_| Visit::Continue);
        assert_eq!(read.unwrap_err().code(), "STORE_CORRUPT");
    }
}

#[test]
fn a_segment_that_was_cut_or_exchanged_is_noticed_at_the_start() {
    let (_folder, data) = filled();
    let [first, second, ..] = &segments(&data)[..] else { panic!("too few segments") };
    // Its last frame is gone, as if it had never been written.
    let whole = fs::read(first).unwrap();
    let last = whole.windows(4).rposition(|bytes| bytes == b"UFR1").unwrap();
    let mut cut = whole.clone();
    cut[last..].fill(0);
    fs::write(first, &cut).unwrap();
    assert_eq!(open(&data).unwrap_err().code(), "STORE_CORRUPT");
    fs::write(first, fs::read(second).unwrap()).unwrap();
    assert_eq!(open(&data).unwrap_err().code(), "STORE_CORRUPT");
    fs::write(first, &whole).unwrap();
    open(&data).unwrap();
}

/// Closes the shard with an entry alone and opens the next one.
fn close_shard(journal: &dyn Journal) {
    close_shard_of(journal).unwrap();
}

fn close_shard_of(journal: &dyn Journal) -> Result<(), StoreError> {
    let end = journal.end();
    let alone = |end: &JournalEnd, kind| {
        let first = end.entries();
        let leaf = Leaf { kind, time_ms: first + 1, commitment: Hash([9; 32]) };
        let proofs = BatchProofs::new(&end.frontier, &[leaf.hash()]);
        let entries = vec![SealedEntry { leaf, opening: opening(), sealed: vec![9; 500] }];
        (Batch { first, entries, root: proofs.root(), signature: [8; 64] }, proofs)
    };
    let (last, proofs) = alone(&end, Event::SHARD_CLOSED);
    let (next, _) = alone(&JournalEnd::of_new_shard(last.end(), last.first + 1), Event::LOG_OPENED);
    let closed: Vec<_> = proofs.closed().collect();
    journal.close_shard(ShardChange { last: &last, after: proofs.after(), closed: &closed, next: &next })
}

#[test]
fn a_missing_end_of_a_closed_shard_is_noticed_at_the_start() {
    let (_folder, data) = filled();
    let store = open(&data).unwrap();
    close_shard(&*store.journal);
    drop(store);
    open(&data).unwrap();
    let mut paths = segments(&data);
    fs::remove_file(paths.remove(paths.len() - 2)).unwrap();
    let error = open(&data).unwrap_err();
    assert_eq!(error.code(), "STORE_CORRUPT", "{error}");
}

#[test]
fn a_spare_segment_that_something_was_written_in_is_not_used() {
    let (_folder, data) = filled();
    let spare = data.join("journal/spare.seg");
    let first = fs::read(&segments(&data)[0]).unwrap();
    fs::write(&spare, &first).unwrap();
    let (store, before) = (open(&data).unwrap(), segments(&data).len());
    // The frames that come lie over the first of those that were there, not over all.
    while segments(&data).len() == before {
        append(&*store.journal, 30);
    }
    let end = store.journal.end().entries();
    drop(store);
    assert_eq!(open(&data).unwrap().journal.end().entries(), end);
}

#[test]
fn lost_tiles_are_derived_again() {
    let (_folder, data) = filled();
    let hashes = open(&data).unwrap().journal.tile_hashes(0, 0, 0, 300).unwrap();
    for damage in ["remove", "cut"] {
        let path = data.join("tiles/0");
        match damage {
            "remove" => fs::remove_file(&path).unwrap(),
            _ => fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap(),
        }
        let store = open(&data).unwrap();
        assert_eq!(store.journal.tile_hashes(0, 0, 0, 300).unwrap(), hashes, "{damage}, in memory");
        store.journal.accept_end().unwrap();
        assert_eq!(store.journal.tile_hashes(0, 0, 0, 300).unwrap(), hashes, "{damage}");
        assert_eq!(store.journal.tile_hashes(0, 1, 0, 1).unwrap().len(), 1);
    }
}

#[test]
fn two_processes_cannot_write_one_folder() {
    let (_folder, data) = filled();
    let _store = open(&data).unwrap();
    let second = open(&data).unwrap_err();
    assert_eq!(second.code(), "STORE_FENCED", "{second}");
}

#[test]
fn a_second_writer_is_kept_out_whatever_file_was_removed_or_moved() {
    let (folder, data) = filled();
    let store = open(&data).unwrap();
    store.journal.accept_end().unwrap();
    fs::remove_file(data.join("LOCK")).unwrap();
    assert_eq!(open(&data).unwrap_err().code(), "STORE_FENCED");
    // A new segment is held as the one before it was.
    let before = segments(&data).len();
    while segments(&data).len() == before {
        append(&*store.journal, 30);
    }
    assert!(!data.join("LOCK").exists(), "one who was kept out made a file");
    assert_eq!(open(&data).unwrap_err().code(), "STORE_FENCED");
    // The files in another folder are the same files.
    let moved = folder.path().join("moved");
    fs::create_dir_all(moved.join("journal")).unwrap();
    for path in segments(&data) {
        fs::rename(&path, moved.join("journal").join(path.file_name().unwrap())).unwrap();
    }
    let second = open(&moved).unwrap_err();
    assert_eq!(second.code(), "STORE_FENCED", "{second}");
    // A reader is not kept out.
    JournalReader::open(&moved).unwrap();
    let journal = store.journal.clone();
    drop(store);
    // What is left of the first one appends nothing any more.
    let third = open(&moved).unwrap();
    third.journal.accept_end().unwrap();
    assert_eq!(journal.reserve(1).and(close_shard_of(&*journal)).unwrap_err().code(), "STORE_NOT_WRITTEN");
}

#[test]
fn of_two_that_begin_a_journal_at_once_one_is_kept_out() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let first = open(&data).unwrap();
    fs::remove_file(data.join("LOCK")).unwrap();
    let second = open(&data).unwrap();
    append(&*first.journal, 3);
    assert_eq!(second.journal.accept_end().unwrap_err().code(), "STORE_FENCED");
    drop(first);
    assert_eq!(
        second.journal.reserve(1).and(close_shard_of(&*second.journal)).unwrap_err().code(),
        "STORE_NOT_WRITTEN"
    );
    drop(second);
    assert_eq!(open(&data).unwrap().journal.end().entries(), 3);
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    let (_folder, data) = filled();
    let store = open(&data).unwrap();
    let month: RecordPeriod = "2026-11".parse().unwrap();
    store.keys.get_or_create(month).unwrap();
    let path = data.join("keys/records/2026-11.key");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = store.keys.get(month).unwrap_err().to_string();
    assert!(error.contains("chmod 600") && error.contains("2026-11.key"), "{error}");
}

#[test]
fn a_full_disk_is_said_before_anything_is_written() {
    let (_folder, data) = filled();
    let full = Options { min_free_bytes: u64::MAX, ..options() };
    let store = EmbeddedStore::open(&data, &full).unwrap();
    let error = store.journal.reserve(1000).unwrap_err();
    assert_eq!(error.code(), "STORE_FULL");
    assert!(error.to_string().contains("MB must stay free"), "{error}");
}

#[test]
fn a_next_shard_that_nothing_led_to_is_dropped_unread() {
    let (_folder, data) = filled();
    let end = open(&data).unwrap().journal.end();
    for planted in [&b""[..], &[7; 9000]] {
        fs::write(data.join("journal/next.seg"), planted).unwrap();
        let store = open(&data).unwrap();
        assert_eq!(store.journal.end(), end);
        assert!(data.join("journal/next.seg").exists());
        store.journal.accept_end().unwrap();
        assert!(!data.join("journal/next.seg").exists());
    }
}

#[test]
fn what_is_not_in_its_place_any_more_is_told_with_what_to_do() {
    let (folder, data) = filled();
    let store = open(&data).unwrap();
    let aside = folder.path().join("aside");
    let check = || store.journal.check_in_place().and(store.keys.check_in_place()).and(store.head.check_in_place());
    check().unwrap();
    append(&*store.journal, 1);
    store.head.write("log\n1\nroot\n\n\u{2014} log signature\n").unwrap();
    let month: RecordPeriod = "2026-11".parse().unwrap();
    let key = *store.keys.get_or_create(month).unwrap().expose();
    store.keys.make_subject_key().unwrap();
    let key_path = data.join("keys/records/2026-11.key");
    let watched = [
        (segments(&data).pop().unwrap(), "newest copy of the data folder"),
        (data.join("keys/subject.key"), "from the backup"),
        (key_path.clone(), "from the backup"),
        (folder.path().join("data.head"), "accept-head"),
    ];
    for (path, to_do) in &watched {
        check().unwrap();
        fs::rename(path, &aside).unwrap();
        let removed = check().unwrap_err();
        // The same bytes in another file are not the file that is written.
        fs::copy(&aside, path).unwrap();
        let replaced = check().unwrap_err();
        for (error, what) in [(removed, "was removed"), (replaced, "was replaced")] {
            assert_eq!(error.code(), "STORE_CORRUPT");
            let text = error.to_string();
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!([what, to_do, name].iter().all(|part| text.contains(part)), "{text}");
        }
        fs::rename(&aside, path).unwrap();
    }
    check().unwrap();
    // All of it at once.
    fs::rename(&data, &aside).unwrap();
    assert!(store.journal.check_in_place().is_err() && store.keys.check_in_place().is_err());
    fs::rename(&aside, &data).unwrap();
    // A key that is gone is not made anew, and one that was destroyed is missed by nobody.
    fs::rename(&key_path, &aside).unwrap();
    assert_eq!(store.keys.get_or_create(month).unwrap_err().code(), "STORE_CORRUPT");
    assert!(!key_path.exists());
    fs::rename(&aside, &key_path).unwrap();
    assert_eq!(store.keys.get_or_create(month).unwrap().expose(), &key);
    store.keys.destroy(month).unwrap();
    check().unwrap();
    // The next segment is looked at as this one was.
    let before = segments(&data).len();
    while segments(&data).len() == before {
        append(&*store.journal, 30);
    }
    check().unwrap();
    fs::remove_file(segments(&data).pop().unwrap()).unwrap();
    assert!(check().is_err());
}

#[test]
fn a_journal_of_a_newer_format_is_said_to_be_newer_and_is_not_touched() {
    for (place, magic) in [(0, &b"UNEFSEG3"[..]), (4096, b"UFR2")] {
        let (_folder, data) = filled();
        let last = segments(&data).pop().unwrap();
        let file = fs::OpenOptions::new().read(true).write(true).open(&last).unwrap();
        file.write_all_at(magic, place).unwrap();
        let before = fs::read(&last).unwrap();
        let error = open(&data).unwrap_err();
        assert_eq!(error.code(), "STORE_NEWER", "{error}");
        assert_eq!(JournalReader::open(&data).unwrap_err().code(), "STORE_NEWER");
        assert!(fs::read(&last).unwrap() == before, "a start that was refused wrote");
    }
}
