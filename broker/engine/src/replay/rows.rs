//! Rows in memory for a replay, and the digest by which two states are compared.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ring::digest::{Context, SHA256};

use crate::store::{Fold, Row, RowChange, StoreError};

/// Rows, and the position that they reflect.
type Folded = (BTreeMap<Vec<u8>, Vec<u8>>, u64);

/// A fold in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryRows(Mutex<Folded>);

impl MemoryRows {
    fn lock(&self) -> MutexGuard<'_, Folded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fold for MemoryRows {
    fn folded(&self) -> Result<u64, StoreError> {
        Ok(self.lock().1)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.lock().0.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let start = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let rows = self.lock();
        let rows = rows.0.range::<[u8], _>((start, Bound::Unbounded)).take_while(|(key, _)| key.starts_with(prefix));
        Ok(rows.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn apply(&self, changes: Vec<RowChange>, folded: u64) -> Result<(), StoreError> {
        let mut rows = self.lock();
        for (key, value) in changes {
            match value {
                Some(value) => rows.0.insert(key, value),
                None => rows.0.remove(&key),
            };
        }
        rows.1 = folded;
        Ok(())
    }

    fn clear(&self) -> Result<(), StoreError> {
        *self.lock() = Default::default();
        Ok(())
    }
}

/// SHA-256 over every row of a fold, in order, each part with its length. Rows of the store itself (first byte zero) and
/// the root that ties a fold to its journal are left out: they are not state.
pub fn fold_digest(fold: &dyn Fold) -> Result<[u8; 32], StoreError> {
    let mut context = Context::new(&SHA256);
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = fold.scan(&[], after.as_deref(), 1_000)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        for (key, value) in page.iter().filter(|(key, _)| key.first() != Some(&0) && !crate::state::is_tie_row(key)) {
            for part in [key, value] {
                context.update(&(part.len() as u64).to_be_bytes());
                context.update(part);
            }
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(digest)
}
