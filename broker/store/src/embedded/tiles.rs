//! Hashes of tile levels in flat files: `tiles/0` holds leaf hashes, `tiles/1` hashes of full tiles of 256 of them, and
//! so on. A tile of C2SP tlog-tiles is a slice of one of them. Derived from the journal: synced when a segment is done,
//! derived again for the segment under way.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use unefois_audit::{Hash, decode_tile};
use unefois_engine::store::StoreError;

use super::files;
use super::operation::{Operation, perform};

const HASH: u64 = 32;

/// The files of all levels.
#[derive(Debug)]
pub(super) struct Tiles {
    folder: PathBuf,
    levels: RwLock<BTreeMap<u8, File>>,
}

/// How many hashes tile level `level` has in a tree of `size` leaves.
pub(super) fn count_at(level: u8, size: u64) -> u64 {
    size.checked_shr(u32::from(level) * 8).unwrap_or(0)
}

impl Tiles {
    /// Opens the level files that exist.
    pub(super) fn open(folder: &Path, access: Access) -> Result<Self, StoreError> {
        let mut levels = BTreeMap::new();
        for level in 0..8 {
            let path = folder.join(level.to_string());
            match OpenOptions::new().read(true).write(access == Access::Write).open(&path) {
                Ok(file) => {
                    levels.insert(level, file);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(files::read_error(&path, &error)),
            }
        }
        Ok(Self { folder: folder.to_owned(), levels: RwLock::new(levels) })
    }

    /// Whether every level holds at least what a tree of `size` leaves needs.
    pub(super) fn cover(&self, size: u64) -> Result<bool, StoreError> {
        for level in 0..8 {
            let needed = count_at(level, size) * HASH;
            if needed > 0 && self.length(level)? < needed {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn length(&self, level: u8) -> Result<u64, StoreError> {
        match self.levels.read().unwrap_or_else(PoisonError::into_inner).get(&level) {
            None => Ok(0),
            Some(file) => file.metadata().map(|m| m.len()).map_err(|error| files::read_error(&self.folder, &error)),
        }
    }

    /// Writes the complete subtrees that leaves have closed; those between tile levels are left out.
    pub(super) fn write(&self, closed: &[(u8, u64, Hash)]) -> Result<(), StoreError> {
        let mut runs: BTreeMap<u8, (u64, Vec<u8>)> = BTreeMap::new();
        for (level, index, hash) in closed.iter().filter(|(level, ..)| level % 8 == 0) {
            let (_, bytes) = runs.entry(level / 8).or_insert((*index, Vec::new()));
            bytes.extend_from_slice(&hash.0);
        }
        for (level, (start, bytes)) in runs {
            perform(Operation::TilesWrite, || self.write_at(level, start, &bytes))
                .map_err(|error| files::unknown(&self.folder, &error))?;
        }
        Ok(())
    }

    fn write_at(&self, level: u8, start: u64, bytes: &[u8]) -> io::Result<()> {
        {
            let levels = self.levels.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(file) = levels.get(&level) {
                return file.write_all_at(bytes, start * HASH);
            }
        }
        let path = self.folder.join(level.to_string());
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.write_all_at(bytes, start * HASH)?;
        self.levels.write().unwrap_or_else(PoisonError::into_inner).insert(level, file);
        Ok(())
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let levels = self.levels.read().unwrap_or_else(PoisonError::into_inner);
        for file in levels.values() {
            perform(Operation::TilesSync, || file.sync_data()).map_err(|error| files::unknown(&self.folder, &error))?;
        }
        files::sync_folder(&self.folder).map_err(|error| files::unknown(&self.folder, &error))
    }

    /// As many of these hashes as there are, from the first one on.
    pub(super) fn read_what_is_there(&self, level: u8, start: u64, count: usize) -> Result<Vec<Hash>, StoreError> {
        let there = (self.length(level)? / HASH).saturating_sub(start);
        match usize::try_from(there).unwrap_or(usize::MAX).min(count) {
            0 => Ok(Vec::new()),
            count => self.read(level, start, count),
        }
    }

    pub(super) fn read(&self, level: u8, start: u64, count: usize) -> Result<Vec<Hash>, StoreError> {
        let mut bytes = vec![0; count.saturating_mul(HASH as usize)];
        let levels = self.levels.read().unwrap_or_else(PoisonError::into_inner);
        let file = levels.get(&level).ok_or_else(|| StoreError::Read(format!("there is no tile level {level}")))?;
        file.read_exact_at(&mut bytes, start.saturating_mul(HASH))
            .map_err(|error| files::read_error(&self.folder, &error))?;
        Ok(decode_tile(&bytes))
    }
}

/// Whether files may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}
