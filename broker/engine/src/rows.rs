//! Rows of the fold as the sequencer sees them: what is in the store, under what was decided since.
//!
//! The sequencer decides on entries long before the fold has them. Their rows live here until the fold confirms them, so
//! that no decision and no reader is ever behind an acknowledged entry, and the fold can lag without anyone noticing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::store::{Fold, Row, RowChange, StoreError};

#[derive(Debug)]
struct Recent {
    /// Index of the entry that wrote the row last.
    index: u64,
    value: Option<Vec<u8>>,
}

/// The store's rows with the recent ones over them.
#[derive(Debug)]
pub(crate) struct Rows {
    fold: Arc<dyn Fold>,
    recent: BTreeMap<Vec<u8>, Recent>,
    /// Keys written since the last chunk was taken.
    dirty: BTreeSet<Vec<u8>>,
}

impl Rows {
    pub(crate) fn new(fold: Arc<dyn Fold>) -> Self {
        Self { fold, recent: BTreeMap::new(), dirty: BTreeSet::new() }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.recent.get(key) {
            Some(recent) => Ok(recent.value.clone()),
            None => self.fold.get(key),
        }
    }

    /// At most `limit` rows under `prefix` after `after`, in the order of keys.
    pub(crate) fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let start = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let mut found = BTreeMap::new();
        let mut hidden = 0;
        for (key, recent) in self.recent.range::<[u8], _>((start, Bound::Unbounded)) {
            if !key.starts_with(prefix) {
                break;
            }
            hidden += 1;
            found.insert(key.clone(), recent.value.clone());
            // Everything that the store adds up to here sorts into the page already.
            if found.values().flatten().count() > limit {
                break;
            }
        }
        for (key, value) in self.fold.scan(prefix, after, limit.saturating_add(hidden))? {
            found.entry(key).or_insert(Some(value));
        }
        Ok(found.into_iter().filter_map(|(key, value)| Some((key, value?))).take(limit).collect())
    }

    /// The rows under `prefix` that the fold may not have yet.
    pub(crate) fn recent(&self, prefix: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
        let rows = self.recent.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
        let under = rows.take_while(move |(key, _)| key.starts_with(prefix));
        under.filter_map(|(key, recent)| Some((key.as_slice(), recent.value.as_deref()?)))
    }

    pub(crate) fn put(&mut self, index: u64, key: Vec<u8>, value: Vec<u8>) {
        self.write(index, key, Some(value));
    }

    pub(crate) fn remove(&mut self, index: u64, key: Vec<u8>) {
        self.write(index, key, None);
    }

    fn write(&mut self, index: u64, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.dirty.insert(key.clone());
        self.recent.insert(key, Recent { index, value });
    }

    /// How many rows wait for the fold.
    pub(crate) fn waiting(&self) -> usize {
        self.recent.len()
    }

    /// How many rows changed since the last chunk.
    pub(crate) fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// The rows that changed since the last chunk. They stay visible here until [`Rows::folded`].
    pub(crate) fn take_chunk(&mut self) -> Vec<RowChange> {
        std::mem::take(&mut self.dirty)
            .into_iter()
            .filter_map(|key| {
                let value = self.recent.get(&key)?.value.clone();
                Some((key, value))
            })
            .collect()
    }

    /// The fold has all entries before `position`.
    pub(crate) fn folded(&mut self, position: u64) {
        self.recent.retain(|_, recent| recent.index >= position);
    }
}
