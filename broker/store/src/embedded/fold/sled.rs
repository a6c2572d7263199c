//! The fold in sled 0.34.
//!
//! sled is not trusted with anything that cannot be rebuilt. Its `flush` is no `fsync`, its transactions may run twice and
//! its ids have gaps; so each chunk is one atomic batch that carries its own position.

use std::ffi::OsStr;
use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use unefois_engine::store::{Fold, Row, RowChange, StoreError};

use super::{Engine, FOLDED, position, tree};
use crate::embedded::operation::{Operation, perform};
use crate::embedded::{Options, files};

/// How sled says that somebody has the folder open. Its own threads hold it for a moment after it was closed; other brokers
/// were kept out before.
const LOCKED: &str = "could not acquire lock";
const LOCKED_FOR: Duration = Duration::from_secs(5);

/// Rows in sled.
#[derive(Debug)]
pub(super) struct SledRows {
    db: sled::Db,
    folder: PathBuf,
}

fn error(error: &sled::Error) -> StoreError {
    StoreError::Read(format!("fold: {error}"))
}

impl SledRows {
    /// sled's flush hands the bytes to the kernel; the files are synced here.
    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|e| error(&e))?;
        let files = fs::read_dir(&self.folder).map_err(|e| files::read_error(&self.folder, &e))?;
        for entry in files.filter_map(Result::ok).filter(|entry| entry.path().is_file()) {
            let file = fs::File::open(entry.path());
            let synced = file.and_then(|file| perform(Operation::FoldSync, || file.sync_all()));
            synced.map_err(|e| files::read_error(&entry.path(), &e))?;
        }
        Ok(())
    }
}

impl Engine for SledRows {
    const NAME: &'static str = "sled";

    fn owns(name: &OsStr) -> bool {
        // Its files lie in the folder itself: conf, db, blobs, snap.…
        !tree::TreeRows::owns(name)
    }

    fn open(folder: &Path, options: &Options) -> Result<Self, StoreError> {
        let config =
            sled::Config::new().path(folder).cache_capacity(options.fold_cache_bytes).flush_every_ms(Some(1_000));
        let deadline = Instant::now() + LOCKED_FOR;
        loop {
            match config.open() {
                Ok(db) => return Ok(Self { db, folder: folder.to_owned() }),
                Err(locked) if locked.to_string().contains(LOCKED) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(other) => return Err(error(&other)),
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.db.is_empty()
    }

    fn mark(&self, rows: &[(&[u8], Option<&[u8]>)]) -> Result<(), StoreError> {
        self.sync()?;
        let mut batch = sled::Batch::default();
        for (key, value) in rows {
            match value {
                Some(value) => batch.insert(*key, *value),
                None => batch.remove(*key),
            }
        }
        self.db.apply_batch(batch).map_err(|e| error(&e))?;
        self.sync()
    }
}

impl Fold for SledRows {
    fn folded(&self) -> Result<u64, StoreError> {
        position(self.db.get(FOLDED).map_err(|e| error(&e))?.as_deref())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.db.get(key).map_err(|e| error(&e))?.map(|value| value.to_vec()))
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let start = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let mut rows = Vec::new();
        for row in self.db.range::<&[u8], _>((start, Bound::Unbounded)).take(limit) {
            let (key, value) = row.map_err(|e| error(&e))?;
            if !key.starts_with(prefix) {
                break;
            }
            rows.push((key.to_vec(), value.to_vec()));
        }
        Ok(rows)
    }

    fn apply(&self, changes: &[RowChange<'_>], folded: u64) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(*key, *value),
                None => batch.remove(*key),
            }
        }
        batch.insert(FOLDED, &folded.to_be_bytes());
        perform(Operation::FoldApply, || self.db.apply_batch(batch).map_err(std::io::Error::other))
            .map_err(|e| StoreError::Unknown(format!("fold: {e}")))
    }

    fn clear(&self) -> Result<(), StoreError> {
        self.db.clear().map_err(|e| error(&e))
    }
}
