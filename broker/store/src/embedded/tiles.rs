//! Hashes of tile levels in flat files: `tiles/0` holds leaf hashes, `tiles/1` hashes of full tiles of 256 of them, and
//! so on. A tile of C2SP tlog-tiles is a slice of one of them. Derived from the journal: synced when a segment is done,
//! derived again for the segment under way.
//!
//! Hashes that the files do not have yet wait in memory, and readers find them there.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use unefois_audit::{Hash, decode_tile};
use unefois_engine::store::StoreError;

use super::files;
use super::operation::{Operation, perform};

const HASH: u64 = 32;
/// So many hashes that wait are written at a time, 128 KiB of them.
const AT_ONCE: usize = 4096;
/// Files that took nothing are tried again after so long.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// The files of all levels.
#[derive(Debug)]
pub(super) struct Tiles {
    folder: PathBuf,
    levels: RwLock<BTreeMap<u8, File>>,
    /// By level and number. Those of one segment at most, and of tiles that are derived again.
    waiting: RwLock<BTreeMap<(u8, u64), Hash>>,
    /// When the files did not take what waits.
    failed_at: Mutex<Option<Instant>>,
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
        Ok(Self {
            folder: folder.to_owned(),
            levels: RwLock::new(levels),
            waiting: RwLock::default(),
            failed_at: Mutex::default(),
        })
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

    /// Keeps the complete subtrees that leaves have closed, in memory; those between tile levels are left out.
    pub(super) fn keep(&self, closed: &[(u8, u64, Hash)]) {
        let of_tiles = closed.iter().filter(|(level, ..)| level % 8 == 0);
        let mut waiting = self.waiting.write().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(of_tiles.map(|(level, number, hash)| ((level / 8, *number), *hash)));
    }

    /// Whether hashes wait for their files.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes the complete subtrees that a durable batch has closed, and writes what waits to the files. Where they do not take it,
    /// it waits on and is tried again soon: tiles are derived from the batch, and no failure of theirs is one of the batch.
    pub(super) fn write(&self, closed: &[(u8, u64, Hash)]) {
        let was_behind = self.is_behind();
        self.keep(closed);
        if was_behind && !self.is_time_to_try() {
            return;
        }
        match self.catch_up() {
            Err(error) if !was_behind => tracing::warn!(%error, "hashes of tiles cannot be written and wait in memory"),
            Ok(()) if was_behind => tracing::info!("the hashes of tiles that waited are written"),
            Ok(()) | Err(_) => {}
        }
    }

    fn is_time_to_try(&self) -> bool {
        let failed_at = self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        failed_at.is_none_or(|at| at.elapsed() >= TRY_AGAIN)
    }

    /// Writes what waits to the files, some of it at a time.
    ///
    /// # Errors
    /// `NotWritten` or `Full` where a file does not take it; it waits on then.
    pub(super) fn catch_up(&self) -> Result<(), StoreError> {
        loop {
            let waiting = self.waiting.read().unwrap_or_else(PoisonError::into_inner);
            let some: Vec<_> = waiting.iter().take(AT_ONCE).map(|(place, hash)| (*place, *hash)).collect();
            drop(waiting);
            if some.is_empty() {
                return Ok(());
            }
            let written = self.write_some(&some).map_err(|error| files::not_written(&self.folder, &error));
            *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = written.is_err().then(Instant::now);
            written?;
            // ORDER: the files have them first, so that a reader finds each in one of the two.
            let mut waiting = self.waiting.write().unwrap_or_else(PoisonError::into_inner);
            for (place, _) in &some {
                waiting.remove(place);
            }
        }
    }

    fn write_some(&self, some: &[((u8, u64), Hash)]) -> io::Result<()> {
        let mut runs: Vec<(u8, u64, Vec<u8>)> = Vec::new();
        for ((level, number), hash) in some {
            match runs.last_mut() {
                Some((of, start, bytes)) if of == level && *start + bytes.len() as u64 / HASH == *number => {
                    bytes.extend_from_slice(&hash.0);
                }
                Some(_) | None => runs.push((*level, *number, hash.0.to_vec())),
            }
        }
        for (level, start, bytes) in runs {
            perform(Operation::TilesWrite, || self.write_at(level, start, &bytes))?;
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
        files::make_private(&self.folder)?;
        let path = self.folder.join(level.to_string());
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.write_all_at(bytes, start * HASH)?;
        self.levels.write().unwrap_or_else(PoisonError::into_inner).insert(level, file);
        Ok(())
    }

    /// Writes what waits, and makes all that was written durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.catch_up()?;
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

    /// `count` hashes of a level from number `start` on.
    ///
    /// # Errors
    /// `Read` where one of them is neither in the file nor in memory.
    pub(super) fn read(&self, level: u8, start: u64, count: usize) -> Result<Vec<Hash>, StoreError> {
        let numbers = start..start.saturating_add(count as u64);
        let places = (level, numbers.start)..(level, numbers.end);
        let waiting: BTreeMap<u64, Hash> = {
            let waiting = self.waiting.read().unwrap_or_else(PoisonError::into_inner);
            waiting.range(places).map(|((_, number), hash)| (*number, *hash)).collect()
        };
        // The files are asked for the hashes in front of and behind those that wait only.
        let Some((first, last)) = waiting.keys().next().copied().zip(waiting.keys().next_back().copied()) else {
            return self.read_file(level, start, count);
        };
        let count_of = |from: u64, to: u64| usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        let mut hashes = self.read_file(level, start, count_of(start, first))?;
        for number in first..=last {
            match waiting.get(&number) {
                Some(hash) => hashes.push(*hash),
                None => hashes.extend(self.read_file(level, number, 1)?),
            }
        }
        let behind = last.saturating_add(1);
        hashes.extend(self.read_file(level, behind, count_of(behind, numbers.end))?);
        Ok(hashes)
    }

    fn read_file(&self, level: u8, start: u64, count: usize) -> Result<Vec<Hash>, StoreError> {
        if count == 0 {
            return Ok(Vec::new());
        }
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
