//! The fold of the embedded store: rows that can be rebuilt from the journal, in one of two engines.
//!
//! Neither engine is trusted. A fold that does not open, panics while opening, was left open by another boot of the
//! machine, or is of the other engine is set aside and rebuilt from the journal. Each chunk carries its own position, so
//! what a crash leaves is the fold of some chunk.

use std::ffi::OsStr;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use unefois_engine::store::{Fold, Row, RowChange, StoreError};

use super::{Options, files};

pub(super) use late::LateFold;

mod late;
mod sled;
mod tree;
mod worker;

// No row of the engine begins with a zero byte.
const FOLDED: &[u8] = b"\0folded";
const OPENED_IN: &[u8] = b"\0opened-in";
const CLOSED: &[u8] = b"\0closed";

/// What the rows of a fold are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FoldEngine {
    /// A log-structured merge tree, for any number of rows.
    #[default]
    Tree,
    /// sled, for folds that fit into memory several times over.
    Sled,
}

/// Opens the fold in `folder`, or sets aside what lies there and begins an empty one.
pub fn open_fold(folder: &Path, options: &Options) -> Result<Arc<dyn Fold>, StoreError> {
    Ok(match options.fold {
        FoldEngine::Tree => Arc::new(Marked::<tree::TreeRows>::open(folder, options)?),
        FoldEngine::Sled => Arc::new(Marked::<sled::SledRows>::open(folder, options)?),
    })
}

/// Rows in an engine, without knowledge of boots and of other engines.
trait Engine: Fold + Sized {
    /// What it is called in logs.
    const NAME: &'static str;

    /// Whether a file or folder of this name in the fold's folder is its own.
    fn owns(name: &OsStr) -> bool;

    /// Opens the rows in `folder`. It may panic on damaged files.
    fn open(folder: &Path, options: &Options) -> Result<Self, StoreError>;

    /// Whether there is no row at all.
    fn is_empty(&self) -> bool;

    /// Changes rows of the store itself. They and all that was applied before them are durable when this returns.
    fn mark(&self, rows: &[(&[u8], Option<&[u8]>)]) -> Result<(), StoreError>;
}

/// A fold that says in itself in which boot it was opened, and whether it was closed.
#[derive(Debug)]
struct Marked<E: Engine> {
    rows: E,
    boot: String,
    /// Lies beside the fold; removed once the start is accepted.
    aside: PathBuf,
    /// Whether it says so already: from the first change on, or from when the start is accepted. Looking at a fold does not change
    /// it.
    says: Mutex<bool>,
}

impl<E: Engine> Marked<E> {
    fn open(folder: &Path, options: &Options) -> Result<Self, StoreError> {
        if folder.exists() {
            match try_open::<E>(folder, options) {
                Ok(rows) if can_be_trusted(&rows, &options.boot) => {
                    return Ok(Self::new(rows, folder, options));
                }
                Ok(rows) => {
                    drop(rows);
                    tracing::warn!("the fold was left open when the machine stopped and is rebuilt from the journal");
                }
                Err(error) => tracing::warn!(%error, "the fold does not open and is rebuilt from the journal"),
            }
            set_aside(folder)?;
        }
        let fresh = Self::new(try_open::<E>(folder, options)?, folder, options);
        fresh.say_opened(Keep::Aside)?;
        Ok(fresh)
    }

    fn new(rows: E, folder: &Path, options: &Options) -> Self {
        let aside = folder.with_extension("set-aside");
        Self { rows, boot: options.boot.clone(), aside, says: Mutex::new(false) }
    }

    /// Durable before anything else is changed.
    fn say_opened(&self, keep: Keep) -> Result<(), StoreError> {
        let mut says = self.says.lock().unwrap_or_else(PoisonError::into_inner);
        if *says {
            return Ok(());
        }
        if keep == Keep::Nothing {
            // It holds references and consents that a purge could not reach.
            remove(&self.aside)?;
        }
        self.rows.mark(&[(CLOSED, None), (OPENED_IN, Some(self.boot.as_bytes()))])?;
        *says = true;
        Ok(())
    }
}

/// What becomes of a fold that was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Aside,
    Nothing,
}

fn try_open<E: Engine>(folder: &Path, options: &Options) -> Result<E, StoreError> {
    files::make_private_folder(folder)?;
    let entries = fs::read_dir(folder).map_err(|e| files::read_error(folder, &e))?;
    for entry in entries {
        let name = entry.map_err(|e| files::read_error(folder, &e))?.file_name();
        if !E::owns(&name) {
            return Err(StoreError::Corrupt(format!("fold: {} is not of {}", name.display(), E::NAME)));
        }
    }
    let opened = catch_unwind(AssertUnwindSafe(|| E::open(folder, options)));
    opened.map_err(|_| StoreError::Corrupt(format!("fold: {} panicked while opening", E::NAME)))?
}

/// Within one boot the kernel keeps what a dead process wrote; across boots only a closed and synced fold is whole.
fn can_be_trusted<E: Engine>(rows: &E, boot: &str) -> bool {
    let mark = |key| rows.get(key).ok().flatten();
    let same_boot = mark(OPENED_IN).is_some_and(|opened_in| opened_in == boot.as_bytes());
    mark(CLOSED).is_some() || (same_boot && !boot.is_empty()) || rows.is_empty()
}

/// Keeps one broken fold for whoever wants to look at it.
fn set_aside(folder: &Path) -> Result<(), StoreError> {
    let aside = folder.with_extension("set-aside");
    remove(&aside)?;
    fs::rename(folder, &aside).map_err(|e| files::not_written(&aside, &e))
}

fn remove(aside: &Path) -> Result<(), StoreError> {
    if aside.exists() {
        fs::remove_dir_all(aside).map_err(|e| files::not_written(aside, &e))?;
    }
    Ok(())
}

/// The position that a fold's row says; 0 where there is none.
fn position(row: Option<&[u8]>) -> Result<u64, StoreError> {
    let Some(bytes) = row else { return Ok(0) };
    let bytes = bytes.try_into().map_err(|_| StoreError::Corrupt("fold: the position has not 8 bytes".to_owned()))?;
    Ok(u64::from_be_bytes(bytes))
}

impl<E: Engine> Fold for Marked<E> {
    fn accept(&self) -> Result<(), StoreError> {
        self.say_opened(Keep::Nothing)
    }

    fn folded(&self) -> Result<u64, StoreError> {
        self.rows.folded()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows.get(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.rows.scan(prefix, after, limit)
    }

    fn apply(&self, changes: &[RowChange<'_>], folded: u64) -> Result<(), StoreError> {
        debug_assert!(changes.is_sorted_by(|(before, _), (key, _)| before < key), "not in order, or a key twice");
        self.say_opened(Keep::Nothing)?;
        self.rows.apply(changes, folded)
    }

    fn clear(&self) -> Result<(), StoreError> {
        self.say_opened(Keep::Nothing)?;
        self.rows.clear()?;
        self.rows.mark(&[(OPENED_IN, Some(self.boot.as_bytes()))])
    }
}

impl<E: Engine> Drop for Marked<E> {
    fn drop(&mut self) {
        if *self.says.lock().unwrap_or_else(PoisonError::into_inner) {
            // A mark that is missing costs a rebuild, so a failure is of no account here.
            let _ = self.rows.mark(&[(CLOSED, Some(&[1]))]);
        }
    }
}
