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

mod appended;

use appended::Appended;

/// A key; nearly all of them fit without an allocation.
pub(crate) type Key = SmallVec<[u8; 56]>;
/// A change that owns its key and value.
pub(crate) type OwnChange = (Vec<u8>, Option<Vec<u8>>);

/// Changed rows.
#[derive(Debug)]
enum Recent {
    /// By key; `None` removes one.
    Ordered(BTreeMap<Key, Option<Vec<u8>>>),
    /// While a fold is built.
    Appended(Appended),
}

impl Recent {
    fn put(&mut self, key: Key, value: Option<Vec<u8>>) {
        match self {
            Self::Ordered(rows) => drop(rows.insert(key, value)),
            Self::Appended(rows) => rows.push(&key, value.as_deref()),
        }
    }

    fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        match self {
            Self::Ordered(rows) => rows.get(key).map(Option::as_deref),
            Self::Appended(rows) => rows.get(key),
        }
    }

    /// How many rows changed, at most.
    fn len(&self) -> usize {
        match self {
            Self::Ordered(rows) => rows.len(),
            Self::Appended(rows) => rows.len(),
        }
    }

    /// The changes under `prefix` from `start` on, and those of a row newest first; in the order of keys where they are kept so.
    fn under<'a>(&'a self, prefix: &'a [u8], start: Bound<&'a [u8]>) -> impl Iterator<Item = RowChange<'a>> {
        let (ordered, appended) = match self {
            Self::Ordered(rows) => (Some(rows.range::<[u8], _>((start, Bound::Unbounded))), None),
            Self::Appended(rows) => (None, Some(rows.under(prefix))),
        };
        let ordered = ordered.into_iter().flatten().map(|(key, value)| (&**key, value.as_deref()));
        let ordered = ordered.take_while(move |(key, _)| key.starts_with(prefix));
        let is_from_start = move |key: &[u8]| match start {
            Bound::Included(start) => key >= start,
            Bound::Excluded(start) => key > start,
            Bound::Unbounded => true,
        };
        ordered.chain(appended.into_iter().flatten().filter(move |(key, _)| is_from_start(key)))
    }
}

/// Rows on their way to the fold.
#[derive(Debug)]
pub(crate) struct Chunk {
    rows: Arc<Recent>,
    more: Vec<OwnChange>,
}

impl Chunk {
    /// Adds rows that are not read through [`Rows`].
    pub(crate) fn extend(&mut self, more: impl IntoIterator<Item = OwnChange>) {
        self.more.extend(more);
    }

    /// The changes, as the fold takes them.
    pub(crate) fn changes(&self) -> Vec<RowChange<'_>> {
        let mut changes: Vec<RowChange<'_>> = match &*self.rows {
            Recent::Ordered(rows) => rows.iter().map(|(key, value)| (&**key, value.as_deref())).collect(),
            Recent::Appended(rows) => rows.in_order(),
        };
        for (key, value) in &self.more {
            let place = changes.partition_point(|(before, _)| *before < key.as_slice());
            changes.insert(place, (key, value.as_deref()));
        }
        changes
    }

    /// The changes in the order in which they came, where they are kept so.
    pub(crate) fn appended(&self) -> &[u8] {
        match &*self.rows {
            Recent::Ordered(_) => &[],
            Recent::Appended(rows) => rows.bytes(),
        }
    }
}

/// The store's rows with the recent ones over them.
#[derive(Debug)]
pub(crate) struct Rows {
    fold: Arc<dyn Fold>,
    /// Rows of a chunk, while the fold is built.
    building: Option<usize>,
    /// Since the last chunk was taken.
    current: Recent,
    /// Of the chunk that was taken, which brings the fold to this position.
    taken: Option<(u64, Arc<Recent>)>,
}

impl Rows {
    pub(crate) fn new(fold: Arc<dyn Fold>) -> Self {
        Self { fold, building: None, current: Recent::Ordered(BTreeMap::new()), taken: None }
    }

    /// From here on the fold is built, in chunks of about `rows`: many rows change and few are read, until [`Rows::built`].
    /// Nothing may be waiting.
    pub(crate) fn build(&mut self, rows: usize) {
        self.building = Some(rows);
        self.current = self.no_changes();
    }

    /// The fold is built. Nothing may be waiting.
    pub(crate) fn built(&mut self) {
        self.building = None;
        self.current = self.no_changes();
    }

    fn no_changes(&self) -> Recent {
        match self.building {
            None => Recent::Ordered(BTreeMap::new()),
            Some(rows) => Recent::Appended(Appended::with_room_for(rows)),
        }
    }

    /// Newest first.
    fn recent_changes(&self) -> impl Iterator<Item = &Recent> {
        std::iter::once(&self.current).chain(self.taken.iter().map(|(_, rows)| &**rows))
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.recent_changes().find_map(|rows| rows.get(key)) {
            Some(value) => Ok(value.map(<[u8]>::to_vec)),
            None => self.fold.get(key),
        }
    }

    /// At most `limit` rows under `prefix` after `after`, in the order of keys.
    pub(crate) fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let start = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let mut found: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        for rows in self.recent_changes() {
            let mut live = 0;
            for (key, value) in rows.under(prefix, start) {
                if !found.contains_key(key) {
                    live += usize::from(value.is_some());
                    found.insert(key.to_vec(), value.map(<[u8]>::to_vec));
                }
                // Whatever older rows add up to here sorts into the page already.
                if live > limit && matches!(rows, Recent::Ordered(_)) {
                    break;
                }
            }
        }
        for (key, value) in self.fold.scan(prefix, after, limit.saturating_add(found.len()))? {
            found.entry(key).or_insert(Some(value));
        }
        Ok(found.into_iter().filter_map(|(key, value)| Some((key, value?))).take(limit).collect())
    }

    pub(crate) fn put(&mut self, key: Key, value: Vec<u8>) {
        self.current.put(key, Some(value));
    }

    pub(crate) fn remove(&mut self, key: Key) {
        self.current.put(key, None);
    }

    /// How many rows wait for the fold, at most.
    pub(crate) fn waiting(&self) -> usize {
        self.recent_changes().map(Recent::len).sum()
    }

    /// How many rows changed since the last chunk, at most.
    pub(crate) fn dirty(&self) -> usize {
        self.current.len()
    }

    /// The rows that changed since the last chunk, which bring the fold to `position`. They stay visible here until
    /// [`Rows::folded`]; only then may the next chunk be taken.
    pub(crate) fn take_chunk(&mut self, position: u64) -> Chunk {
        let fresh = self.no_changes();
        let rows = Arc::new(std::mem::replace(&mut self.current, fresh));
        self.taken = Some((position, Arc::clone(&rows)));
        Chunk { rows, more: Vec::new() }
    }

    /// The fold has all entries before `position`.
    pub(crate) fn folded(&mut self, position: u64) {
        self.taken.take_if(|(taken, _)| *taken <= position);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::MemoryRows;

    /// Keys of two persons, one table looked through by person, and shorter ones of another.
    fn key(n: u8) -> Key {
        match n % 4 {
            0 => Key::from_slice(&[b'k', n]),
            person => [&b"t"[..], &[person / 2; 16], &[n]].concat().into_iter().collect(),
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written_last_wherever_it_lies(
            steps in prop::collection::vec((0_u8..24, 0_u8..6, 0_u8..24, prop::bool::ANY), 1..120),
            limit in 1_usize..8,
            is_building in prop::bool::ANY,
        ) {
            let fold = Arc::new(MemoryRows::default());
            let mut rows = Rows::new(fold.clone());
            if is_building {
                rows.build(4);
            }
            let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            let mut on_the_way: Option<Chunk> = None;
            for (position, (n, what, after, is_of_person)) in (1_u64..).zip(steps) {
                match what {
                    0 => {
                        rows.remove(key(n));
                        model.remove(&key(n).to_vec());
                    }
                    1 if on_the_way.is_none() => on_the_way = Some(rows.take_chunk(position)),
                    2 => {
                        if let Some(mut chunk) = on_the_way.take() {
                            chunk.extend([(b"a".to_vec(), Some(vec![1])), (b"z".to_vec(), None)]);
                            // Which checks that they are in order, each key once.
                            fold.apply(&chunk.changes(), position).unwrap();
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
                let prefix = if is_of_person { after.get(..17).unwrap_or(b"k") } else { &after[..1] };
                let page = rows.scan(prefix, Some(&after), limit).unwrap();
                let expected = model.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_slice() > &after[..]);
                let expected = expected.take(limit).map(|(key, value)| (key.clone(), value.clone()));
                prop_assert_eq!(page, expected.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_fold_that_is_built_gives_its_changes_in_the_order_in_which_they_came() {
        let mut rows = Rows::new(Arc::new(MemoryRows::default()));
        rows.build(1);
        rows.put(key(8), vec![1]);
        rows.put(key(4), vec![2, 2]);
        rows.remove(key(8));
        let appended = rows.take_chunk(1).appended().to_vec();
        assert_eq!(
            hex::encode(appended),
            "020001000000 6b08 01 020002000000 6b04 0202 0200ffffffff 6b08".replace(' ', "")
        );
        rows.folded(1);
        rows.built();
        rows.put(key(8), vec![1]);
        assert!(rows.take_chunk(2).appended().is_empty());
    }
}
