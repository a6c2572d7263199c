//! What the embedded store does with a fold that it cannot trust, and with what was removed from one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use unefois_engine::store::Fold;
use unefois_store::Options;
use unefois_store::embedded::{FoldEngine, open_fold};

const ENGINES: [FoldEngine; 2] = [FoldEngine::Tree, FoldEngine::Sled];

fn options(fold: FoldEngine) -> Options {
    Options { fold, ..Options::default() }
}

fn place() -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("fold");
    (root, folder)
}

/// Applies rows whose values have `bytes` bytes and say their chunk.
fn put(fold: &dyn Fold, number: u64, rows: u64, bytes: usize) {
    let value = [number.to_be_bytes().as_slice(), &vec![7; bytes]].concat();
    let keys: Vec<_> = (0..rows).map(|row| format!("k{row:04}")).collect();
    let changes: Vec<_> = keys.iter().map(|key| (key.as_bytes(), Some(&*value))).collect();
    fold.apply(&changes, number).unwrap();
}

/// Gives the position after it has seen that all rows are of one chunk.
fn whole(fold: &dyn Fold, rows: usize) -> u64 {
    let position = fold.folded().unwrap();
    let found = fold.scan(b"k", None, 10_000).unwrap();
    assert_eq!(found.len(), if position == 0 { 0 } else { rows });
    for (key, value) in found {
        assert_eq!(value[..8], position.to_be_bytes(), "{}", String::from_utf8_lossy(&key));
        assert_eq!(fold.get(&key).unwrap(), Some(value));
    }
    position
}

/// What a process that is killed leaves: a copy of the files, while the fold is open.
fn killed(folder: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() { killed(&entry.path(), &target) } else { drop(fs::copy(entry.path(), target)) }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn a_closed_fold_is_trusted_in_any_boot_and_an_open_one_in_its_own() {
    for engine in ENGINES {
        let (_root, folder) = place();
        let another = Options { boot: "another".to_owned(), ..options(engine) };
        put(&*open_fold(&folder, &options(engine)).unwrap(), 3, 5, 10);
        let fold = open_fold(&folder, &another).unwrap();
        assert_eq!(whole(&*fold, 5), 3, "{engine:?}: closed before the boot");
        fold.accept().unwrap();
        // Left open by that boot, as a power cut leaves it.
        std::mem::forget(Arc::clone(&fold));
        let (copy, again) = (folder.with_extension("copy"), folder.with_extension("again"));
        killed(&folder, &copy);
        killed(&folder, &again);
        let fold = open_fold(&copy, &another).unwrap();
        assert!([0, 3].contains(&whole(&*fold, 5)), "{engine:?}: open in the same boot");
        assert!(!copy.with_extension("set-aside").exists(), "{engine:?}");
        drop(fold);
        let fold = open_fold(&again, &options(engine)).unwrap();
        assert_eq!(whole(&*fold, 5), 0, "{engine:?}: open in another boot");
        let aside = again.with_extension("set-aside");
        assert!(aside.exists(), "{engine:?}");
        drop(fold);
        drop(open_fold(&again, &options(engine)).unwrap());
        assert!(aside.exists(), "{engine:?}: a look alone changes nothing");
        open_fold(&again, &options(engine)).unwrap().accept().unwrap();
        assert!(!aside.exists(), "{engine:?}: what was set aside goes at the next clean start");
    }
}

#[test]
fn a_fold_of_the_other_engine_is_set_aside_and_begins_again() {
    for (before, after) in [(FoldEngine::Sled, FoldEngine::Tree), (FoldEngine::Tree, FoldEngine::Sled)] {
        let (_root, folder) = place();
        put(&*open_fold(&folder, &options(before)).unwrap(), 3, 5, 10);
        let fold = open_fold(&folder, &options(after)).unwrap();
        assert_eq!(whole(&*fold, 5), 0, "{after:?}");
        put(&*fold, 4, 5, 10);
        drop(fold);
        assert_eq!(whole(&*open_fold(&folder, &options(after)).unwrap(), 5), 4, "{after:?}");
    }
}

#[test]
fn a_damaged_fold_begins_again_at_once_or_at_the_next_start_after_the_damage_was_met() {
    for damage in ["zeros", "cut", "gone", "flipped"] {
        let (_root, folder) = place();
        let fold = open_fold(&folder, &options(FoldEngine::Tree)).unwrap();
        put(&*fold, 3, 2_000, 1_000);
        drop(fold);
        for path in files(&folder) {
            let mut bytes = fs::read(&path).unwrap();
            match damage {
                "zeros" => fs::write(&path, vec![0; bytes.len()]).unwrap(),
                "cut" => fs::write(&path, &bytes[..bytes.len() / 2]).unwrap(),
                "gone" if bytes.len() > 100_000 => fs::remove_file(&path).unwrap(),
                "flipped" if bytes.len() > 100_000 => {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 0x10;
                    fs::write(&path, bytes).unwrap();
                }
                _ => {}
            }
        }
        let fold = open_fold(&folder, &options(FoldEngine::Tree)).unwrap();
        if fold.folded().unwrap() != 0 {
            assert_eq!(damage, "flipped");
            assert_eq!(fold.scan(b"k", None, 10_000).unwrap_err().code(), "STORE_READ");
            drop(fold);
            assert_eq!(whole(&*open_fold(&folder, &options(FoldEngine::Tree)).unwrap(), 2_000), 0, "{damage}");
        }
        assert!(folder.with_extension("set-aside").exists(), "{damage}");
    }
    let (_root, folder) = place();
    fs::create_dir(&folder).unwrap();
    for name in ["db", "conf"] {
        fs::write(folder.join(name), b"not a sled").unwrap();
    }
    assert_eq!(open_fold(&folder, &options(FoldEngine::Sled)).unwrap().folded().unwrap(), 0);
    assert!(folder.with_extension("set-aside").exists());
}

#[test]
fn what_a_killed_process_leaves_is_the_fold_of_one_chunk() {
    let (root, folder) = place();
    let fold = open_fold(&folder, &options(FoldEngine::Tree)).unwrap();
    let mut found = Vec::new();
    for position in 1..=40 {
        // 2 MB each, so that memory is handed over every now and then.
        put(&*fold, position, 100, 20_000);
        if position % 4 == 0 {
            let copy = root.path().join(format!("copy-{position}"));
            killed(&folder, &copy);
            let older = open_fold(&copy, &options(FoldEngine::Tree)).unwrap();
            found.push(whole(&*older, 100));
            assert!(*found.last().unwrap() <= position);
        }
    }
    assert!(found.iter().any(|position| *position > 0), "{found:?}");
    assert_eq!(whole(&*fold, 100), 40);
    drop(fold);
    assert_eq!(whole(&*open_fold(&folder, &options(FoldEngine::Tree)).unwrap(), 100), 40);
}

#[test]
fn a_fold_that_was_killed_often_takes_chunks_at_once() {
    let (root, mut folder) = place();
    for kill in 0..40 {
        let fold = open_fold(&folder, &options(FoldEngine::Tree)).unwrap();
        let begun = Instant::now();
        put(&*fold, 1, 5, 10);
        assert!(begun.elapsed() < Duration::from_secs(20), "after {kill} kills");
        let copy = root.path().join(format!("killed-{kill}"));
        killed(&folder, &copy);
        folder = copy;
    }
}

#[test]
fn a_cleared_fold_is_empty_and_goes_on() {
    for engine in ENGINES {
        let (_root, folder) = place();
        let fold = open_fold(&folder, &options(engine)).unwrap();
        for position in 1..=20 {
            put(&*fold, position, 100, 20_000);
        }
        fold.clear().unwrap();
        assert_eq!(whole(&*fold, 0), 0, "{engine:?}");
        put(&*fold, 7, 5, 10);
        drop(fold);
        assert_eq!(whole(&*open_fold(&folder, &options(engine)).unwrap(), 5), 7, "{engine:?}");
    }
}

fn files_hold(folder: &Path, text: &[u8]) -> bool {
    files(folder).iter().any(|path| {
        // A file may go meanwhile.
        fs::read(path).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text))
    })
}

#[test]
fn a_removed_row_is_gone_from_the_files_within_the_time() {
    let (_root, folder) = place();
    let fold = open_fold(&folder, &options(FoldEngine::Tree)).unwrap();
    fold.apply(&[(b"person-of-old", Some(b"reference-of-old"))], 1).unwrap();
    fold.apply(&[(b"person-that-stays", Some(b"reference-that-stays"))], 2).unwrap();
    drop(fold);
    assert!(files_hold(&folder, b"reference-of-old"));
    let fold = open_fold(&folder, &options(FoldEngine::Tree)).unwrap();
    fold.apply(&[(b"person-of-old", None)], 3).unwrap();
    drop(fold);
    assert!(files_hold(&folder, b"reference-of-old"), "the time is not over");
    // The removal is remembered over the restart.
    let soon = Options { fold_forget_every: Duration::from_millis(20), ..options(FoldEngine::Tree) };
    let fold = open_fold(&folder, &soon).unwrap();
    let begun = Instant::now();
    while files_hold(&folder, b"reference-of-old") || files_hold(&folder, b"person-of-old") {
        assert!(begun.elapsed() < Duration::from_secs(20), "the row is still in the files");
        std::thread::yield_now();
    }
    assert_eq!(fold.get(b"person-of-old").unwrap(), None);
    assert_eq!(fold.get(b"person-that-stays").unwrap().unwrap(), b"reference-that-stays");
    drop(fold);
    assert!(files_hold(&folder, b"reference-that-stays"));
}

#[test]
fn readers_beside_a_writer_see_each_row_of_some_chunk() {
    let (_root, folder) = place();
    let fold = open_fold(&folder, &options(FoldEngine::Tree)).unwrap();
    put(&*fold, 1, 100, 2_000);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (2..=200).for_each(|n| put(&*fold, n, 100, 2_000)));
        let mut last = 0;
        while !writer.is_finished() {
            let value = fold.get(b"k0050").unwrap().expect("the row is always there");
            let number = u64::from_be_bytes(value[..8].try_into().unwrap());
            assert!(number >= last, "a row went back from {last} to {number}");
            last = number;
            assert_eq!(fold.scan(b"k", None, 1_000).unwrap().len(), 100);
        }
    });
    assert_eq!(whole(&*fold, 100), 200);
}
