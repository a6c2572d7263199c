//! Journals of entries that say their index, for tests of the files.

#![allow(dead_code, reason = "each test uses some of it")]

use std::fs;
use std::path::{Path, PathBuf};

use unefois_audit::{BatchProofs, Hash, Leaf, Salt};
use unefois_consent::Retention;
use unefois_engine::store::{Batch, Journal, Opening, SealedEntry};
use unefois_store::{EmbeddedStore, Options};

/// Opens the store in `folder`; new segments have `segment_bytes`.
pub(crate) fn open(folder: &Path, segment_bytes: u64) -> EmbeddedStore {
    EmbeddedStore::open(folder, &Options { segment_bytes, min_free_bytes: 0, ..Options::default() }).unwrap()
}

/// What entry `index` holds: 320 bytes.
pub(crate) fn sealed(index: u64) -> Vec<u8> {
    (index + 1).to_le_bytes().repeat(40)
}

/// Appends `count` entries in one frame.
pub(crate) fn append(journal: &dyn Journal, count: u64) {
    let end = journal.end();
    let first = end.entries();
    let entry = |n: u64| SealedEntry {
        leaf: Leaf { kind: 1, time_ms: first + 1, commitment: Hash([7; 32]) },
        opening: Opening {
            retention: Retention::TRACES,
            retention_salt: Salt([2; 32]),
            record: Hash([3; 32]),
            links: Hash([4; 32]),
        },
        sealed: sealed(first + n),
    };
    let entries: Vec<_> = (0..count).map(entry).collect();
    let hashes: Vec<_> = entries.iter().map(|entry| entry.leaf.hash()).collect();
    let proofs = BatchProofs::new(&end.frontier, &hashes);
    let signature = std::array::from_fn(|at| first.to_be_bytes()[at % 8] ^ 0x7A);
    let batch = Batch { first, entries, root: proofs.root(), signature };
    journal.reserve(32 << 10).unwrap();
    journal.append(&batch, proofs.after(), &proofs.closed().collect::<Vec<_>>()).unwrap();
}

/// The segments with their first entries, in order.
pub(crate) fn segments(data: &Path) -> Vec<(u64, PathBuf)> {
    let paths = fs::read_dir(data.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let first = |path: &Path| path.file_name()?.to_str()?.strip_suffix(".seg")?.parse().ok();
    let mut found: Vec<(u64, PathBuf)> = paths.filter_map(|path| Some((first(&path)?, path))).collect();
    found.sort();
    found
}
