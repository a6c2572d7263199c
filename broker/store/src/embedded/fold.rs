//! The fold of the embedded store: rows in sled 0.34.
//!
//! sled is not trusted with anything that cannot be rebuilt. Its `flush` is no `fsync`, its transactions may run twice and
//! its ids have gaps; so each chunk is one atomic batch that carries its own position, and a fold that does not open,
//! panics while opening, or was left open by another boot of the machine is set aside and rebuilt from the journal.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use std::ops::Bound;

use unefois_engine::store::{Fold, Row, RowChange, StoreError};

use super::operation::{Operation, perform};
use super::{Options, files};

// No row of the engine begins with a zero byte.
const FOLDED: &[u8] = b"\0folded";
const OPENED_IN: &[u8] = b"\0opened-in";
const CLOSED: &[u8] = b"\0closed";

/// Rows in sled.
#[derive(Debug)]
pub struct SledFold {
    db: sled::Db,
    folder: PathBuf,
}

fn error(error: &sled::Error) -> StoreError {
    StoreError::Read(format!("fold: {error}"))
}

impl SledFold {
    /// Opens the fold in `folder`, or sets it aside and begins an empty one.
    pub fn open(folder: &Path, options: &Options) -> Result<Self, StoreError> {
        if folder.exists() {
            match Self::try_open(folder, options) {
                Ok(fold) if fold.can_be_trusted(&options.boot) => {
                    // It holds references and consents that a purge could not reach.
                    let aside = folder.with_extension("set-aside");
                    if aside.exists() {
                        fs::remove_dir_all(&aside).map_err(|e| files::not_written(&aside, &e))?;
                    }
                    return fold.mark_open(&options.boot);
                }
                Ok(fold) => {
                    drop(fold);
                    tracing::warn!("the fold was left open when the machine stopped and is rebuilt from the journal");
                }
                Err(error) => tracing::warn!(%error, "the fold does not open and is rebuilt from the journal"),
            }
            set_aside(folder)?;
        }
        Self::try_open(folder, options)?.mark_open(&options.boot)
    }

    fn try_open(folder: &Path, options: &Options) -> Result<Self, StoreError> {
        let config =
            sled::Config::new().path(folder).cache_capacity(options.fold_cache_bytes).flush_every_ms(Some(1_000));
        // sled panics on some damaged files.
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        let db = opened
            .map_err(|_| StoreError::Corrupt("fold: sled panicked while opening".to_owned()))?
            .map_err(|e| error(&e))?;
        Ok(Self { db, folder: folder.to_owned() })
    }

    /// Within one boot the kernel keeps what a dead process wrote; across boots only a closed and synced fold is whole.
    fn can_be_trusted(&self, boot: &str) -> bool {
        let closed = self.db.get(CLOSED).ok().flatten().is_some();
        let same_boot = self.db.get(OPENED_IN).ok().flatten().is_some_and(|b| b.as_ref() == boot.as_bytes());
        closed || (same_boot && !boot.is_empty()) || self.db.is_empty()
    }

    fn mark_open(self, boot: &str) -> Result<Self, StoreError> {
        let mut batch = sled::Batch::default();
        batch.remove(CLOSED);
        batch.insert(OPENED_IN, boot.as_bytes());
        self.db.apply_batch(batch).map_err(|e| error(&e))?;
        self.sync()?;
        Ok(self)
    }

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

/// Keeps one broken fold for whoever wants to look at it.
fn set_aside(folder: &Path) -> Result<(), StoreError> {
    let aside = folder.with_extension("set-aside");
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(|e| files::not_written(&aside, &e))?;
    }
    fs::rename(folder, &aside).map_err(|e| files::not_written(&aside, &e))
}

impl Fold for SledFold {
    fn folded(&self) -> Result<u64, StoreError> {
        let Some(bytes) = self.db.get(FOLDED).map_err(|e| error(&e))? else { return Ok(0) };
        let bytes = bytes
            .as_ref()
            .try_into()
            .map_err(|_| StoreError::Corrupt("fold: the position has not 8 bytes".to_owned()))?;
        Ok(u64::from_be_bytes(bytes))
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

    fn apply(&self, changes: Vec<RowChange>, folded: u64) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        batch.insert(FOLDED, &folded.to_be_bytes());
        perform(Operation::FoldApply, || self.db.apply_batch(batch).map_err(std::io::Error::other))
            .map_err(|e| StoreError::Unknown(format!("fold: {e}")))
    }

    fn clear(&self) -> Result<(), StoreError> {
        let opened_in = self.db.get(OPENED_IN).map_err(|e| error(&e))?;
        self.db.clear().map_err(|e| error(&e))?;
        if let Some(boot) = opened_in {
            self.db.insert(OPENED_IN, boot).map_err(|e| error(&e))?;
        }
        Ok(())
    }
}

impl Drop for SledFold {
    fn drop(&mut self) {
        // A mark that is missing costs a rebuild, so failures are of no account here.
        if self.sync().is_ok() && self.db.insert(CLOSED, &[1]).is_ok() {
            let _ = self.sync();
        }
    }
}
