//! Which request ids and which persons may have been met before.
//!
//! Nearly every exchange brings a request id that nobody has used, and many a person whom nobody asked about. Asking the
//! store for a row that is not there costs more than the decision, and waits where the store takes a chunk of rows. This
//! filter (Bloom, of fixed size) says at once that an id or a tag is new. Where it cannot say, because it has not yet
//! learnt the rows of earlier runs or two fall on the same bits, the store is asked: what was met is never taken for new.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::keys;
use super::tables::Tables;
use crate::store::{Fold, StoreError};

/// 8 MiB. With 5 million ids and tags one in 200 new ones costs a look into the store, with 10 million one in 25.
const WORDS: usize = 1 << 20;
const BITS: u64 = WORDS as u64 * 64;
/// Bits for each id.
const PROBES: usize = 4;

/// The ids and tags met, by the keys of their rows.
#[derive(Debug)]
pub(crate) struct MetIds {
    words: Box<[AtomicU64]>,
    /// Every row of the fold is in.
    complete: AtomicBool,
}

impl MetIds {
    /// `complete` where the fold has no rows to learn.
    pub(super) fn new(complete: bool) -> Self {
        Self { words: (0..WORDS).map(|_| AtomicU64::new(0)).collect(), complete: AtomicBool::new(complete) }
    }

    /// Places of the bits of a key. Keys end in 16 bytes of a digest, which are as good as random.
    fn places(key: &[u8]) -> impl Iterator<Item = (usize, u64)> {
        key.rchunks_exact(4).take(PROBES).map(|part| {
            let drawn = part.try_into().map_or(0, u32::from_le_bytes);
            let bit = u64::from(drawn) % BITS;
            ((bit / 64) as usize, 1 << (bit % 64))
        })
    }

    pub(super) fn add(&self, key: &[u8]) {
        for (word, bit) in Self::places(key) {
            if let Some(word) = self.words.get(word) {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    /// `false`: nobody has used this id.
    pub(super) fn may_have(&self, key: &[u8]) -> bool {
        let is_set =
            |(word, bit): (usize, u64)| self.words.get(word).is_none_or(|word| word.load(Ordering::Relaxed) & bit != 0);
        !self.complete.load(Ordering::Acquire) || Self::places(key).all(is_set)
    }
}

/// Learns the rows that earlier runs left in the fold, a page at a time.
#[derive(Debug)]
pub(crate) struct Learner(Tables);

impl Default for Learner {
    fn default() -> Self {
        Self(Tables::new(&[keys::SUBJECTS, keys::REQUESTS]))
    }
}

impl Learner {
    /// Whether everything is learnt.
    pub(crate) fn is_done(&self) -> bool {
        self.0.is_done()
    }

    /// Learns one more page. Rows that are written meanwhile are added by whoever writes them.
    pub(crate) fn learn(&mut self, fold: &dyn Fold, met: &MetIds) -> Result<(), StoreError> {
        for (key, _) in self.0.page(fold)? {
            met.add(&key);
        }
        if self.is_done() {
            met.complete.store(true, Ordering::Release);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MemoryRows;

    fn key(n: u32) -> Vec<u8> {
        let digest = unefois_consent::Digest::of(&n.to_be_bytes());
        [keys::REQUESTS, &digest.0[..16]].concat()
    }

    fn fold(count: u32) -> MemoryRows {
        let fold = MemoryRows::default();
        let rows = (0..count).map(|n| (key(n), Some(vec![1]))).chain([(b"r".to_vec(), Some(vec![2]))]);
        fold.apply(rows.collect(), 0).unwrap();
        fold
    }

    #[test]
    fn until_all_rows_are_learnt_nothing_is_new() {
        let (fold, met) = (fold(3_000), MetIds::new(false));
        let mut learner = Learner::default();
        let mut pages = 0;
        while !learner.is_done() {
            assert!((2_990..3_010).all(|n| met.may_have(&key(n))));
            learner.learn(&fold, &met).unwrap();
            pages += 1;
        }
        assert_eq!(pages, 4, "three pages of ids, and an empty one of tags");
        assert!((0..3_000).all(|n| met.may_have(&key(n))));
        assert!((3_000..4_000).filter(|n| met.may_have(&key(*n))).count() < 5);
    }

    #[test]
    fn a_whole_last_page_is_not_the_end() {
        let (fold, met) = (fold(1_024), MetIds::new(false));
        let mut learner = Learner::default();
        learner.learn(&fold, &met).unwrap();
        assert!(!learner.is_done());
        learner.learn(&fold, &met).unwrap();
        learner.learn(&fold, &met).unwrap();
        assert!(learner.is_done() && !met.may_have(&key(5_000)));
    }

    #[test]
    fn an_id_that_was_added_is_met_whenever_it_was_added() {
        let met = MetIds::new(false);
        met.add(&key(1));
        let mut learner = Learner::default();
        while !learner.is_done() {
            learner.learn(&fold(0), &met).unwrap();
        }
        met.add(&key(2));
        assert!(met.may_have(&key(1)) && met.may_have(&key(2)) && !met.may_have(&key(3)));
    }
}
