//! What unit tests share.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

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

    fn apply(&self, changes: &[RowChange<'_>], folded: u64) -> Result<(), StoreError> {
        assert!(changes.windows(2).all(|two| two[0].0 < two[1].0), "not in order, or a key twice");
        let mut rows = self.lock();
        for (key, value) in changes {
            match value {
                Some(value) => rows.0.insert(key.to_vec(), value.to_vec()),
                None => rows.0.remove(*key),
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
