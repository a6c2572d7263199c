//! Which request ids, persons and consents may have been met before.
//!
//! Nearly every exchange brings a request id that nobody has used, and many a person whom nobody asked about; every consent
//! that is recorded is new. Asking the store for a row that is not there costs more than the decision, and waits where the
//! store takes a chunk of rows. This filter (Bloom, in layers that grow with what was met) says at once that an id or a tag is
//! new. Where it cannot say, because it has not yet learnt the rows of earlier runs or two fall on the same bits, the store is
//! asked: what was met is never taken for new.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::keys;
use super::tables::Tables;
use crate::store::{Fold, StoreError};

/// Words of the first layer, 1 MiB; each layer is twice as large as the one before.
const WORDS: usize = 1 << 17;
/// All of them have 255 MiB, for 200 million keys. Beyond, the last one fills up, and more new ones cost a look.
const LAYERS: usize = 8;
/// Bits of a layer for each key in it: in a full layer one in some 60 new ones costs a look into the store.
const BITS_EACH: u64 = 10;
/// Words of a block. All bits of a key are in one block, which is one line of the processor's caches: with millions of keys
/// each line that is looked at has to come from memory.
const BLOCK_WORDS: usize = 8;
/// Bits for each key.
const PROBES: usize = 4;

/// The ids and tags met, by the keys of their rows.
#[derive(Debug)]
pub(crate) struct MetIds {
    layers: [OnceLock<Box<[AtomicU64]>>; LAYERS],
    count: AtomicU64,
    /// Every row of the fold is in.
    complete: AtomicBool,
}

impl MetIds {
    /// `complete` where the fold has no rows to learn.
    pub(super) fn new(complete: bool) -> Self {
        Self { layers: Default::default(), count: AtomicU64::new(0), complete: AtomicBool::new(complete) }
    }

    /// The layer for the next key, by how many there are.
    fn layer(count: u64) -> usize {
        let first = WORDS as u64 * 64 / BITS_EACH;
        // Layers up to this one have room for `first * (2^n - 1)` keys.
        let filled = (count / first + 1).ilog2() as usize;
        filled.min(LAYERS - 1)
    }

    /// Places of the bits of a key in a layer of so many words, a power of two. Keys end in 16 bytes of a digest or of chance,
    /// which are as good as random: eight of them choose the block, two each a bit in it.
    fn places(key: &[u8], words: usize) -> impl Iterator<Item = (usize, u64)> {
        let (bits, block) = key.last_chunk::<16>().map_or((&[][..], 0), |drawn| {
            let (block, bits) = drawn.split_at(8);
            (bits, block.try_into().map_or(0, usize::from_le_bytes))
        });
        let first = (block & (words / BLOCK_WORDS).saturating_sub(1)) * BLOCK_WORDS;
        let bits = bits.chunks_exact(2).take(PROBES).map(|drawn| drawn.try_into().map_or(0, u16::from_le_bytes));
        bits.map(move |bit| (first + usize::from(bit / 64) % BLOCK_WORDS, 1 << (bit % 64)))
    }

    pub(super) fn add(&self, key: &[u8]) {
        let layer = Self::layer(self.count.fetch_add(1, Ordering::Relaxed));
        let Some(cell) = self.layers.get(layer) else { return };
        let words = cell.get_or_init(|| (0..WORDS << layer).map(|_| AtomicU64::new(0)).collect());
        for (word, bit) in Self::places(key, words.len()) {
            if let Some(word) = words.get(word) {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    /// `false`: nobody has used this id.
    pub(super) fn may_have(&self, key: &[u8]) -> bool {
        let may_be_in = |words: &[AtomicU64]| {
            Self::places(key, words.len())
                .all(|(word, bit)| words.get(word).is_none_or(|word| word.load(Ordering::Relaxed) & bit != 0))
        };
        !self.complete.load(Ordering::Acquire)
            || self.layers.iter().filter_map(OnceLock::get).any(|words| may_be_in(words))
    }
}

/// Learns the rows that earlier runs left in the fold, a page at a time.
#[derive(Debug)]
pub(crate) struct Learner(Tables);

impl Default for Learner {
    fn default() -> Self {
        Self(Tables::new(&[keys::SUBJECTS, keys::REQUESTS, keys::CONSENTS, keys::HOLDS]))
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
            met.add(keys::held_at(&key).as_deref().unwrap_or(&key));
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
        let keys: std::collections::BTreeSet<_> = (0..count).map(key).collect();
        let rows = keys.iter().map(|key| (&**key, Some(&[1][..])));
        fold.apply(&rows.chain([(&b"r"[..], Some(&[2][..]))]).collect::<Vec<_>>(), 0).unwrap();
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
        assert_eq!(pages, 6, "three pages of ids, and empty ones of tags, consents and holds");
        assert!((0..3_000).all(|n| met.may_have(&key(n))));
        assert!((3_000..4_000).filter(|n| met.may_have(&key(*n))).count() < 5);
    }

    #[test]
    fn a_whole_last_page_is_not_the_end() {
        let (fold, met) = (fold(1_024), MetIds::new(false));
        let mut learner = Learner::default();
        for _ in 0..5 {
            assert!(!learner.is_done());
            learner.learn(&fold, &met).unwrap();
        }
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

    #[test]
    fn layers_grow_with_what_was_met_and_nothing_is_forgotten() {
        let first = WORDS as u64 * 64 / BITS_EACH;
        let layers: Vec<_> = [0, first - 1, first, 3 * first - 1, 3 * first, u64::MAX].map(MetIds::layer).into();
        assert_eq!(layers, [0, 0, 1, 1, 2, LAYERS - 1]);
        let met = MetIds::new(true);
        met.add(&key(1));
        met.count.store(first, Ordering::Relaxed);
        met.add(&key(2));
        assert!(met.layers[0].get().is_some() && met.layers[1].get().is_some() && met.layers[2].get().is_none());
        assert!(met.may_have(&key(1)) && met.may_have(&key(2)) && !met.may_have(&key(3)));
    }
}
