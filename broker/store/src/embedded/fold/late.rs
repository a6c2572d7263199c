//! A fold that is opened when it is first asked: opening one may set it aside, and a start that is refused changes nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use unefois_engine::store::{Fold, Row, RowChange, StoreError};

use super::open_fold;
use crate::embedded::Options;

/// A fold that may not be open yet.
#[derive(Debug)]
pub(in crate::embedded) struct LateFold {
    folder: PathBuf,
    options: Options,
    fold: OnceLock<Arc<dyn Fold>>,
    opening: Mutex<()>,
}

impl LateFold {
    pub(in crate::embedded) fn new(folder: &Path, options: &Options) -> Self {
        Self { folder: folder.to_owned(), options: options.clone(), fold: OnceLock::new(), opening: Mutex::default() }
    }

    fn open(&self) -> Result<&dyn Fold, StoreError> {
        if let Some(fold) = self.fold.get() {
            return Ok(&**fold);
        }
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fold) = self.fold.get() {
            return Ok(&**fold);
        }
        let fold = open_fold(&self.folder, &self.options)?;
        Ok(&**self.fold.get_or_init(|| fold))
    }
}

impl Fold for LateFold {
    fn accept(&self) -> Result<(), StoreError> {
        self.open()?.accept()
    }

    fn folded(&self) -> Result<u64, StoreError> {
        self.open()?.folded()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.open()?.get(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.open()?.scan(prefix, after, limit)
    }

    fn apply(&self, changes: &[RowChange<'_>], folded: u64) -> Result<(), StoreError> {
        self.open()?.apply(changes, folded)
    }

    fn clear(&self) -> Result<(), StoreError> {
        self.open()?.clear()
    }
}
