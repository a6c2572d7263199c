//! What must hold after every test.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use unefois_audit::{Frontier, VerifierKey};
use unefois_consent::Event;
use unefois_engine::replay::{BatchSource, JournalSource, Report, live_rows, replay, verify};
use unefois_engine::seal::Opener;
use unefois_engine::store::{Fold, Row, Visit};
use unefois_store::embedded::{FileKeys, JournalReader, open_fold};
use unefois_store::{MemoryStore, Options};

fn opener(data: &Path) -> Opener {
    Opener::new(Arc::new(FileKeys::open(&data.join("keys")).unwrap()))
}

/// The log in `data` verifies and replays.
pub fn check_log(data: &Path, key: &VerifierKey) -> Report {
    replayed(data, key, MemoryStore::default())
}

/// The same; the state is in `scratch` then.
fn replayed(data: &Path, key: &VerifierKey, scratch: MemoryStore) -> Report {
    let files = JournalReader::open(data).unwrap();
    verify(&files, key, &opener(data), &mut |_, _| {}).unwrap();
    replay(&files, key, &opener(data), Arc::new(scratch), &mut |_, _| {}).unwrap()
}

/// Both folds hold the same state, row by row.
pub fn assert_same_state(fold: &dyn Fold, replayed: &dyn Fold) {
    let (lived, replayed) = (live_rows(fold).unwrap(), live_rows(replayed).unwrap());
    assert!(lived == replayed, "{}", difference(&lived, &replayed));
}

/// The rows that only one of two states has, the lived and the replayed one.
pub fn difference(lived: &[Row], replayed: &[Row]) -> String {
    let only = |some: &[Row], others: &[Row]| {
        let others: BTreeSet<_> = others.iter().collect();
        let rows = some.iter().filter(|row| !others.contains(row));
        rows.map(|(key, value)| row(key, value)).collect::<Vec<_>>().join("\n  ")
    };
    format!("only lived:\n  {}\nonly replayed:\n  {}", only(lived, replayed), only(replayed, lived))
}

/// A row of a fold for people: tables have a letter, most values are text behind a stamp.
fn row(key: &[u8], value: &[u8]) -> String {
    let table = key.first().map(|byte| char::from(*byte)).unwrap_or('?');
    format!("{table} {}: {}", hex::encode(key), value.escape_ascii())
}

/// The tiles on the disk are those of the journal, in each shard.
fn check_tiles(data: &Path) {
    let reader = JournalReader::open(data).unwrap();
    let shards = reader.shards();
    for (place, first) in shards.iter().copied().enumerate() {
        let folder = if first == 0 { data.join("tiles") } else { data.join(format!("tiles/{first:020}")) };
        let end = shards.get(place + 1).copied().unwrap_or_else(|| reader.size());
        check_tiles_of(&reader, first..end, &folder);
    }
}

fn check_tiles_of(reader: &JournalReader, shard: Range<u64>, tiles: &Path) {
    let (mut frontier, mut levels) = (Frontier::new(), Vec::<Vec<u8>>::new());
    reader
        .read(shard.start, &mut |batch| {
            if batch.first >= shard.end {
                return Visit::Stop;
            }
            for entry in &batch.entries {
                frontier.append_with(entry.leaf.hash(), |level, _, hash| {
                    if level % 8 == 0 {
                        levels.resize(levels.len().max(usize::from(level / 8) + 1), Vec::new());
                        levels[usize::from(level / 8)].extend(hash.0);
                    }
                });
            }
            Visit::Continue
        })
        .unwrap();
    for (level, expected) in levels.iter().enumerate() {
        let found = std::fs::read(tiles.join(level.to_string())).unwrap();
        assert!(found.starts_with(expected), "tile level {level} is not that of the journal");
    }
}

/// The log verifies and replays, its tiles are those of the journal, no exchange is left open, and the fold is what the
/// replay gives. The store is closed.
pub fn check(data: &Path, key: &VerifierKey) -> Report {
    let scratch = MemoryStore::default();
    let report = replayed(data, key, scratch.clone());
    check_tiles(data);
    assert_eq!(report.open, 0, "an exchange was left without its end");
    let fold = open_fold(&data.join("fold"), &Options::default()).unwrap();
    assert_eq!(fold.folded().unwrap(), report.entries, "the fold is behind after closing");
    assert_same_state(&*fold, &scratch);
    report
}

/// Like [`check`], of a store in memory.
pub fn check_memory(store: &MemoryStore, key: &VerifierKey) -> Report {
    let opener = Opener::new(Arc::new(store.clone()));
    let scratch = MemoryStore::default();
    let report = replay(&JournalSource(store), key, &opener, Arc::new(scratch.clone()), &mut |_, _| {}).unwrap();
    assert_eq!(report.open, 0, "an exchange was left without its end");
    if store.folded().unwrap() == report.entries {
        assert_same_state(store, &scratch);
    }
    report
}

/// Every record in `data` that was not purged, with its index.
pub fn events(data: &Path) -> Vec<(u64, Event)> {
    let opener = opener(data);
    let mut events = Vec::new();
    let reader = JournalReader::open(data).unwrap();
    reader
        .read(0, &mut |batch| {
            for (index, entry) in (batch.first..).zip(&batch.entries) {
                let opened = opener.open(index, entry).unwrap();
                events.extend(opened.map(|opened| (index, serde_json::from_str(&opened.record).unwrap())));
            }
            Visit::Continue
        })
        .unwrap();
    events
}

/// The commitment of every entry in `data`, by its index.
pub fn commitments(data: &Path) -> BTreeMap<u64, String> {
    let mut commitments = BTreeMap::new();
    let reader = JournalReader::open(data).unwrap();
    reader
        .read(0, &mut |batch| {
            let entries = (batch.first..).zip(&batch.entries);
            commitments.extend(entries.map(|(index, entry)| (index, entry.leaf.commitment.to_string())));
            Visit::Continue
        })
        .unwrap();
    commitments
}
