//! The fold in a log-structured merge tree.
//!
//! There is no write-ahead log: the journal is one. Rows lie in memory until a table of them is written, and memory is
//! handed over between two chunks only. So what a crash leaves is the fold of an earlier chunk, whole: a table is synced
//! before the list that names it, and the list replaces the one before it in one step.
//!
//! A row that was removed stays in its table until a merge drops it. Where rows were removed, everything is merged once in
//! `Options::fold_forget_every`.

use std::ffi::OsStr;
use std::fs;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lsm_tree::compaction::Leveled;
use lsm_tree::config::{
    BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry, HashRatioPolicy,
    PartitioningPolicy, PinningPolicy,
};
use lsm_tree::{AbstractTree, AnyTree, Cache, Guard, SeqNo, SequenceNumberCounter};
use unefois_engine::store::{Fold, Row, RowChange, StoreError};

use super::worker::{Waker, Worker, lock};
use super::{Engine, FOLDED, position};
use crate::embedded::Options;
use crate::embedded::operation::{Operation, perform};

/// The folder of the tree in the fold's folder.
const FOLDER: &str = "tree";
/// Lies beside it where the tree was found damaged while it was read.
const DAMAGED: &str = "tree-damaged";
/// Since when a removed row may be in a table, in milliseconds; absent where none is.
const REMOVED_SINCE: &[u8] = b"\0removed-since";

/// With so many tables waiting to be written, chunks wait.
const MAX_WAITING: usize = 3;
/// The same, with so many times as many tables waiting to be merged as are merged at once.
const MAX_UNMERGED: usize = 3;
const TABLE_BYTES: u64 = 64 << 20;
/// Small blocks and an index in each: most reads are of one row that is not in the cache.
const BLOCK_BYTES: u32 = 2 << 10;
const HASHED: f32 = 0.75;
/// One read in a hundred of an absent row looks into a table.
const FILTER_BITS: f32 = 10.0;
/// Reads see the newest of a row.
const NEWEST: SeqNo = SeqNo::MAX;
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const LOOK_FOR_REMOVED: Duration = Duration::from_secs(60);

/// Rows in a tree, and the threads that write and merge its tables.
#[derive(Debug)]
pub(super) struct TreeRows {
    tree: Arc<Tree>,
    writes: Waker,
    _writer: Worker,
    _merger: Worker,
}

struct Tree {
    tree: AnyTree,
    next: SequenceNumberCounter,
    folder: PathBuf,
    memory_bytes: u64,
    merge_at: u8,
    written_at_once: usize,
    forget_every: Duration,
    min_free_bytes: u64,
    has_room: AtomicBool,
    ends: AtomicBool,
    // ORDER: `merging` before `writing` before the tree's own locks.
    merging: Mutex<()>,
    /// Held while a chunk goes into memory, and while memory is handed over.
    writing: Mutex<()>,
    removed_since: Mutex<Option<SystemTime>>,
    /// What stopped the threads.
    failure: Mutex<Option<String>>,
    moved: Condvar,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("folder", &self.folder).finish_non_exhaustive()
    }
}

fn open_tree(
    folder: &Path,
    options: &Options,
    next: &SequenceNumberCounter,
    visible: &SequenceNumberCounter,
) -> lsm_tree::Result<AnyTree> {
    let filter = FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(FILTER_BITS));
    let tree = lsm_tree::Config::new(folder.join(FOLDER), next.clone(), visible.clone())
        .use_cache(Arc::new(Cache::with_capacity_bytes(options.fold_cache_bytes)))
        .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
        .data_block_hash_ratio_policy(HashRatioPolicy::all(HASHED))
        .data_block_compression_policy(CompressionPolicy::disabled())
        .index_block_compression_policy(CompressionPolicy::disabled())
        // Filters and indexes stay in memory, beside the cache: 4 bytes a row. Those of a chunk that was written at once come
        // through the cache until it is merged.
        .filter_policy(FilterPolicy::all(filter))
        .filter_block_pinning_policy(PinningPolicy::all(true))
        .index_block_pinning_policy(PinningPolicy::all(true))
        .filter_block_partitioning_policy(PartitioningPolicy::all(false))
        .index_block_partitioning_policy(PartitioningPolicy::all(false))
        .open()?;
    if let Some(newest) = tree.get_highest_seqno() {
        next.fetch_max(newest + 1);
        visible.fetch_max(newest + 1);
    }
    Ok(tree)
}

impl Tree {
    /// No reader looks at anything but the newest of a row, so all that is older can go.
    fn watermark(&self) -> SeqNo {
        self.next.get()
    }

    /// Notes damage, so that the next start sets the fold aside.
    fn fault(&self, error: &lsm_tree::Error) -> StoreError {
        if !matches!(error, lsm_tree::Error::Io(_)) {
            let _ = fs::write(self.folder.join(DAMAGED), b"");
        }
        StoreError::Read(format!("fold: {error}"))
    }

    fn put(&self, key: &[u8], value: Option<&[u8]>) {
        match value {
            Some(value) => self.tree.insert(key, value, self.next.next()),
            None => self.tree.remove(key, self.next.next()),
        };
    }

    /// Writes the tables of all memory that was handed over.
    fn flush(&self) -> lsm_tree::Result<()> {
        let flushing = self.tree.get_flush_lock();
        self.tree.flush(&flushing, self.watermark())?;
        self.moved.notify_all();
        Ok(())
    }

    /// Merges tables until the levels are in shape.
    fn merge(&self) -> lsm_tree::Result<()> {
        let _merging = lock(&self.merging);
        let shape = Arc::new(Leveled::default().with_l0_threshold(self.merge_at).with_table_target_size(TABLE_BYTES));
        while !self.ends.load(Ordering::Relaxed) {
            let before = self.tree.current_version().id();
            self.tree.compact(shape.clone(), self.watermark())?;
            self.moved.notify_all();
            if self.tree.current_version().id() == before {
                break;
            }
        }
        Ok(())
    }

    fn is_forgetting_due(&self) -> bool {
        let Some(since) = *lock(&self.removed_since) else { return false };
        // A clock that went back makes it due.
        let is_due = since.elapsed().map_or(true, |age| age >= self.forget_every);
        is_due && self.has_room_to_forget()
    }

    /// Old and new tables lie on the disk together for a while.
    fn has_room_to_forget(&self) -> bool {
        let needed = self.tree.disk_space().saturating_add(self.min_free_bytes);
        let free =
            rustix::fs::statvfs(&self.folder).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        let has_room = free >= needed;
        if self.has_room.swap(has_room, Ordering::Relaxed) && !has_room {
            tracing::warn!(
                free_mb = free >> 20,
                needed_mb = needed >> 20,
                "removed rows stay in the files of the fold until there is more free space"
            );
        }
        has_room
    }

    /// Merges everything, so that no table holds a row that was removed before.
    fn forget(&self) -> lsm_tree::Result<()> {
        let _merging = lock(&self.merging);
        let since = {
            // ORDER: what is removed from here on is noted anew.
            let _writing = lock(&self.writing);
            self.tree.rotate_memtable();
            lock(&self.removed_since).take()
        };
        let merged = self.flush().and_then(|()| self.tree.major_compact(TABLE_BYTES, self.watermark()));
        let _writing = lock(&self.writing);
        let mut removed_since = lock(&self.removed_since);
        if merged.is_err() {
            *removed_since = since;
        } else if removed_since.is_none() {
            self.put(REMOVED_SINCE, None);
        }
        merged.and_then(|()| self.drop_old_tables())
    }

    /// Deletes the files of tables that only older lists name.
    fn drop_old_tables(&self) -> lsm_tree::Result<()> {
        let newer_than_all = self.next.next() + 1;
        self.next.fetch_max(newer_than_all);
        self.tree.get_version_history_lock().maintenance(&self.tree.tree_config().path, newer_than_all)
    }

    /// Does a thread's `work`; what fails stops all chunks.
    fn run(&self, work: impl FnOnce() -> lsm_tree::Result<()>) {
        let failure = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => self.fault(&error).to_string(),
            Err(_) => "a thread of the fold panicked".to_owned(),
        };
        *lock(&self.failure) = Some(failure);
        self.moved.notify_all();
    }

    fn is_behind(&self) -> bool {
        self.tree.sealed_memtable_count() >= MAX_WAITING
            || self.tree.l0_run_count() >= MAX_UNMERGED * usize::from(self.merge_at)
    }

    /// Waits while the threads are behind.
    fn wait_for_room(&self) -> std::io::Result<()> {
        let mut failure = lock(&self.failure);
        loop {
            if let Some(failure) = &*failure {
                return Err(std::io::Error::other(failure.clone()));
            }
            if !self.is_behind() {
                return Ok(());
            }
            failure = self.moved.wait_timeout(failure, LOOK_AGAIN).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Puts a chunk into memory; `true` where memory was handed over.
    fn put_chunk(&self, changes: &[RowChange<'_>], folded: u64) -> bool {
        let _writing = lock(&self.writing);
        self.note_removal(changes);
        for (key, value) in changes {
            self.put(key, *value);
        }
        self.put(FOLDED, Some(&folded.to_be_bytes()));
        // ORDER: only between two chunks.
        self.tree.active_memtable().size() > self.memory_bytes && self.tree.rotate_memtable().is_some()
    }

    /// Writes a chunk, whose memory is in tables already, as tables of its own. They and the position appear in one step.
    fn write_chunk(&self, changes: &[RowChange<'_>], folded: u64) -> lsm_tree::Result<()> {
        let _writing = lock(&self.writing);
        self.note_removal(changes);
        let folded = folded.to_be_bytes();
        // In its place among the rows.
        let (before, after) = changes.split_at(changes.partition_point(|(key, _)| *key < FOLDED));
        let mut tables = self.tree.ingestion()?;
        for (key, value) in before.iter().chain([&(FOLDED, Some(&folded[..]))]).chain(after) {
            match value {
                Some(value) => tables.write(*key, *value)?,
                None => tables.write_tombstone(*key)?,
            }
        }
        tables.finish()?;
        self.moved.notify_all();
        Ok(())
    }

    fn note_removal(&self, changes: &[RowChange<'_>]) {
        let mut since = lock(&self.removed_since);
        if since.is_none() && changes.iter().any(|(_, value)| value.is_none()) {
            let now = SystemTime::now();
            *since = Some(now);
            let millis = now.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis());
            self.put(REMOVED_SINCE, Some(&u64::try_from(millis).unwrap_or(u64::MAX).to_be_bytes()));
        }
    }
}

impl TreeRows {
    fn start(tree: Tree) -> std::io::Result<Self> {
        let tree = Arc::new(tree);
        let (writes, merges) = (Waker::default(), Waker::default());
        let (of_writer, to_merger) = (Arc::clone(&tree), merges.clone());
        let writer = Worker::start("unefois-fold-w", &writes, LOOK_FOR_REMOVED, move || {
            of_writer.run(|| of_writer.flush());
            to_merger.wake();
        })?;
        let of_merger = Arc::clone(&tree);
        let every = tree.forget_every.min(LOOK_FOR_REMOVED);
        let merger = Worker::start("unefois-fold-m", &merges, every, move || {
            of_merger.run(|| if of_merger.is_forgetting_due() { of_merger.forget() } else { of_merger.merge() });
        })?;
        Ok(Self { tree, writes, _writer: writer, _merger: merger })
    }

    fn value(&self, key: &[u8]) -> Result<Option<lsm_tree::Slice>, StoreError> {
        self.tree.tree.get(key, NEWEST).map_err(|e| self.tree.fault(&e))
    }
}

impl Engine for TreeRows {
    const NAME: &'static str = "tree";

    fn owns(name: &OsStr) -> bool {
        name == FOLDER || name == DAMAGED
    }

    fn open(folder: &Path, options: &Options) -> Result<Self, StoreError> {
        if folder.join(DAMAGED).exists() {
            return Err(StoreError::Corrupt("fold: damage was found while it was read".to_owned()));
        }
        let (next, visible) = (SequenceNumberCounter::default(), SequenceNumberCounter::default());
        let fault = |e: &dyn std::fmt::Display| StoreError::Read(format!("fold: {e}"));
        let tree = open_tree(folder, options, &next, &visible).map_err(|e| fault(&e))?;
        let since = tree.get(REMOVED_SINCE, NEWEST).map_err(|e| fault(&e))?;
        let since = since.map(|since| UNIX_EPOCH + Duration::from_millis(position(Some(&since)).unwrap_or(0)));
        Self::start(Tree {
            tree,
            next,
            folder: folder.to_owned(),
            memory_bytes: options.fold_memory_bytes,
            merge_at: options.fold_merge_at.max(1),
            written_at_once: options.fold_written_at_once,
            forget_every: options.fold_forget_every,
            min_free_bytes: options.min_free_bytes,
            has_room: AtomicBool::new(true),
            ends: AtomicBool::new(false),
            merging: Mutex::default(),
            writing: Mutex::default(),
            removed_since: Mutex::new(since),
            failure: Mutex::default(),
            moved: Condvar::new(),
        })
        .map_err(|e| fault(&e))
    }

    fn is_empty(&self) -> bool {
        self.tree.tree.is_empty(NEWEST, None).unwrap_or(false)
    }

    fn mark(&self, rows: &[(&[u8], Option<&[u8]>)]) -> Result<(), StoreError> {
        {
            let _writing = lock(&self.tree.writing);
            for (key, value) in rows {
                self.tree.put(key, *value);
            }
            self.tree.tree.rotate_memtable();
        }
        perform(Operation::FoldSync, || self.tree.flush().map_err(std::io::Error::other))
            .map_err(|e| StoreError::Read(format!("fold: {e}")))?;
        // Each start leaves a small table; without a merge they would add up until chunks wait.
        self.writes.wake();
        Ok(())
    }
}

impl Fold for TreeRows {
    fn folded(&self) -> Result<u64, StoreError> {
        position(self.value(FOLDED)?.as_deref())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.value(key)?.map(|value| value.to_vec()))
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let start = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let mut rows = Vec::new();
        for row in self.tree.tree.range::<&[u8], _>((start, Bound::Unbounded), NEWEST, None).take(limit) {
            let (key, value) = row.into_inner().map_err(|e| self.tree.fault(&e))?;
            if !key.starts_with(prefix) {
                break;
            }
            rows.push((key.to_vec(), value.to_vec()));
        }
        Ok(rows)
    }

    fn apply(&self, changes: &[RowChange<'_>], folded: u64) -> Result<(), StoreError> {
        let apply = || {
            self.tree.wait_for_room()?;
            if changes.len() >= self.tree.written_at_once {
                let written = self.tree.write_chunk(changes, folded);
                written.map_err(|error| std::io::Error::other(self.tree.fault(&error)))?;
                self.writes.wake();
            } else if self.tree.put_chunk(changes, folded) {
                self.writes.wake();
            }
            Ok(())
        };
        perform(Operation::FoldApply, apply).map_err(|e| StoreError::Unknown(format!("fold: {e}")))
    }

    fn clear(&self) -> Result<(), StoreError> {
        let _merging = lock(&self.tree.merging);
        let _writing = lock(&self.tree.writing);
        let _flushing = self.tree.tree.get_flush_lock();
        *lock(&self.tree.removed_since) = None;
        self.tree.tree.clear().and_then(|()| self.tree.drop_old_tables()).map_err(|e| self.tree.fault(&e))
    }
}

impl Drop for TreeRows {
    fn drop(&mut self) {
        self.tree.ends.store(true, Ordering::Relaxed);
    }
}
