//! Rows of the fold as the sequencer sees them: what is in the store, under what was decided since.
//!
//! The sequencer decides on entries long before the fold has them. Their rows live here until the fold confirms them, so
//! that no decision and no reader is ever behind an acknowledged entry, and the fold can lag without anyone noticing. They
//! are of two ages: those that no chunk has taken, and those of the one chunk that is on its way.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::store::{Fold, Row, RowChange, StoreError};

/// A key; nearly all of them fit without an allocation.
pub(crate) type Key = SmallVec<[u8; 56]>;
/// Rows by key; `None` removes one.
type Changes = BTreeMap<Key, Option<Vec<u8>>>;

/// Rows on their way to the fold.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Oldest first.
    runs: Vec<Arc<Changes>>,
    more: Vec<RowChange>,
}

/// Where many rows are gathered, so many are kept in one map: a larger one does not fit into the processor's caches.
const RUN: usize = 16_384;

impl Chunk {
    /// Adds rows that are not read through [`Rows`].
    pub(crate) fn extend(&mut self, more: impl IntoIterator<Item = RowChange>) {
        self.more.extend(more);
    }

    /// The changes, for the fold. Copies them: the sequencer goes on reading.
    pub(crate) fn into_changes(self) -> Vec<RowChange> {
        let of_run = |run: &Arc<Changes>| {
            run.iter().map(|(key, value)| (key.to_vec(), value.clone())).collect::<Vec<RowChange>>()
        };
        let mut rows: Vec<RowChange> = self.runs.iter().flat_map(of_run).collect();
        if self.runs.len() > 1 {
            // Runs are in order already, and a later one comes behind an earlier one: of equal keys the last counts.
            rows.sort_by(|(a, _), (b, _)| a.cmp(b));
            rows.dedup_by(|later, earlier| {
                let same = later.0 == earlier.0;
                if same {
                    std::mem::swap(&mut later.1, &mut earlier.1);
                }
                same
            });
        }
        rows.extend(self.more);
        rows
    }
}

/// The store's rows with the recent ones over them.
#[derive(Debug)]
pub(crate) struct Rows {
    fold: Arc<dyn Fold>,
    /// Since the last chunk was taken.
    current: Changes,
    /// Older ones of them, oldest first.
    gathered: Vec<Arc<Changes>>,
    /// Of the chunk that was taken, which brings the fold to this position.
    taken: Option<(u64, Vec<Arc<Changes>>)>,
}

impl Rows {
    pub(crate) fn new(fold: Arc<dyn Fold>) -> Self {
        Self { fold, current: Changes::new(), gathered: Vec::new(), taken: None }
    }

    /// Newest first.
    fn recent_changes(&self) -> impl Iterator<Item = &Changes> {
        let taken = self.taken.iter().flat_map(|(_, runs)| runs.iter().rev());
        std::iter::once(&self.current).chain(self.gathered.iter().rev().chain(taken).map(|run| &**run))
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.recent_changes().find_map(|rows| rows.get(key)) {
            Some(value) => Ok(value.clone()),
            None => self.fold.get(key),
        }
    }

    /// At most `limit` rows under `prefix` after `after`, in the order of keys.
    pub(crate) fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let start = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let mut found: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        for rows in self.recent_changes() {
            let mut live = 0;
            for (key, value) in under(rows, prefix, start) {
                if !found.contains_key(&**key) {
                    live += usize::from(value.is_some());
                    found.insert(key.to_vec(), value.clone());
                }
                // Whatever older rows add up to here sorts into the page already.
                if live > limit {
                    break;
                }
            }
        }
        for (key, value) in self.fold.scan(prefix, after, limit.saturating_add(found.len()))? {
            found.entry(key).or_insert(Some(value));
        }
        Ok(found.into_iter().filter_map(|(key, value)| Some((key, value?))).take(limit).collect())
    }

    /// The rows under `prefix` that the fold may not have yet.
    pub(crate) fn recent<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut found = BTreeMap::new();
        for rows in self.recent_changes() {
            for (key, value) in under(rows, prefix, Bound::Included(prefix)) {
                found.entry(&**key).or_insert(value.as_deref());
            }
        }
        found.into_iter().filter_map(|(key, value)| Some((key, value?)))
    }

    pub(crate) fn put(&mut self, key: Key, value: Vec<u8>) {
        self.current.insert(key, Some(value));
    }

    pub(crate) fn remove(&mut self, key: Key) {
        self.current.insert(key, None);
    }

    /// How many rows wait for the fold, at most.
    pub(crate) fn waiting(&self) -> usize {
        self.recent_changes().map(BTreeMap::len).sum()
    }

    /// How many rows changed since the last chunk, at most.
    pub(crate) fn dirty(&self) -> usize {
        self.current.len() + self.gathered.iter().map(|run| run.len()).sum::<usize>()
    }

    /// Where a chunk of very many rows is gathered: begins another map when this one is large.
    pub(crate) fn gather(&mut self) {
        if self.current.len() >= RUN {
            self.gathered.push(Arc::new(std::mem::take(&mut self.current)));
        }
    }

    /// The rows that changed since the last chunk, which bring the fold to `position`. They stay visible here until
    /// [`Rows::folded`]; only then may the next chunk be taken.
    pub(crate) fn take_chunk(&mut self, position: u64) -> Chunk {
        let mut runs = std::mem::take(&mut self.gathered);
        runs.push(Arc::new(std::mem::take(&mut self.current)));
        self.taken = Some((position, runs.clone()));
        Chunk { runs, more: Vec::new() }
    }

    /// The fold has all entries before `position`.
    pub(crate) fn folded(&mut self, position: u64) {
        self.taken.take_if(|(taken, _)| *taken <= position);
    }
}

fn under<'a>(
    rows: &'a Changes,
    prefix: &'a [u8],
    start: Bound<&'a [u8]>,
) -> impl Iterator<Item = (&'a Key, &'a Option<Vec<u8>>)> {
    rows.range::<[u8], _>((start, Bound::Unbounded)).take_while(move |(key, _)| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::MemoryRows;

    fn key(n: u8) -> Key {
        Key::from_slice(&[b'k', n])
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written_last_wherever_it_lies(
            steps in prop::collection::vec((0_u8..12, 0_u8..6, 0_u8..8), 1..120),
            limit in 1_usize..8,
        ) {
            let fold = Arc::new(MemoryRows::default());
            let mut rows = Rows::new(fold.clone());
            let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            let mut on_the_way: Option<Chunk> = None;
            for (position, (n, what, after)) in (1_u64..).zip(steps) {
                match what {
                    0 => {
                        rows.remove(key(n));
                        model.remove(&key(n).to_vec());
                    }
                    3 => rows.gathered.push(Arc::new(std::mem::take(&mut rows.current))),
                    1 if on_the_way.is_none() => on_the_way = Some(rows.take_chunk(position)),
                    2 => {
                        if let Some(chunk) = on_the_way.take() {
                            let changes = chunk.into_changes();
                            prop_assert!(changes.windows(2).all(|two| two[0].0 < two[1].0), "not in order, or a key twice");
                            fold.apply(changes, position).unwrap();
                            rows.folded(position);
                        }
                    }
                    _ => {
                        rows.put(key(n), position.to_be_bytes().to_vec());
                        model.insert(key(n).to_vec(), position.to_be_bytes().to_vec());
                    }
                }
                prop_assert_eq!(rows.get(&key(n)).unwrap(), model.get(&key(n).to_vec()).cloned());
                let after = key(after);
                let page = rows.scan(b"k", Some(&after), limit).unwrap();
                let expected = model.iter().filter(|(key, _)| key.as_slice() > &after[..]).take(limit);
                prop_assert_eq!(page, expected.map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<_>>());
            }
        }
    }
}
