//! The contract of a store (`unefois_engine::store`), run against every implementation.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use tempfile::TempDir;
use unefois_audit::{BatchProofs, Frontier, Hash, Leaf, TileHashes, TileNodes, root_at};
use unefois_consent::{RecordPeriod, Retention};
use unefois_engine::store::{Batch, Fold, Journal, RecordKeys, Row, SealedEntry, ShardChange, StoreError, Visit};
use unefois_store::embedded::FoldEngine;
use unefois_store::{EmbeddedStore, MemoryStore, Options};

/// A store under test that can be closed and opened again.
trait Subject: Sized {
    fn create() -> Self;
    fn reopen(self) -> Self;
    fn journal(&self) -> &dyn Journal;
    fn fold(&self) -> &dyn Fold;
    fn keys(&self) -> &dyn RecordKeys;
}

/// With its fold in sled, or in a tree.
struct Embedded<const FOLD: u8> {
    store: EmbeddedStore,
    folder: TempDir,
}

/// Small segments, so that a test crosses several.
fn options(kind: u8) -> Options {
    let fold = if kind == SLED { FoldEngine::Sled } else { FoldEngine::Tree };
    let small = Options { segment_bytes: 64 << 10, min_free_bytes: 0, fold, ..Options::default() };
    // Each chunk becomes tables of its own, and they are merged all the time.
    if kind == TABLES { Options { fold_written_at_once: 1, fold_merge_at: 2, ..small } } else { small }
}

const TREE: u8 = 0;
const TABLES: u8 = 1;
const SLED: u8 = 2;

impl<const FOLD: u8> Subject for Embedded<FOLD> {
    fn create() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: EmbeddedStore::open(&folder.path().join("data"), &options(FOLD)).unwrap(), folder }
    }

    fn reopen(self) -> Self {
        let Self { store, folder } = self;
        drop(store);
        Self { store: EmbeddedStore::open(&folder.path().join("data"), &options(FOLD)).unwrap(), folder }
    }

    fn journal(&self) -> &dyn Journal {
        &*self.store.journal
    }

    fn fold(&self) -> &dyn Fold {
        &*self.store.fold
    }

    fn keys(&self) -> &dyn RecordKeys {
        &*self.store.keys
    }
}

impl Subject for MemoryStore {
    fn create() -> Self {
        Self::new()
    }

    fn reopen(self) -> Self {
        MemoryStore::reopen(&self);
        self
    }

    fn journal(&self) -> &dyn Journal {
        self
    }

    fn fold(&self) -> &dyn Fold {
        self
    }

    fn keys(&self) -> &dyn RecordKeys {
        self
    }
}

/// The batch of `count` entries that goes on at `frontier`.
fn batch(frontier: &Frontier, count: u8) -> (Batch, BatchProofs) {
    batch_at(0, frontier, count)
}

/// The same, in the shard that begins with entry `shard`.
fn batch_at(shard: u64, frontier: &Frontier, count: u8) -> (Batch, BatchProofs) {
    let first = shard + frontier.size();
    let entry = |n: u8| SealedEntry {
        leaf: Leaf { kind: 16, time_ms: 1_767_225_600_000 + first + u64::from(n), commitment: Hash([n; 32]) },
        retention: Retention::TRACES,
        sealed: vec![n; 300 + usize::from(n)],
    };
    let entries: Vec<_> = (0..count).map(entry).collect();
    let hashes: Vec<_> = entries.iter().map(|e| e.leaf.hash()).collect();
    let proofs = BatchProofs::new(frontier, &hashes);
    (Batch { first, entries, root: proofs.root(), signature: [count; 64] }, proofs)
}

fn append(journal: &dyn Journal, count: u8) -> Batch {
    let end = journal.end();
    let (batch, proofs) = batch_at(end.shard, &end.frontier, count);
    journal.reserve(32 << 10).unwrap();
    journal.append(&batch, proofs.after(), &proofs.closed().collect::<Vec<_>>()).unwrap();
    batch
}

fn read_all(journal: &dyn Journal, from: u64) -> Vec<Batch> {
    let mut batches = Vec::new();
    journal
        .read(from, &mut |batch| {
            batches.push(batch);
            Visit::Continue
        })
        .unwrap();
    batches
}

/// Closes the shard with one entry, and opens the next with one.
fn close_shard(journal: &dyn Journal) -> [Batch; 2] {
    let end = journal.end();
    let (mut last, _) = batch_at(end.shard, &end.frontier, 1);
    last.entries[0].leaf.kind = unefois_consent::Event::SHARD_CLOSED;
    let proofs = BatchProofs::new(&end.frontier, &[last.entries[0].leaf.hash()]);
    last.root = proofs.root();
    let (next, _) = batch_at(last.end(), &Frontier::new(), 1);
    let closed: Vec<_> = proofs.closed().collect();
    journal.close_shard(ShardChange { last: &last, after: proofs.after(), closed: &closed, next: &next }).unwrap();
    [last, next]
}

#[derive(Debug)]
struct Tiles<'a>(&'a dyn Journal, u64);

impl TileHashes for Tiles<'_> {
    type Error = StoreError;

    fn hashes(&self, level: u8, start: u64, count: usize) -> Result<Vec<Hash>, StoreError> {
        self.0.tile_hashes(self.1, level, start, count)
    }
}

fn what_was_appended_is_read_back_in_order_also_after_reopening<S: Subject>() {
    let mut store = S::create();
    let mut appended = Vec::new();
    for round in 0..4 {
        for count in [1, 40, 3, 100, 7, 64, 90] {
            appended.push(append(store.journal(), count));
        }
        let end = store.journal().end();
        assert_eq!(read_all(store.journal(), 0), appended, "round {round}");
        store = store.reopen();
        assert_eq!(store.journal().end(), end, "round {round}");
    }
    let size = store.journal().end().frontier.size();
    for from in [0, 1, 41, 44, 150, size - 1, size] {
        let expected: Vec<_> = appended.iter().filter(|b| b.end() > from).cloned().collect();
        assert_eq!(read_all(store.journal(), from), expected, "from {from}");
    }
    for size in [1, 2, 255, 256, 257, 300, 511, 512, 1000, size] {
        let mut frontier = Frontier::new();
        for entry in appended.iter().flat_map(|b| &b.entries).take(usize::try_from(size).unwrap()) {
            frontier.append(entry.leaf.hash());
        }
        assert_eq!(root_at(&TileNodes(&Tiles(store.journal(), 0)), size).unwrap(), frontier.root(), "size {size}");
    }
}

fn each_entry_is_found_by_its_index_in_any_order_also_after_reopening<S: Subject>() {
    let mut store = S::create();
    assert_eq!(store.journal().entry(0).unwrap(), None);
    let mut entries = Vec::new();
    for round in 0..4 {
        for count in [1, 40, 3, 100, 7, 64, 90] {
            entries.extend(append(store.journal(), count).entries);
        }
        if round % 2 == 1 {
            entries.extend(close_shard(store.journal()).into_iter().flat_map(|batch| batch.entries));
        }
        // From behind, from the front, and back and forth.
        let size = entries.len();
        for index in (0..size).rev().chain(0..size).chain((0..size).map(|n| n * 397 % size)) {
            assert_eq!(store.journal().entry(index as u64).unwrap().as_ref(), Some(&entries[index]), "entry {index}");
        }
        for beyond in [size as u64, size as u64 + 1, u64::MAX] {
            assert_eq!(store.journal().entry(beyond).unwrap(), None, "entry {beyond}");
        }
        if round != 2 {
            store = store.reopen();
        }
    }
}

fn a_closed_shard_stays_as_it_is_and_the_next_one_goes_on<S: Subject>() {
    let mut store = S::create();
    let mut appended = Vec::new();
    let mut shards = vec![0];
    for round in 0..3 {
        // In the second round nothing lies between the two ends of the shard.
        for count in [40, 100, 7, 120, 90].into_iter().filter(|_| round != 1) {
            appended.push(append(store.journal(), count));
        }
        let [last, next] = close_shard(store.journal());
        shards.push(next.first);
        appended.extend([last, next]);
        if round == 1 {
            appended.push(append(store.journal(), 33));
        }
        let end = store.journal().end();
        assert_eq!((end.shard, end.entries()), (*shards.last().unwrap(), appended.last().unwrap().end()));
        store = store.reopen();
        assert_eq!((store.journal().end(), store.journal().shards()), (end, shards.clone()), "round {round}");
        assert_eq!(read_all(store.journal(), 0), appended, "round {round}");
    }
    appended.push(append(store.journal(), 50));
    let entries: Vec<_> = appended.iter().flat_map(|batch| &batch.entries).map(|entry| entry.leaf.hash()).collect();
    let ends = shards.iter().skip(1).copied().chain([store.journal().end().entries()]);
    for (shard, end) in shards.iter().copied().zip(ends) {
        let mut frontier = Frontier::new();
        for leaf in &entries[usize::try_from(shard).unwrap()..usize::try_from(end).unwrap()] {
            frontier.append(*leaf);
        }
        let root = root_at(&TileNodes(&Tiles(store.journal(), shard)), end - shard).unwrap();
        assert_eq!(root, frontier.root(), "the shard from {shard}");
    }
    assert!(store.journal().tile_hashes(1, 0, 0, 1).is_err(), "no shard begins with entry 1");
}

fn a_shard_that_does_not_follow_is_not_begun<S: Subject>() {
    let store = S::create();
    append(store.journal(), 5);
    let before = store.journal().end();
    let (last, proofs) = batch(&before.frontier, 1);
    for first in [0, 5, 7] {
        let (next, _) = batch_at(first, &Frontier::new(), 1);
        let change = ShardChange { last: &last, after: proofs.after(), closed: &[], next: &next };
        let refused = store.journal().close_shard(change);
        assert!(matches!(refused, Err(StoreError::NotWritten(_))), "{refused:?}");
    }
    assert_eq!((store.journal().end(), store.journal().shards()), (before, vec![0]));
    append(store.journal(), 1);
    close_shard(store.journal());
}

fn a_batch_that_does_not_go_on_is_not_written<S: Subject>() {
    let store = S::create();
    append(store.journal(), 5);
    let before = store.journal().end();
    let (again, proofs) = batch(&Frontier::new(), 5);
    let refused = store.journal().append(&again, proofs.after(), &[]);
    assert!(matches!(refused, Err(StoreError::NotWritten(_))), "{refused:?}");
    assert_eq!(store.journal().end(), before);
    append(store.journal(), 1);
    assert_eq!(store.journal().end().frontier.size(), 6);
}

fn readers_beside_an_appender_see_whole_batches_in_order<S: Subject + Sync>() {
    let store = S::create();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..60 {
                append(store.journal(), 20);
            }
        });
        while !writer.is_finished() {
            let mut next = 0;
            for batch in read_all(store.journal(), 0) {
                assert_eq!(batch.first, next);
                next = batch.end();
            }
            let size = store.journal().end().frontier.size();
            root_at(&TileNodes(&Tiles(store.journal(), 0)), size.min(next)).unwrap();
        }
    });
    assert_eq!(store.journal().end().frontier.size(), 1200);
}

fn a_chunk_of_rows_comes_whole_with_its_position<S: Subject>() {
    let store = S::create();
    let fold = store.fold();
    assert_eq!(fold.folded().unwrap(), 0);
    fold.apply(&[(b"c1", Some(b"a")), (b"c2", Some(b"b")), (b"c3", Some(b"c")), (b"d", Some(b"x"))], 4).unwrap();
    fold.apply(&[(b"c2", Some(b"B")), (b"c20", Some(b"z")), (b"d", None)], 9).unwrap();
    let store = store.reopen();
    let fold = store.fold();
    // No durability is promised, and none is lost by closing.
    assert_eq!(fold.folded().unwrap(), 9);
    assert_eq!(fold.get(b"d").unwrap(), None);
    let keys = |rows: Vec<Row>| rows.into_iter().map(|(k, _)| String::from_utf8(k).unwrap()).collect::<Vec<_>>();
    assert_eq!(keys(fold.scan(b"c", None, 10).unwrap()), ["c1", "c2", "c20", "c3"]);
    assert_eq!(keys(fold.scan(b"c", Some(b"c2"), 1).unwrap()), ["c20"]);
    assert_eq!(keys(fold.scan(b"c2", None, 10).unwrap()), ["c2", "c20"]);
    assert_eq!(keys(fold.scan(b"e", None, 10).unwrap()), [""; 0]);
    fold.clear().unwrap();
    assert_eq!(fold.folded().unwrap(), 0);
    assert_eq!(keys(fold.scan(b"c", None, 10).unwrap()), [""; 0]);
}

/// Keys and values of many sizes, changed and removed over and over: the fold is what a map of them is.
fn many_chunks_leave_what_a_map_of_them_holds<S: Subject>() {
    let mut store = S::create();
    let mut map = BTreeMap::<Vec<u8>, Vec<u8>>::new();
    let mut state = 7_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for position in 1..=60 {
        let mut chunk = BTreeMap::new();
        for _ in 0..400 {
            let number = draw(3_000);
            let key = format!("{}{number}", if number % 2 == 0 { "a" } else { "bb" }).into_bytes();
            let size = usize::try_from(draw(600)).unwrap();
            let value = (draw(4) > 0).then(|| vec![u8::try_from(draw(256)).unwrap(); size]);
            chunk.insert(key, value);
        }
        for (key, value) in &chunk {
            match value {
                Some(value) => map.insert(key.clone(), value.clone()),
                None => map.remove(key),
            };
        }
        let changes: Vec<_> = chunk.iter().map(|(key, value)| (&**key, value.as_deref())).collect();
        store.fold().apply(&changes, position).unwrap();
        if position % 20 == 0 {
            store = store.reopen();
        }
        assert_eq!(store.fold().folded().unwrap(), position);
    }
    for prefix in [b"a".as_slice(), b"bb", b"bb1"] {
        let expected: Vec<Row> = map.clone().into_iter().filter(|(key, _)| key.starts_with(prefix)).collect();
        let mut rows = Vec::<Row>::new();
        loop {
            let page = store.fold().scan(prefix, rows.last().map(|(key, _)| key.as_slice()), 100).unwrap();
            if page.is_empty() {
                break;
            }
            rows.extend(page);
        }
        assert_eq!(rows, expected);
    }
    for number in 0..3_000 {
        let key = format!("a{number}").into_bytes();
        assert_eq!(store.fold().get(&key).unwrap(), map.get(&key).cloned());
    }
}

fn period(text: &str) -> RecordPeriod {
    text.parse().unwrap()
}

fn a_key_is_made_once_and_stays<S: Subject>() {
    let store = S::create();
    let month = period("2026-11");
    assert!(store.keys().get(month).unwrap().is_none());
    let key = *store.keys().get_or_create(month).unwrap().expose();
    let subject = *store.keys().subject_key().unwrap().expose();
    let store = store.reopen();
    assert_eq!(store.keys().get(month).unwrap().unwrap().expose(), &key);
    assert_eq!(store.keys().get_or_create(month).unwrap().expose(), &key);
    assert_eq!(store.keys().subject_key().unwrap().expose(), &subject);
    assert_ne!(key, subject);
    assert!(store.keys().get(period("2026-12")).unwrap().is_none());
}

fn a_destroyed_key_is_gone_for_good_and_the_others_stay<S: Subject>() {
    let store = S::create();
    let (short, long) = (period("2026-11.12"), period("2026-11"));
    let destroyed = *store.keys().get_or_create(short).unwrap().expose();
    let kept = *store.keys().get_or_create(long).unwrap().expose();
    assert_ne!(destroyed, kept);
    store.keys().subject_key().unwrap();
    let periods = |store: &S| {
        let mut periods = store.keys().periods().unwrap();
        periods.sort();
        periods
    };
    assert_eq!(periods(&store), [short, long]);
    store.keys().destroy(short).unwrap();
    store.keys().destroy(short).unwrap();
    let store = store.reopen();
    assert!(store.keys().get(short).unwrap().is_none());
    assert_eq!(store.keys().get(long).unwrap().unwrap().expose(), &kept);
    assert_eq!(periods(&store), [long]);
    assert_ne!(store.keys().get_or_create(short).unwrap().expose(), &destroyed);
}

macro_rules! contract {
    ($module:ident, $store:ty) => {
        contract!($module, $store:
            what_was_appended_is_read_back_in_order_also_after_reopening,
            each_entry_is_found_by_its_index_in_any_order_also_after_reopening,
            a_closed_shard_stays_as_it_is_and_the_next_one_goes_on,
            a_shard_that_does_not_follow_is_not_begun,
            a_batch_that_does_not_go_on_is_not_written,
            readers_beside_an_appender_see_whole_batches_in_order,
            a_chunk_of_rows_comes_whole_with_its_position,
            many_chunks_leave_what_a_map_of_them_holds,
            a_key_is_made_once_and_stays,
            a_destroyed_key_is_gone_for_good_and_the_others_stay,
        );
    };
    ($module:ident, $store:ty: $($promise:ident),* $(,)?) => {
        mod $module {
            $(
                #[test]
                fn $promise() {
                    super::$promise::<$store>();
                }
            )*
        }
    };
}

contract!(embedded, crate::Embedded<{ crate::TREE }>);
contract!(embedded_with_tables, crate::Embedded<{ crate::TABLES }>);
contract!(embedded_with_sled, crate::Embedded<{ crate::SLED }>);
contract!(memory, unefois_store::MemoryStore);

#[test]
fn stores_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>(_: Arc<T>) {}
    shared(Arc::new(MemoryStore::new()));
}
